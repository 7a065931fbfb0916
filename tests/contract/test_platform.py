"""Observer and actuator: what the loop relies on, whoever implements it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from policies.model.inventory import Device, Group, GroupState, ScrubState, Worker, WorkerState
from policies.model.naming import group_id, worker_id
from policies.model.plan import (
    OutcomeStatus,
    ScaleGroup,
    ScrubDevice,
    StartGroup,
    StartRouting,
    StartWorker,
    StopGroup,
    StopRouting,
    StopWorker,
)
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, ModelId, SecurityDomain, TenantId, VariantId
from policies.model.workload import Claim, ClaimKind, Job, Shape
from tests.contract.platforms import Platform, simulated
from tests.local_platform import Settling, local_platform

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
CLAIM = ClaimId("civil/justice:contract")
JOB = Claim(
    id=ClaimId("civil/justice:job"), tenant=TenantId("civil/justice"), kind=ClaimKind.JOB, ladder=(Shape(flavors=()),),
    job=Job(command=("/bin/sleep", "600")),
)  # fmt: skip


@pytest.fixture(params=["simulated", "this machine over fakes"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    if request.param == "simulated":
        yield simulated()
        return
    with local_platform(tmp_path) as local:
        local.shared.claims[JOB.id] = JOB
        yield Platform(Settling(local), local.actuator, local.ledger, local.clock)


def start_worker(device: Device, domain: SecurityDomain = CIVIL) -> StartWorker:
    return StartWorker(
        domain=domain, worker=worker_id(domain, (device.id,)), node=device.node, devices=(device.id,), reason="contract"
    )


def start_group(worker: StartWorker, replicas: int = 1) -> StartGroup:
    return StartGroup(
        domain=worker.domain,
        group=group_id(CLAIM, worker.worker, 0),
        claim=CLAIM,
        worker=worker.worker,
        model=ModelId("tiny"),
        variant=VariantId("q8"),
        devices=worker.devices,
        gpu_millis=250,
        memory_mib=1000,
        replicas=replicas,
        concurrency=1,
        reason="contract",
    )


def stop_worker(worker: StartWorker) -> StopWorker:
    return StopWorker(domain=worker.domain, worker=worker.worker, devices=worker.devices, reason="contract")


def scrub(device: Device) -> ScrubDevice:
    return ScrubDevice(device=device.id, node=device.node, from_domain=CIVIL, to_domain=DEFENCE, reason="contract")


def the_worker(snapshot: Snapshot, worker: StartWorker) -> Worker | None:
    return next((found for found in snapshot.workers if found.id == worker.worker), None)


def the_group(snapshot: Snapshot, group: StartGroup) -> Group | None:
    return next((found for found in snapshot.groups if found.id == group.group), None)


def ready(platform: Platform, worker: StartWorker) -> Snapshot:
    platform.do(worker)

    def holds(snapshot: Snapshot) -> bool:
        found = the_worker(snapshot, worker)
        return found is not None and found.state is WorkerState.READY

    return platform.until(holds, "worker is ready")


def running(platform: Platform, group: StartGroup) -> Snapshot:
    platform.do(group)

    def holds(snapshot: Snapshot) -> bool:
        found = the_group(snapshot, group)
        return found is not None and found.running == group.replicas

    return platform.until(holds, "group runs")


def test_each_observation_is_newer_than_the_one_before(platform: Platform) -> None:
    assert platform.observer.observe().generation < platform.observer.observe().generation


def test_every_device_has_a_known_flavor_and_node(platform: Platform) -> None:
    seen = platform.observer.observe()
    assert seen.devices
    for device in seen.devices:
        assert device.flavor in {flavor.id for flavor in seen.flavors}
        assert device.node in {node.id for node in seen.nodes}


def test_a_worker_is_bound_in_the_ledger_before_it_is_ready(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    outcome = platform.do(worker)
    assert [result.status for result in outcome.results] == [OutcomeStatus.ACCEPTED]
    assert [record.worker for record in platform.ledger.devices()] == [worker.worker]


def test_a_ready_worker_is_known_to_its_cluster_and_its_device_to_its_domain(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    seen = ready(platform, worker)
    found = the_worker(seen, worker)
    assert found is not None
    assert found.ray_node_id
    assert found.devices == worker.devices
    device = next(device for device in seen.devices if device.id == worker.devices[0])
    assert (device.domain, device.scrub) == (CIVIL, ScrubState.DIRTY)


def test_the_same_start_again_changes_nothing(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    ready(platform, worker)
    assert platform.do(worker).results[0].status is OutcomeStatus.ACCEPTED
    assert len(platform.observer.observe().workers) == 1


def test_a_group_runs_receives_requests_and_stops_receiving_them(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    ready(platform, worker)
    group = start_group(worker)
    found = the_group(running(platform, group), group)
    assert found is not None
    assert (found.state, found.routed, found.claim) == (GroupState.RUNNING, False, CLAIM)

    platform.do(StartRouting(domain=CIVIL, group=group.group, reason="contract"))
    platform.until(lambda s: (g := the_group(s, group)) is not None and g.routed, "group is routed")
    platform.do(StopRouting(domain=CIVIL, group=group.group, reason="contract"))
    platform.until(
        lambda s: (g := the_group(s, group)) is not None and not g.routed and g.in_flight == 0, "group is drained"
    )


def test_a_group_reaches_the_replicas_that_it_is_scaled_to(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    ready(platform, worker)
    group = start_group(worker)
    running(platform, group)
    for replicas in (2, 1):
        platform.do(ScaleGroup(domain=CIVIL, group=group.group, replicas=replicas, reason="contract"))
        platform.until(
            lambda s, wanted=replicas: (g := the_group(s, group)) is not None and g.running == wanted,  # type: ignore[misc]  # bound now
            f"{replicas} replicas run",
        )


def test_a_device_goes_to_the_other_domain_over_stop_scrub_and_proof(platform: Platform) -> None:
    device = platform.observer.observe().devices[0]
    worker, other = start_worker(device), start_worker(device, DEFENCE)
    ready(platform, worker)
    group = start_group(worker)
    running(platform, group)

    platform.do(StopGroup(domain=CIVIL, group=group.group, reason="contract"))
    platform.until(lambda s: the_group(s, group) is None, "group is gone")
    platform.do(stop_worker(worker))
    platform.until(lambda s: the_worker(s, worker) is None, "worker is gone")
    assert platform.do(other).results[0].status is OutcomeStatus.REFUSED

    platform.do(scrub(device))
    platform.until(
        lambda s: next(d for d in s.devices if d.id == device.id).scrub is ScrubState.CLEAN, "device is clean"
    )
    assert [proof.passed for proof in platform.ledger.proofs()] == [True]
    ready(platform, other)


def test_a_device_in_use_is_never_scrubbed(platform: Platform) -> None:
    device = platform.observer.observe().devices[0]
    ready(platform, start_worker(device))
    assert platform.do(scrub(device)).results[0].status is OutcomeStatus.REFUSED
    assert platform.ledger.proofs() == ()


def test_stopping_what_is_gone_is_accepted(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    group = start_group(worker)
    outcome = platform.do(
        StopRouting(domain=CIVIL, group=group.group, reason="contract"),
        StopGroup(domain=CIVIL, group=group.group, reason="contract"),
        stop_worker(worker),
    )
    assert {result.status for result in outcome.results} == {OutcomeStatus.ACCEPTED}


def test_an_older_leader_is_refused_once_a_newer_one_has_acted(platform: Platform) -> None:
    first, second = platform.observer.observe().devices[:2]
    platform.do(start_worker(first), fencing=platform.fencing + 1)
    outcome = platform.do(start_worker(second), fencing=platform.fencing)
    assert outcome.results[0].status is OutcomeStatus.REFUSED
    assert second.id not in {record.device for record in platform.ledger.devices()}


def test_the_outcome_names_every_action_in_the_order_of_the_plan(platform: Platform) -> None:
    one, two = (start_worker(device) for device in platform.observer.observe().devices[:2])
    outcome = platform.do(one, two)
    assert [result.action for result in outcome.results] == [one, two]


def test_a_job_is_asked_to_leave_then_ended_and_then_its_worker_can_go(platform: Platform) -> None:
    worker = start_worker(platform.observer.observe().devices[0])
    platform.do(worker)
    platform.until(lambda seen: any(one.state is WorkerState.READY for one in seen.workers), "the worker is ready")
    begin = replace(
        start_group(worker), claim=JOB.id, group=group_id(JOB.id, worker.worker, 0), model=None, variant=None
    )
    assert platform.do(begin).results[0].status is OutcomeStatus.ACCEPTED
    assert platform.do(begin).results[0].status is OutcomeStatus.ACCEPTED, "begun once, however often it is asked for"
    seen = platform.until(lambda seen: any(one.running for one in seen.groups), "the job runs")
    (group,) = seen.groups
    assert (group.claim, group.variant, group.state) == (JOB.id, None, GroupState.RUNNING)
    platform.do(StartRouting(domain=CIVIL, group=group.id, reason="contract"))
    platform.do(StopRouting(domain=CIVIL, group=group.id, reason="contract"))
    platform.until(
        lambda seen: all(one.in_flight == 0 for one in seen.groups), "it has left, or only its place is kept"
    )
    platform.do(StopGroup(domain=CIVIL, group=group.id, reason="contract"))
    platform.until(lambda seen: not seen.groups, "its group is gone")
    stop = StopWorker(domain=CIVIL, worker=worker.worker, devices=worker.devices, reason="contract")
    assert platform.do(stop).results[0].status is OutcomeStatus.ACCEPTED
