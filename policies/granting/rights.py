"""Which right each lot has: the strongest that its tenant's shares still cover, in the order of the tenant's queue."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.fleet.board import Seat
from policies.granting.alike import Alike, Stretch, joined
from policies.granting.apart import look_apart
from policies.granting.granting import choices
from policies.granting.limits import guaranteed
from policies.granting.parting import ask_where_the_right_is, give_up_what_may_not_stay
from policies.granting.queues import Order
from policies.granting.reclaim import ENTITLED, FLOOR, GUARANTEED, LEFTOVER, NONE, Lot, Tier, is_unseen
from policies.granting.steady import LAST, Given, Way
from policies.granting.working import Allocation, amounts, siblings
from policies.model.units import FlavorId, TenantId
from policies.shares.entitlement import Share
from policies.wishes.admission import Option

Amounts = dict[FlavorId, int]


def begin_rating(work: Allocation) -> None:
    """Let every tenant's lots be open: one by one those that are judged by themselves, the others as they stand."""
    queues = work.layout.queues
    if work.survey.blind:
        work.open = {tenant: queues.of(tenant) for tenant in queues.tenants}
        return
    work.open = {tenant: list(lots) for tenant, lots in queues.apart.items()}
    for classes in queues.alike.values():
        for one in classes.values():
            one.begin_anew()


def rate_all(work: Allocation, tenant: TenantId) -> Amounts:
    """Rate all lots of the tenant before anything is granted; return what is held or has a guarantee now."""
    now, runs = given(work, tenant), work.layout.queues.runs.get(tenant, {}).values()
    ways = [] if work.survey.blind else [Way(run, [(0, len(run.lots))]) for run in runs]
    _rate(work, tenant, now, ways)
    for way in ways:
        way.run.settle(way.rated)
    return now.sure


def rate(work: Allocation, tenant: TenantId) -> Amounts:
    """Rate the tenant's open lots anew; return what is held or has a guarantee now."""
    look_apart(work)
    now, runs = given(work, tenant), work.layout.queues.runs.get(tenant, {}).values()
    ways = [Way(run, [(one.begin, one.end) for one in run.stretches]) for run in runs if run.stretches]
    _rate(work, tenant, now, ways)
    for way in ways:
        way.run.open(way.rated)
    return now.sure


def rate_anew(work: Allocation, lot: Lot) -> None:
    """Rate one lot by what its tenant holds now, on those of its flavors on which it is best off."""
    now = given(work, lot.ask.tenant.id)
    _stand_on_the_strongest(work, lot, now)
    if lot.missing:
        lot.tier, _ = _strongest(work, lot, now.used, now.sure)


def given(work: Allocation, tenant: TenantId) -> Given:
    """Return what the tenant holds, and what it may have."""
    used = {flavor: work.used.get((tenant, flavor), 0) for flavor in work.shares}
    shares = {flavor: of_tenants.get(tenant) for flavor, of_tenants in work.shares.items()}
    most = {flavor: guaranteed(work, tenant, flavor) for flavor, share in shares.items() if share is not None}
    return Given(used, dict(used), shares, most)


@dataclass(slots=True)
class _Band:
    """What is rated together of one class of priority: what runs, then what waits."""

    value: int
    runs: list[Way] = field(default_factory=list)
    waiting: list[tuple[Order, int, _Cursor]] = field(default_factory=list)
    """By the next lot of each; a heap."""


@dataclass(slots=True, eq=False)
class _Cursor:
    """How far lots of equal terms have been rated."""

    alike: Alike
    option: Option | None
    """The one that they have; None if they have several."""
    amount: int
    """What each of them counts with that, in millis."""
    ahead: list[Stretch]
    """What is still to be rated, the next one last."""
    rated: list[Stretch] = field(default_factory=list)
    growing: Stretch | None = None
    """The last of these, while it is part of the next one ahead."""

    def take(self, tier: Tier) -> None:
        """Give this right to the next lot."""
        one, begin = self.ahead[-1], self.ahead[-1].begin
        if self.growing is None or self.growing.tier is not tier:
            self.growing = one.part(begin, begin, tier)
            self.rated.append(self.growing)
        self.growing.end = one.begin = begin + 1
        if one.begin == one.end:
            self.growing = None
            self.ahead.pop()

    def take_all(self, tier: Tier) -> None:
        """Give this right to all that are left."""
        for one in reversed(self.ahead):
            joined(self.rated, one if one.has_failed else one.part(one.begin, one.end, tier))
        self.ahead = []

    def next(self) -> Lot | None:
        """Return the next lot, None if all are rated."""
        while self.ahead and self.ahead[-1].has_failed:
            joined(self.rated, self.ahead.pop())
        return self.alike.lots[self.ahead[-1].begin] if self.ahead else None


