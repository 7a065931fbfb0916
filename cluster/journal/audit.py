"""The audit log: append-only, each record sealed by a hash over itself and the hash before it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cluster.journal.store import Store

FIRST_PREVIOUS = "0" * 64
LOOKED_AT_ONCE = 500
LOOKED_THROUGH = 20_000
"""Records that a search from the end of the log goes through at most: some tenths of a second."""
COLUMNS = "seq, at_ms, actor, kind, subject, tenant, body, previous, hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What is about to be recorded."""

    actor: str
    """Who did it: ``operator``, a tenant's path, or ``control-plane``."""
    kind: str
    """Such as ``claim.put``, ``plan.intended``, ``scrub.recorded``."""
    subject: str
    tenant: str | None = None
    """Tenant that may read it; None for operators and auditors alone."""
    body: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One link of the chain."""

    seq: int
    at_ms: int
    actor: str
    kind: str
    subject: str
    tenant: str | None
    body: str
    """JSON."""
    previous: str
    hash: str

    def seal(self) -> str:
        """Return the hash that the record should carry."""
        return _seal(self.seq, self.at_ms, self.actor, self.kind, self.subject, self.tenant, self.body, self.previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """Whether the chain holds."""

    records: int
    head: str
    """Hash of the last record: kept elsewhere, it proves that the tail was not cut."""
    first_bad: int | None = None
    """Sequence number of the first record that does not fit; None if all do."""
    cause: str = ""


def append(connection: sqlite3.Connection, entry: AuditEntry, at_ms: int) -> None:
    """Add one record inside the caller's transaction, so that it stands or falls with the change it describes."""
    last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last[0] + 1, last[1]) if last else (1, FIRST_PREVIOUS)
    body = json.dumps(dict(entry.body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    sealed = _seal(seq, at_ms, entry.actor, entry.kind, entry.subject, entry.tenant, body, previous)
    connection.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, at_ms, entry.actor, entry.kind, entry.subject, entry.tenant, body, previous, sealed),
    )


def read(store: Store, *, after: int = 0, limit: int = 500) -> list[AuditRecord]:
    """Return records above a sequence number, oldest first."""
    found = store.rows(f"SELECT {COLUMNS} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)  # noqa: S608  # a constant
    return [AuditRecord(**dict(zip(COLUMNS.split(", "), row, strict=True))) for row in found]  # type: ignore[arg-type]  # STRICT table


def newest(store: Store, limit: int, is_wanted: Callable[[AuditRecord], bool]) -> list[AuditRecord]:
    """Return the newest records that are wanted, at most ``limit``, oldest first.

    Goes back from the end until there are enough; no further than ``LOOKED_THROUGH`` records.
    """
    found: list[AuditRecord] = []
    high = store.number("SELECT max(seq) FROM audit")
    floor = max(0, high - LOOKED_THROUGH)
    while high > floor and len(found) < limit:
        low = max(floor, high - LOOKED_AT_ONCE)
        found = [record for record in read(store, after=low, limit=high - low) if is_wanted(record)] + found
        high = low
    return found[-limit:]


def verify(
    records: Iterable[AuditRecord],
    anchor: tuple[int, str] | None = None,
    begin: tuple[int, str] = (0, FIRST_PREVIOUS),
) -> AuditVerdict:
    """Return whether the chain holds from its first record and, with an anchor, still contains the anchored record.

    Args:
        records: the chain, oldest first; all of it, or what follows ``begin``.
        anchor: sequence number and hash noted earlier, outside of the journal.
        begin: the record that was verified last.
    """
    expected, previous, anchored = begin[0] + 1, begin[1], anchor is None
    for record in records:
        if cause := _fault(record, expected, previous):
            return AuditVerdict(records=expected - 1, head=previous, first_bad=expected, cause=cause)
        anchored = anchored or (record.seq, record.hash) == anchor
        expected, previous = expected + 1, record.hash
    if not anchored:
        return AuditVerdict(
            records=expected - 1, head=previous, first_bad=expected, cause="the anchored record is gone"
        )
    return AuditVerdict(records=expected - 1, head=previous)


class ChainWatch:
    """Verifies what is added, as it is added; the records before only once, at the start."""

    def __init__(self) -> None:
        self._verified = (0, FIRST_PREVIOUS)
        self.intact = True

    def look(self, store: Store, limit: int = 2_000) -> None:
        """Verify up to ``limit`` records more."""
        if self.intact and (added := read(store, after=self._verified[0], limit=limit)):
            verdict = verify(added, begin=self._verified)
            self.intact = verdict.first_bad is None
            self._verified = (verdict.records, verdict.head)


def _fault(record: AuditRecord, expected: int, previous: str) -> str:
    if record.seq != expected:
        return f"record {expected} is missing"
    if record.previous != previous:
        return "it does not continue the record before it"
    return "" if record.hash == record.seal() else "its content is not what was sealed"


def _seal(*parts: object) -> str:
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
