"""Which replicas are granted and where: the strongest right first, and a place is taken only from a weaker right."""

from __future__ import annotations

from collections.abc import Iterable

from policies.fleet.board import Seat
from policies.granting.alike import Alike, Stretch
from policies.granting.apart import single_out, tell_each, tell_runs
from policies.granting.booking import keep, sweep
from policies.granting.granting import grant
from policies.granting.holding import keep_for_the_large, recall_holds
from policies.granting.ladders import climb, squeeze
from policies.granting.limits import exceeds, is_allowed
from policies.granting.lines import Line, serve_in_fair_order
from policies.granting.movable import forget_weak
from policies.granting.parting import stay_where_allowed
from policies.granting.pooling import pool
from policies.granting.queues import is_changing_rung
from policies.granting.rearranging import rearrange
from policies.granting.reclaim import ENTITLED, FLOOR, GUARANTEED, LEFTOVER, NONE, Lot, Tier, lotted
from policies.granting.rights import begin_rating, is_protected, rate, rate_all, rate_anew
from policies.granting.sharing import granted, terms_of
from policies.granting.steady import grant_settled, reopen
from policies.granting.working import Allocation, first_option, has_base
from policies.model.decision import PendingReason
from policies.model.units import ClaimId, FlavorId, NodeId, TenantId
from policies.wishes.admission import Ask

ABOVE_ALL = 1 << 61
"""More than the value of any class."""
RETRY_ROUNDS = 8
"""Times per tier that quota set free by a lot without a place is offered to the tenant's next ones, or to siblings."""


def lots_of(ask: Ask, seats: list[Seat]) -> list[Lot]:
    """Return the claim's lots, its minimum first, filled with the seats that it holds; seats too many are left out."""
    if ask.wanted == 1 == ask.minimum:
        return [_lot(ask, 1, seats[:1], is_base=True)]
    sizes = ([ask.minimum] if ask.minimum else []) + [1] * (ask.wanted - ask.minimum)
    lots, position = [], 0
    for index, size in enumerate(sizes):
        lots.append(_lot(ask, size, seats[position : position + size], is_base=index == 0 and ask.minimum > 0))
        position += size
    for lot in lots:
        lot.claim_lots = lots
    if lots and lots[0].plain is not None and any(seat.flavor != seats[0].flavor for seat in seats):
        lots[0].plain = None  # which of them is the minimum depends on the rights there
    return lots


def _lot(ask: Ask, size: int, seats: list[Seat], *, is_base: bool) -> Lot:
    lot = lotted(ask, size, is_base, seats)  # in the order of its fields
    lot.order = serving_order(lot)
    if seats:
        lot.plain = _plain(lot)
    else:
        lot.terms = terms_of(lot)
    return lot


def serving_order(lot: Lot) -> tuple[int, bool, bool, int, ClaimId]:
    """Return a lot's place in its tenant's queue: class, minimums first, what runs first, then the longest wait.

    Above every class comes what runs and nobody may preempt: it stays whatever is decided, so it stands on the
    strongest right. Else its tenant would have its guarantee twice, once there and once for a higher class. So it is
    while it changes its rung and its old group drains.
    """
    ask, claim = lot.ask, lot.ask.claim
    stays = not ask.rank.preemptible and (lot.seats or is_changing_rung(ask))
    value = ask.value + ABOVE_ALL if stays else ask.value
    return (-value, not lot.is_base, not lot.seats, claim.submitted_at_ms, claim.id)


def _plain(lot: Lot) -> Seat | None:
    """Return the replica of a complete lot of one if its right depends on what it counts alone."""
    ask = lot.ask
    if lot.size != 1 or not lot.seats or ask.idle or ask.paused or not ask.options:
        return None
    return lot.seats[0] if ask.options[0].rung == lot.seats[0].rung else None


def allocate(work: Allocation) -> None:
    """Grant places until nothing more fits: tier by tier, then what is left, then better or lower rungs."""
    _keep_what_is_blind(work)
    begin_rating(work)
    for hold in work.memory.holds:
        for lot in work.of_claim.get(hold.claim, ()):
            single_out(work, lot)
    pool(work, {tenant: rate_all(work, tenant) for tenant in work.layout.queues.tenants})
    work.victims.over = _over(work)
    recall_holds(work)
    keep_for_the_large(work)
    grant_settled(work)
    _go_on_as_decided(work)
    _serve(work, FLOOR)
    work.may_reopen = False
    _serve(work, GUARANTEED)
    if work.has_chosen or _has_any_failed(work):
        _serve_siblings(work)
    _serve(work, ENTITLED)
    _serve_leftover(work)
    tell_each(work, [tenant for tenant in work.open if work.layout.queues.is_gone_through(tenant)])
    squeeze(work)
    climb(work)
    _stay_where_they_stood(work)


