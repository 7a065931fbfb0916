"""What siblings cannot use of their parent's guarantee, since none of their parts holds a whole replica, is pooled."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from policies.granting.alike import Alike, in_order
from policies.granting.apart import single_out
from policies.granting.limits import guaranteed, not_lent
from policies.granting.queues import Order, Run
from policies.granting.reclaim import FLOOR, GUARANTEED, Lot
from policies.granting.rights import right_of_base
from policies.granting.working import Allocation, amounts, first_option, siblings
from policies.model.units import ClaimId, FlavorId, TenantId

MOST_MISSES = 64
"""Lots in a row that do not fit into what a parent has left; after these no more are looked at."""
Sure = dict[tuple[TenantId, FlavorId], int]
"""Millis that are given away with a guarantee, by tenant with everything below it."""
Families = set[tuple[TenantId | None, FlavorId]]
"""Parents of which all children know what they may have beside their share, or less than it."""


@dataclass(frozen=True, slots=True)
class _Way:
    """From a tenant to the top of the tree, past a parent that has something left."""

    path: Sequence[TenantId]
    """The tenant first."""
    below: Sequence[TenantId]
    """Those of them that are below the parent."""
    above: Sequence[tuple[TenantId, TenantId]]
    """The parent and those above it, each after its child."""


def pool(work: Allocation, sure_of: Mapping[TenantId, Mapping[FlavorId, int]]) -> None:
    """Raise the first lots without a right that still fit into what their parents are guaranteed.

    A share is divided in millis, places are not divisible: a domain that is guaranteed one device, of which two tenants
    have a half each, would otherwise hold none. Of the tree the lowest parents come first. Rights still add up to no
    more than each parent's guarantee: what is raised is taken from what the siblings cannot use.

    Args:
        work: with every lot rated.
        sure_of: millis that each tenant's own lots have a guarantee for.
    """
    sure = _with_above(work, sure_of)
    left = [one for one in _parents(work) if _has_any_left(work, sure, one)]
    paths = {tenant: [tenant, *_above(work, tenant)] for tenant in work.open} if left else {}
    told: Families = set()
    for parent in sorted(left, key=lambda one: (-len(_above(work, one)), one)):
        ways = {tenant: _way(path, path.index(parent, 1)) for tenant, path in paths.items() if parent in path[1:]}
        missed = set[tuple[object, ...]]()
        misses = {False: 0, True: 0}  # what a mode pauses may have a floor alone, and keeps nobody else from more
        for lot in _in_order(work, ways.keys()):
            is_paused = lot.ask.paused
            if misses[is_paused] < MOST_MISSES:
                what = lot.ask.tenant.id, is_paused, _counted(lot)
                is_raised = what not in missed and _raised(work, sure, ways[lot.ask.tenant.id], lot, told)
                if not is_raised and _follows_its_minimum(work, lot):
                    missed.add(what)  # what is left only becomes less
                misses[is_paused] = 0 if is_raised else misses[is_paused] + 1
            if misses[False] >= MOST_MISSES:
                break


def _way(path: Sequence[TenantId], index: int) -> _Way:
    return _Way(path, path[:index], list(pairwise(path[index - 1 :])))


def _counted(lot: Lot) -> tuple[tuple[FlavorId, int], ...]:
    """Return what the lot counts per flavor."""
    if lot.size == 1 == len(lot.seats):
        return ((lot.seats[0].flavor, lot.seats[0].charge),)
    return tuple(amounts(lot, first_option(lot)).items())


def _with_above(work: Allocation, sure_of: Mapping[TenantId, Mapping[FlavorId, int]]) -> Sure:
    sure: Sure = {}
    for tenant, amount_of in sure_of.items():
        for flavor, amount in amount_of.items():
            for one in (tenant, *_above(work, tenant)) if amount else ():
                sure[one, flavor] = sure.get((one, flavor), 0) + amount
    return sure


def _above(work: Allocation, tenant: TenantId) -> list[TenantId]:
    found, at = [], work.survey.tenants.get(tenant)
    while at is not None and at.parent in work.survey.tenants:
        found.append(at.parent)
        at = work.survey.tenants[at.parent]
    return found


def _parents(work: Allocation) -> set[TenantId]:
    return {one.parent for one in work.survey.tenants.values() if one.parent in work.survey.tenants}


def _has_any_left(work: Allocation, sure: Sure, parent: TenantId) -> bool:
    """Say whether the parent is guaranteed more of some flavor than has been given away."""
    return any(
        parent in shares and shares[parent].guaranteed > sure.get((parent, flavor), 0)
        for flavor, shares in work.shares.items()
    )


def _in_order(work: Allocation, tenants: Collection[TenantId]) -> Iterator[Lot]:
    """Yield the lots that may be raised: those for which capacity was freed, then by the order of their queues.

    Of what is alike the lots of the tenant come first that used least of the flavor in the past.
    """
    yield from _freed(work, tenants)
    past = {(one.tenant, one.flavor): one.milli_seconds for one in work.memory.usage}

    def place(lot: Lot) -> tuple[tuple[int, bool, bool], int, tuple[int, ClaimId]]:
        return lot.order[:3], past.get((lot.ask.tenant.id, first_option(lot).flavor), 0), lot.order[3:]

    queues = [queue for tenant in sorted(tenants) for queue in _candidates(work, tenant, past)]
    yield from heapq.merge(*queues, key=place)


def _freed(work: Allocation, tenants: Collection[TenantId]) -> list[Lot]:
    """Return the lots for which capacity was freed, in order, but those that come after one that stands.

    Once they have started these would lose to it again what was freed for them: to a higher class, or to what its own
    tenant wanted before.
    """
    freed_for = {hold.claim for hold in work.memory.holds if hold.expires_at_ms > work.survey.now_ms}
    found = [lot for claim in freed_for for lot in work.of_claim.get(claim, ()) if lot.ask.tenant.id in tenants]
    found = sorted(filter(_is_candidate, found), key=lambda lot: (lot.order, lot.ask.tenant.id))
    standing = sorted(_standing(work, tenants), key=in_order, reverse=True) if found else []
    first = {(lot.ask.tenant.id, lot.seats[0].flavor): lot.order for lot in standing}
    return [lot for lot in found if not standing or _comes_first(lot, standing[-1], first)]


def _comes_first(lot: Lot, strongest: Lot, first: Mapping[tuple[TenantId, FlavorId], Order]) -> bool:
    """Say whether the lot, once it has started, comes before all that stand of its tenant, and no class is higher."""
    value, is_extra, _, *rest = lot.order
    started = value, is_extra, False, *rest
    flavors = {option.flavor for option in lot.ask.options}
    return lot.order[:2] <= strongest.order[:2] and all(
        started <= first.get((lot.ask.tenant.id, flavor), started) for flavor in flavors
    )


def _standing(work: Allocation, tenants: Collection[TenantId]) -> Iterator[Lot]:
    """Yield what stands and may be raised; of what simply runs the first."""
    for tenant in tenants:
        yield from (lot for lot in work.open[tenant] if lot.seats and not lot.missing and _is_candidate(lot))
        for run in work.layout.queues.runs.get(tenant, {}).values():
            yield from (run.lots[one.begin] for one in run.stretches if one.tier > GUARANTEED)


def _candidates(
    work: Allocation, tenant: TenantId, past: Mapping[tuple[TenantId, FlavorId], int]
) -> Iterator[Iterable[Lot]]:
    """Yield the tenant's lots that may be raised, in queues of which each is in the order of past use too."""
    queues = work.layout.queues
    apart: dict[FlavorId, list[Lot]] = {}
    is_alike = len({past.get((tenant, flavor), 0) for flavor in work.shares}) <= 1
    for lot in filter(_is_candidate, work.open[tenant]):
        apart.setdefault(FlavorId("") if is_alike else first_option(lot).flavor, []).append(lot)
    yield from apart.values()
    together: list[Alike | Run] = [*queues.runs.get(tenant, {}).values(), *queues.alike.get(tenant, {}).values()]
    for of_equals in together:
        for one in of_equals.stretches:
            if one.tier > GUARANTEED and not one.has_failed and _may_stay(of_equals.lots[one.begin]):
                yield map(of_equals.lots.__getitem__, range(one.begin, one.end))  # without a look at those before


