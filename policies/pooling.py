"""What siblings cannot use of their parent's guarantee, since none of their parts holds a whole replica, is pooled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from policies.limits import guaranteed, not_lent
from policies.model.units import FlavorId, TenantId
from policies.reclaim import Lot, Tier
from policies.working import Allocation, amounts, first_option, siblings

Sure = dict[tuple[TenantId, FlavorId], int]
"""Millis that are given away with a guarantee, by tenant with everything below it."""


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
    open_ = {one: some for one, some in _left(work, sure).items() if some}
    if not open_:
        return
    freed_for = {hold.claim for hold in work.memory.holds if hold.expires_at_ms > work.survey.now_ms}
    lots = sorted(filter(_is_candidate, work.lots()), key=lambda lot: (lot.ask.claim.id not in freed_for, _first(lot)))
    for parent in sorted(open_, key=lambda one: (-len(_above(work, one)), one)):
        for lot in lots:
            _raise(work, sure, parent, lot)


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


def _left(work: Allocation, sure: Sure) -> dict[TenantId, list[FlavorId]]:
    """Return the flavors of which each tenant with children is guaranteed more than has been given away."""
    parents = {one.parent for one in work.survey.tenants.values() if one.parent in work.survey.tenants}
    return {
        one: [flavor for flavor, shares in work.shares.items()
              if one in shares and shares[one].guaranteed > sure.get((one, flavor), 0)]
        for one in parents if one is not None
    }  # fmt: skip


def _is_candidate(lot: Lot) -> bool:
    is_open = lot.tier > Tier.GUARANTEED and not lot.is_kept and not lot.has_failed
    may_stay = lot.ask.rank.preemptible or not lot.missing
    return is_open and may_stay and bool(lot.ask.options) and not lot.ask.idle and not lot.ask.paused


def _first(lot: Lot) -> tuple[int, bool, bool, int, str]:
    """Return the order among lots of several tenants: class, minimums, what runs, then the longest wait."""
    return (-lot.ask.value, not lot.is_base, lot.missing > 0, lot.ask.claim.submitted_at_ms, lot.ask.claim.id)


def _raise(work: Allocation, sure: Sure, parent: TenantId, lot: Lot) -> None:
    """Give the lot a guarantee if it fits into what its parent has left, and take it from the siblings' parts."""
    path = [lot.ask.tenant.id, *_above(work, lot.ask.tenant.id)]
    if parent not in path[1:] or not _is_candidate(lot) or not _follows_its_minimum(work, lot):
        return
    needs = amounts(lot, first_option(lot))
    if len(needs) != 1:
        return
    (flavor, amount), below = next(iter(needs.items())), path[: path.index(parent)]
    shares = work.shares[flavor]
    if any(one not in shares for one in path):
        return
    if not all(_has_left(work, sure, one, child, flavor, amount) for child, one in pairwise(path) if one not in below):
        return
    if any(sure.get((one, flavor), 0) + amount > shares[one].cap for one in below):
        return
    is_floor = any(sure.get((one, flavor), 0) < shares[one].floor for one in path)
    for one in path:
        sure[one, flavor] = sure.get((one, flavor), 0) + amount
    for one in below:
        for sibling in _children(work, work.survey.tenants[one].parent):
            work.pooled[sibling, flavor] = sure.get((sibling, flavor), 0) - shares[sibling].guaranteed
    lot.tier = Tier.FLOOR if is_floor else Tier.GUARANTEED


def _has_left(work: Allocation, sure: Sure, parent: TenantId, child: TenantId, flavor: FlavorId, amount: int) -> bool:
    """Say whether so much more fits into what the parent is guaranteed, beside what other children do not lend."""
    withheld = 0
    for one in work.keeping_beside.get((child, flavor), ()):
        share = work.shares[flavor][one]
        withheld += not_lent(share, max(0, share.nominal - sure.get((one, flavor), 0)))
    return sure.get((parent, flavor), 0) + amount + withheld <= guaranteed(work, parent, flavor)


def _follows_its_minimum(work: Allocation, lot: Lot) -> bool:
    base = siblings(work, lot)[0]
    return lot.is_base or not base.is_base or base.is_kept or base.tier <= Tier.GUARANTEED


def _children(work: Allocation, parent: TenantId | None) -> Iterator[TenantId]:
    return (one.id for one in work.survey.tenants.values() if one.parent == parent)
