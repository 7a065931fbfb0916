"""Room for a lot that has a right to it and finds no place: others with as good a right move, and lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from policies.fleet.board import Need, Seat, Site
from policies.fleet.room import roomiest
from policies.granting.booking import keep, let_go, roll_back, stand
from policies.granting.displacing import Moment, Weak
from policies.granting.fitting import find
from policies.granting.granting import choices, find_left_by_all, is_backing_off, need_of, seat_at, signature
from policies.granting.limits import is_allowed
from policies.granting.movable import forget_weak, weak_nodes
from policies.granting.reclaim import (
    GUARANTEED,
    Lot,
    Tier,
    Victims,
    anybodys_price,
    cost,
    is_within_budget,
    may_be_moved,
    may_displace,
    price_for,
    reason_for,
)
from policies.granting.working import Allocation, has_base, is_search_over, siblings
from policies.model.decision import EvictionReason, PendingReason
from policies.wishes.admission import Option

TRIED_PER_REPLICA = 8
"""Sites tried for the lot's replica; each that fails names a replica which has nowhere else to go."""
TRIED_FURTHER = 2
"""Sites tried for a replica that moves for another; what is stuck while one site is tried may move for the next one."""
HOSTS_LOOKED_AT = 64
"""Hosts on which room is looked for, those with something weakly held first, then those with most that is free."""
CHAIN = 2
"""A replica moves for a replica that moves for the lot, and no further."""
MOVE = 10_000_000_000
"""Price of moving one milli: whoever has a weaker right leaves before anybody with an equal one moves."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """The lot for which everything moves, with its right, and the lots that are under way for it."""

    work: Allocation
    lot: Lot
    tier: Tier
    busy: frozenset[int]
    fixed: set[int] = field(default_factory=set)
    """Replicas that were found to have nowhere else to go, as long as what is under way stays where it is."""


def rearrange(work: Allocation, lot: Lot, tier: Tier) -> bool:
    """Say whether the lot got its places because replicas with as good a right moved; if not, nothing has changed.

    Quotas count what a tenant holds, places are indivisible: what a tenant is guaranteed may be spread over devices of
    which none comes free alone. Only for floors and guarantees; whoever moves keeps its rung, its flavor and its right.
    """
    if work.is_gentle or tier > GUARANTEED or not may_displace(work.victims, lot, tier):
        return False
    if not has_base(work, lot) or is_backing_off(work, lot):
        return False
    for option in choices(work, lot):
        cause = _Cause(work, lot, tier, frozenset((id(lot),)))
        if is_allowed(work, lot, option, tier) and _is_seated(cause, lot, option):
            keep(work, lot)
            lot.has_failed = False
            forget_weak(work)
            return True
    return False


def _is_seated(cause: _Cause, lot: Lot, option: Option) -> bool:
    """Say whether all that the lot misses found a place, others moving where they must; if not, nothing has changed."""
    mark = len(cause.work.log)
    while lot.missing:
        need = need_of(cause.work, lot, option, cause.tier)
        free = None if signature(cause.work, need) in cause.work.hopeless else find(cause.work.board, need)
        if free is not None:
            seat_at(cause.work, lot, need, free, cause.tier)
        elif not _by_moving(cause, lot, need):
            roll_back(cause.work, mark)
            return False
    return True


def _by_moving(cause: _Cause, lot: Lot, need: Need) -> bool:
    """Say whether one replica was seated where others left or moved away; if not, nothing has changed."""
    work = cause.work
    if is_search_over(work):
        work.codes[cause.lot.ask.claim.id] = PendingReason.SEARCH_INCOMPLETE
        return False
    price, anybodys, weak = _price(cause), _anybodys(cause), _hosts(cause, need)
    for _ in range(TRIED_PER_REPLICA if lot is cause.lot else TRIED_FURTHER):
        if is_search_over(work):
            work.codes[cause.lot.ask.claim.id] = PendingReason.SEARCH_INCOMPLETE
            return False
        work.rearrangements += 1
        site = find_left_by_all(work, (cause.lot, cause.tier), need, (price, anybodys), weak)
        if site is None:
            return False
        if not is_within_budget(work.victims, site.victims, cause.tier):
            work.victims.refused_by_budget.add(cause.lot.ask.claim.id)
            return False
        mark = len(work.log)
        stuck = _move_away(cause, lot, need, site)
        if not stuck:
            return True
        roll_back(work, mark)
        cause.fixed.update(stuck)
    return False


def _hosts(cause: _Cause, need: Need) -> Weak:
    """Return the hosts to look at; what is known of their prices lasts until somebody is granted a place or leaves."""
    work, key = cause.work, (need.flavor, cause.tier)
    now = work.version, work.departures
    found = work.roomy.get(key)
    if found is None or found[0] != now:
        weak = weak_nodes(work, cause.tier)
        hosts = roomiest(work.board, need.flavor, weak, HOSTS_LOOKED_AT)
        found = work.roomy[key] = now, Weak(hosts, moment=Moment())
    if len(cause.busy) > 1:
        return Weak(found[1].nodes)
    return replace(found[1], moment=None) if _stands(work, cause.lot) else found[1]


def _stands(work: Allocation, lot: Lot) -> bool:
    """Say whether something of the lot's claim stands somewhere, in this decision or before it."""
    return lot.ask.claim.id in work.survey.groups_of or any(one.seats for one in siblings(work, lot))


