"""What quota allows: the shares of a tier, caps on the way up, what others do not lend, reservations to come."""

from __future__ import annotations

from policies.granting.reclaim import ENTITLED, FLOOR, GUARANTEED, LEFTOVER, Lot, Tier, path
from policies.granting.working import Allocation, amounts, siblings
from policies.model.decision import PendingReason
from policies.model.units import UNLIMITED, FlavorId, TenantId
from policies.model.workload import Reservation
from policies.shares.entitlement import Share
from policies.shares.quota import starts_ms
from policies.wishes.admission import Option
from policies.wishes.ends import ends_by


def is_allowed(work: Allocation, lot: Lot, option: Option, tier: Tier) -> bool:
    """Say whether quota lets the lot have this tier's right with this option; whether it fits is another question."""
    if tier <= GUARANTEED and _is_for_others(work, lot, option):
        return False
    return all(_flavor_allows(work, lot, flavor, amount, tier) for flavor, amount in amounts(lot, option).items())


def _is_for_others(work: Allocation, lot: Lot, option: Option) -> bool:
    """Say whether only what was pooled for others of its tenant lets the lot have this option.

    What siblings cannot use raises a certain lot. One that had its right before, with a later option, may not have that
    on a better one: once it runs there it has no right to so much, the other is in need again, and it leaves.
    """
    covered = lot.covered
    if (
        covered is None
        or option is covered
        or not lot.missing
        or work.pooled.get((lot.ask.tenant.id, option.flavor), 0) <= 0
    ):
        return False
    return next(one for one in lot.ask.options if one is option or one is covered) is option


def _flavor_allows(work: Allocation, lot: Lot, flavor: FlavorId, amount: int, tier: Tier) -> bool:
    tenant = lot.ask.tenant.id
    share = work.shares.get(flavor, {}).get(tenant)
    if share is None:
        return False
    total = work.used.get((tenant, flavor), 0) + amount
    sure = guaranteed(work, tenant, flavor)
    limit = {FLOOR: sure, GUARANTEED: sure, ENTITLED: max(sure, share.entitled)}
    if tier in limit and total > limit[tier]:
        return False
    if tier is FLOOR and not _leaves_what_runs(work, lot, flavor, total):
        return False
    if tier is LEFTOVER and not leaves_what_others_keep(work, tenant, flavor, amount):
        return False
    return tier <= GUARANTEED or not lot.missing or _clears_reservations(work, lot, flavor, amount)


def _leaves_what_runs(work: Allocation, lot: Lot, flavor: FlavorId, total: int) -> bool:
    """Say whether the tenant's guarantee still covers what runs inside it, where its floor on this flavor is reached.

    The right to a floor is on one flavor, the place may be on another. There it counts as what is guaranteed, and what
    runs has that already: with both the tenant would take from others what it has to give back.
    """
    tenant = lot.ask.tenant.id
    if all(one.flavor == flavor for one in lot.ask.options):
        return True
    share = work.shares[flavor][tenant]
    if work.used.get((tenant, flavor), 0) < share.floor:
        return True
    return total + _settled(work, tenant).get(flavor, 0) <= guaranteed(work, tenant, flavor)


def _settled(work: Allocation, tenant: TenantId) -> dict[FlavorId, int]:
    """Return the millis that run inside the tenant's guarantee and come after floors; found anew once some leave."""
    known = work.settled.get(tenant)
    if known is not None and known[0] == work.departures:
        return known[1]
    found: dict[FlavorId, int] = {}
    for lot in work.open[tenant]:
        if lot.tier is GUARANTEED and not lot.is_kept and not lot.missing and not siblings(work, lot)[0].missing:
            for seat in lot.seats:
                found[seat.flavor] = found.get(seat.flavor, 0) + seat.charge
    for run in work.layout.queues.runs.get(tenant, {}).values():
        for one in run.stretches:
            if one.tier is GUARANTEED:
                found[run.flavor] = found.get(run.flavor, 0) + run.amount(one)
    work.settled[tenant] = work.departures, found
    return found


