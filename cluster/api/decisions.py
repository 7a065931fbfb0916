"""What was decided, from what, and the same decision taken again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from cluster.api.claims import visible_reason
from cluster.api.parts import LARGEST, Anyone, Cursor, Limit, Number, Operator, Page, Platform, page_of
from cluster.journal.history import Evidence, PastDecision
from policies.decide import decide
from policies.explaining.queueing import is_again, telling, told
from policies.invariants import Violation
from policies.model.codec import digest
from policies.model.decision import Decision, Reason
from policies.model.naming import tenant_of
from policies.model.plan import Outcome, Plan
from policies.model.snapshot import Snapshot

routes = APIRouter(prefix="/v1", tags=["decisions"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The latest turn of the control loop."""

    decision: Decision
    plan: Plan
    violations: tuple[Violation, ...]
    outcome: Outcome | None
    observe_ms: int
    decide_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A past decision taken again by the code of today."""

    number: int
    same: bool
    """Whether today's code decides the same, byte for byte."""
    foreign: bool
    """Whether another release recorded it in another form; then the same bytes are not to be expected."""
    decided: str
    """Digest of the decision of that time."""
    replayed: str


@routes.get("/snapshot")
def snapshot(parts: Platform, _caller: Operator) -> Snapshot:
    """Return what was last seen, as the decision was taken from it."""
    return parts.view.latest().snapshot


@routes.get("/decision")
def decision(parts: Platform, _caller: Operator) -> Decided:
    """Return the latest decision with its plan and what became of it."""
    turn = parts.view.latest()
    return Decided(
        decision=told(turn.decision, turn.snapshot.claims),
        plan=turn.plan,
        violations=turn.violations,
        outcome=turn.outcome,
        observe_ms=turn.observe_ms,
        decide_ms=turn.decide_ms,
        total_ms=turn.total_ms,
    )


@routes.get("/reasons")
def reasons(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Reason]:
    """Return why each claim that the caller may see is where it is."""
    turn = parts.view.latest()
    tell = telling(turn.decision, turn.snapshot.claims)
    seen = [
        visible_reason(caller, tell(reason))
        for reason in turn.decision.reasons
        if caller.may_see(tenant_of(reason.claim))
    ]
    return page_of(parts, seen, lambda reason: reason.claim, limit, cursor)


@routes.get("/decisions")
def decisions(
    parts: Platform, _caller: Operator, limit: Limit = 50, before: Annotated[int | None, Query(ge=0, le=LARGEST)] = None
) -> tuple[PastDecision, ...]:
    """Return past decisions that changed something, newest first."""
    return tuple(parts.history.newest(limit, before))


@routes.get("/decisions/{number}")
def past_decision(parts: Platform, _caller: Operator, number: Number) -> Decision:
    """Return one past decision in full."""
    return parts.history.decision(number)


@routes.get("/decisions/{number}/evidence")
def evidence(parts: Platform, _caller: Operator, number: Number) -> Evidence:
    """Return everything that a past decision was taken from."""
    return parts.history.evidence(number)


@routes.get("/decisions/{number}/replay")
def replay(parts: Platform, _caller: Operator, number: Number) -> Replayed:
    """Take a past decision again and compare."""
    found = parts.history.evidence(number)
    again = decide(found.snapshot, found.policy, found.memory, found.decision.decided_at_ms)
    same = is_again(again, found.decision, found.snapshot.claims)
    decided = parts.history.digest(number)
    foreign = decided != digest(found.decision)
    return Replayed(number=number, same=same, foreign=foreign, decided=decided, replayed=digest(again))
