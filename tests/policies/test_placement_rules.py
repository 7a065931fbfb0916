"""Where a replica may go, and what the scores promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.fleet.isolation import isolation_price
from policies.fleet.placement import SCORES, Ask, Market, Refusal, Room, Slot, openings, pick, refusal, worth
from policies.model.units import DeviceId, FlavorId, ModelId, NodeId, SecurityDomain
from policies.model.workload import Shape
from policies.packing.worth import outlook, prices
from tests.policies.packing_cases import FLAVORS, case, rooms_of, shape_of

DEFENCE, CIVIL = SecurityDomain.DEFENCE, SecurityDomain.CIVIL
H100 = FlavorId("h100")
CALM = Market()


def slot(number: int, millis: int = 1000, **more: object) -> Slot:
    return Slot(**{"device": DeviceId(f"GPU-{number}"), "millis": millis, "memory_mib": 80_000, **more})  # type: ignore[arg-type]


def room(*slots: Slot, **more: object) -> Room:
    given = {"node": NodeId("n1"), "flavor": H100, "cpu_millis": 64_000, "memory_mib": 256_000, "slots": slots, **more}
    return Room(**given)  # type: ignore[arg-type]


def ask(devices: int = 1, millis: int = 1000, **more: object) -> Ask:
    shape = Shape(
        flavors=(H100,), devices=devices, gpu_millis=millis, memory_mib=20_000, cpu_millis=8_000, host_memory_mib=32_000
    )
    return Ask(**{"shape": shape, "domain": CIVIL, **more})  # type: ignore[arg-type]


REFUSED = {
    Refusal.CORDONED: (room(slot(0), is_open=False), ask()),
    Refusal.TAINTED: (room(slot(0), taints=frozenset({"reserved"})), ask()),
    Refusal.APART: (room(slot(0)), ask(apart_from=frozenset({NodeId("n1")}))),
    Refusal.RACK: (room(slot(0), rack="r1"), ask(rack="r2")),
    Refusal.FLAVOR: (room(slot(0), flavor=FlavorId("l40s")), ask()),
    Refusal.CPU: (room(slot(0), cpu_millis=7_999), ask()),
    Refusal.HOST_MEMORY: (room(slot(0), memory_mib=31_999), ask()),
    Refusal.HEALTH: (room(slot(0, is_healthy=False)), ask()),
    Refusal.DOMAIN: (room(slot(0, 500, domain=DEFENCE, is_held=True)), ask(millis=400)),
    Refusal.MILLIS: (room(slot(0, 999)), ask()),
    Refusal.DEVICE_MEMORY: (room(slot(0, memory_mib=19_999)), ask()),
    Refusal.ISLAND: (room(slot(0, island="a"), slot(1, island="b")), ask(2, one_island=True)),
}


@pytest.mark.parametrize("reason", Refusal)
def test_a_replica_that_does_not_fit_is_told_the_first_reason(reason: Refusal) -> None:
    where, what = REFUSED[reason]
    assert refusal(where, what) is reason
    assert openings(where, what) == []


def test_a_tolerated_taint_and_the_own_domain_are_no_obstacle() -> None:
    where = room(slot(0, 500, domain=CIVIL, is_held=True), taints=frozenset({"reserved"}))
    assert refusal(where, ask(millis=400, tolerates=frozenset({"reserved"}))) is None


def test_a_share_may_open_any_fitting_device_and_whole_devices_the_lowest_of_an_island() -> None:
    where = room(slot(0, 300), slot(1, 600), slot(2, island="a"), slot(3, island="b"), slot(4, island="b"))
    assert openings(where, ask(millis=500)) == [(1,), (2,), (3,), (4,)]
    assert openings(where, ask(2)) == [(2, 3)]
    assert openings(where, ask(2, one_island=True)) == [(3, 4)]


def test_work_without_devices_needs_only_the_host() -> None:
    host_only = Ask(shape=Shape(flavors=(), devices=0, gpu_millis=0, cpu_millis=1_000))
    assert openings(room(), host_only) == [()]


@pytest.mark.parametrize("name", SCORES)
def test_nothing_is_picked_where_nothing_fits_and_something_wherever_something_fits(name: str) -> None:
    full, free = room(slot(0, 100)), room(slot(1), node=NodeId("n2"))
    assert pick([full], ask(), name, CALM) is None
    assert pick([full, free], ask(), name, CALM) == (free, (0,))


def market_of(seed: int) -> tuple[list[Room], Market, list[Ask]]:
    one = case(seed)
    now = prices(outlook(one.typical, one.fleet), one.fleet, one.kinds, np.zeros(len(one.kinds.cpu), np.int64))
    return (
        rooms_of(one.fleet),
        Market(prices=now, flavors=FLAVORS),
        [Ask(shape=shape_of(one.kinds, k)) for k in range(9)],
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_score_stays_inside_its_stated_range(seed: int) -> None:
    rooms, market, asks = market_of(seed)
    lowest = {"partage": -(10**10)}
    highest = {"partage": 10**10, "random": 2**31 - 1}
    for name, score in SCORES.items():
        for where in rooms:
            for what in asks:
                values = [score(where, what, places, market) for places in openings(where, what)]
                assert all(lowest.get(name, 0) <= value <= highest.get(name, 100) for value in values)


@pytest.mark.parametrize("seed", range(4))
def test_more_free_cpus_are_never_worth_less(seed: int) -> None:
    rooms, market, _ = market_of(seed)
    for where in rooms:
        left = [one.millis for one in where.slots]
        values = [worth(where, left, cpu, market) for cpu in range(0, 200_000, 2_500)]
        assert values == sorted(values)


@pytest.mark.parametrize("seed", range(4))
def test_a_hole_is_worth_no_more_than_it_holds_and_a_larger_hole_no_less(seed: int) -> None:
    _, market, _ = market_of(seed)
    assert market.prices is not None
    holes = market.prices.holes
    assert (np.diff(holes, axis=1) >= 0).all()
    assert (holes <= np.arange(1001) * 1000).all()


def test_warm_weights_decide_between_equal_rooms() -> None:
    rooms, market, _ = market_of(0)
    cold = replace(rooms[0], node=NodeId("cold"))
    warm = replace(rooms[0], node=NodeId("warm"), warm=frozenset({ModelId("ministral")}))
    served = Ask(shape=Shape(flavors=(), gpu_millis=300, cpu_millis=1_000), model=ModelId("ministral"))
    found = pick([cold, warm], served, "partage", market)
    assert found is not None
    assert found[0].node == "warm"


def test_a_device_of_the_own_domain_is_preferred_to_one_that_must_be_scrubbed() -> None:
    rooms, market, _ = market_of(0)
    foreign = replace(rooms[0], node=NodeId("foreign"), slots=tuple(replace(s, domain=DEFENCE) for s in rooms[0].slots))
    own = replace(rooms[0], node=NodeId("own"), slots=tuple(replace(s, domain=CIVIL) for s in rooms[0].slots))
    served = Ask(shape=Shape(flavors=(), gpu_millis=300, cpu_millis=1_000), domain=CIVIL)
    found = pick([foreign, own], served, "partage", market)
    assert found is not None
    assert found[0].node == "own"


def test_isolation_costs_what_a_waiting_replica_could_use_on_the_other_domains_devices() -> None:
    rooms = [
        room(slot(0, 600, domain=DEFENCE, is_held=True), slot(1, 200, domain=DEFENCE, is_held=True)),
        room(slot(2, 700, domain=CIVIL, is_held=True), node=NodeId("n2")),
    ]
    assert isolation_price(rooms, [ask(millis=500)]) == {DEFENCE: 0, CIVIL: 600}
    assert isolation_price(rooms, []) == {DEFENCE: 0, CIVIL: 0}
    assert isolation_price(rooms, [ask()]) == {DEFENCE: 0, CIVIL: 0}, "whole devices are not lost to sharing"
