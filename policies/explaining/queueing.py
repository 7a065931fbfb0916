"""What of a decision moves on while nothing else does: a claim's place in its tenant's queue, for how long it has
waited, and who stands in its way.

These change from turn to turn for nearly everybody who waits, while why they wait stays as it was. So a decision
stores what they rest on, and whoever reads it is given them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from policies.model.decision import Decision, Reason
from policies.model.units import ClaimId, FlavorId, TenantId
from policies.model.workload import Claim

WAITED = "waited_s"
"""Score term: whole seconds since the claim is there."""
STAYS, BEYOND_MINIMUM, RUNS = "stays", "beyond_minimum", "runs"
"""Score terms that few have: something of it runs that nobody may preempt, it has its minimum, something of it runs."""
BLOCKERS_SHOWN = 8
"""Claims named as standing in the way; more would not be read."""
Place = tuple[bool, int, bool, bool, int, ClaimId]


def told(decision: Decision, claims: Iterable[Claim]) -> Decision:
    """Return the decision as it is read: each waiting claim with its place, its waiting time and its blockers."""
    return replace(decision, reasons=tuple(map(telling(decision, claims), decision.reasons)))


def telling(decision: Decision, claims: Iterable[Claim]) -> Callable[[Reason], Reason]:
    """Return what gives a reason of the decision its claim's place, 1 first, its waiting time and its blockers.

    ``claims`` are those that were decided upon; a reason of another claim, or one that holds them already, stays as it
    is. Cost: a look at each claim and reason, and a sort of those that wait.
    """
    known, holders = {claim.id: claim for claim in claims}, {one.flavor: one.claims for one in decision.holders}
    positions = _positions(decision, known)

    def tell(reason: Reason) -> Reason:
        claim = known.get(reason.claim)
        if claim is None or not reason.score_terms or _is_told(reason):
            return reason
        return replace(
            reason, position=positions.get(reason.claim), blockers=_blockers(holders, reason),
            score_terms=(*reason.score_terms, (WAITED, _waited_s(claim, decision.decided_at_ms))),
        )  # fmt: skip

    return tell


def is_again(again: Decision, kept: Decision, claims: Iterable[Claim]) -> bool:
    """Say whether a decision on these claims is the one that was kept, in this form or in that of older releases.

    Those kept what is given on reading now, and nothing of what it rests on.
    """
    if not any(map(_is_told, kept.reasons)):
        return again == kept
    read = told(again, claims)
    return replace(read, holders=(), reasons=tuple(map(_as_before, read.reasons))) == kept


def _is_told(reason: Reason) -> bool:
    return bool(reason.score_terms) and reason.score_terms[-1][0] == WAITED


def _as_before(reason: Reason) -> Reason:
    terms = tuple(one for one in reason.score_terms if one[0] not in (STAYS, BEYOND_MINIMUM, RUNS))
    return replace(reason, score_terms=terms, lacks=())


def blockers(decision: Decision, reason: Reason) -> tuple[ClaimId, ...]:
    """Return the first few claims that hold what this one lacks, those with the weakest right first."""
    return _blockers({one.flavor: one.claims for one in decision.holders}, reason)


def _blockers(holders: Mapping[FlavorId, Sequence[ClaimId]], reason: Reason) -> tuple[ClaimId, ...]:
    found = dict.fromkeys(one for flavor in reason.lacks for one in holders.get(flavor, ()))
    return tuple(one for one in found if one != reason.claim)[:BLOCKERS_SHOWN]


def _positions(decision: Decision, known: dict[ClaimId, Claim]) -> dict[ClaimId, int]:
    """Return each waiting claim's place in its tenant's queue, 1 first."""
    queues: defaultdict[TenantId, list[Place]] = defaultdict(list)
    for reason in decision.reasons:
        if reason.score_terms and reason.claim in known:
            claim, terms = known[reason.claim], dict(reason.score_terms)
            if terms.get("right"):
                queues[claim.tenant].append(_place(claim, terms))
    return {place[-1]: number for queue in queues.values() for number, place in enumerate(sorted(queue), 1)}


def _place(claim: Claim, terms: dict[str, int]) -> Place:
    """Return what sorts claims as they are served: as ``allocation.serving_order`` sorts the lots that they lack."""
    return (
        STAYS not in terms, -terms["class"] - terms["deadline"], BEYOND_MINIMUM in terms, RUNS not in terms,
        claim.submitted_at_ms, claim.id,
    )  # fmt: skip


def _waited_s(claim: Claim, now_ms: int) -> int:
    """Return for how long the claim is there; 0 where nobody said since when."""
    return max(0, now_ms - claim.submitted_at_ms) // 1000 if claim.submitted_at_ms else 0