def _is_candidate(lot: Lot) -> bool:
    return lot.tier > GUARANTEED and not lot.is_kept and not lot.has_failed and _may_stay(lot)


def _may_stay(lot: Lot) -> bool:
    may_stay = lot.ask.rank.preemptible or not lot.missing
    return may_stay and bool(lot.ask.options) and not lot.ask.idle


def _raised(work: Allocation, sure: Sure, way: _Way, lot: Lot, told: Families) -> bool:
    """Give the lot a guarantee if it fits into what the parent has left, and take it from the siblings' parts.

    ``told`` is added to. Of a family that is among these only the one that holds more now is told anew: what is given
    away below others changes before any of their family is told, since the lowest parents come first.
    """
    needs = _counted(lot)
    if len(needs) != 1 or not _follows_its_minimum(work, lot):
        return False
    flavor, amount = needs[0]
    shares = work.shares[flavor]
    is_floor = False
    for one in way.path:
        share, before = shares.get(one), sure.get((one, flavor), 0)
        if share is None or (one in way.below and before + amount > share.cap):
            return False
        is_floor = is_floor or before < share.floor
    for child, one in way.above:
        if not _has_left(work, sure, one, child, flavor, amount):
            return False
    if lot.ask.paused and not is_floor:
        return False
    for one in way.path:
        sure[one, flavor] = sure.get((one, flavor), 0) + amount
    for one in way.below:
        family = work.survey.tenants[one].parent, flavor
        for sibling in (one,) if family in told else _children(work, family[0]):
            work.pooled[sibling, flavor] = sure.get((sibling, flavor), 0) - shares[sibling].guaranteed
        told.add(family)
    single_out(work, lot)
    lot.tier, lot.covered = max(FLOOR if is_floor else GUARANTEED, right_of_base(work, lot)), None
    return True


def _has_left(work: Allocation, sure: Sure, parent: TenantId, child: TenantId, flavor: FlavorId, amount: int) -> bool:
    """Say whether so much more fits into what the parent is guaranteed, beside what other children do not lend."""
    withheld = 0
    for one in work.keeping_beside.get((child, flavor), ()):
        share = work.shares[flavor][one]
        withheld += not_lent(share, max(0, share.nominal - sure.get((one, flavor), 0)))
    return sure.get((parent, flavor), 0) + amount + withheld <= guaranteed(work, parent, flavor)


def _follows_its_minimum(work: Allocation, lot: Lot) -> bool:
    if lot.is_base:
        return True
    base = siblings(work, lot)[0]
    return not base.is_base or base.is_kept or (base.tier <= GUARANTEED and not base.has_failed)


def _children(work: Allocation, parent: TenantId | None) -> Iterator[TenantId]:
    return (one.id for one in work.survey.tenants.values() if one.parent == parent)
