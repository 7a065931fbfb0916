"""Which replicas are granted and where: the strongest right first, and a place is taken only from a weaker right."""

from __future__ import annotations

from collections.abc import Sequence

from policies.admission import Ask
from policies.board import Seat
from policies.entitlement import Share
from policies.fairness import in_fair_order
from policies.granting import choices, grant
from policies.holding import keep_for_the_large, recall_holds
from policies.ladders import climb, squeeze
from policies.limits import is_allowed
from policies.model.decision import PendingReason
from policies.model.units import ClaimId, FlavorId, TenantId
from policies.reclaim import Lot, Tier
from policies.working import Allocation, amounts, first_option, has_base, keep, keep_all

RETRY_ROUNDS = 8
"""Times per tier that quota set free by a lot without a place is offered to the tenant's next ones."""


def lots_of(ask: Ask, seats: Sequence[Seat]) -> list[Lot]:
    """Return the claim's lots, its minimum first, filled with the seats that it holds; seats too many are left out."""
    if ask.wanted == 1 == ask.minimum:
        return [Lot(ask=ask, size=1, is_base=True, seats=list(seats[:1]))]
    sizes = ([ask.minimum] if ask.minimum else []) + [1] * (ask.wanted - ask.minimum)
    lots, position = [], 0
    for index, size in enumerate(sizes):
        lot = Lot(ask=ask, size=size, is_base=index == 0 and ask.minimum > 0)
        lot.seats = list(seats[position : position + size])
        position += size
        lots.append(lot)
    return lots


def serving_order(lot: Lot) -> tuple[int, bool, bool, int, ClaimId]:
    """Return a lot's place in its tenant's queue: class, minimums first, what runs first, then the longest wait."""
    claim = lot.ask.claim
    return (-lot.ask.value, not lot.is_base, not lot.seats, claim.submitted_at_ms, claim.id)


def allocate(work: Allocation) -> None:
    """Grant places until nothing more fits: tier by tier, then what is left, then better or lower rungs."""
    _keep_what_is_blind(work)
    for tenant in sorted(work.queues):
        _rate(work, tenant)
    recall_holds(work)
    keep_for_the_large(work)
    for tier in (Tier.FLOOR, Tier.GUARANTEED, Tier.ENTITLED):
        _serve(work, tier)
    _serve_leftover(work)
    squeeze(work)
    climb(work)


def _keep_what_is_blind(work: Allocation) -> None:
    for lot in work.lots() if work.survey.blind else ():
        if lot.ask.domain in work.survey.blind:
            lot.has_failed = lot.missing > 0
            if lot.seats:
                keep(work, lot)
            else:
                work.codes.setdefault(lot.ask.claim.id, PendingReason.TELEMETRY_STALE)


def _rate(work: Allocation, tenant: TenantId) -> None:
    """Give every open lot of the tenant the strongest right that its shares still cover.

    The floor goes to the first lots that fit into it, so that one too large for it does not forfeit it for the others.
    """
    used = {flavor: work.used.get((tenant, flavor), 0) for flavor in work.shares}
    below_floor = dict(used)
    shares = {flavor: of_tenants.get(tenant) for flavor, of_tenants in work.shares.items()}
    for lot in work.queues[tenant]:
        if lot.is_kept or lot.has_failed:
            continue
        if lot.size == 1 == len(lot.seats) and _is_plain(lot):
            seat = lot.seats[0]
            flavor, amount, share = seat.flavor, seat.charge, shares.get(seat.flavor)
            if share is not None:
                lot.tier = _tier_of_plain(share, used[flavor] + amount, below_floor[flavor] + amount)
                used[flavor] += amount if lot.tier <= Tier.ENTITLED else 0
                below_floor[flavor] += amount if lot.tier is Tier.FLOOR else 0
                continue
        lot.tier, needs = _strongest(work, lot, used, below_floor)
        for flavor, amount in needs.items():
            used[flavor] += amount if lot.tier <= Tier.ENTITLED else 0
            below_floor[flavor] += amount if lot.tier is Tier.FLOOR else 0


def _is_plain(lot: Lot) -> bool:
    """Say whether the right of a replica that has its place depends on its charge alone."""
    ask = lot.ask
    return bool(ask.options) and ask.options[0].rung == lot.seats[0].rung and not ask.idle and not ask.paused


