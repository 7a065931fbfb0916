"""What the actuator of this machine does beyond the contract: one PUT a turn, standbys, work cut short by a crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actuate.fencing import FencingGuard
from cluster.actuate.workers import CALM_MS
from cluster.embedded.nodes import worker_records
from cluster.embedded.processes import find, is_alive, mark_stopping
from cluster.ray_rest import RayDashboard
from cluster.refusals import StaleGeneration
from cluster.serve_apps import GATEWAY_APP, routed_groups, table_of
from policies.model.inventory import Device, ScrubState
from policies.model.naming import group_id, worker_id
from policies.model.plan import (
    Action,
    Outcome,
    OutcomeStatus,
    Plan,
    ScaleGroup,
    StartGroup,
    StartRouting,
    StartWorker,
    StopGroup,
    StopWorker,
)
from policies.model.units import SecurityDomain, WorkerId
from tests.local_platform import MODEL, LocalPlatform, a_claim, local_platform
from tests.ray_dashboard import TOKEN

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
PUT = ("PUT", "/api/serve/applications/")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with local_platform(tmp_path) as made:
        yield made


def do(platform: LocalPlatform, *actions: Action, fencing: int = 1) -> Outcome:
    plan = Plan(id="p", snapshot_generation=1, fencing_generation=fencing, decided_at_ms=0, actions=actions)
    return platform.actuator.execute(plan)


def statuses(outcome: Outcome) -> list[OutcomeStatus]:
    return [result.status for result in outcome.results]


def device(platform: LocalPlatform, number: int = 0) -> Device:
    return platform.observer.observe().devices[number]


def start_worker(one: Device, domain: SecurityDomain = CIVIL) -> StartWorker:
    name = worker_id(domain, (one.id,))
    return StartWorker(domain=domain, worker=name, node=one.node, devices=(one.id,), reason="")


def stop_worker(worker: StartWorker) -> StopWorker:
    return StopWorker(domain=worker.domain, worker=worker.worker, devices=worker.devices, reason="")


def start_group(worker: StartWorker, rung: int = 0) -> StartGroup:
    claim = a_claim(worker.domain).id
    return StartGroup(
        domain=worker.domain,
        group=group_id(claim, worker.worker, rung),
        claim=claim,
        worker=worker.worker,
        model=MODEL.id,
        variant=MODEL.variants[0].id,
        devices=worker.devices,
        gpu_millis=500,
        memory_mib=1,
        replicas=1,
        concurrency=4,
        reason="",
    )


def a_running_group(platform: LocalPlatform, number: int = 0) -> StartGroup:
    worker = start_worker(device(platform, number))
    do(platform, worker)
    platform.settle()
    group = start_group(worker)
    assert statuses(do(platform, group)) == [OutcomeStatus.ACCEPTED]
    platform.settle()
    return group


def dashboard(platform: LocalPlatform, domain: SecurityDomain = CIVIL) -> RayDashboard:
    return RayDashboard(platform.rays[domain].url, TOKEN, 5)


def until(holds: Callable[[], bool], clock_of: LocalPlatform) -> None:
    give_up_ms = clock_of.clock.monotonic_ms() + 30_000
    while not holds():
        assert clock_of.clock.monotonic_ms() < give_up_ms
        clock_of.clock.sleep_ms(20)


def test_a_turn_without_news_writes_nothing(platform: LocalPlatform) -> None:
    do(platform)
    platform.settle()
    platform.rays[CIVIL].requests.clear()
    do(platform)
    assert PUT not in platform.rays[CIVIL].requests


def test_a_turn_writes_once_however_much_it_changes(platform: LocalPlatform) -> None:
    one, two = start_worker(device(platform, 0)), start_worker(device(platform, 1))
    do(platform, one, two)
    platform.settle()
    platform.rays[CIVIL].requests.clear()
    do(platform, start_group(one), start_group(two))
    assert platform.rays[CIVIL].requests.count(PUT) == 1


def test_a_write_leaves_what_it_does_not_concern_running(platform: LocalPlatform) -> None:
    first = a_running_group(platform, 0)
    before = dict(platform.rays[CIVIL].apps[first.group].replicas)
    a_running_group(platform, 1)
    assert platform.rays[CIVIL].apps[first.group].replicas == before


def test_a_write_keeps_the_replicas_that_the_group_was_scaled_to(platform: LocalPlatform) -> None:
    group = a_running_group(platform)
    do(platform, ScaleGroup(domain=CIVIL, group=group.group, replicas=3, reason=""))
    platform.settle()
    a_running_group(platform, 1)
    assert platform.rays[CIVIL].apps[group.group].target == 3


def test_tables_grow_in_generation_and_list_what_is_routed(platform: LocalPlatform) -> None:
    group = a_running_group(platform)
    before = table_of(dashboard(platform).applications(), CIVIL)
    do(platform, StartRouting(domain=CIVIL, group=group.group, reason=""))
    after = table_of(dashboard(platform).applications(), CIVIL)
    assert routed_groups(before) == frozenset()
    assert routed_groups(after) == {group.group}
    assert after.generation == before.generation + 1


def test_a_group_without_a_running_replica_is_not_routed(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    platform.settle()
    group = start_group(worker)
    platform.rays[CIVIL].stuck.add(group.group)
    do(platform, group)
    platform.settle()
    refused = do(platform, StartRouting(domain=CIVIL, group=group.group, reason=""))
    assert refused.results[0].status is OutcomeStatus.REFUSED
    assert refused.results[0].detail.startswith("group_not_running")


def test_a_group_is_refused_on_a_worker_that_holds_no_devices(platform: LocalPlatform) -> None:
    group = start_group(start_worker(device(platform)))
    refused = do(platform, group)
    assert refused.results[0].detail.startswith("worker_not_bound")
    assert GATEWAY_APP in platform.rays[CIVIL].apps


def test_a_worker_that_carries_groups_does_not_stop(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    platform.settle()
    group = start_group(worker)
    do(platform, group)
    platform.settle()
    together = do(platform, StopGroup(domain=CIVIL, group=group.group, reason=""), stop_worker(worker))
    assert statuses(together) == [OutcomeStatus.ACCEPTED, OutcomeStatus.REFUSED]
    platform.settle()
    assert statuses(do(platform, stop_worker(worker))) == [OutcomeStatus.ACCEPTED]


def test_a_dashboard_that_is_away_fails_its_own_domain_alone(platform: LocalPlatform) -> None:
    civil, defence = a_running_group(platform, 0), start_worker(device(platform, 1), DEFENCE)
    platform.rays[CIVIL].down = True
    outcome = do(platform, StopGroup(domain=CIVIL, group=civil.group, reason=""), defence)
    assert statuses(outcome) == [OutcomeStatus.FAILED, OutcomeStatus.ACCEPTED]


def test_a_stop_that_a_crash_cut_short_is_finished(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    record = find(platform.here.processes, worker.worker)
    assert record is not None
    mark_stopping(platform.here.processes, record)
    do(platform)
    until(lambda: all(one.worker is None for one in platform.ledger.devices()), platform)
    assert not is_alive(record)


def test_a_scrub_that_a_crash_cut_short_is_begun_again(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    platform.ledger.release(worker.worker, 1)
    platform.ledger.scrubbing(worker.devices[0], 1)
    do(platform)
    until(lambda: platform.ledger.devices()[0].scrub is ScrubState.CLEAN, platform)
    assert [(proof.from_domain, proof.to_domain) for proof in platform.ledger.proofs()] == [(CIVIL, DEFENCE)]


def test_a_bound_worker_whose_process_died_is_started_again(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    first = find(platform.here.processes, worker.worker)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not is_alive(first), platform)
    do(platform)
    second = find(platform.here.processes, worker.worker)
    assert second is not None
    assert is_alive(second)
    assert second.spec.launch != first.spec.launch


def test_standbys_wait_for_calm_and_then_stand_on_every_device_for_each_domain(tmp_path: Path) -> None:
    with local_platform(tmp_path, standbys=True) as platform:
        do(platform, start_worker(device(platform)))
        assert [record.spec.worker for record in worker_records(platform.here)] == [
            worker_id(CIVIL, (device(platform).id,))
        ]
        ended_ms = platform.clock.monotonic_ms() + CALM_MS + 30_000

        def all_stand() -> bool:
            platform.settle()
            do(platform)
            assert platform.clock.monotonic_ms() < ended_ms
            return len(worker_records(platform.here)) == 8

        until(all_stand, platform)
        assert [record.worker for record in platform.ledger.devices()] == [worker_id(CIVIL, (device(platform).id,))]


def test_a_standby_becomes_the_worker_without_a_new_process(tmp_path: Path) -> None:
    with local_platform(tmp_path) as platform:
        one = device(platform)
        platform.actuator.workers.launch(DEFENCE, (one.id,))
        standby = find(platform.here.processes, worker_id(DEFENCE, (one.id,)))
        do(platform, start_worker(one, DEFENCE))
        bound = find(platform.here.processes, worker_id(DEFENCE, (one.id,)))
        assert standby is not None
        assert bound is not None
        assert bound.pid == standby.pid


def test_the_newest_leadership_is_remembered_over_restarts(tmp_path: Path) -> None:
    FencingGuard(tmp_path / "fencing").admit(7)
    with pytest.raises(StaleGeneration):
        FencingGuard(tmp_path / "fencing").admit(6)
    FencingGuard(tmp_path / "fencing").admit(7)


def test_a_variant_that_the_machine_does_not_have_is_refused_by_name(platform: LocalPlatform) -> None:
    worker = start_worker(device(platform))
    do(platform, worker)
    platform.settle()
    refused = do(platform, replace(start_group(worker), variant=None))
    assert refused.results[0].detail.startswith("unknown_variant")
    job = do(platform, replace(start_group(worker), variant=None, model=None))
    assert job.results[0].detail.startswith("no_job_engine")
    assert WorkerId(worker.worker) in {one.worker for one in platform.ledger.devices()}
