"""The wait of ``up`` for workers that are kept ready: it ends with them, or when no more come, and says which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.embedded.kept_ready import LIMIT_MS, STALLED_MS, covered, wait
from cluster.embedded.nodes import Machine, machine, worker_records
from cluster.embedded.platform import take_down
from cluster.embedded.processes import ProcessSpec, start
from cluster.settings import from_environment
from cluster.sim.clock import VirtualClock
from policies.model.units import DeviceId, SecurityDomain


def one_more_every(pause_ms: int, clock: VirtualClock, limit: int) -> int:
    return min(clock.monotonic_ms() // pause_ms, limit)


def test_the_wait_ends_when_all_stand_ready() -> None:
    clock = VirtualClock(0)
    assert wait(lambda: (one_more_every(8_000, clock, 5), 5), clock) == "5 of 5"
    assert clock.monotonic_ms() == 40_000


def test_where_something_moves_all_the_time_nobody_waits_for_workers_that_do_not_come() -> None:
    clock = VirtualClock(0)
    said = wait(lambda: (one_more_every(8_000, clock, 2), 5), clock)
    assert said.startswith("2 of 5; the others follow")
    assert clock.monotonic_ms() == 16_000 + STALLED_MS


def test_many_devices_do_not_keep_a_person_waiting_for_ever() -> None:
    clock = VirtualClock(0)
    assert wait(lambda: (one_more_every(10_000, clock, 64), 64), clock).startswith(f"{LIMIT_MS // 10_000} of 64;")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    made = machine(from_environment({"PARTAGE_HOME": str(tmp_path / "home"), "PARTAGE_CACHE": str(tmp_path / "cache")}))
    yield made
    take_down(made.settings, lambda _: None)


def test_a_worker_counts_once_it_has_joined_its_cluster_and_lives(here: Machine) -> None:
    for name in ("joined", "young"):
        device, domain = DeviceId(f"gpu-{name}"), SecurityDomain.CIVIL
        spec = ProcessSpec(
            name=name, module="tests.pretended_node", worker=name, launch=name, domain=domain, devices=(device,)
        )
        start(here.processes, spec, {}, SystemClock())
    known = worker_records(here)
    assert covered(known, {"joined", "ended"}) == {(SecurityDomain.CIVIL, DeviceId("gpu-joined"))}
    take_down(here.settings, lambda _: None)
    assert covered(known, {"joined", "ended"}) == set()
