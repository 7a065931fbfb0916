"""Placement scores that anybody can work out by hand, and what they are taken from."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.fleet.placement import (
    DEVICES,
    SCORES,
    Ask,
    Expected,
    Market,
    Refusal,
    Room,
    Slot,
    fragment,
    left_after,
    openings,
    pick,
    refusal,
    tightest,
)
from policies.model.units import FlavorId, NodeId, SecurityDomain
from policies.model.workload import Shape
from policies.packing.arrays import Prices

H100 = FlavorId("h100")
CALM = Market()
DEFENCE, CIVIL = SecurityDomain.DEFENCE, SecurityDomain.CIVIL


def room(*millis: int, cpu: int = 64_000, **more) -> Room:
    slots = tuple(Slot(device=f"G{n}", millis=idle, memory_mib=20_000) for n, idle in enumerate(millis))
    return Room(
        **({"node": NodeId("n"), "flavor": H100, "cpu_millis": cpu, "memory_mib": 32_000, "slots": slots} | more)
    )


def ask(millis: int = 1000, devices: int = 1, cpu: int = 8_000, **more) -> Ask:
    shape = Shape(flavors=(H100,), devices=devices, gpu_millis=millis, cpu_millis=cpu, memory_mib=20_000,
                  host_memory_mib=32_000)  # fmt: skip
    return Ask(shape=shape, **more)


NO_GPU = Ask(shape=Shape(flavors=(), devices=0, gpu_millis=0, cpu_millis=8_000))
WORKED = [
    ("best_fit", room(1000, 600), ask(), 74),  # 100 - 50 * 56/128 - 50 * 600/8000 = 74.4
    ("best_fit", room(1000, 600), ask(600), 71),  # 100 - 50 * 56/128 - 50 * 1000/8000 = 71.9
    ("best_fit", room(*[1000] * 8, cpu=250_000), ask(), 0),  # 100 - 50 * 242/128 - ... is below nothing
    ("best_fit", room(1000, 1000), ask(devices=2, cpu=64_000), 100),
    ("dot_prod", room(1000, 600), ask(), 97),  # 100 - 50 * (64/128 * 8/128 + 1600/8000 * 1000/8000) = 97.2
    ("dot_prod", room(*[1000] * 8, cpu=128_000), ask(devices=8, cpu=128_000), 0),
    ("dot_prod", room(*[1000] * 8, cpu=32_000), ask(devices=4, cpu=32_000), 71),  # 100 - 50 * (1/16 + 1/2) = 71.9
    ("gpu_packing", room(1000, 600), NO_GPU, 0),
    ("gpu_packing", room(1000), ask(), 32),
    ("gpu_packing", room(*[1000] * 8), ask(500), 25),
    ("gpu_packing", room(*[1000] * 17), ask(), 17),
    ("gpu_packing", room(500, 1000), ask(), 49),
    ("gpu_packing", room(500, *[1000] * 4), ask(devices=4), 46),
    ("gpu_packing", room(500, *[1000] * 20), ask(devices=20), 33),
    ("gpu_packing", room(0, 1000), ask(100), 49),
    ("gpu_packing", room(600, 1000), ask(100), 94),
    ("gpu_packing", room(109, 1000), ask(100), 99),
    ("gpu_packing", room(99, 1000), ask(50), 100),
    ("gpu_packing", room(999, 1000), ask(50), 91),
    ("gpu_clustering", room(1000), NO_GPU, 0),
    ("gpu_clustering", room(1000), ask(), 25 + 21),  # 25 * 7000/8000 = 21.9
    ("gpu_clustering", room(*[1000] * 8), ask(500), 25),
    ("gpu_clustering", room(1000, 500, running=frozenset({0})), ask(500), 75 + 20),  # 25 * 6500/8000 = 20.3
    ("gpu_clustering", room(1000, 500, running=frozenset({0})), ask(), 0 + 20),
    ("gpu_clustering", room(1000, 500, running=frozenset({0, 1})), ask(), 50 + 20),
    ("gpu_clustering", room(1000, 1000, running=frozenset({1})), ask(devices=2), 0 + 18),
    ("gpu_clustering", room(1000, 1000, running=frozenset({2})), ask(devices=2), 75 + 18),
]


@pytest.mark.parametrize(("name", "where", "what", "score"), WORKED)
def test_scores_are_as_worked_out_by_hand(name, where, what, score):
    best = pick([where], what, name, CALM)
    assert best is not None
    assert SCORES[name](where, what, best[1], CALM) == score


def test_the_score_without_a_thought_is_the_same_everywhere_and_for_ever():
    drawn = [
        SCORES["random"](room(1000, node=NodeId(node)), ask(), places, Market(draw=draw))
        for node, places, draw in (("n", (0,), 0), ("n", (0,), 1), ("m", (0,), 0), ("host-10", (2, 3), 12_345))
    ]
    assert drawn == [1_812_611_158, 808_492_775, 168_296_374, 361_298_355]


MIX = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from((0, 160, 470, 1000)), st.booleans()),
               min_size=1, max_size=4)  # fmt: skip


@given(st.lists(st.sampled_from((0, 100, 160, 470, 999, 1000)), min_size=1, max_size=4), st.integers(0, 9), MIX)
def test_a_fragment_is_what_is_idle_and_what_is_expected_cannot_use(left, cpu, kinds):
    """Used are all devices with as much as is asked for, where they are enough, of the kind, and with processors."""
    unusable = 0.0
    for cores, devices, millis, foreign in kinds:
        fitting = [one for one in left if one >= millis]
        can = millis > 0 and not foreign and cpu >= cores and len(fitting) >= devices
        unusable += (sum(left) - sum(fitting) * can) / len(kinds)
    expected = tuple(
        Expected(Shape(flavors=("b",) if foreign else (H100,) if cores % 2 else (), devices=devices, gpu_millis=millis,
                       cpu_millis=cores * 1000), 1 / len(kinds))
        for cores, devices, millis, foreign in kinds
    )  # fmt: skip
    market = Market(expected=expected)
    assert fragment(room(*left), left, cpu * 1000, market) == pytest.approx(unusable)


def test_a_placement_that_leaves_less_unusable_scores_above_fifty():
    market = Market(expected=(Expected(Shape(flavors=(), gpu_millis=500, cpu_millis=8_000), 1.0),))
    where = room(700, 1000)
    for places, before, after in (((0,), 0, 300), ((1,), 0, 0)):
        score = SCORES["fgd"](where, ask(400), places, market)
        assert score == int(100 / (1 + math.exp((after - before) / 1000)))
    assert SCORES["fgd"](room(400, 1000), ask(400), (0,), market) == int(100 / (1 + math.exp(-0.4)))
    for rest, score in ((40, 49), (282, 42)):
        assert SCORES["fgd"](room(rest + 500), ask(500), (0,), market) == score
    assert SCORES["fgd"](room(1000, cpu=15_999), ask(400), (0,), market) == int(100 / (1 + math.exp(0.6)))


def test_a_change_of_domain_costs_a_fifth_of_a_gpu_and_warm_weights_are_worth_a_twentieth():
    nothing = np.zeros((1, 1001), np.int64)
    market = Market(prices=Prices(holes=nothing, stranded=nothing, blocks=nothing, scarcity=nothing[0], cpu_cell=1_000),
                    flavors=(H100,))  # fmt: skip
    score = SCORES["partage"]
    own = replace(room(1000, 1000, 1000), warm=frozenset({"m"}))
    where = replace(own, slots=(own.slots[0], *(replace(one, domain=DEFENCE) for one in own.slots[1:])))
    assert score(where, ask(domain=CIVIL), (0,), market) == 0
    assert score(where, ask(domain=CIVIL), (1,), market) == -200_000
    assert score(where, ask(domain=CIVIL, devices=3), (0, 1, 2), market) == -400_000
    assert score(where, ask(domain=DEFENCE), (1,), market) == 0
    assert score(where, ask(), (1,), market) == 0, "where isolation does not apply"
    assert score(where, ask(model="m"), (1,), market) == 50_000
    assert score(where, ask(model="other"), (1,), market) == 0
    cells = np.arange(40).reshape(2, 20)
    market = Market(prices=Prices(holes=np.arange(1001)[None, :] ** 2, stranded=cells, blocks=cells * 3,
                                  scarcity=np.array([7]), cpu_cell=4_000), flavors=(H100,))  # fmt: skip
    before, after = 2 * 1000**2 + 2_000 * 7 - 36 + 108, 600**2 + 1000**2 + 1_600 * 7 - 34 + 102
    assert score(room(1000, 1000), ask(400), (0,), market) == after - before
    assert score(where, ask(), (0,), CALM) == SCORES["best_fit"](where, ask(), (0,), CALM)


@pytest.mark.parametrize("name", SCORES)
def test_the_first_of_the_best_rooms_and_openings_is_picked(name):
    rooms = [room(*left, node=NodeId(f"n{n}")) for n, left in enumerate(itertools.product((1000, 600, 300), repeat=2))]
    for what in (ask(), ask(300), ask(600), ask(devices=2)):
        rated = [
            (SCORES[name](where, what, places, CALM), where, places)
            for where in rooms for places in DEVICES.get(name, openings)(where, what)
        ]  # fmt: skip
        best = max(score for score, *_ in rated)
        assert pick(rooms, what, name, CALM) == next(tuple(found) for score, *found in rated if score == best)
    assert pick([], ask(), name, CALM) is None


def test_where_a_score_looks_at_hosts_only_the_fitting_device_with_least_left_is_taken():
    assert tightest(room(1000, 300, 500, 500), ask(400)) == [(2,)]
    assert tightest(room(1000, 300), ask(400)) == [(0,)]
    assert tightest(room(300), ask(400)) == []
    assert left_after(room(1000, 300, 1000), ask(devices=2), (0, 2)) == [0, 300, 0]
    assert left_after(room(1000, 300), ask(300), (1,)) == [1000, 0]


def test_devices_of_others_ill_ones_and_small_ones_are_passed_over():
    first, second, third, fourth = room(1000, 1000, 1000, 1000).slots
    slots = (
        replace(first, domain=DEFENCE, is_held=True), replace(second, memory_mib=19_999),
        replace(third, is_healthy=False), fourth,
    )  # fmt: skip
    where = replace(room(1000), slots=slots)
    assert openings(where, ask(400, domain=CIVIL)) == openings(where, ask(domain=CIVIL)) == [(3,)]
    assert ask(1).is_part
    assert not ask(1000).is_part


EXACT = {
    "all that it needs and no more": (room(1000, cpu=8_000), ask(), None),
    "no domain": (
        replace(room(1000), slots=(replace(room(1000).slots[0], is_held=True, domain=DEFENCE),)), ask(), None),
    "the other domain's last": (
        replace(room(1000), slots=(replace(room(1000).slots[0], domain=DEFENCE),)), ask(domain=CIVIL), None),
    "its rack": (room(1000, rack="r"), ask(rack="r"), None),
    "another host to keep away from": (room(1000), ask(apart_from=frozenset({"m"})), None),
    "one island": (replace(room(1000, 1000), slots=tuple(replace(one, island="i") for one in room(1000, 1000).slots)),
                   ask(devices=2, one_island=True), None),
    "as many devices as there are": (room(1000, 1000), ask(devices=2), None),
    "one device too few": (room(1000, 1000), ask(devices=3), Refusal.HEALTH),
    "any kind": (replace(room(1000), flavor=FlavorId("x")), replace(ask(), shape=Shape(flavors=())), None),
    "another kind and no device asked for": (replace(room(1000), flavor=FlavorId("x")),
                                             Ask(shape=Shape(flavors=(H100,), gpu_millis=0)), None),
}  # fmt: skip


@pytest.mark.parametrize("what", EXACT)
def test_what_is_just_enough_is_enough(what):
    where, wanted, reason = EXACT[what]
    assert refusal(where, wanted) is reason
    assert (openings(where, wanted) == []) == (reason is not None)


FAULTS = (
    ({"is_open": False}, {}, Refusal.CORDONED), ({"taints": frozenset({"t"})}, {}, Refusal.TAINTED),
    ({}, {"apart_from": frozenset({"n"})}, Refusal.APART), ({"rack": "a"}, {"rack": "b"}, Refusal.RACK),
    ({"flavor": FlavorId("x")}, {}, Refusal.FLAVOR), ({"cpu_millis": 7_999}, {}, Refusal.CPU),
    ({"memory_mib": 31_999}, {}, Refusal.HOST_MEMORY), ({"slots": ()}, {}, Refusal.HEALTH),
)  # fmt: skip


@pytest.mark.parametrize("pair", list(itertools.combinations(FAULTS, 2)))
def test_of_two_reasons_the_first_is_told(pair):
    (of_room, of_ask, first), (of_room_too, of_ask_too, _) = pair
    assert refusal(room(1000, **(of_room | of_room_too)), ask(**(of_ask | of_ask_too))) is first
