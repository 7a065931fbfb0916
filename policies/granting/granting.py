"""Grant one lot: all of its replicas find a place, or nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policies.fleet.board import Need, Order, Seat, Site, needed, seated
from policies.fleet.topology import common_rack, roomy_rack
from policies.granting.avoiding import avoided, backoff_ms, failures
from policies.granting.booking import keep, roll_back, stand
from policies.granting.displacing import Price, Weak, find_by_displacing
from policies.granting.fitting import find
from policies.granting.holding import ends_ms
from policies.granting.limits import is_allowed
from policies.granting.movable import weak_hosts
from policies.granting.places import NOWHERE, order
from policies.granting.reclaim import (
    FLOOR,
    GUARANTEED,
    Lot,
    Tier,
    anybodys_price,
    is_within_budget,
    kept_back,
    may_displace,
    price_for,
    record,
    restore,
)
from policies.granting.working import Allocation, Signature, has_base, is_scarcity_lasting, siblings
from policies.model.decision import PendingReason
from policies.model.units import NodeId
from policies.wishes.admission import NEW, Option

FIRST: Order = (-1, 0, 0, 0, ())
"""Before every place: options in the order that their owner gave."""
SPARED_TOGETHER = 8
"""Places looked at for one replica, where each of those that would leave can be spared but not all of them."""


def grant(work: Allocation, lot: Lot, tier: Tier) -> bool:
    """Say whether every replica that the lot misses got a place; if not, everything is as it was before.

    The options are tried in the order of the ladder. In each, a free place comes before one that others must leave.
    """
    if lot.is_base:
        _borrow_from_extras(work, lot)
    if not has_base(work, lot) or is_backing_off(work, lot):
        lot.has_failed = True
        return False
    for option in _by_place(work, lot, tier):
        if is_allowed(work, lot, option, tier) and place(work, lot, option, tier):
            keep(work, lot)
            work.has_chosen |= tier <= GUARANTEED and any(one.flavor != option.flavor for one in lot.ask.options)
            return True
    lot.has_failed = True
    work.codes.setdefault(lot.ask.claim.id, PendingReason.TOPOLOGY_UNSATISFIED)
    return False


def _by_place(work: Allocation, lot: Lot, tier: Tier) -> Sequence[Option]:
    """Return the options in the order in which they are tried: of flavors that are all the same to it, the best place.

    A shape that names flavors names them in its owner's order; one that names none leaves the choice to the score.
    """
    options = _elsewhere_first(work, lot, tier)
    is_open = [not lot.ask.claim.ladder[option.rung].flavors for option in options]
    if not lot.missing or len(work.board.hosts_of) <= 1 or sum(is_open) <= 1:
        return options
    ranks = [
        (option.rung, _rank(work, need_of(work, lot, option, tier)) if is_free else FIRST, index)
        for index, (option, is_free) in enumerate(zip(options, is_open, strict=True))
    ]
    return [options[index] for *_, index in sorted(ranks)]


def _elsewhere_first(work: Allocation, lot: Lot, tier: Tier) -> Sequence[Option]:
    """Return the options in their order; of one rung, first those with a free place where no start failed."""
    options = choices(work, lot)
    is_spoilt = any(avoided(work.survey, lot.ask.claim.id, option.rung) for option in options)
    if not lot.missing or len(options) == 1 or not is_spoilt:
        return options

    def place(option: Option) -> tuple[int, bool]:
        is_free = is_allowed(work, lot, option, tier)
        return option.rung, not is_free or free_site(work, elsewhere(work, need_of(work, lot, option, tier))) is None

    return sorted(options, key=place)


def elsewhere(work: Allocation, need: Need) -> Need:
    """Return the need, away from where a start of the claim failed lately."""
    devices = avoided(work.survey, need.claim, need.rung)
    return replace(need, avoid_devices=devices) if devices else need


def free_site(work: Allocation, need: Need) -> Site | None:
    """Return the best free place, None if there is none; what found none before is not looked for again."""
    key = signature(work, need)
    if key in work.hopeless:
        return None
    site = find(work.board, need)
    if site is None:
        work.hopeless.add(key)
    return site


def _rank(work: Allocation, need: Need) -> Order:
    """Return how good the best free place is; none comes last."""
    need = elsewhere(work, need)
    site = None if signature(work, need) in work.hopeless else find(work.board, need)
    return NOWHERE if site is None else order(work.board, need, site)


def place(work: Allocation, lot: Lot, option: Option, tier: Tier) -> bool:
    """Say whether the lot's missing replicas were all seated with this option; if not, nothing has changed."""
    mark = len(work.log)
    while lot.missing:
        if not place_one(work, lot, option, tier):
            if len(work.log) > mark:
                roll_back(work, mark)
            return False
    return True