def _over(work: Allocation) -> list[Lot]:
    """Return the lots of claims that leave in any case: by itself one has no right, and is more than a limit allows."""
    beyond = [
        lot for lots in work.open.values() for lot in lots
        if lot.tier > ENTITLED and lot.seats and not lot.missing and exceeds(work, lot) and not is_protected(work, lot)
    ]  # fmt: skip
    return [one for lot in beyond for one in ((lot.claim_lots or (lot,)) if lot.is_base else (lot,))]


def _stay_where_they_stood(work: Allocation) -> None:
    """Let replicas that left their places, and were given the very same again, be those that run there already."""
    of, left = work.victims.lot_of, dict[ClaimId, list[Seat]]()
    for seat in work.board.moved:
        lot = of.get(id(seat))
        if seat.group is not None or lot is None:
            continue
        if seat.claim not in left:
            held = [one for group in lot.ask.held for one in work.layout.seated.get(group.id, ())]
            left[seat.claim] = [one for one in held if id(one) not in of]
        before = next((one for one in left[seat.claim] if _is_same_place(one, seat)), None)
        if before is not None:
            seat.group = before.group
            left[seat.claim].remove(before)


def _is_same_place(one: Seat, other: Seat) -> bool:
    return (one.worker, one.rung, one.devices) == (other.worker, other.rung, other.devices)


def _has_any_failed(work: Allocation) -> bool:
    """Say whether somebody with a right to a place found none."""
    classes = [one for some in work.layout.queues.alike.values() for one in some.values()]
    return any(one.has_failed and one.tier <= GUARANTEED for alike in classes for one in alike.stretches) or any(
        lot.has_failed and lot.tier <= GUARANTEED for lot in work.open_lots()
    )


def _serve_siblings(work: Allocation) -> None:
    """Offer what lots with a right could not use, since they found no place or may not start now, to their siblings.

    Of these some may choose another flavor than that on which they had their right: it is offered once more.
    """
    for _ in range(RETRY_ROUNDS):
        work.has_chosen = False
        pool(work, {tenant: rate(work, tenant) for tenant in sorted(work.open)})
        for tier in (FLOOR, GUARANTEED):
            _serve(work, tier)
        if not work.has_chosen:
            return


def _keep_what_is_blind(work: Allocation) -> None:
    for lot in work.lots() if work.survey.blind else ():
        if lot.ask.domain in work.survey.blind:
            lot.has_failed = lot.missing > 0
            if lot.seats:
                keep(work, lot)
            else:
                work.codes.setdefault(lot.ask.claim.id, PendingReason.TELEMETRY_STALE)


def _go_on_as_decided(work: Allocation) -> None:
    """Place what nobody may preempt, and is on its way to a place, where it has a guarantee, before all who wait.

    It changes its rung, or room that was freed for it is kept: as if it ran, a stronger right or a higher class takes
    nothing of that. Who has been on its way for longest goes first. Else the change of its rung is called off while its
    old group drains, and begun again once that is back, without end; or it loses what it left its old place for.
    """
    changing, since = work.layout.queues.changing, _awaited(work)
    lots = [lot for name in changing | since.keys() for lot in work.of_claim[name] if lot.is_base or name in changing]

    def place(lot: Lot) -> tuple[bool, int, tuple[int, int, int, ClaimId]]:
        name = lot.ask.claim.id
        return name not in changing, since.get(name, 0), _across_tenants(lot, lot.tier)

    for lot in sorted(lots, key=place):
        if lot.missing and not lot.has_failed and lot.tier <= GUARANTEED:
            granted(work, lot, lot.tier, grant)
            lot.has_failed = False  # if it found none: it asks again in its turn


def _awaited(work: Allocation) -> dict[ClaimId, int]:
    """Return until when room is kept for those that nobody may preempt and that were granted their places already.

    Only where none is kept for others of the same host as long as that: those that were granted places together are
    served in the same order again, so that all of them find theirs.
    """
    until: dict[ClaimId, int] = {}
    beside: dict[NodeId, set[ClaimId]] = {}
    for hold in work.memory.holds:
        device = work.survey.devices.get(hold.device)
        if device is not None and work.survey.now_ms < hold.expires_at_ms:
            until[hold.claim] = min(hold.expires_at_ms, until.get(hold.claim, hold.expires_at_ms))
            beside.setdefault(device.node, set()).add(hold.claim)
    later = {one for some in beside.values() for one in some if any(until[one] >= until[it] for it in some - {one})}
    return {claim: at for claim, at in until.items() if claim not in later and _was_granted_for_good(work, claim)}


def _was_granted_for_good(work: Allocation, claim: ClaimId) -> bool:
    known, lots = work.survey.remembered.get(claim), work.of_claim.get(claim)
    return known is not None and known.rung is not None and bool(lots and not lots[0].ask.rank.preemptible)


