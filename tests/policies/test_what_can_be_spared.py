"""What a tenant can spare for another, to the last unit, and what is noted of whoever leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.granting.reclaim import (
    Lot,
    Tier,
    _lost_with,
    anybodys_price,
    kept_back,
    may_be_moved,
    price_for,
    record,
    restore,
)
from policies.granting.working import Allocation
from policies.invariants import check_decision
from policies.model.decision import EvictionReason
from policies.model.memory import Drain, Memory
from policies.model.policy import ModeOverlay, OperatingMode
from policies.model.workload import Shape
from tests.policies.crowds import Crowd
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_taken_back import begun, state
from tests.policies.test_two_flavors import GANG, standing

TAKER = claim("defence/x:taker")


def held(*millis: int, floor: int = 2000, each: int = 1) -> tuple[Allocation, list[Lot], Lot]:
    """Civil is guaranteed two devices; it holds such parts of one each, or whole ones; another domain wants some."""
    lent = [claim(f"civil/x:l{index}", millis=much, devices=each, submitted_at_ms=index)
            for index, much in enumerate(millis)]  # fmt: skip
    places = [tuple(f"G{index * each + part}" for part in range(each)) for index in range(len(lent))]
    runs = [running(one, place) for one, place in zip(lent, places, strict=True)]
    seen = snapshot(FOUR, [*lent, TAKER], *runs)
    work = begun(Crowd(seen, rules(civil=2000, defence=1000, floor=floor), Memory()), NOW_MS)
    lots = [work.of_claim[one.id][0] for one in lent]
    for lot in lots:
        lot.is_kept = False  # what simply runs was granted already
    work.victims.spared.clear()
    return work, lots, work.of_claim[TAKER.id][0]


def kept(work: Allocation, some: list[Lot], taker: Lot, tier: Tier = Tier.FLOOR) -> bool:
    """Whether one of these is kept back where all of them would leave."""
    return kept_back(work.victims, taker, tier, [seat for lot in some for seat in lot.seats]) is not None


def test_of_three_devices_one_can_be_spared_for_the_floor_of_another_where_two_are_a_floor():
    work, lots, taker = held(1000, 1000, 1000)
    assert not kept(work, lots[:1], taker)
    assert kept(work, lots[:2], taker)
    assert work.victims.spared == {"civil/x"}


@pytest.mark.parametrize(("floor", "is_kept"), [(1000, False), (1001, True)])
def test_a_floor_is_kept_to_the_unit(floor, is_kept):
    work, lots, taker = held(1000, 1000, floor=floor)
    assert kept(work, lots[:1], taker) is is_kept


@pytest.mark.parametrize(("each", "millis", "is_kept"), [(2, 1000, True), (1, 1000, True), (1, 900, True)])
def test_what_fits_into_the_guarantee_is_what_a_floor_is_kept_for(each, millis, is_kept):
    work, lots, taker = held(*[millis] * (2 // each), each=each)
    assert kept(work, lots[:1], taker) is is_kept


def test_what_is_larger_than_the_guarantee_is_not_kept_for_the_sake_of_the_floor():
    """Two replicas of two devices each are held, two devices are the floor: with one of the two that is kept."""
    work, lots, taker = held(1000, 1000, each=2)
    assert not kept(work, lots[:1], taker)
    assert kept(work, lots, taker)


def test_who_holds_no_more_than_its_guarantee_loses_nothing_to_a_guarantee_unless_it_idles_or_is_paused():
    for terms, is_kept in (({}, True), ({"idle": True}, False), ({"paused": True}, False)):
        work, lots, taker = held(1000, 1000, floor=0)
        for lot in lots:
            lot.ask = replace(lot.ask, **terms)
        assert kept(work, lots[:1], taker, Tier.GUARANTEED) is is_kept
        assert not kept(work, lots[:1], taker, Tier.FLOOR)
    work, lots, taker = held(1000, 1000, 1000, floor=0)
    assert not kept(work, lots[:1], taker, Tier.GUARANTEED)


def test_nothing_is_kept_back_from_its_own_tenant_nor_of_what_is_no_service():
    work, lots, taker = held(1000, 1000)
    taker.ask = replace(taker.ask, tenant=lots[0].ask.tenant)
    assert not kept(work, lots, taker)
    work, lots, taker = held(1000, 1000)
    lots[0].size = 2
    assert not kept(work, lots[:1], taker)


def test_with_one_replica_of_a_minimum_all_of_its_claim_is_lost_and_of_each_flavor_what_stands_there():
    work, base, further = standing("G0", "G1", "H0")
    for seat in base.seats:
        assert _lost_with(work.victims, [seat]) == (2000 if seat.flavor == "A" else 1000, 2000)
    (seat,) = further.seats
    assert _lost_with(work.victims, [seat]) == (1000, 1000)
    assert base.ask.claim == GANG


def test_what_has_not_begun_may_be_moved_whatever_its_class_protects():
    work, (lot, *_), taker = held(1000)
    lot.ask = replace(lot.ask, rank=replace(lot.ask.rank, min_runtime_s=10**6))
    (seat,) = lot.seats
    assert not may_be_moved(work.victims, taker, Tier.GUARANTEED, lot, seat)
    seat.group = None
    assert may_be_moved(work.victims, taker, Tier.GUARANTEED, lot, seat)


@pytest.mark.parametrize("state", ["nobody may preempt it", "its device was not seen", "its host was not seen",
                                   "its domain was not seen", "it is of the same claim"])  # fmt: skip
def test_what_may_not_leave_is_not_moved_for_others_either(state):
    work, (lot, *_), taker = held(1000)
    (seat,), seen = lot.seats, work.victims.survey
    assert may_be_moved(work.victims, taker, Tier.FLOOR, lot, seat)
    if state == "nobody may preempt it":
        lot.ask = replace(lot.ask, rank=replace(lot.ask.rank, preemptible=False))
    elif state == "it is of the same claim":
        taker = lot
    elif state == "its domain was not seen":
        work.victims.survey = replace(seen, blind=frozenset([lot.ask.domain]))
    else:
        unseen = seat.devices[0] if state == "its device was not seen" else seat.node
        work.victims.survey = replace(seen, unseen=frozenset([unseen]))
    assert not may_be_moved(work.victims, taker, Tier.FLOOR, lot, seat)


def test_whoever_would_be_evicted_costs_more_than_who_leaves_anyway_even_before_it_runs():
    """The mode pauses it, so that it has no right at all, and its group has not started."""
    work, (lot, *_), taker = held(1000, floor=0)
    lot.ask, lot.tier = replace(lot.ask, paused=True), Tier.NONE
    (seat,) = lot.seats
    group = seat.group
    work.victims.survey.latest[group.id] = replace(group, running=0)
    for price in (price_for(work.victims, taker, Tier.FLOOR), anybodys_price(work.victims, Tier.FLOOR)):
        assert price(seat) == 1
        work.victims.draining = frozenset([group.id])
        assert price(seat) == 0
        work.victims.draining = frozenset()
        del work.victims.lot_of[id(seat)]
        assert price(seat) == 0
        work.victims.lot_of[id(seat)] = lot


def test_who_left_already_for_another_reason_leaves_for_that_again_once_it_is_given_back():
    work, lots, taker = held(1000, 1000)
    (seat,) = lots[0].seats
    work.victims.taken[seat.group.id] = (EvictionReason.MODE_CHANGE, None, 7)
    before, budget = state(work), work.victims.budget
    taken = record(work.victims, taker, Tier.GUARANTEED, (seat, *lots[1].seats))
    assert work.victims.budget == budget - 1, "it was counted when it left first"
    assert work.victims.taken[seat.group.id][1] == TAKER.id
    restore(work.victims, taken, budget)
    assert state(work) == before


def test_who_makes_room_is_looked_for_while_the_budget_lasts_or_somebody_leaves_anyway():
    work, lots, _ = held(1000)
    victims, group = work.victims, lots[0].seats[0].group.id
    paused = replace(victims.survey, overlay=ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",)))
    calm = replace(victims.survey, overlay=ModeOverlay(mode=OperatingMode.CRISIS))
    for other, is_spent in (
        ({"budget": 1}, False), ({"budget": 0}, True), ({"budget": -1}, True), ({"survey": calm}, True),
        ({"survey": paused}, False), ({"draining": frozenset([group])}, False),
        ({"taken": {group: (EvictionReason.RECLAIM, None, 0)}}, False),
    ):  # fmt: skip
        assert replace(victims, **{"budget": 0, **other}).is_spent is is_spent


def test_what_is_over_a_limit_leaves_in_any_case_and_is_nothing_that_a_tenant_lives_on():
    """Civil may borrow no more; of what it holds the four devices are too many, the one that drains is its floor."""
    taker = replace(TAKER, priority_class="critical")
    first = claim("civil/x:first")  # has the right to the floor, and may not ask its equals to leave
    large = claim("civil/x:large", ladder=(Shape(flavors=("A",), devices=4), Shape(flavors=("A",))))
    small = claim("civil/x:small", least=0, most=1)
    runs = running(large, ("G0", "G1", "G2", "G3")), running(small, ("G4",))
    seen = snapshot([*FOUR, device("G4")], [large, small, first, taker], *runs)
    policy = rules(civil=2000, defence=1000)
    tenants = [replace(one, quotas=tuple(replace(quota, borrowing_limit_millis=0) for quota in one.quotas))
               if one.id == "civil" else one for one in policy.tenants]  # fmt: skip
    limited = replace(policy, tenants=tuple(tenants))
    memory = Memory(drains=(Drain(group=runs[1][1][0].id, since_ms=NOW_MS - 1),))
    decision = decide(seen, limited, memory, NOW_MS)
    assert [(one.claim, one.beneficiary) for one in decision.evictions] == [(large.id, taker.id)]
    assert check_decision(seen, decision, limited) == ()
