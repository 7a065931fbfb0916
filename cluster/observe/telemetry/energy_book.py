"""What each claim used in energy, day by day, on disk: beside the gateways' ledgers it becomes energy per tenant."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from cluster.observe.telemetry.meters import Account, Total
from policies.model.units import ClaimId

NOTE_INTERVAL_MS = 60_000
"""A crash loses what was used in at most this time."""
_MS = 1_000


class EnergyBook:
    """Writes one file per day (UTC) below ``folder``: a JSON object of millijoules by claim."""

    def __init__(self, folder: Path, now_ms: Callable[[], int]) -> None:
        self._folder = folder
        self._now_ms = now_ms
        self._noted: dict[ClaimId, int] = {}
        self._noted_at_ms = 0

    def note(self, totals: Callable[[], Iterable[tuple[Account, Total]]]) -> None:
        """Add what came since the last note to the day's file, at most once a minute. Raises ``OSError``."""
        now_ms = self._now_ms()
        if now_ms - self._noted_at_ms < NOTE_INTERVAL_MS:
            return
        self._noted_at_ms = now_ms
        counted = {claim: total.energy_mj for (_, claim), total in totals()}
        added = {claim: mj - self._noted.get(claim, 0) for claim, mj in counted.items()}
        if any(added.values()):
            self._add(datetime.fromtimestamp(now_ms / _MS, UTC).strftime("%Y-%m-%d"), added)
            self._noted = counted

    def _add(self, day: str, added: dict[ClaimId, int]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{day}.json"
        kept: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        for claim, mj in added.items():
            kept[claim] = kept.get(claim, 0) + mj
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(kept, sort_keys=True), encoding="utf-8")
        unfinished.replace(file)
