"""Moves that make room: bounded, minimal, and safe in their order; the replay with moves keeps its books."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.consolidation import Budget, Tenancy, consolidate, with_replica
from policies.model.units import DeviceId, FlavorId, GroupId, NodeId
from policies.model.workload import Shape
from policies.packing.engine import place_all
from policies.packing.moves import place_with_moves
from policies.placement import Ask, Market, Places, Room, Slot, refusal
from tests.policies.packing_cases import case

FLAVOR = FlavorId("h100")
AMPLE = Budget(moves=4, cost=1_000)


def part(millis: int) -> Ask:
    return Ask(shape=Shape(flavors=(FLAVOR,), gpu_millis=millis, cpu_millis=1_000))


WHOLE = Ask(shape=Shape(flavors=(FLAVOR,), devices=1, cpu_millis=1_000))


def node(name: str, *loads: tuple[str, int, int, int]) -> tuple[Room, list[Tenancy]]:
    """Return a node of two devices and what runs there: group, slot, millis, cost."""
    slots = tuple(Slot(device=DeviceId(f"{name}-{i}"), millis=1000, memory_mib=80_000) for i in range(2))
    made = Room(node=NodeId(name), flavor=FLAVOR, cpu_millis=16_000, memory_mib=64_000, slots=slots)
    running = []
    for group, slot, millis, cost in loads:
        places: Places = (slot,)
        made = with_replica(made, part(millis), places)
        running.append(Tenancy(group=GroupId(group), node=made.node, ask=part(millis), places=places, cost=cost))
    return made, running


def fleet(*nodes: tuple[Room, list[Tenancy]]) -> tuple[list[Room], list[Tenancy]]:
    return [made for made, _ in nodes], [one for _, running in nodes for one in running]


A = node("a", ("a0", 0, 300, 50), ("a1", 1, 600, 10))
B = node("b", ("b0", 0, 700, 30), ("b1", 1, 600, 20))


def test_nothing_moves_when_the_replica_fits_as_it_is() -> None:
    rooms, running = fleet(A, node("c"))
    assert consolidate(rooms, running, WHOLE, AMPLE, Market()) == ()


def test_the_cheapest_single_move_frees_a_device() -> None:
    rooms, running = fleet(A, B)
    moves = consolidate(rooms, running, WHOLE, AMPLE, Market())
    assert moves is not None
    assert [(one.group, one.source, one.target) for one in moves] == [("b1", "b", "a")]


def test_after_the_moves_the_replica_fits_and_nobody_is_homeless() -> None:
    rooms, running = fleet(A, B)
    moves = consolidate(rooms, running, WHOLE, AMPLE, Market()) or ()
    by_name = {one.node: one for one in rooms}
    for move in moves:
        moved = next(one for one in running if one.group == move.group)
        assert refusal(by_name[move.target], moved.ask) is None
        by_name[move.target] = with_replica(by_name[move.target], moved.ask, move.places)
    assert [move.group for move in moves] == ["b1"]
    assert refusal(node("b", ("b0", 0, 700, 30))[0], WHOLE) is None


@pytest.mark.parametrize("budget", [Budget(moves=0, cost=1_000), Budget(moves=4, cost=19)])
def test_no_move_is_planned_beyond_the_budget(budget: Budget) -> None:
    rooms, running = fleet(A, B)
    assert consolidate(rooms, running, WHOLE, budget, Market()) is None


def test_a_protected_replica_stays() -> None:
    rooms, running = fleet(A, B)
    held = [replace(one, is_movable=False) for one in running]
    assert consolidate(rooms, held, WHOLE, AMPLE, Market()) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_replay_with_moves_stays_in_its_budget_and_loses_no_capacity(seed: int) -> None:
    one = case(seed, nodes=12, arrivals=160)
    state = place_with_moves(one.fleet, one.kinds, one.typical, one.arrivals, per_mille=200)
    still = place_all(one.fleet, one.kinds, one.typical, one.arrivals, "partage")
    game, running = state.game, state.game.nodes >= 0
    assert len(state.moved) * 1000 <= 200 * running.sum()
    asked = (one.kinds.devices * one.kinds.millis)[one.arrivals]
    held = np.bincount(game.nodes[running], asked[running], minlength=12)
    assert (one.fleet.left.sum(axis=1) - held == game.fleet.left.sum(axis=1)).all()
    cpu = np.bincount(game.nodes[running], one.kinds.cpu[one.arrivals][running], minlength=12)
    assert (one.fleet.cpu - cpu == game.fleet.cpu).all()
    assert (game.fleet.left >= 0).all()
    assert (game.fleet.cpu >= 0).all()
    assert state.moved or (game.nodes == still.nodes).all(), "without a move the two replays are one"
