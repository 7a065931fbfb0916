"""What capacity is worth: the tables beside what defines them, worked out one task and one cell at a time."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from policies.fleet.market import Tables
from policies.fleet.placement import Market, worth
from policies.packing.arrays import Fleet, Kinds, Prices, Typical
from policies.packing.engine import between_prices
from policies.packing.worth import hole_worth, outlook, outlook_of, prices
from tests.policies.packing_cases import FLAVORS, rooms_of

CPU_CELLS = 7
MIX = ((3_000, 1, 810, 7, 4), (1_100, 1, 470, 3, 3), (400, 1, 160, 6, 5), (9_000, 1, 1000, 7, 2),
       (6_000, 2, 1000, 7, 1), (2_000, 4, 1000, 4, 1), (5_000, 0, 0, 7, 3))  # fmt: skip
"""CPU, devices, millis of each, models, and how often: of some tasks that are expected."""


def typical(mix=MIX) -> Typical:
    rows = np.array(mix, np.int64).reshape(len(mix), 5)
    return Typical(*rows.T[:4].copy(), rows[:, 4] / max(1, rows[:, 4].sum()))


def kinds(mix=MIX) -> Kinds:
    cpu, devices, millis, models, _ = np.array(mix, np.int64).reshape(len(mix), 5).T.copy()
    return Kinds(cpu=cpu, memory=cpu * 0, devices=devices, millis=millis, models=models, domain=cpu * 0)


def fleet(*hosts: tuple[int, int, tuple[int, ...]]) -> Fleet:
    """Hosts by model, CPU and what is idle on each device."""
    left = np.zeros((len(hosts), max(len(one) for *_, one in hosts)), np.int64)
    for row, (_, _, idle) in enumerate(hosts):
        left[row, : len(idle)] = idle
    return Fleet(
        cpu=np.array([cpu for _, cpu, _ in hosts]), memory=np.zeros(len(hosts), np.int64),
        model=np.array([model for model, *_ in hosts]), devices=np.array([len(one) for *_, one in hosts]),
        left=left, owner=left * 0, tags=left * 0,
    )  # fmt: skip


HOSTS = fleet((0, 3_500, (1000, 1000)), (1, 12_000, (0, 340, 1000, 1000)), (2, 4_100, (1000,) * 4), (2, 900, (720, 50)))


@pytest.mark.parametrize("model", range(3))
def test_a_hole_is_worth_what_the_next_tasks_fill_of_it_if_each_may_be_taken_or_left(model):
    able = [(millis, share) for _, devices, millis, models, share in MIX if devices and models >> model & 1]
    total = sum(share for _, devices, _, _, share in MIX if devices)

    @cache
    def filled(offers: int, idle: int) -> float:
        if offers == 0:
            return 0.0
        pass_by = filled(offers - 1, idle)
        gain = (max(0.0, millis + filled(offers - 1, idle - millis) - pass_by) * share / total
                for millis, share in able if millis <= idle)  # fmt: skip
        return pass_by + sum(gain)

    table = hole_worth(typical(), 3)
    assert table.shape == (61, 3, 1001)
    for offers in (0, 1, 2, 3, 11, 60):
        for idle in (0, 159, 160, 320, 469, 470, 630, 809, 810, 970, 999, 1000):
            assert table[offers, model, idle] == pytest.approx(filled(offers, idle))


def test_nothing_is_filled_where_nothing_is_expected():
    assert not hole_worth(typical([(5, 0, 0, 7, 1)]), 2).any()
    empty = outlook_of(typical([(0, 1, 500, 1, 1)]), 1, 2, 8_000, CPU_CELLS)
    assert not empty.levels.any(), "no CPU is asked for, so none can leave anything stranded"
    assert empty.cpu_cell == 1_600
    assert outlook_of(typical([(0, 1, 500, 1, 1)]), 1, 2, 8_001, CPU_CELLS).cpu_cell == 1_601
    assert outlook_of(typical([(0, 1, 500, 1, 1)]), 1, 2, 100, CPU_CELLS).cpu_cell == 500


def test_a_host_is_worth_what_single_tasks_fill_with_the_processors_that_are_left():
    seen = outlook_of(typical(), 3, 2, 10_000, CPU_CELLS)
    assert (seen.cpu_cell, seen.levels.shape) == (2_000, (61, 41, CPU_CELLS))
    single = [(millis, (millis + 25) // 50, -(-cpu // 2_000), share)
              for cpu, devices, millis, _, share in MIX if devices == 1]  # fmt: skip
    total = sum(share for *_, share in single)

    @cache
    def filled(offers: int, gpu: int, cpu: int | None) -> float:
        if offers == 0:
            return 0.0
        pass_by = filled(offers - 1, gpu, cpu)
        gain = 0.0
        for millis, cells, cores, share in single:
            if cells <= gpu and (cpu is None or cores <= cpu):
                left = None if cpu is None else cpu - cores
                gain += max(0.0, millis + filled(offers - 1, gpu - cells, left) - pass_by) * share / total
        return pass_by + gain

    for offers in (0, 1, 2, 5, 8):
        for gpu in (0, 3, 9, 16, 20, 40):
            for cpu in range(CPU_CELLS):
                limit = None if cpu == CPU_CELLS - 1 else cpu
                assert seen.levels[offers, gpu, cpu] == pytest.approx(filled(offers, gpu, limit)), (offers, gpu, cpu)


def in_words(mix, hosts: Fleet, counts: list[int], cells: int):
    """The same tables by the sentences of ``policies.packing.worth``, each figure by itself."""
    seen = outlook_of(typical(mix), 3, int(hosts.devices.max()), int(hosts.cpu.max()), cells)
    shares = [Fraction(often, sum(one[4] for one in mix)) for *_, often in mix]
    whole, cpus = int(hosts.devices.sum()) * 1000, int(hosts.cpu.sum())
    each = sum(share * devices * millis for share, (_, devices, millis, _, _) in zip(shares, mix, strict=True))
    prior = Fraction(whole, 10) / each
    number = [count + prior * share for count, share in zip(counts, shares, strict=True)]
    asked = sum(some * devices * millis for some, (_, devices, millis, _, _) in zip(number, mix, strict=True))
    to_come = Fraction(int(hosts.left.sum())) / asked
    offers = min(60, max(1, -(-(sum(counts) + prior) * to_come // 1)))
    load = sum(some * cpu for some, (cpu, *_) in zip(number, mix, strict=True)) / asked * whole / cpus
    per_gpu = 6 - 4 * min(1, max(0, (load - Fraction(85, 100)) / Fraction(15, 100)))
    stranded = []
    for gpu in range(seen.levels.shape[1]):
        tries = int(min(offers, -(-per_gpu * gpu * 50 // 1000)))
        stranded.append([seen.levels[tries, gpu, -1] - cell for cell in seen.levels[tries, gpu]])
    idle = [
        sum(int(row.sum()) for row, model in zip(hosts.left, hosts.model, strict=True) if model == m) for m in range(3)
    ]
    pinned = [Fraction(0)] * 3
    for models in {one[3] for one in mix}:
        millis = sum(some * one[1] * one[2] for some, one in zip(number, mix, strict=True) if one[3] == models)
        able = [m for m in range(3) if models >> m & 1]
        room = sum(idle[m] for m in able)
        if room and not (len(able) > 1 and 2 * room >= sum(idle)):
            for m in able:
                pinned[m] += millis * idle[m] / room
    pressure = [pinned[m] / asked * sum(idle) / max(1, idle[m]) for m in range(3)]
    many: dict[tuple[int, int], Fraction] = {}
    for some, (cpu, devices, *_) in zip(number, mix, strict=True):
        if devices > 1:
            many[devices, cpu] = many.get((devices, cpu), 0) + some
    many = dict(sorted(many.items(), key=lambda one: (-one[1] * one[0][0], one[0]))[:16])
    widest = int(hosts.devices.max())
    with_gpu = sum(share * cpu for share, (cpu, devices, *_) in zip(shares, mix, strict=True) if devices)
    last = widest, int(widest * 1000 * with_gpu / each)
    many[last] = many.get(last, 0) + 1
    blocks = np.zeros((widest + 1, cells), np.int64)
    for (devices, cpu), some in many.items():
        room = sum(min(int((row == 1000).sum()) // devices, int(free) // max(1, cpu))
                   for row, free in zip(hosts.left, hosts.cpu, strict=True))  # fmt: skip
        expected = float(some * to_come)
        pressed = min(1.5, (expected + 2 * expected**0.5) / max(1, room))
        for free in range(widest + 1):
            for cell in range(cells):
                fits = min(free // devices, cell * seen.cpu_cell // max(1, cpu))
                blocks[free, cell] += round(0.1 * devices * 1_000_000 * pressed**2) * fits
    return int(offers), stranded, [1000 * min(1.5, float(one)) ** 2 for one in pressure], blocks, seen


WIDE = ((800, 1, 300, 7, 9), *((700 * number, 2 + number % 2, 1000, 7, 3) for number in range(1, 20)))
"""More kinds of wide tasks than are looked at: those that ask for most are."""
SOME = (MIX, MIX[:4] + MIX[5:], ((700, 1, 600, 1, 1), (900, 1, 300, 6, 1), (4_000, 2, 1000, 6, 1)), WIDE)
PAST = ([0] * 20, [3, 0, 2, 1, 4, 0, 1, 5, 9, 1, 2, 0, 3, 4, 5, 1, 1, 2, 0, 6], [40, 30, 50, 20, 10, 10, 30] + [7] * 13)


@pytest.mark.parametrize("hosts", [HOSTS, fleet((0, 64_000, (1000,) * 4), (1, 30_000, (500, 1000)), (2, 9_000, (0,)))])
@pytest.mark.parametrize("counts", PAST)
@pytest.mark.parametrize("mix", SOME)
def test_prices_are_what_is_written_of_them(mix, counts, hosts):
    counts = counts[: len(mix)]
    offers, stranded, scarcity, blocks, seen = in_words(mix, hosts, counts, CPU_CELLS)
    seen = outlook_of(typical(mix), 3, int(hosts.devices.max()), int(hosts.cpu.max()), CPU_CELLS)
    sized = type(seen)(
        typical=seen.typical, holes=seen.holes, levels=seen.levels, cpu_cell=seen.cpu_cell,
        fleet_millis=int(hosts.devices.sum()) * 1000, fleet_cpu=int(hosts.cpu.sum()),
    )  # fmt: skip
    found = prices(sized, hosts, kinds(mix), np.array(counts))
    assert found.cpu_cell == seen.cpu_cell
    assert np.abs(found.holes - seen.holes[offers] * 1000).max() <= 0.5
    assert np.abs(found.stranded - np.array(stranded) * 1000).max() <= 0.5
    assert found.scarcity.tolist() == pytest.approx(scarcity, abs=0.51)
    assert np.abs(found.blocks - blocks).max() <= 8


def test_with_nothing_expected_and_nothing_asked_nothing_has_a_premium():
    nothing = prices(outlook_of(typical([(5, 0, 0, 7, 1)]), 3, 1, 10, CPU_CELLS), fleet((0, 10, (1000,))),
                     kinds([(5, 0, 0, 7, 1)]), np.array([9]))  # fmt: skip
    assert not nothing.holes.any()
    assert not nothing.stranded.any()
    assert not nothing.scarcity.any()
    assert not nothing.blocks.any()


def test_the_outlook_of_a_fleet_is_that_of_its_largest_host_and_all_its_devices():
    seen = outlook(typical(), HOSTS)
    assert (seen.fleet_millis, seen.fleet_cpu, seen.cpu_cell) == (12_000, 20_500, 500)
    assert seen.holes.shape == (61, 3, 1001)
    assert seen.levels.shape == (61, 4 * 20 + 1, 260)


def test_prices_are_made_again_twenty_seven_times_while_the_fleet_fills_once():
    assert between_prices(HOSTS, typical([(0, 1, 100, 7, 1)])) == int(8_110 / 100 / 27) == 3
    assert between_prices(HOSTS, typical([(0, 8, 1000, 7, 1)])) == 1
    assert between_prices(HOSTS, typical([(5, 0, 0, 7, 1)])) == 1


def test_a_room_is_worth_its_holes_and_what_it_has_together_whichever_way_it_is_looked_up():
    rng = np.random.default_rng(7)
    table = Prices(
        holes=rng.integers(0, 10**6, (3, 1001)), stranded=rng.integers(0, 10**6, (30, 5)),
        blocks=rng.integers(0, 10**6, (4, 5)), scarcity=np.array([3, 5, 7]), cpu_cell=2_000,
    )  # fmt: skip
    tables = Tables(
        holes={flavor: table.holes[index].tolist() for index, flavor in enumerate(FLAVORS)},
        scarcity=dict(zip(FLAVORS, (3, 5, 7), strict=True)), stranded=table.stranded.tolist(),
        blocks=table.blocks.tolist(), cpu_cell=2_000,
    )  # fmt: skip
    market = Market(prices=table, flavors=FLAVORS)
    [room] = rooms_of(fleet((1, 9_000, (1000,) * 5)))
    for left in ((0,), (49,), (50, 1000), (1000, 1000, 1000), (1000,) * 5, (400, 90, 1000)):
        idle, whole = sum(left), left.count(1000)
        for cpu, cell in ((0, 0), (1_999, 0), (2_000, 1), (7_999, 3), (8_000, 4), (10_000, 4), (10**6, 4)):
            together = idle * 5 - table.stranded[min(idle // 50, 29), cell] + table.blocks[min(whole, 3), cell]
            holes = sum(int(table.holes[1, millis]) for millis in left)
            assert worth(room, left, cpu, market) == holes + together
            assert tables.together(FLAVORS[1], idle, whole, cpu) == together
    assert tables.together(FLAVORS[1], 0, 0, -5_000) == tables.together(FLAVORS[1], 0, 0, 0)
    assert worth(room, [1000], 0, Market()) == 0
