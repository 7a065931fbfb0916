"""What tenants used, by day and model, summed from the ledgers that the gateways of this machine write.

A ledger is a folder of files of JSON lines, one file per day and process, named after the day. Only what was added
since the last look is read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DAY = len("2026-11-03")
DAYS_SHOWN = 31
"""Older days are in the ledgers and in `partage usage`, not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """What one tenant used of one model on one day, in UTC."""

    tenant: str
    model: str
    day: str
    """Such as ``2026-11-03``."""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    gpu_ms: int = 0
    """Milliseconds of a whole device."""


Key = tuple[str, str, str]


class UsageBook:
    """Running sums of every ledger below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._sums: dict[Key, DayUse] = {}
        self._lock = threading.Lock()

    def rows(self) -> tuple[DayUse, ...]:
        """Return the use of the newest days, by day, tenant and model. A line being written comes the next time.

        Costs what was added since the last call. Folders that cannot be read count as empty.
        """
        with self._lock:
            days = sorted({file.name[:DAY] for file in self._folder.glob("*/*.jsonl")})[-DAYS_SHOWN:]
            for file in sorted(self._folder.glob("*/*.jsonl")):
                if file.name[:DAY] in days:
                    self._add(file)
            kept = [row for row in self._sums.values() if row.day in days]
        return tuple(sorted(kept, key=lambda row: (row.day, row.tenant, row.model)))

    def _add(self, file: Path) -> None:
        for record in self._added(file):
            key = (str(record["tenant"]), str(record["model"]), file.name[:DAY])
            row = self._sums.get(key) or DayUse(tenant=key[0], model=key[1], day=key[2])
            self._sums[key] = replace(
                row,
                requests=row.requests + 1,
                prompt_tokens=row.prompt_tokens + int(record.get("prompt_tokens", 0)),
                completion_tokens=row.completion_tokens + int(record.get("completion_tokens", 0)),
                gpu_ms=row.gpu_ms + int(record.get("gpu_ms", 0)),
            )

    def _added(self, file: Path) -> Iterator[dict[str, int | str]]:
        begin = self._read.get(file, 0)
        try:
            with file.open("rb") as ledger:
                ledger.seek(begin)
                text = ledger.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read[file] = begin + len(whole)
        for line in whole.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and "tenant" in record and "model" in record:
                yield record