def _borrow_from_extras(work: Allocation, lot: Lot) -> None:
    """Move replicas from the claim's further lots into its minimum."""
    for extra in siblings(work, lot)[1:]:
        while lot.missing and extra.seats and not extra.is_kept:
            if not extra.missing:
                stand(work, extra.seats, -1)
            seat = extra.seats.pop()
            work.board.moved.setdefault(seat, 0)
            lot.seats.append(seat)
            work.victims.lot_of[id(seat)] = lot
            if not lot.missing:
                stand(work, lot.seats, 1)


def is_backing_off(work: Allocation, lot: Lot) -> bool:
    """Say whether its last start failed so lately that it is not tried again now, and note that as the reason."""
    survey, claim = work.survey, lot.ask.claim.id
    remembered = survey.remembered.get(claim, NEW)
    if remembered.failed_at_ms is None and claim not in survey.groups_of:
        return False
    count, failed_at = failures(survey, lot.ask, remembered)
    if failed_at is None or survey.now_ms - failed_at >= backoff_ms(survey.policy.bounds, count):
        return False
    work.codes[lot.ask.claim.id] = PendingReason.ON_HOLD
    return True


def choices(work: Allocation, lot: Lot) -> Sequence[Option]:
    """Return the options to try, in order. All replicas of a claim run on one rung: further ones follow the first.

    A claim that had a rung waits for it before it takes a lower one, for as long as the policy says.
    """
    if lot.is_base and not lot.seats:
        options, rung = lot.ask.options, lot.ask.rung
        if rung is None or is_scarcity_lasting(work, lot):
            return options
        return [option for option in options if option.rung == rung] or options
    rung = next((seat.rung for one in siblings(work, lot) for seat in one.seats), None)
    return [option for option in lot.ask.options if rung is None or option.rung == rung]


def place_one(work: Allocation, lot: Lot, option: Option, tier: Tier) -> bool:
    """Say whether one of the lot's missing replicas got a place, free or one that others with a weaker right leave.

    Where a start of it failed it comes again only if no other place is free, but before anybody has to leave for it.
    """
    need = need_of(work, lot, option, tier)
    away = elsewhere(work, need)
    site = free_site(work, away) if away.avoid_devices else None
    site = site or free_site(work, need) or _displaced(work, lot, need, tier)
    if site is None:
        return False
    seat_at(work, lot, need, site, tier)
    return True


def signature(work: Allocation, need: Need) -> Signature:
    """Return what decides whether the need finds a free place: those of equal signature find the same."""
    holder = work.board.holder
    if not holder:
        return need.kind, need.avoid_nodes, need.avoid_devices, None, None
    if not work.holding:
        work.holding.update(name for some in holder.values() for one in some for name in (one, one.partition(":")[0]))
    names = (need.claim, need.claim.partition(":")[0])
    holding = next((one for one in names if one in work.holding), None)
    strength = (*need.strength, need.ends_ms if work.board.needed_at else None)
    return need.kind, need.avoid_nodes, need.avoid_devices, strength, holding


def need_of(work: Allocation, lot: Lot, option: Option, tier: Tier) -> Need:
    """Return what one replica of the lot must find with the option and this right."""
    shape = lot.ask.claim.ladder[option.rung]
    avoid = frozenset[NodeId]()
    if lot.ask.claim.spread:
        avoid = frozenset(s.node for one in siblings(work, lot) for s in one.seats)
    return needed(
        claim=lot.ask.claim.id, domain=lot.ask.domain, rung=option.rung, flavor=option.flavor, devices=shape.devices,
        gpu_millis=shape.gpu_millis, memory_mib=shape.memory_mib, charge=option.charge, avoid_nodes=avoid,
        strength=(-tier, lot.ask.value), ends_ms=ends_ms(work.survey, lot.ask.claim),
        model=work.warm_model(lot.ask.claim.model), cpu_millis=shape.cpu_millis,
        host_memory_mib=shape.host_memory_mib, rack=_rack_for(work, lot, option),
    )  # fmt: skip


