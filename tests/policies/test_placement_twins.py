"""The compiled replay places every task where the plain definitions place it."""

from __future__ import annotations

import numpy as np
import pytest

from policies.fleet.placement import SCORES, Ask, Market, Room, fragment, pick
from policies.packing.arrays import Prices
from policies.packing.engine import between_prices, fragments, place_all
from policies.packing.worth import Outlook, outlook, prices
from tests.policies.packing_cases import FLAVORS, Case, case, expected_of, placed, rooms_of, shape_of

EXACT = sorted(set(SCORES) - {"random"})


def slowly(one: Case, name: str) -> tuple[list[int], list[int], list[float]]:
    rooms, expected = rooms_of(one.fleet), expected_of(one.typical)
    nodes, devices, fragment_after, now = [], [], [], None
    view = outlook(one.typical, one.fleet)
    for step, kind in enumerate(one.arrivals):
        if name == "partage" and step % between_prices(one.fleet, one.typical) == 0:
            now = prices_at(one, view, step, rooms)
        ask = Ask(shape=shape_of(one.kinds, kind))
        chosen = pick(rooms, ask, name, Market(expected, now, FLAVORS))
        nodes.append(-1 if chosen is None else rooms.index(chosen[0]))
        devices.append(chosen[1][0] if chosen and ask.is_part else -1)
        if chosen is not None:
            rooms[nodes[-1]] = placed(chosen[0], ask, chosen[1])
        market = Market(expected)
        fragment_after.append(sum(fragment(r, [s.millis for s in r.slots], r.cpu_millis, market) for r in rooms))
    return nodes, devices, fragment_after


def prices_at(one: Case, view: Outlook, step: int, rooms: list[Room]) -> Prices:
    left = one.fleet.left.copy()
    for row, room in enumerate(rooms):
        left[row, : len(room.slots)] = [slot.millis for slot in room.slots]
    fleet = one.fleet._replace(left=left, cpu=np.array([room.cpu_millis for room in rooms], np.int64))
    counts = np.bincount(one.arrivals[:step], minlength=len(one.kinds.cpu))
    return prices(view, fleet, one.kinds, counts)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("seed", range(6))
def test_the_compiled_replay_places_every_task_where_the_definition_places_it(name: str, seed: int) -> None:
    one = case(seed)
    game = place_all(one.fleet, one.kinds, one.typical, one.arrivals, name)
    nodes, devices, fragment_after = slowly(one, name)
    assert game.nodes.tolist() == nodes
    assert game.devices.tolist() == devices
    assert fragments(one.fleet, game) == pytest.approx(fragment_after)


def test_the_streams_fill_the_fleet_so_that_some_tasks_fail() -> None:
    games = [place_all(c.fleet, c.kinds, c.typical, c.arrivals, "fgd") for c in map(case, range(6))]
    assert all((game.nodes < 0).any() for game in games)
