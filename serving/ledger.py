"""What was used, by whom, when: an append-only ledger that also is the audit record of every request.

Lines of JSON, each with the SHA-256 of the line before it, so that a changed, lost or inserted line shows. Prompts and
answers never enter it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

BUFFER_LIMIT = 100_000
"""Records held while the disk does not take them; beyond it the oldest are counted as lost in the next line."""
FIRST = "0" * 64
"""Stands for the line before the first of a file."""
_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One request that had a valid key."""

    at_ms: int
    """When it arrived."""
    request_id: str
    tenant: str
    key_prefix: str
    operation: str
    model: str
    claim: str = ""
    variant: str = ""
    group: str = ""
    status: int = 0
    """HTTP status; 499 if the client went before the end."""
    error: str = ""
    """Stable code of the error; empty for an answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queued_ms: int = 0
    first_ms: int = 0
    """From arrival to the first piece of the answer."""
    total_ms: int = 0
    gpu_ms: int = 0
    """Milliseconds of a whole device, by the share of a replica that one of its slots stands for."""
    energy_mj: int | None = None
    """Millijoules: never on disk, shared out when usage is added up; None if not metered."""
    is_estimated: bool = False
    """Whether the tokens were counted by the gateway, since the answer broke off before the engine told."""
    content_mac: str = ""
    """Keyed hash of the request's body, only where the domain's policy asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where a ledger is not as it was written."""

    file: Path
    line: int
    """Counted from 1."""
    cause: str


class Ledger:
    """Writes one file per day and process. Appending costs microseconds; ``flush`` does the disk's part."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._process = secrets.token_hex(4)
        self._waiting: list[UsageRecord] = []
        self._lost = 0
        self._previous = FIRST
        self._file: Path | None = None
        self._writing = threading.Lock()

    def append(self, record: UsageRecord) -> None:
        """Take the record in; it is on disk after the next ``flush``."""
        self._waiting.append(record)
        if len(self._waiting) > BUFFER_LIMIT:
            del self._waiting[0]
            self._lost += 1

    def flush(self) -> None:
        """Write what waits and sync it. Raises ``OSError``, keeping the records, if the disk refuses."""
        with self._writing:
            records, self._waiting = self._waiting, []
            try:
                self._write(records)
            except OSError:
                self._waiting = records + self._waiting
                raise

    def forget(self, before: str) -> int:
        """Delete the files of the days before this one, such as ``2026-11-03``; return how many there were."""
        old = [file for file in self._folder.glob("*.jsonl") if file.name[: len(before)] < before]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)

    def _write(self, records: list[UsageRecord]) -> None:
        for file, of_day in _by_file(records, self._folder, self._process):
            previous = self._previous if file == self._file else FIRST
            lines = []
            for record in of_day:
                line = _line(record, previous, self._lost)
                previous = hashlib.sha256(line).hexdigest()
                lines.append(line + b"\n")
            with file.open("ab") as end:
                end.write(b"".join(lines))
                end.flush()
            self._file, self._previous, self._lost = file, previous, 0


def read(folder: Path, *, since: str = "", until: str = "9999") -> Iterator[UsageRecord]:
    """Yield the records of the days from ``since`` to ``until`` (such as ``2026-11-03`` or ``2026-11``), both included.

    A last line that was cut off by a crash is passed over; ``verify`` tells of it.
    """
    known = {field.name for field in fields(UsageRecord)}
    for file in sorted(folder.glob("*.jsonl")):
        if not since <= file.name[: len(since)] or file.name[: len(until)] > until:
            continue
        for line in file.read_bytes().splitlines():
            try:
                plain = json.loads(line)
            except ValueError:
                continue
            yield UsageRecord(**{key: value for key, value in plain.items() if key in known})


def verify(folder: Path) -> tuple[Break, ...]:
    """Return every place where a file is not as it was written, by file and line; none if all is well."""
    return tuple(found for file in sorted(folder.glob("*.jsonl")) for found in _breaks(file))


def _breaks(file: Path) -> Iterator[Break]:
    previous = FIRST
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            plain = json.loads(line)
        except ValueError:
            yield Break(file=file, line=number, cause="cut off or not JSON")
            continue
        if plain.get("previous") != previous:
            yield Break(file=file, line=number, cause="does not follow the line before it")
        if plain.get("lost"):
            yield Break(file=file, line=number, cause=f"{plain['lost']} records before it were lost: the disk was full")
        previous = hashlib.sha256(line).hexdigest()


def _line(record: UsageRecord, previous: str, lost: int) -> bytes:
    plain = asdict(record)
    del plain["energy_mj"]
    plain |= {"previous": previous} | ({"lost": lost} if lost else {})
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()


def _by_file(records: Iterable[UsageRecord], folder: Path, process: str) -> list[tuple[Path, list[UsageRecord]]]:
    days: dict[Path, list[UsageRecord]] = {}
    for record in records:
        days.setdefault(folder / f"{day_of(record.at_ms)}.{process}.jsonl", []).append(record)
    return sorted(days.items())


def day_of(at_ms: int) -> str:
    """Return the day in UTC, such as ``2026-11-23``."""
    return datetime.fromtimestamp(at_ms / _MS, UTC).strftime("%Y-%m-%d")
