"""What a place costs others: the least that it can cost anybody bounds it, and no host that costs less is missed."""

from __future__ import annotations

from itertools import combinations

import pytest

from policies.fleet.board import Need, Site
from policies.granting.displacing import Price, _cheapest, _least, _least_victims, find_by_displacing
from policies.granting.fitting import find
from policies.granting.granting import need_of
from policies.granting.movable import weak_hosts, weak_nodes
from policies.granting.places import candidates
from policies.granting.reclaim import Lot, Tier, anybodys_price, cost, price_for, record, restore
from policies.granting.working import Allocation
from tests.policies.crowds import NOW_MS, crowd
from tests.policies.looking import DEPTH
from tests.policies.test_taken_back import begun, lots_of, state
from tests.simulation.generate import Dice

CROWDS = range(1, 120 * DEPTH, 2)
RIGHTS = (Tier.FLOOR, Tier.GUARANTEED, Tier.ENTITLED, Tier.LEFTOVER)


def asked(seed: int):
    """The work of a decision, and each lot that misses something with each of its options."""
    work = begun(crowd(seed))
    return work, [(lot, option) for lot in lots_of(work) if lot.missing for option in lot.ask.options]


@pytest.mark.parametrize("part", range(5))
def test_no_lot_pays_less_than_the_least_that_a_place_can_cost_anybody(part):
    for seed in CROWDS[part::5]:
        work = begun(crowd(seed))
        seats = list({id(seat): seat for some in work.board.seats.values() for seat in some}.values())
        for tier in RIGHTS:
            least = anybodys_price(work.victims, tier)
            for lot in lots_of(work):
                price = price_for(work.victims, lot, tier)
                for seat in seats:
                    mine, anybodys = price(seat), least(seat)
                    assert mine is None or (anybodys is not None and 0 <= anybodys <= mine)


def price_as_said(work: Allocation, seat) -> int | None:
    """What any place costs: nothing if it leaves anyway, else more the stronger its right is, then what is lost."""
    owner, victims = work.victims.lot_of.get(id(seat)), work.victims
    if owner is None or (seat.group is not None and seat.group.id in victims.draining):
        return 0
    return (5 - int(owner.tier)) * 10**9 + 1 + cost(victims.survey, seat.group)


@pytest.mark.parametrize("part", range(5))
def test_a_place_costs_what_the_right_and_the_work_of_whoever_leaves_it_are_worth(part):
    taken = 0
    for seed in CROWDS[part::5]:
        work = begun(crowd(seed))
        for lot in lots_of(work):
            price = price_for(work.victims, lot, Tier.FLOOR)
            for some in work.board.seats.values():
                for seat in some:
                    found = price(seat)
                    assert found in (None, price_as_said(work, seat))
                    taken += bool(found)
    assert taken


def on_host(work: Allocation, need: Need, price: Price, node: str) -> Site | None:
    """The cheapest place on the host."""
    devices = [one.id for one in candidates(work.board, need, node)]
    return _cheapest(work.board, need, price, devices)


def cheapest(work: Allocation, need: Need, lot: Lot, tier: Tier) -> int | None:
    """What the cheapest place costs, each host looked at."""
    price = price_for(work.victims, lot, tier)
    sites = [on_host(work, need, price, node) for node in sorted(weak_nodes(work, tier))]
    return min((site.cost for site in sites if site is not None), default=None)


@pytest.mark.parametrize("part", range(5))
def test_the_cheapest_place_is_found_although_not_every_host_is_looked_at(part):
    found = 0
    for seed in CROWDS[part::5]:
        work, wishes = asked(seed)
        for lot, option in wishes:
            for tier in RIGHTS:
                need = need_of(work, lot, option, tier)
                if find(work.board, need) is not None:
                    continue
                least, price = anybodys_price(work.victims, tier), price_for(work.victims, lot, tier)
                site = find_by_displacing(work.board, need, price, least, weak_hosts(work, tier))
                best = cheapest(work, need, lot, tier)
                assert (None if site is None else site.cost) == best
                if site is not None:
                    found += 1
                    bound = _least(work.board, need, least, site.node)
                    assert bound is not None
                    assert bound <= site.cost == sum(price(seat) or 0 for seat in site.victims)
    assert found


def test_no_other_devices_of_a_host_come_free_for_less_also_where_replicas_stand_on_several():
    several = 0
    for seed in CROWDS:
        work, wishes = asked(seed)
        for lot, option in wishes:
            need, price = need_of(work, lot, option, Tier.FLOOR), price_for(work.victims, lot, Tier.FLOOR)
            for node in sorted(weak_nodes(work, Tier.FLOOR)) if need.devices > 1 else ():
                site = on_host(work, need, price, node)
                freed = [_least_victims(work.board, need, one.id, price) for one in candidates(work.board, need, node)]
                costs = [
                    sum(price(seat) or 0 for seat in {id(seat): seat for seats in some for seat in seats}.values())
                    for some in combinations([seats for seats in freed if seats is not None], need.devices)
                ]
                assert (site is None) or site.cost == min(costs)
                several += site is not None and any(len(seat.devices) > 1 for seat in site.victims)
    assert several


@pytest.mark.parametrize("part", range(5))
def test_who_is_taken_from_its_lot_and_given_back_is_as_before(part):
    for seed in CROWDS[part::5]:
        work, dice = begun(crowd(seed)), Dice(seed)
        seats = [seat for lot in lots_of(work) for seat in lot.seats]
        if not seats or not lots_of(work):
            continue
        for tier in (Tier.FLOOR, Tier.GUARANTEED):
            lot, before = dice.choice(lots_of(work)), state(work)
            some = tuple(dict.fromkeys(dice.choice(seats) for _ in range(3)))
            owners = {id(seat): work.victims.lot_of[id(seat)] for seat in some}
            budget, new = work.victims.budget, {seat.group.id for seat in some} - work.victims.draining
            paid = {
                seat.group.id for seat in some if owners[id(seat)].ask.paused and owners[id(seat)].tier is Tier.NONE
            }
            gone = set(work.victims.taken)  # a claim on two flavors may have given one of them up before
            taken = record(work.victims, lot, tier, some)
            assert budget - work.victims.budget == (0 if tier is Tier.FLOOR else len(new - paid))
            assert work.victims.taken.keys() - gone == {seat.group.id for seat in some}
            for seat in some:
                reason, beneficiary, lost = work.victims.taken[seat.group.id]
                assert (beneficiary, lost) == (lot.ask.claim.id, cost(work.survey, seat.group))
                assert reason is not None
                assert seat not in owners[id(seat)].seats
                assert id(seat) not in work.victims.lot_of
            assert set(map(id, owners.values())) <= set(map(id, work.victims.robbed))
            restore(work.victims, taken, budget)
            assert state(work) == before


def test_what_a_move_costs_is_the_cold_start_of_all_inside_and_the_work_since_the_last_checkpoint():
    for seed in range(40):
        here = crowd(seed)
        survey = begun(here).survey
        for group in survey.groups.values():
            inside = 1 if group.in_flight is None else group.in_flight
            lost = 0 if group.checkpoint_ms is None else (NOW_MS - group.checkpoint_ms) * group.running
            assert cost(survey, group) == (group.cold_start_ms * (1 + inside) + lost) * bool(group.running)