def leaves_what_others_keep(work: Allocation, tenant: TenantId, flavor: FlavorId, amount: int) -> bool:
    """Say whether no cap on the way up is exceeded and what others do not lend stays free.

    A branch of the tree that stays inside its own quota borrows from nobody: only what a reservation keeps is kept from
    it. Where devices were lost, two quotas may be more than there is, and what one of them does not use serves.
    """
    shares, withheld, at = work.shares[flavor], 0, work.survey.tenants.get(tenant)
    while at is not None:
        total = work.used.get((at.id, flavor), 0) + amount
        if total > shares[at.id].cap:
            return False
        kept = withheld  # by what is below: with it the branch may need more than its quota
        for one in work.keeping_beside.get((at.id, flavor), ()):
            unused = max(0, shares[one].nominal - work.used.get((one, flavor), 0))
            is_borrowing = total + kept > shares[at.id].nominal
            withheld += not_lent(shares[one], unused) if is_borrowing else min(shares[one].reserved, unused)
        at = work.survey.tenants.get(at.parent) if at.parent else None
    return _used(work, flavor) + amount + withheld <= work.capacity.get(flavor, 0)


def exceeds(work: Allocation, lot: Lot) -> bool:
    """Say whether what the lot holds, all of it on one flavor, is by itself more than its tenant, or one above, may."""
    flavor, amount = lot.seats[0].flavor, sum(seat.charge for seat in lot.seats)
    known = [work.shares[flavor].get(one) for one in path(work.survey, lot.ask.tenant)]
    is_more = any(share is not None and amount > share.cap for share in known)
    return is_more and all(seat.flavor == flavor for seat in lot.seats)


def _used(work: Allocation, flavor: FlavorId) -> int:
    return sum(work.used.get((root, flavor), 0) for root in work.roots)


def guaranteed(work: Allocation, tenant: TenantId, flavor: FlavorId) -> int:
    """Return what the tenant has a right to: its share, and what siblings cannot use of theirs, or it of its own."""
    return work.shares[flavor][tenant].guaranteed + work.pooled.get((tenant, flavor), 0)


def is_kept_by_somebody(work: Allocation, flavor: FlavorId) -> bool:
    """Say whether some tenant does not lend all of its quota of the flavor, or has some of it reserved now."""
    survey = work.survey
    is_reserved = any(
        one.flavor == flavor and starts_ms(survey, one.starts_at_ms) <= survey.now_ms < one.ends_at_ms
        for one in survey.snapshot.reservations
    )
    quotas = (quota for tenant in survey.tenants.values() for quota in tenant.quotas if quota.flavor == flavor)
    return is_reserved or any(quota.lending_limit_millis != UNLIMITED for quota in quotas)


def not_lent(share: Share, unused: int) -> int:
    """Return what the tenant keeps for itself of the quota that it does not use."""
    return max(0, unused - share.lending, min(share.reserved, unused))


def _clears_reservations(work: Allocation, lot: Lot, flavor: FlavorId, amount: int) -> bool:
    """Say whether the lot leaves enough for every reservation that begins while it still runs."""
    if not work.survey.snapshot.reservations:
        return True
    above = path(work.survey, lot.ask.tenant)
    ahead = sum(
        one.gpu_millis
        for one in work.survey.snapshot.reservations
        if one.flavor == flavor and one.tenant not in above and _is_in_its_way(work, lot, one)
    )
    if _used(work, flavor) + amount + ahead <= work.capacity.get(flavor, 0):
        return True
    work.codes[lot.ask.claim.id] = PendingReason.RESERVATION_AHEAD
    return False


def _is_in_its_way(work: Allocation, lot: Lot, reservation: Reservation) -> bool:
    """Say whether the lot could still hold its place, beyond recall, when the reservation begins to be prepared."""
    survey, claim = work.survey, lot.ask.claim
    begins = starts_ms(survey, reservation.starts_at_ms)
    if survey.now_ms >= begins:
        return False
    ends = ends_by(claim, survey.now_ms)
    if ends is not None and ends <= begins:
        return False
    if not lot.ask.rank.preemptible:
        return True
    return survey.now_ms + lot.ask.rank.min_runtime_s * 1000 > begins