def _rate(work: Allocation, tenant: TenantId, now: Given, ways: Sequence[Way]) -> None:
    """Give every open lot of the tenant the strongest right that its shares still cover, in the order of its queue.

    What is guaranteed goes to the first lots that fit into it, so that one too large does not forfeit it for the
    others; all of them together are never more. Of these, those that begin below the floor have the floor's right, so
    that a floor is kept although no replicas add up to it exactly.
    """
    cursors = [_cursor(one) for one in work.layout.queues.alike.get(tenant, {}).values()]
    ahead = _bands(ways, cursors)
    beyond: dict[int, Tier] = {}  # by identity of the terms: lots of equal terms have the same
    for lot in work.open[tenant]:
        while ahead and -ahead[0].value <= lot.order[0]:
            _advance(work, ahead[0], lot.order, now)
            if ahead[0].waiting or any(way.ahead for way in ahead[0].runs):
                break
            del ahead[0]
        if not lot.is_kept and not lot.has_failed:
            _rate_one(work, lot, now, beyond)
    for band in ahead:
        _advance(work, band, LAST, now)
    for cursor in cursors:
        cursor.alike.stretches = cursor.rated


def _bands(ways: Sequence[Way], cursors: Sequence[_Cursor]) -> list[_Band]:
    bands: dict[int, _Band] = {}
    for way in ways:
        bands.setdefault(way.run.value, _Band(way.run.value)).runs.append(way)
    for index, cursor in enumerate(cursors):
        lot = cursor.next()
        if lot is not None:
            value = cursor.alike.value
            heapq.heappush(bands.setdefault(value, _Band(value)).waiting, (lot.order, index, cursor))
    return sorted(bands.values(), key=lambda band: -band.value)


def _cursor(alike: Alike) -> _Cursor:
    options, size = alike.lots[0].ask.options, alike.lots[0].size
    option = options[0] if len(options) == 1 else None
    return _Cursor(alike, option, 0 if option is None else option.charge * size, alike.stretches[::-1])


def _advance(work: Allocation, band: _Band, order: Order, now: Given) -> None:
    """Rate what stands before this place. The first lot of a class without a right to a place speaks for the rest."""
    for way in band.runs:
        way.advance(order, now)
    waiting = band.waiting
    while waiting and waiting[0][0] < order:
        _, index, cursor = waiting[0]
        tier = _give(work, cursor, cursor.alike.lots[cursor.ahead[-1].begin], now)
        if tier <= ENTITLED:
            cursor.take(tier)
        else:
            cursor.take_all(tier)
        lot = cursor.next()
        if lot is None:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, (lot.order, index, cursor))


def _give(work: Allocation, cursor: _Cursor, lot: Lot, now: Given) -> Tier:
    """Return the right of a lot that has nothing, and count it."""
    if cursor.option is None:
        tier, needs = _strongest(work, lot, now.used, now.sure)
        _count(now, tier, needs)
        return tier
    flavor, amount, ask = cursor.option.flavor, cursor.amount, lot.ask
    share, before = now.shares[flavor], (now.used[flavor], now.sure[flavor])
    if share is not None and ask.rank.preemptible and not ask.paused and not ask.idle:
        tier = _covered(share, before, amount, now.most[flavor])
    else:
        tier = _tier(work, lot, flavor, before, amount)
    if tier <= ENTITLED:
        now.used[flavor] += amount
        if tier <= GUARANTEED:
            now.sure[flavor] += amount
    return tier


def _count(now: Given, tier: Tier, needs: Amounts) -> None:
    for flavor, amount in needs.items():
        now.used[flavor] += amount if tier <= ENTITLED else 0
        now.sure[flavor] += amount if tier <= GUARANTEED else 0


def _rate_one(work: Allocation, lot: Lot, now: Given, beyond: dict[int, Tier]) -> None:
    """Rate a lot that is judged by itself, unless one of equal terms was found to have no right to a place."""
    seat, terms = lot.plain, lot.terms
    if seat is not None and lot.seats and lot.seats[0] is seat and (share := now.shares.get(seat.flavor)) is not None:
        lot.tier = _right_of_plain(work, lot, now, share, seat)
        _count(now, lot.tier, {seat.flavor: seat.charge})
    elif terms is not None and not lot.seats and id(terms) in beyond:
        lot.tier = beyond[id(terms)]
    else:
        if lot.is_base and lot.claim_lots:
            _stand_on_the_strongest(work, lot, now)
        lot.tier, needs = _strongest(work, lot, now.used, now.sure)
        _count(now, lot.tier, needs)
        if lot.tier > ENTITLED and terms is not None and not lot.seats:
            beyond[id(terms)] = lot.tier


def _right_of_plain(work: Allocation, lot: Lot, now: Given, share: Share, seat: Seat) -> Tier:
    before = now.used[seat.flavor], now.sure[seat.flavor]
    tier = _covered(share, before, seat.charge, now.most[seat.flavor])
    return tier if lot.is_base else max(tier, right_of_base(work, lot))


def _covered(share: Share, before: tuple[int, int], amount: int, most: int) -> Tier:
    """Return the right of what may leave and is neither idle nor paused, after so much is used and guaranteed."""
    used, sure = before
    if sure + amount <= most:
        return FLOOR if sure < share.floor else GUARANTEED
    return ENTITLED if used + amount <= share.entitled else LEFTOVER


