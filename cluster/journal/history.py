"""Past decisions, for reading and for taking them again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TypeVar

from cluster.journal.recorded import recorded
from cluster.journal.store import Store
from cluster.refusals import NotFound
from policies.explaining.queueing import told
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.plan import Outcome, Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot

Noun = TypeVar("Noun")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDecision:
    """One decision of the past, in short."""

    number: int
    plan: Plan
    at_ms: int
    fencing: int
    policy_digest: str
    snapshot_digest: str
    decision_digest: str
    outcome: Outcome | None
    replayable: bool
    """Whether its snapshot is still kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a past decision was taken from, and what it was: the input and the answer of a replay."""

    snapshot: Snapshot
    policy: Policy
    memory: Memory
    decision: Decision
    plan: Plan


class History:
    """Reads decisions back from the journal's file."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def newest(self, limit: int, before: int | None = None) -> list[PastDecision]:
        """Return decisions, newest first, older than ``before`` if it is given."""
        rows = self._store.rows(
            "SELECT number, plan, at_ms, fencing, policy_digest, snapshot_digest, decision_digest, outcome,"
            " snapshot IS NOT NULL FROM decision WHERE number < ? ORDER BY number DESC LIMIT ?",
            before if before is not None else 2**62,
            limit,
        )
        return [_past(row) for row in rows]

    def decision(self, number: int) -> Decision:
        """Return one decision in full. Raises ``NotFound``.

        Each waiting claim's place and waiting time are in it while the snapshot that they follow from is kept.
        """
        rows = self._store.rows("SELECT decision, snapshot FROM decision WHERE number = ?", number)
        if not rows:
            raise NotFound("decision", str(number))
        decision, snapshot = rows[0]
        made = _unpack(Decision, decision)
        return made if snapshot is None else told(made, _unpack(Snapshot, snapshot).claims)

    def digest(self, number: int) -> str:
        """Return the digest under which the decision was recorded; empty if there is none."""
        return next(iter(self._store.texts("SELECT decision_digest FROM decision WHERE number = ?", number)), "")

    def evidence(self, number: int) -> Evidence:
        """Return what a decision was taken from. Raises ``NotFound`` once its snapshot is beyond retention."""
        rows = self._store.rows(
            "SELECT d.snapshot, p.body, d.memory_before, d.decision, d.plan FROM decision d"
            " JOIN policy p ON p.digest = d.policy_digest WHERE d.number = ? AND d.snapshot IS NOT NULL"
            " ORDER BY p.number DESC LIMIT 1",
            number,
        )
        if not rows:
            raise NotFound("replayable decision", str(number))
        snapshot, policy, memory, decision, plan = rows[0]
        return Evidence(
            snapshot=_unpack(Snapshot, snapshot),
            policy=recorded(Policy, str(policy)),
            memory=_unpack(Memory, memory),
            decision=_unpack(Decision, decision),
            plan=recorded(Plan, str(plan)),
        )


def _past(row: tuple[object, ...]) -> PastDecision:
    number, plan, at_ms, fencing, policy, snapshot, decision, outcome, replayable = row
    return PastDecision(
        number=int(str(number)),
        plan=recorded(Plan, str(plan)),
        at_ms=int(str(at_ms)),
        fencing=int(str(fencing)),
        policy_digest=str(policy),
        snapshot_digest=str(snapshot),
        decision_digest=str(decision),
        outcome=recorded(Outcome, str(outcome)) if outcome else None,
        replayable=bool(replayable),
    )


def _unpack(noun: type[Noun], packed: object) -> Noun:
    return recorded(noun, zlib.decompress(bytes(packed)))  # type: ignore[call-overload]  # a BLOB column
