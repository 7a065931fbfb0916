"""A gang on two flavors, of which one is kept from its tenant now, gives up that part and is placed anew at once."""

from __future__ import annotations

from collections.abc import Callable

from policies.fleet.board import Seat
from policies.granting.booking import stand
from policies.granting.limits import is_allowed, is_kept_by_somebody, leaves_what_others_keep
from policies.granting.reclaim import Lot, Tier, cost
from policies.granting.working import Allocation, first_option
from policies.model.decision import EvictionReason
from policies.model.units import FlavorId


def give_up_what_may_not_stay(work: Allocation, lot: Lot, right: Callable[[FlavorId, int], Tier]) -> None:
    """Take all replicas from the lot's claim that stand where its tenant has no right, if it has one elsewhere.

    ``lot`` is a complete minimum on several flavors that has no right as it stands. Where nothing lets it stay, or a
    mode pauses it, it would leave as a whole, also from what its tenant is promised. Instead what stands on the flavor
    with the strongest right for all of it is left to it, and it asks for the rest there. Without such a right nothing
    is changed.
    """
    if not lot.ask.paused and any(
        is_allowed(work, lot, first_option(lot), tier) for tier in (Tier.LEFTOVER, Tier.GUARANTEED)
    ):
        return
    ask_where_the_right_is(work, lot, right, Tier.LEFTOVER)


def ask_where_the_right_is(work: Allocation, lot: Lot, right: Callable[[FlavorId, int], Tier], now: Tier) -> None:
    """Take from the lot's claim what stands on other flavors than that on which all of the minimum has most right.

    Nothing is changed where that right is no stronger than it has now. For a minimum that is not complete: as long as
    what stands on another flavor counts for it, it has a weaker right than if none of it ran, and loses to others what
    it will take back. What leaves asks again as one of the further replicas, for the very place that it had.
    """
    seats = [seat for one in lot.claim_lots for seat in one.seats]
    flavors = dict.fromkeys(seat.flavor for seat in seats)
    ways = [
        (tier, index, one.flavor)
        for index, one in enumerate(lot.ask.options)
        if one.rung == seats[0].rung and one.flavor in flavors
        and (tier := right(one.flavor, one.charge * lot.size)) < now
    ]  # fmt: skip
    if ways:
        _leave_all_but(work, lot, seats, min(ways)[2])


def stay_where_allowed(work: Allocation, lot: Lot) -> None:
    """Take the replicas from the lot's claim that stand on flavors where nobody of it may stay, if it may on another.

    For a complete minimum that has no right anywhere, once everybody with a right was served: without this all of the
    claim would leave, also from where nobody else needs the room. It lacks then what it gave up, and waits for what is
    left like all others, on the flavor where most of it stands.
    """
    seats = [seat for one in lot.claim_lots for seat in one.seats]
    flavors = [seat.flavor for seat in seats]
    if len(set(flavors)) <= 1 or lot.ask.paused:
        return
    ways = [
        (-flavors.count(one.flavor), index, one.flavor)
        for index, one in enumerate(lot.ask.options)
        if one.rung == seats[0].rung and one.flavor in flavors
        and leaves_what_others_keep(work, lot.ask.tenant.id, one.flavor, one.charge * lot.size)
    ]  # fmt: skip
    if ways:
        _leave_all_but(work, lot, seats, min(ways)[2])


def _leave_all_but(work: Allocation, lot: Lot, seats: list[Seat], flavor: FlavorId) -> None:
    for one in lot.claim_lots:
        if not one.missing:
            stand(work, one.seats, -1)
    staying = [seat for seat in seats if seat.flavor == flavor]
    for one in lot.claim_lots:
        one.seats, staying = staying[: one.size], staying[one.size :]
        for seat in one.seats:
            work.victims.lot_of[id(seat)] = one
        if not one.missing:
            stand(work, one.seats, 1)
    for seat in seats:
        work.board.moved.setdefault(seat, 0)
        if seat.flavor != flavor:
            del work.victims.lot_of[id(seat)]
            work.given_up.append(seat)
            if seat.group is not None:
                work.victims.taken[seat.group.id] = _reason(work, lot, seat), None, cost(work.survey, seat.group)


def _reason(work: Allocation, lot: Lot, seat: Seat) -> EvictionReason:
    if lot.ask.paused:
        return EvictionReason.MODE_CHANGE
    return EvictionReason.RECLAIM if is_kept_by_somebody(work, seat.flavor) else EvictionReason.REBALANCE