def _serve(work: Allocation, tier: Tier) -> None:
    tenants = sorted(work.open)
    for _ in range(RETRY_ROUNDS):
        forget_weak(work)
        work.departures += 1
        line = Line(work, _is_placed, _across_tenants)
        for tenant in tenants:
            line.join(sweep(work, tenant, tier))
        for alike, one in _classes(work, tenants):
            if one.tier <= tier and not one.has_failed:
                line.join_class(alike, one)
        if line.ahead and tier is FLOOR:
            reopen(work)
        while line.ahead:
            line.serve()
        line.resume(None)
        _ask_again(work, line)
        tenants = sorted(line.refused)
        for tenant in tenants:
            rate(work, tenant)
        if not tenants:
            return


def _classes(work: Allocation, tenants: Iterable[TenantId]) -> list[tuple[Alike, Stretch]]:
    of = work.layout.queues.alike
    return [(alike, one) for tenant in tenants for alike in of.get(tenant, {}).values() for one in alike.stretches]


def _ask_again(work: Allocation, line: Line) -> None:
    """Let those ask again in the next round for whom there may be a place now, if anything was granted in this.

    A tenant that had nothing to spare may have more by then. And where somebody left since, what is left beside the
    one that made the room may be enough, before a sibling is given what the first could not use.
    """
    for lot, after in line.again if line.granted else ():
        lot.has_failed = lot.has_failed and work.departures <= after
    for _, one in _classes(work, line.refused):
        if line.granted and one.asks_again_after is not None:
            one.has_failed = work.departures <= one.asks_again_after
        one.asks_again_after = None


def _is_placed(work: Allocation, lot: Lot, tier: Tier) -> bool:
    return grant(work, lot, tier) or rearrange(work, lot, tier)


def _across_tenants(lot: Lot, tier: Tier) -> tuple[int, int, int, ClaimId]:
    """Return the order in which lots are tried: the strongest right, class, then the longest wait, then the id."""
    return (tier, -lot.ask.value, lot.ask.claim.submitted_at_ms, lot.ask.claim.id)


def _serve_leftover(work: Allocation) -> None:
    """Keep what still runs where it is, then offer what is free to those that borrow least."""
    tell_runs(work)
    work.leftover = open_ = [lot for lot in work.open_lots() if lot.tier is not NONE]
    complete = [lot for lot in open_ if len(lot.seats) == lot.size]
    for lot in complete:
        if not lot.ask.idle and _may_run_on(work, lot):
            keep(work, lot)
    for lot in complete:
        if lot.is_base and not lot.is_kept and not lot.ask.idle:
            _stand_elsewhere(work, lot)
    blind = work.survey.blind
    waiting = [lot for lot in open_ if len(lot.seats) < lot.size and lot.ask.domain not in blind]
    classes = [one for one in _classes(work, sorted(work.open)) if one[1].tier is not NONE]
    work.departures += 1
    served, known = _served_by_share(work, [lot for lot in waiting if not lot.ask.idle], classes), set(map(id, open_))
    work.leftover += [lot for lot in served if id(lot) not in known]
    for lot in complete:
        if not lot.is_kept and not lot.missing and _may_run_on(work, lot):
            keep(work, lot)
    _served_by_share(work, [lot for lot in waiting if lot.ask.idle], ())


def _served_by_share(work: Allocation, lots: Iterable[Lot], classes: Iterable[tuple[Alike, Stretch]]) -> list[Lot]:
    """Offer what is left to these, of each tenant in the order of its queue; return what was granted."""
    lines: dict[TenantId, dict[FlavorId, Line]] = {}

    def line(lot: Lot) -> Line:
        of_tenant = lines.setdefault(lot.ask.tenant.id, {})
        return of_tenant.setdefault(first_option(lot).flavor, Line(work, grant, _in_queue, LEFTOVER))

    for lot in lots:
        line(lot).join([lot])
    for alike, one in classes:
        line(alike.lots[0]).join_class(alike, one)
    serve_in_fair_order(work, lines)
    return [lot for of_tenant in lines.values() for one in of_tenant.values() for lot in one.granted]


def _in_queue(lot: Lot, _: Tier) -> tuple[int, bool, bool, int, ClaimId]:
    """Return the lot's place in its tenant's queue with the replicas that it has now."""
    return serving_order(lot)


def _stand_elsewhere(work: Allocation, lot: Lot) -> None:
    """Place a minimum that may not stay on one of its flavors anew on the other, where its tenant has a right to it."""
    rate_anew(work, lot)
    if lot.missing:
        granted(work, lot, lot.tier, _is_placed)
        return
    stay_where_allowed(work, lot)
    if not lot.missing and _may_run_on(work, lot):
        keep(work, lot)


def _may_run_on(work: Allocation, lot: Lot) -> bool:
    if not has_base(work, lot):
        return False
    may_stay = any(is_allowed(work, lot, first_option(lot), tier) for tier in (LEFTOVER, GUARANTEED))
    return may_stay or is_protected(work, lot)
