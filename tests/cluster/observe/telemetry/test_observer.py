"""What telemetry adds to a snapshot: health, use and gaps of real devices, and nothing to simulated ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from cluster.observe.telemetry.observer import Root, TelemetryObserver, holdings
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.inventory import (
    Device,
    DeviceHealth,
    Group,
    GroupState,
    UsageState,
    Worker,
    WorkerState,
)
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.telemetry import HealthVerdict
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, SecurityDomain, VariantId, WorkerId
from policies.model.workload import Demand
from tests.cluster.observe.telemetry.conftest import NODE, Rig
from tests.cluster.observe.telemetry.fake_node import FakeGpu, FakeNode, FakeProcess, h100, h100_mig

ROOT_PID = 4_600_000
CHAT = ClaimId("civil/justice:chat")


@dataclass
class Scene:
    """One device with one serving group on it, seen through telemetry."""

    rig: Rig
    gpu: FakeGpu
    snapshot: Snapshot
    observer: TelemetryObserver
    store: TelemetryStore

    def observe(self) -> Snapshot:
        return replace(self.snapshot, observed_at_ms=self.rig.clock.now)

    def seconds(self, count: int, *, in_flight: int | None = 0, queued: int = 0) -> UsageState:
        (group,) = self.snapshot.groups
        demand = Demand(claim=CHAT, replicas=1, observed_at_ms=0, queued=queued)
        self.snapshot = replace(self.snapshot, groups=(replace(group, in_flight=in_flight),), demands=(demand,))
        agent = self.rig.agents[0]
        for _ in range(count):
            self.store.accept(self.rig.later(agent))
            seen = self.observer.observe()
        return seen.groups[0].usage


@pytest.fixture
def scene(object_rig: Rig) -> Scene:
    gpu = h100(used_mib=70_000, processes=[FakeProcess(pid=ROOT_PID, memory_mib=70_000)])
    object_rig.show(FakeNode(gpus=[gpu]))
    object_rig.agent()
    device = DeviceId(gpu.uuid)
    worker = Worker(
        id=WorkerId("w"), domain=SecurityDomain.CIVIL, node=NODE, devices=(device,), state=WorkerState.READY
    )
    group = Group(
        id=GroupId("chat-r0"),
        claim=CHAT,
        worker=worker.id,
        rung=0,
        variant=VariantId("q8"),
        devices=(device,),
        replicas=1,
        state=GroupState.RUNNING,
    )
    snapshot = Snapshot(
        generation=1,
        observed_at_ms=0,
        devices=(Device(id=device, node=NODE, flavor=FlavorId("H100-80GB"), gpu=device, memory_mib=81_080),),
        workers=(worker,),
        groups=(group,),
    )
    store = TelemetryStore(object_rig.clock)
    made = Scene(object_rig, gpu, snapshot, None, store)  # type: ignore[arg-type] # given in the next line
    made.observer = TelemetryObserver(made, store, lambda: {worker.id: Root(pid=ROOT_PID)})
    return made


def test_a_model_that_holds_memory_and_answers_nobody_becomes_idle_held(scene: Scene) -> None:
    scene.gpu.sm_util = 60.0
    assert scene.seconds(5) is UsageState.ACTIVE
    scene.gpu.sm_util = 0.0
    assert scene.seconds(40) is UsageState.ACTIVE, "a pause is no idleness"
    assert scene.seconds(60) is UsageState.IDLE_HELD


def test_a_request_inside_or_waiting_makes_it_active(scene: Scene) -> None:
    scene.seconds(120)
    assert scene.seconds(1, in_flight=1) is UsageState.ACTIVE
    scene.seconds(120)
    assert scene.seconds(1, queued=2) is UsageState.ACTIVE


def test_without_the_gateways_count_nothing_is_known_of_a_serving_group(scene: Scene) -> None:
    assert scene.seconds(120, in_flight=None) is UsageState.UNKNOWN


def test_a_job_has_no_gateway_and_is_judged_by_its_load_alone(scene: Scene) -> None:
    (group,) = scene.snapshot.groups
    scene.snapshot = replace(scene.snapshot, groups=(replace(group, variant=None),))
    scene.gpu.sm_util = 60.0
    assert scene.seconds(5, in_flight=None) is UsageState.ACTIVE
    scene.gpu.sm_util, scene.gpu.used_mib = 0.0, 0
    scene.gpu.processes = []
    assert scene.seconds(120, in_flight=None) is UsageState.TRULY_IDLE


def test_a_device_that_was_never_reported_is_a_gap_and_not_healthy_capacity(scene: Scene) -> None:
    seen = scene.observer.observe()
    assert [(gap.kind, gap.subject, gap.cause, gap.since_ms) for gap in seen.gaps] == [
        (GapKind.DEVICE, scene.gpu.uuid, "not_read", 0)
    ]


def test_a_gap_says_since_when(scene: Scene) -> None:
    scene.seconds(3)
    last = scene.rig.clock.now
    scene.rig.clock.now += 30_000
    (gap,) = scene.observer.observe().gaps
    assert (gap.cause, gap.since_ms) == ("stale", last)


def test_a_device_that_another_observer_does_not_see_has_one_gap(scene: Scene) -> None:
    known = Gap(kind=GapKind.DEVICE, subject=scene.gpu.uuid, cause="unreachable", since_ms=7)
    scene.snapshot = replace(scene.snapshot, gaps=(known,))
    assert scene.observer.observe().gaps == (known,)


def test_simulated_devices_and_their_groups_pass_untouched(scene: Scene) -> None:
    simulated = tuple(replace(device, simulated=True) for device in scene.snapshot.devices)
    scene.snapshot = replace(scene.snapshot, devices=simulated)
    seen = scene.observer.observe()
    assert seen.devices == simulated
    assert seen.groups == scene.snapshot.groups
    assert seen.gaps == ()


def test_the_worse_of_two_opinions_on_a_device_holds(scene: Scene) -> None:
    worse = tuple(replace(device, health=DeviceHealth.RETIRED) for device in scene.snapshot.devices)
    scene.snapshot = replace(scene.snapshot, devices=worse)
    scene.gpu.fields = {230: (0, 1, 1)}
    scene.seconds(2)
    assert scene.observer.observe().devices[0].health is DeviceHealth.RETIRED


def test_instances_share_the_fate_of_their_gpu(object_rig: Rig) -> None:
    gpu = h100_mig()
    assert gpu.mig is not None
    gpu.fields = {230: (0, 1, 4)}
    object_rig.show(FakeNode(gpus=[gpu]))
    store, agent = TelemetryStore(object_rig.clock), object_rig.agent()
    store.accept(object_rig.later(agent))
    devices = tuple(
        Device(
            id=DeviceId(one.uuid), node=NODE, flavor=FlavorId("x"), gpu=DeviceId(gpu.uuid), memory_mib=one.memory_mib
        )
        for one in gpu.mig
    )

    class Listed:
        def observe(self) -> Snapshot:
            return Snapshot(generation=1, observed_at_ms=object_rig.clock.now, devices=devices)

    seen = TelemetryObserver(Listed(), store, dict).observe()
    assert {device.health for device in seen.devices} == {DeviceHealth.QUARANTINED}


def test_verdicts_are_offered_for_keeping_only_when_they_change(scene: Scene) -> None:
    kept: list[tuple[HealthVerdict, ...]] = []
    scene.observer = TelemetryObserver(
        scene, scene.store, dict, keep=lambda memories: kept.append(tuple(memory.verdict for memory in memories))
    )
    scene.seconds(5)
    scene.gpu.fields = {230: (0, 1, 1)}
    scene.seconds(5)
    assert [verdicts[0].health for verdicts in kept] == [DeviceHealth.HEALTHY, DeviceHealth.QUARANTINED]


def test_groups_on_one_worker_hold_equal_parts_where_claims_are_not_seen(scene: Scene) -> None:
    (group,) = scene.snapshot.groups
    two = (group, replace(group, id=GroupId("draft-r0"), claim=ClaimId("civil/justice:draft")))
    (worker,) = holdings(replace(scene.snapshot, groups=two), {})
    assert [(share.tenant, share.gpu_millis) for share in worker.groups] == [("civil/justice", 500)] * 2
