"""Energy of requests: what telemetry metered for a claim, shared out by the device time that each request held."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from serving.ledger import UsageRecord


def metered(folder: Path, *, since: str, until: str) -> dict[str, int]:
    """Return the millijoules of each claim in the days from ``since`` to ``until``, both included; none if not metered.

    The control plane writes one file per day, such as ``2026-11-23.json``; either bound may be a month.
    """
    total: Counter[str] = Counter()
    for file in sorted(folder.glob("*.json")):
        if since <= file.name[: len(since)] and file.name[: len(until)] <= until:
            total.update(json.loads(file.read_text(encoding="utf-8")))
    return dict(total)


def shared_out(records: Iterable[UsageRecord], energy_mj: dict[str, int]) -> list[UsageRecord]:
    """Return the records with their part of their claim's energy, None where nothing was metered for it.

    All that the claim's devices used is shared out, idle time included; the parts of a claim add up to it, but for
    what rounding down leaves. A claim with energy and no request that held a device keeps it to itself.
    """
    found = list(records)
    held: Counter[str] = Counter()
    for record in found:
        held[record.claim] += record.gpu_ms
    return [replace(record, energy_mj=_part(record, energy_mj.get(record.claim), held)) for record in found]


def _part(record: UsageRecord, energy_mj: int | None, held: Counter[str]) -> int | None:
    return None if energy_mj is None else energy_mj * record.gpu_ms // max(1, held[record.claim])
