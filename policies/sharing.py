"""What holds for one waiting lot holds for all of equal terms, as long as nothing has changed in between."""

from __future__ import annotations

from collections.abc import Callable

from policies.reclaim import Lot, Terms, Tier, may_displace
from policies.working import Allocation, Failure

Attempt = Callable[[Allocation, Lot, Tier], bool]


def terms_of(lot: Lot) -> Terms | None:
    """Return what decides over a lot that waits with nothing; None for lots that are judged by themselves."""
    ask, claim = lot.ask, lot.ask.claim
    if lot.seats or not lot.is_base or ask.idle or ask.upgrades or claim.spread or ask.rung is not None:
        return None
    return ask.tenant.id, id(ask.options), ask.value, lot.size, claim.kind, claim.duration_s, claim.model


def granted(work: Allocation, lot: Lot, tier: Tier, attempt: Attempt) -> bool:
    """Return what the attempt to grant the lot returns; it is left out if one of equal terms has just failed.

    An attempt counts only if it neither moved anything nor searched: then the same attempt ends the same way.
    """
    claim, codes, refused = lot.ask.claim.id, work.codes, work.victims.refused_by_budget
    remembered = work.survey.remembered.get(claim)
    is_backing_off = remembered is not None and remembered.failed_at_ms is not None
    if lot.terms is None or lot.seats or is_backing_off or claim in work.holding:
        return _judged_alone(work, lot, tier, attempt)
    key = lot.terms, tier, may_displace(work.victims, lot, tier), codes.get(claim), claim in refused
    before, effort = _state(work), (work.board.steps, work.rearrangements)
    known = work.failed.get(key)
    if known is not None and known.state == before:
        _fail_alike(work, lot, known)
        return False
    if attempt(work, lot, tier):
        return True
    if before == _state(work) and effort == (work.board.steps, work.rearrangements):
        work.failed[key] = Failure(
            state=before, code=codes.get(claim), is_refused=claim in refused, spared=frozenset(work.victims.spared)
        )
    return False


def _state(work: Allocation) -> tuple[int, int, bool]:
    """Return figures that change with every move, every grant, and the end of the search."""
    return len(work.board.touched), work.counts, work.board.steps >= work.survey.policy.bounds.search_steps


def _judged_alone(work: Allocation, lot: Lot, tier: Tier, attempt: Attempt) -> bool:
    is_granted = attempt(work, lot, tier)
    work.counts += 1  # whoever fails with some replicas in place may leave these to others from now on
    return is_granted


def _fail_alike(work: Allocation, lot: Lot, known: Failure) -> None:
    lot.has_failed = True
    work.victims.spared.update(known.spared)
    if known.code is not None:
        work.codes[lot.ask.claim.id] = known.code
    if known.is_refused:
        work.victims.refused_by_budget.add(lot.ask.claim.id)
