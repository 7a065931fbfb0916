"""What holds for one waiting lot holds for all of equal terms, as long as nothing has changed in between."""

from __future__ import annotations

from collections.abc import Callable

from policies.granting.alike import Alike, Failure, Stretch
from policies.granting.reclaim import GUARANTEED, Lot, Terms, Tier, may_displace
from policies.granting.working import Allocation, is_search_over
from policies.model.workload import ClaimKind
from policies.wishes.admission import Option

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
    moves, or rights are given anew. One that found a tenant with nothing to spare stands until anybody is granted more:
    it is among those that ask again after that, its equals behind it are tried at once.
    """
    ask, claim = lot.ask, lot.ask.claim.id
    if lot.terms is None or lot.seats or ask.held or ask.leaving or claim in work.holding:
        return _tried(work, lot, tier, attempt)
    remembered = work.survey.remembered.get(claim)
    if remembered is not None and (remembered.failed_at_ms is not None or remembered.spoilt != ()):
        return _tried(work, lot, tier, attempt)
    key = _key(work, lot, tier, may_ask=may_displace(work.victims, lot, tier))
    known = work.failed.get(key)
    if known is None or not stands(work, known, state(work)):
        return _tried(work, lot, tier, attempt) or _note(work, lot, key)
    lot.has_failed = True
    work.victims.spared.update(known.spared)
    if known.code is not None:
        work.codes[claim] = known.code
    if known.is_refused:
        work.victims.refused_by_budget.add(claim)
    return False


def known_failure(work: Allocation, alike: Alike, one: Stretch, tier: Tier, now: tuple[int, bool]) -> Failure | None:
    """Return how all lots of the stretch would fail in this state; None if that is to be found out."""
    first = alike.lots[one.begin]
    known = work.failed.get((id(first.terms), _covered(first, tier), tier, True, one.code, one.is_refused))
    return known if known is not None and stands(work, known, now) else None


def stands(work: Allocation, known: Failure, now: tuple[int, bool]) -> bool:
    """Say whether the same would come of another attempt: who had nothing to spare may have once it is granted more."""
    return known.state == now and (not known.spared or known.version == work.version)


def first_granted(work: Allocation, alike: Alike, one: Stretch, tier: Tier, attempt: Attempt) -> bool:
    """Return what the attempt to grant the first lot of the stretch returns, and take it out of the stretch."""
    lot, claim = alike.lots[one.begin], alike.lots[one.begin].ask.claim.id
    if one.code is not None:
        work.codes[claim] = one.code
    if one.is_refused:
        work.victims.refused_by_budget.add(claim)
    lot.tier, lot.has_failed = one.tier, one.has_failed
    key = _key(work, lot, tier, may_ask=True)
    work.trying = lot
    is_granted = _tried(work, lot, tier, attempt)
    work.trying = None
    if is_granted:
        alike.give(one)
        return True
    _note(work, lot, key)
    alike.fail(one, one.begin + 1, work.failed[key])
    return False


def _key(work: Allocation, lot: Lot, tier: Tier, *, may_ask: bool) -> tuple[object, ...]:
    claim = lot.ask.claim.id
    is_refused = claim in work.victims.refused_by_budget
    return id(lot.terms), _covered(lot, tier), tier, may_ask, work.codes.get(claim), is_refused


def _covered(lot: Lot, tier: Tier) -> Option | None:
    """Return with which of its options on the lot has its right; the further on in a class the later one."""
    return lot.covered if tier <= GUARANTEED else None


def _note(work: Allocation, lot: Lot, key: tuple[object, ...]) -> bool:
    """Note how the lot failed, for those of equal terms; return that it did."""
    claim = lot.ask.claim.id
    work.failed[key] = Failure(
        state=state(work), version=work.version, code=work.codes.get(claim),
        is_refused=claim in work.victims.refused_by_budget, spared=frozenset(work.victims.spared),
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


def state(work: Allocation) -> tuple[int, bool]:
    """Return figures that change when a failure has to be looked at again."""
    return work.departures, is_search_over(work)
