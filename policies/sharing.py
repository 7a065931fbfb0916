"""What holds for one waiting lot holds for all of equal terms, as long as nothing has changed in between."""

from __future__ import annotations

from collections.abc import Callable

from policies.model.workload import ClaimKind
from policies.reclaim import Lot, Terms, Tier, may_displace
from policies.working import Allocation, Failure, is_search_over

Attempt = Callable[[Allocation, Lot, Tier], bool]


def terms_of(lot: Lot) -> Terms | None:
    """Return what decides over a lot that waits with nothing; None for lots that are judged by themselves."""
    ask, claim = lot.ask, lot.ask.claim
    if lot.seats or not lot.is_base or ask.idle or ask.upgrades or claim.spread or ask.rung is not None:
        return None
    ends = claim.duration_s, claim.expires_at_ms
    return ask.tenant.id, id(ask.options), ask.value, lot.size, claim.kind is ClaimKind.JOB, ends, claim.model


def granted(work: Allocation, lot: Lot, tier: Tier, attempt: Attempt) -> bool:
    """Return what the attempt to grant the lot returns; it is left out if one of equal terms has failed before.

    What is granted takes places and quota from others and gives them none, so a failure stands until somebody leaves or
    moves, or rights are given anew. Who found a tenant with nothing to spare is among those who ask again after that.
    """
    ask, claim, codes, refused = lot.ask, lot.ask.claim.id, work.codes, work.victims.refused_by_budget
    if lot.terms is None or lot.seats or ask.held or ask.leaving or (work.holding and claim in work.holding):
        return _tried(work, lot, tier, attempt)
    remembered = work.survey.remembered.get(claim)
    if remembered is not None and (remembered.failed_at_ms is not None or remembered.spoilt != ()):
        return _tried(work, lot, tier, attempt)
    key = id(lot.terms), tier, may_displace(work.victims, lot, tier), codes.get(claim), claim in refused
    known = work.failed.get(key)
    if known is not None and known.state == _state(work):
        _fail_alike(work, lot, known)
        return False
    if _tried(work, lot, tier, attempt):
        return True
    work.failed[key] = Failure(
        state=_state(work), code=codes.get(claim), is_refused=claim in refused,
        spared=frozenset(work.victims.spared),
    )  # fmt: skip
    return False


def _tried(work: Allocation, lot: Lot, tier: Tier, attempt: Attempt) -> bool:
    before = work.rearrangements, len(work.victims.taken)
    is_granted = attempt(work, lot, tier)
    if is_granted:
        work.version += 1
    if (is_granted and before != (work.rearrangements, len(work.victims.taken))) or (lot.seats and not is_granted):
        work.departures += 1  # whoever fails with some replicas in place may leave these to others from now on
    return is_granted


def _state(work: Allocation) -> tuple[int, bool]:
    """Return figures that change when a failure has to be looked at again."""
    return work.departures, is_search_over(work)


def _fail_alike(work: Allocation, lot: Lot, known: Failure) -> None:
    lot.has_failed = True
    work.victims.spared.update(known.spared)
    if known.code is not None:
        work.codes[lot.ask.claim.id] = known.code
    if known.is_refused:
        work.victims.refused_by_budget.add(lot.ask.claim.id)