def _anybodys(cause: _Cause) -> Callable[[Seat], int | None]:
    """Return the least that each replica's place can cost any lot of this right; None for those that must stay."""
    victims, usual = cause.work.victims, anybodys_price(cause.work.victims, cause.tier)

    def price(seat: Seat) -> int | None:
        owner = victims.lot_of.get(id(seat))
        if owner is None or not owner.is_kept:
            return usual(seat)
        return _price_of_move(victims, seat) if owner.ask.rank.preemptible else None

    return price


def _price_of_move(victims: Victims, seat: Seat) -> int:
    millis = seat.gpu_millis * len(seat.devices)
    return MOVE * millis + (0 if seat.group is None else cost(victims.survey, seat.group))


def _price(cause: _Cause) -> Callable[[Seat], int | None]:
    """Return the price of each replica's place: as ever for a weaker right, far more for one that would only move."""
    victims, usual = cause.work.victims, price_for(cause.work.victims, cause.lot, cause.tier)

    def price(seat: Seat) -> int | None:
        owner = victims.lot_of.get(id(seat))
        if owner is None or not owner.is_kept:
            return None if owner is not None and id(owner) in cause.busy else usual(seat)
        if len(cause.busy) > CHAIN or id(owner) in cause.busy or id(seat) in cause.fixed:
            return None
        if not may_be_moved(victims, cause.lot, cause.tier, owner, seat):
            return None
        return _price_of_move(victims, seat)

    return price


def _move_away(cause: _Cause, lot: Lot, need: Need, site: Site) -> set[int]:
    """Seat the lot's replica at the site, and elsewhere those that stood there. Return those with nowhere to go."""
    work, of = cause.work, cause.work.victims.lot_of
    moved = [seat for seat in site.victims if id(seat) in of and of[id(seat)].is_kept]
    owners = {id(of[id(seat)]): (of[id(seat)], seat) for seat in moved}
    whole = [seat for owner, _ in owners.values() for seat in owner.seats]
    leaving = [(seat, of[id(seat)]) for seat in site.victims if id(seat) in of and id(of[id(seat)]) not in owners]
    for owner, _ in owners.values():
        let_go(work, owner)
    for seat in moved:
        if seat.group is None:
            _leave(work, seat)
    victims = tuple(seat for seat in site.victims if seat.group is not None or id(seat) in of)
    seat_at(work, lot, need, replace(site, victims=victims), cause.tier)
    for seat in moved:
        _note(cause, seat, EvictionReason.CONSOLIDATE)
    _stand(work, whole, 1)
    for seat, owner in leaving:
        _note(cause, seat, reason_for(work.victims, cause.lot, owner, cause.tier))
    further = replace(cause, busy=cause.busy | set(owners), fixed=set())
    for owner, seat in sorted(owners.values(), key=_largest_first):
        if not _is_seated(further, owner, Option(rung=seat.rung, flavor=seat.flavor, charge=seat.charge)):
            return {id(one) for one in moved if one.claim == owner.ask.claim.id}
        keep(work, owner)
    _stand(work, whole, -1)
    return set()


def _stand(work: Allocation, seats: Sequence[Seat], sign: int) -> None:
    """Count replicas that are on their way: until they have their new places, their tenant lacks nothing."""
    stand(work, seats, sign)
    work.log.append(partial(stand, work, seats, -sign))


def _note(cause: _Cause, seat: Seat, reason: EvictionReason) -> None:
    """Record for whom the replica leaves in the end, and why; ``restore`` takes it back with the rest."""
    if seat.group is not None:
        price = cost(cause.work.survey, seat.group)
        cause.work.victims.taken[seat.group.id] = reason, cause.lot.ask.claim.id, price


def _largest_first(moved: tuple[Lot, Seat]) -> tuple[int, int, str]:
    owner, seat = moved
    return int(owner.tier), -seat.charge, owner.ask.claim.id


def _leave(work: Allocation, seat: Seat) -> None:
    """Take a replica that was seated in this very decision from its place again."""
    owner = work.victims.lot_of.pop(id(seat))
    if not owner.missing:
        stand(work, owner.seats, -1)
    owner.seats.remove(seat)
    work.board.leave(seat)
    work.log.append(partial(_come_back, work, seat, owner))


def _come_back(work: Allocation, seat: Seat, owner: Lot) -> None:
    work.board.take(seat)
    owner.seats.append(seat)
    work.victims.lot_of[id(seat)] = owner
    if not owner.missing:
        stand(work, owner.seats, 1)
