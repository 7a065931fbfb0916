"""The bound of large fleets: no rule exceeds it, and where all is divisible it is exact."""

from __future__ import annotations

import pytest

from cluster.packing.clairvoyant import ceiling
from cluster.packing.trace import Arrivals, Host, Size, setting
from policies.packing.engine import POLICIES, place_all


def fleet_of(tasks: list[Size], nodes: int = 4, cpu_millis: int = 64_000):
    hosts = [Host(f"n{number}", cpu_millis, 512_000, 8, "A") for number in range(nodes)]
    return setting(hosts, tasks, Arrivals("drawn", 1, tuple(range(len(tasks))), tuple(range(nodes))))


def test_tasks_that_fill_every_gpu_reach_the_whole_fleet():
    assert ceiling(fleet_of([Size(1_000, 1_000, 1, 500, "")] * 64)) == pytest.approx(100)


def test_two_tasks_that_share_no_gpu_leave_what_neither_fills():
    assert ceiling(fleet_of([Size(1_000, 1_000, 1, 600, "")] * 60)) == pytest.approx(60)


def test_cpus_that_run_out_bound_the_gpus():
    assert ceiling(fleet_of([Size(16_000, 1_000, 1, 1000, "")] * 40)) == pytest.approx(50)


def test_no_rule_exceeds_the_bound():
    tasks = [Size(4_000 + 500 * (n % 9), 1_000, 1 + 7 * (n % 23 == 0), 1000, "") if n % 3 == 0 else
             Size(3_000, 1_000, 1, 110 + 90 * (n % 8), "") for n in range(90)]  # fmt: skip
    one = fleet_of(tasks)
    size, whole = one.kinds.devices * one.kinds.millis, 32_000
    held = {name: place_all(one.fleet, one.kinds, one.typical, one.arrivals, name).nodes >= 0 for name in POLICIES}
    until = int((size[one.arrivals].cumsum() < whole).sum()) + 1
    for placed in held.values():
        assert 100 * int((size[one.arrivals] * placed)[:until].sum()) / whole <= ceiling(one) + 1e-6
