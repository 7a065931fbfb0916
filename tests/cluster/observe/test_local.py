"""The observer of this machine: what is not seen is a gap and keeps its last picture."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.embedded.processes import find, is_alive
from cluster.observe import nvml
from cluster.observe.groups import STRANDED
from cluster.observe.inventory import read_inventory, simulated_inventory, this_node
from policies.model.inventory import GroupState, UsageState, WorkerState
from policies.model.plan import StartGroup, StartRouting, StopRouting
from policies.model.snapshot import Gap, GapKind
from policies.model.units import NodeId, SecurityDomain
from tests.cluster.actuate.test_local import a_running_group, device, do, start_worker, until
from tests.local_platform import LocalPlatform, local_platform

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with local_platform(tmp_path) as made:
        yield made


def routed_group(platform: LocalPlatform) -> StartGroup:
    group = a_running_group(platform)
    do(platform, StartRouting(domain=CIVIL, group=group.group, reason=""))
    return group


def test_a_domain_that_cannot_be_read_keeps_its_groups_and_is_a_gap(platform: LocalPlatform) -> None:
    group = routed_group(platform)
    before = platform.observer.observe()
    platform.rays[CIVIL].down = True
    seen = platform.observer.observe()
    assert seen.groups[0].id == group.group
    assert seen.groups[0].running == 1
    gaps = {(gap.kind, gap.subject): gap for gap in seen.gaps}
    assert gaps[GapKind.CLUSTER, CIVIL].cause == "http_503"
    assert gaps[GapKind.CLUSTER, CIVIL].since_ms == before.observed_at_ms
    assert seen.adopting == ()


def test_a_domain_never_seen_is_adopting(tmp_path: Path) -> None:
    with local_platform(tmp_path) as platform:
        platform.rays[DEFENCE].down = True
        assert platform.observer.observe().adopting == (DEFENCE,)


def test_without_the_gateway_requests_inside_are_unknown_not_zero(platform: LocalPlatform) -> None:
    group = routed_group(platform)
    platform.gateways[CIVIL].in_flight[group.group] = 3
    assert platform.observer.observe().groups[0].in_flight == 3
    platform.rays[CIVIL].down = True
    seen = platform.observer.observe().groups[0]
    assert seen.in_flight is None
    assert seen.usage is UsageState.UNKNOWN


def test_a_group_counts_as_routed_until_the_gateway_has_the_table_without_it(platform: LocalPlatform) -> None:
    group = routed_group(platform)
    in_force = platform.gateways[CIVIL].load().generation
    platform.observer.observe()
    platform.gateways[CIVIL].lags_at = in_force
    do(platform, StopRouting(domain=CIVIL, group=group.group, reason=""))
    assert platform.observer.observe().groups[0].routed
    platform.gateways[CIVIL].lags_at = None
    assert not platform.observer.observe().groups[0].routed


def test_requests_inside_make_a_group_active(platform: LocalPlatform) -> None:
    group = routed_group(platform)
    assert platform.observer.observe().groups[0].usage is UsageState.IDLE_HELD
    platform.gateways[CIVIL].in_flight[group.group] = 1
    assert platform.observer.observe().groups[0].usage is UsageState.ACTIVE


def test_measured_traffic_becomes_demand(platform: LocalPlatform) -> None:
    do(platform)
    platform.gateways[CIVIL].demands["civil/justice:contract"] = 3
    assert [(d.claim, d.replicas) for d in platform.observer.observe().demands] == [("civil/justice:contract", 3)]


def test_a_worker_is_starting_until_it_has_joined_and_lost_when_its_process_is(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    assert platform.observer.observe().workers[0].state is WorkerState.STARTING
    platform.settle()
    assert platform.observer.observe().workers[0].state is WorkerState.READY
    record = find(platform.here.processes, worker.worker)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not is_alive(record), platform)
    assert platform.observer.observe().workers[0].state is WorkerState.LOST


def test_a_group_whose_node_is_gone_has_failed_though_its_worker_runs_again(platform: LocalPlatform) -> None:
    group = routed_group(platform)
    record = find(platform.here.processes, group.worker)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not is_alive(record), platform)
    platform.rays[CIVIL].stuck.add(group.group)
    platform.rays[CIVIL].apps[group.group].replicas = {"anew": "STARTING"}
    do(platform)
    platform.settle()
    seen = platform.observer.observe()
    assert seen.workers[0].state is WorkerState.READY
    assert (seen.groups[0].state, seen.groups[0].message) == (GroupState.FAILED, STRANDED)


def test_a_standby_is_no_worker(platform: LocalPlatform) -> None:
    platform.actuator.workers.launch(DEFENCE, (device(platform).id,))
    platform.settle()
    assert platform.observer.observe().workers == ()


def test_without_a_driver_devices_are_simulated_and_say_so() -> None:
    found = read_inventory(
        this_node(), 4, lambda node: Gap(kind=GapKind.NODE, subject=node, cause="library_not_found", since_ms=0)
    )
    assert found.simulated
    assert len(found.devices) == 4
    assert all(one.simulated for one in found.devices)
    assert found.devices == simulated_inventory(this_node(), 4).devices


def test_a_driver_that_does_not_answer_is_a_gap_never_a_simulation() -> None:
    def hung(node: NodeId) -> nvml.Inventory | Gap:
        return Gap(kind=GapKind.NODE, subject=node, cause="hung", since_ms=0)

    found = read_inventory(this_node(), 4, hung)
    assert not found.simulated
    assert found.devices == ()
    assert [gap.cause for gap in found.gaps] == ["hung"]