def _rack_for(work: Allocation, lot: Lot, option: Option) -> str:
    """Return the rack with most of the claim's replicas, for a gang's first one that with room for the gang.

    Only for replicas of several devices, and not where they must not fail together.
    """
    devices = lot.ask.claim.ladder[option.rung].devices
    if not work.board.racks or devices == 1 or lot.ask.claim.spread:
        return ""
    hosts = [seat.node for one in siblings(work, lot) for seat in one.seats]
    if hosts or lot.missing <= 1:
        return common_rack(work.board, hosts)
    return roomy_rack(work.board, option.flavor, devices, lot.missing)


def _displaced(work: Allocation, lot: Lot, need: Need, tier: Tier) -> Site | None:
    """Return a place that others leave for the lot; where it may not ask yet, one that its old group leaves."""
    may_ask = may_displace(work.victims, lot, tier)
    if work.is_gentle or not (may_ask or lot.ask.leaving):
        return None
    if work.board.steps >= work.survey.policy.bounds.search_steps:
        work.codes[lot.ask.claim.id] = PendingReason.SEARCH_INCOMPLETE
        return None
    if work.victims.is_spent and tier is not FLOOR and not work.board.leaving:
        work.victims.refused_by_budget.add(lot.ask.claim.id)
        return None
    price = price_for(work.victims, lot, tier) if may_ask else _price_of_leaving(work)
    anybodys = anybodys_price(work.victims, tier)
    site = find_left_by_all(work, (lot, tier), need, (price, anybodys), weak_hosts(work, tier))
    if site is not None and not is_within_budget(work.victims, site.victims, tier):
        work.victims.refused_by_budget.add(lot.ask.claim.id)
        return None
    return site


def find_left_by_all(
    work: Allocation, of: tuple[Lot, Tier], need: Need, prices: tuple[Price, Price], weak: Weak
) -> Site | None:
    """Return the cheapest place for the lot with this right whose victims can all be spared together, None if none is.

    One that can be spared alone, but not with others of its tenant, stays in the next try. Prices: as
    ``find_by_displacing`` takes them.
    """
    (lot, tier), (price, anybodys), stays = of, prices, set[int]()

    def of_the_others(seat: Seat) -> int | None:
        return None if id(seat) in stays else price(seat)

    for _ in range(SPARED_TOGETHER):
        site = find_by_displacing(work.board, need, of_the_others if stays else price, anybodys, weak)
        back = None if site is None else kept_back(work.victims, lot, tier, site.victims)
        if back is None:
            return site
        stays.add(id(back))
    work.codes[lot.ask.claim.id] = PendingReason.SEARCH_INCOMPLETE
    return None


def _price_of_leaving(work: Allocation) -> Price:
    """Return the price of places which nobody has to be asked to leave: what stands there leaves in any case."""
    return lambda seat: None if id(seat) in work.victims.lot_of else 0


def seat_at(work: Allocation, lot: Lot, need: Need, site: Site, tier: Tier) -> None:
    """Put one replica of the lot at the site, and take the places of the site's victims; logged, so that it can end."""
    budget = work.victims.budget
    owners = {id(one): one for victim in site.victims if (one := work.victims.lot_of.get(id(victim)))}
    broken = [owner for owner in owners.values() if not owner.missing]
    for owner in broken:
        stand(work, owner.seats, -1)
    for victim in site.victims:
        work.board.leave(victim)
    taken = record(work.victims, lot, tier, site.victims)
    if site.victims:
        work.hopeless.clear()
    workers = work.board.bind(site, need.domain)
    seat = seated(
        claim=need.claim, domain=need.domain, rung=need.rung, worker=site.worker, node=site.node, devices=site.devices,
        gpu_millis=need.gpu_millis, memory_mib=need.memory_mib, charge=need.charge, flavor=need.flavor,
        cpu_millis=need.cpu_millis, host_memory_mib=need.host_memory_mib,
    )  # fmt: skip
    work.board.take(seat)
    work.victims.lot_of[id(seat)] = lot
    lot.seats.append(seat)
    if not lot.missing:
        stand(work, lot.seats, 1)

    def take_back() -> None:
        if not lot.missing:
            stand(work, lot.seats, -1)
        work.board.leave(seat)
        work.board.unbind(workers)
        del work.victims.lot_of[id(seat)]
        lot.seats.remove(seat)
        for victim in site.victims:
            work.board.take(victim)
        restore(work.victims, taken, budget)
        for owner in broken:
            stand(work, owner.seats, 1)

    work.log.append(take_back)