def _tier_of_plain(share: Share, total: int, below_floor: int) -> Tier:
    if below_floor <= share.floor:
        return Tier.FLOOR
    if total <= share.guaranteed:
        return Tier.GUARANTEED
    return Tier.ENTITLED if total <= share.entitled else Tier.LEFTOVER


def _strongest(
    work: Allocation, lot: Lot, used: dict[FlavorId, int], below_floor: dict[FlavorId, int]
) -> tuple[Tier, dict[FlavorId, int]]:
    """Return the right that covers the lot with the first option inside the tenant's shares, else with the best one."""
    found: list[tuple[Tier, dict[FlavorId, int]]] = []
    for option in choices(work, lot):
        needs = amounts(lot, option)
        if not lot.ask.idle and all(_is_within_floor(work, lot, one, below_floor[one] + n) for one, n in needs.items()):
            return Tier.FLOOR, needs
        tier = max(_tier(work, lot, flavor, used[flavor] + amount) for flavor, amount in needs.items())
        if tier <= Tier.ENTITLED or not lot.missing:
            return tier, needs
        found.append((tier, needs))
    return min(found, key=lambda one: one[0], default=(Tier.NONE, {}))


def _is_within_floor(work: Allocation, lot: Lot, flavor: FlavorId, total: int) -> bool:
    share = work.shares[flavor].get(lot.ask.tenant.id)
    return share is not None and total <= share.floor


def _tier(work: Allocation, lot: Lot, flavor: FlavorId, total: int) -> Tier:
    share = work.shares[flavor].get(lot.ask.tenant.id)
    if share is None or lot.ask.paused:
        return Tier.NONE
    if lot.ask.idle:
        return Tier.LEFTOVER
    if total <= share.guaranteed:
        return Tier.GUARANTEED
    if not lot.ask.rank.preemptible and not lot.seats:
        return Tier.NONE
    return Tier.ENTITLED if total <= share.entitled else Tier.LEFTOVER


def _serve(work: Allocation, tier: Tier) -> None:
    open_ = work.lots()
    for _ in range(RETRY_ROUNDS):
        lots = [lot for lot in open_ if lot.tier is tier and not lot.is_kept and not lot.has_failed]
        work.weak.clear()
        keep_all(work, [lot for lot in lots if len(lot.seats) == lot.size])
        waiting = sorted((lot for lot in lots if not lot.is_kept), key=across_tenants)
        failed = sorted({lot.ask.tenant.id for lot in waiting if not grant(work, lot, tier)})
        for tenant in failed:
            _rate(work, tenant)
        if not failed:
            return
        open_ = [lot for tenant in failed for lot in work.queues[tenant]]


def across_tenants(lot: Lot) -> tuple[int, int, ClaimId]:
    """Return the order among lots of equal right: class, then the longest wait, then the id."""
    return (-lot.ask.value, lot.ask.claim.submitted_at_ms, lot.ask.claim.id)


def _serve_leftover(work: Allocation) -> None:
    """Keep what still runs where it is, then offer what is free to those that borrow least."""
    open_ = [lot for lot in work.lots() if not lot.is_kept and lot.tier is not Tier.NONE]
    for lot in open_:
        if not lot.missing and not lot.ask.idle and _may_run_on(work, lot):
            keep(work, lot)
    waiting = [lot for lot in open_ if lot.missing and lot.ask.domain not in work.survey.blind]
    for lot in in_fair_order(work, sorted((lot for lot in waiting if not lot.ask.idle), key=serving_order)):
        grant(work, lot, Tier.LEFTOVER)
    for lot in open_:
        if not lot.is_kept and not lot.missing and _may_run_on(work, lot):
            keep(work, lot)
    for lot in in_fair_order(work, sorted((lot for lot in waiting if lot.ask.idle), key=serving_order)):
        grant(work, lot, Tier.LEFTOVER)


def _may_run_on(work: Allocation, lot: Lot) -> bool:
    if not has_base(work, lot):
        return False
    return _is_protected(work, lot) or is_allowed(work, lot, first_option(lot), Tier.LEFTOVER)


def _is_protected(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot may stay above its limits: it cannot be preempted, or has not yet run long enough."""
    rank, now = lot.ask.rank, work.survey.now_ms
    ran_ms = min((now - seat.group.since_ms for seat in lot.seats if seat.group), default=0)
    return not rank.preemptible or ran_ms < rank.min_runtime_s * 1000