def _stand_on_the_strongest(work: Allocation, lot: Lot, now: Given) -> None:
    """Let the claim's minimum be those of its replicas that have the strongest right, where they are on two flavors."""
    seats = [seat for one in lot.claim_lots for seat in one.seats]
    flavors = dict.fromkeys(seat.flavor for seat in seats)
    if len(flavors) <= 1 or any(one.is_kept for one in lot.claim_lots):
        return

    def right_to(flavor: FlavorId, amount: int) -> Tier:
        return _tier(work, lot, flavor, (now.used[flavor], now.sure[flavor]), amount)

    may_leave = not lot.ask.idle and not any(_stays(work, one) for one in lot.claim_lots)
    if lot.missing:
        if may_leave:
            ask_where_the_right_is(work, lot, right_to, _strongest(work, lot, now.used, now.sure)[0])
        return

    def right(some: Sequence[Seat]) -> Tier:
        amount_of = {flavor: sum(seat.charge for seat in some if seat.flavor == flavor) for flavor in flavors}
        return max(right_to(flavor, amount) for flavor, amount in amount_of.items() if amount)

    def worth(some: Sequence[Seat]) -> tuple[Tier, int]:
        return right(some), len({seat.flavor for seat in some})

    ways = [sorted(seats, key=lambda seat: seat.flavor != first) for first in flavors]
    best = min(ways, key=lambda way: worth(way[: lot.size]))
    if worth(best[: lot.size]) < worth(lot.seats):
        _hold(work, lot.claim_lots, best)
    if may_leave and right(lot.seats) > ENTITLED:
        give_up_what_may_not_stay(work, lot, right_to)


def _hold(work: Allocation, lots: Sequence[Lot], seats: Sequence[Seat]) -> None:
    """Let the lots hold these replicas in this order, each as many as it does now."""
    for one in lots:
        one.seats, seats = list(seats[: len(one.seats)]), seats[len(one.seats) :]
        for seat in one.seats:
            work.board.moved.setdefault(seat, 0)
            work.victims.lot_of[id(seat)] = one


def _stays(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot stays although it has no right; what a mode pauses does only where it was not seen."""
    return any(is_unseen(work.survey, seat) for seat in lot.seats) if lot.ask.paused else is_protected(work, lot)


def is_protected(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot may stay above its limits: not preemptible, not seen, or not yet long enough there."""
    rank, now = lot.ask.rank, work.survey.now_ms
    ran_ms = min((now - seat.group.since_ms for seat in lot.seats if seat.group), default=0)
    is_hidden = any(is_unseen(work.survey, seat) for seat in lot.seats)
    return not rank.preemptible or is_hidden or ran_ms < rank.min_runtime_s * 1000


def _strongest(work: Allocation, lot: Lot, used: Amounts, sure: Amounts) -> tuple[Tier, Amounts]:
    """Return the right that covers the lot with the first option inside the tenant's shares, else with the best one."""
    if len(lot.ask.options) == 1 and lot.is_base and not lot.seats:
        option = lot.ask.options[0]
        flavor, amount = option.flavor, option.charge * lot.size
        return _tier(work, lot, flavor, (used[flavor], sure[flavor]), amount), {flavor: amount}
    found: list[tuple[Tier, Amounts]] = []
    options = choices(work, lot) or (() if lot.missing else lot.ask.options)  # what is whole may stay on its own rung
    for option in options:
        needs = amounts(lot, option)
        tier = max(_tier(work, lot, flavor, (used[flavor], sure[flavor]), amount) for flavor, amount in needs.items())
        tier = max(tier, right_of_base(work, lot))
        if tier <= ENTITLED or not lot.missing:
            lot.covered = option if found else None
            return tier, needs
        found.append((tier, needs))
    return min(found, key=lambda one: one[0], default=(NONE, {}))


def right_of_base(work: Allocation, lot: Lot) -> Tier:
    """Return the right of the claim's minimum: further replicas follow it and have none that is stronger."""
    base = siblings(work, lot)[0]
    if lot.is_base or not base.is_base or base.is_kept:
        return FLOOR
    return NONE if base.has_failed else base.tier


def _tier(work: Allocation, lot: Lot, flavor: FlavorId, before: tuple[int, int], amount: int) -> Tier:
    share = work.shares[flavor].get(lot.ask.tenant.id)
    if share is None:
        return NONE
    used, sure = before
    fits = sure + amount <= guaranteed(work, lot.ask.tenant.id, flavor)
    may_stay = lot.ask.rank.preemptible or bool(lot.seats) or sure + amount <= share.nominal
    if sure < share.floor and fits and not lot.ask.idle and may_stay:
        return FLOOR
    if lot.ask.paused:
        return NONE
    if lot.ask.idle:
        return LEFTOVER
    if fits and may_stay:
        return GUARANTEED
    if not lot.ask.rank.preemptible and not lot.seats:
        return NONE
    return ENTITLED if used + amount <= share.entitled else LEFTOVER
