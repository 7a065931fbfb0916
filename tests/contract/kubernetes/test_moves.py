"""Workers start, stop and change domain on a cluster, with proofs, and never two domains on a device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.actuate.kubernetes.scrubs import collect
from cluster.kubernetes.kinds import NODE_DEVICES, NODES, PODS, RAY_CLUSTERS, RAY_SERVICES
from policies.model.inventory import DeviceHealth, ScrubState, WorkerState
from policies.model.naming import worker_id
from policies.model.plan import OutcomeStatus
from policies.model.snapshot import GapKind
from policies.model.units import DeviceId, GroupId

from .conftest import Served, make_namespace
from .stand_in import Machine
from .world import CIVIL, DEFENCE, World, install_services, scrub, start, stop

HOSTS = (Machine("n1", ("GPU-1", "GPU-2")), Machine("n2", ("GPU-3", "GPU-4")))


@pytest.fixture
def world(served: Served, request: pytest.FixtureRequest) -> Iterator[World]:
    prefix = "m" + str(abs(hash(request.node.nodeid)) % 10**8)
    api = served.api()
    world = World(api, tuple(Machine(host.name, host.devices) for host in HOSTS), prefix)
    for namespace in world.namespaces.values():
        make_namespace(api, namespace)
    install_services(world)
    yield world
    clear(world)


def clear(world: World) -> None:
    for namespace in world.namespaces.values():
        for kind in (RAY_SERVICES, RAY_CLUSTERS):
            for obj in world.api.list_all(kind)[0]:
                world.api.delete(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        for pod in world.api.list_all(PODS)[0]:
            if pod["metadata"]["namespace"] == namespace:
                world.api._tried("DELETE", PODS.path(namespace, pod["metadata"]["name"]), {}, {"gracePeriodSeconds": 0})
    for kind in (NODES, NODE_DEVICES):
        for obj in world.api.list_all(kind)[0]:
            world.api.delete(kind, None, obj["metadata"]["name"])


def test_nothing_runs_and_nothing_is_missing_before_the_first_plan(world: World) -> None:
    seen = world.observe()
    assert [device.id for device in seen.devices] == ["GPU-1", "GPU-2", "GPU-3", "GPU-4"]
    assert {device.flavor for device in seen.devices} == {"H100-80GB"}
    assert [node.schedulable for node in seen.nodes] == [True, True]
    assert (seen.workers, seen.gaps) == ((), ())


def test_a_worker_starts_on_the_node_that_was_chosen(world: World) -> None:
    world.until_ready(start(DEFENCE, "n2", "GPU-3"))
    (worker,) = world.observe().workers
    assert (worker.node, worker.devices, worker.domain) == ("n2", ("GPU-3",), DEFENCE)
    assert world.replicas(DEFENCE) == {"h100-1x": 1, "h100-2x": 0}
    assert world.replicas(CIVIL) == {"h100-1x": 0, "h100-2x": 0}


def test_a_worker_with_two_devices_uses_the_group_for_two(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1", "GPU-2"))
    assert world.replicas(CIVIL) == {"h100-1x": 0, "h100-2x": 1}


def test_starting_what_runs_already_changes_nothing(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    before = world.api.list_all(RAY_CLUSTERS)[1]
    (outcome,) = world.execute(start(DEFENCE, "n1", "GPU-1"))
    assert outcome.status is OutcomeStatus.ACCEPTED
    assert world.api.list_all(RAY_CLUSTERS)[1] == before or world.replicas(DEFENCE)["h100-1x"] == 1
    assert len(world.pods(DEFENCE)) == 1


def test_shrinking_names_its_victim_and_the_operator_never_has_to_choose(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"), start(DEFENCE, "n2", "GPU-3"))
    world.execute(stop(DEFENCE, "GPU-1"))
    world.step(3)
    (worker,) = world.observe().workers
    assert worker.devices == ("GPU-3",)
    assert world.replicas(DEFENCE)["h100-1x"] == 1
    assert world.kuberay.random_deletions == []


def test_a_worker_leaves_only_after_ray_itself_says_that_nothing_is_on_it(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    leave = stop(DEFENCE, "GPU-1")
    world.serve.groups[leave.worker] = (GroupId("chat"),)
    (refused,) = world.execute(leave)
    assert (refused.status, "worker_carries_groups" in refused.detail) == (OutcomeStatus.REFUSED, True)
    world.serve.groups.clear()
    world.serve.unreadable = True
    (refused,) = world.execute(leave)
    assert (refused.status, "ray_frozen" in refused.detail) == (OutcomeStatus.REFUSED, True)
    world.step(2)
    assert len(world.pods(DEFENCE)) == 1
    world.serve.unreadable = False
    world.execute(leave)
    world.step(2)
    assert world.pods(DEFENCE) == []


def test_a_device_changes_domain_only_after_worker_gone_scrub_and_proof(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    (refused,) = world.execute(start(DEFENCE, "n1", "GPU-1"))
    assert (refused.status, "device_held" in refused.detail) == (OutcomeStatus.REFUSED, True)
    (refused,) = world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    assert refused.status is OutcomeStatus.REFUSED
    world.execute(stop(CIVIL, "GPU-1"))
    world.step(3)
    (refused,) = world.execute(start(DEFENCE, "n1", "GPU-1"))
    assert "device_not_clean" in refused.detail
    world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    assert world.observe().devices[0].scrub is ScrubState.SCRUBBING
    world.step(2)
    (proof,) = world.ledger.proofs()
    assert (proof.device, proof.from_domain, proof.to_domain, proof.passed) == ("GPU-1", CIVIL, DEFENCE, True)
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    assert not (world.api.get(NODE_DEVICES, None, "n1").get("spec") or {}).get("scrubs")


def test_a_device_that_cannot_be_wiped_stays_out_and_so_does_its_node(world: World) -> None:
    world.machines.hosts[0].residue.add("GPU-1")
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    world.execute(stop(CIVIL, "GPU-1"))
    world.step(3)
    world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    world.step(2)
    assert world.observe().devices[0].scrub is ScrubState.FAILED
    (refused,) = world.execute(start(DEFENCE, "n1", "GPU-2"))
    assert (refused.status, "node_unsafe" in refused.detail) == (OutcomeStatus.REFUSED, True)


def test_every_free_device_of_the_node_is_clean_before_a_plugin_may_choose_among_them(world: World) -> None:
    world.machines.prefer_last = True
    world.until_ready(start(CIVIL, "n1", "GPU-2"))
    world.execute(stop(CIVIL, "GPU-2"))
    world.step(3)
    (outcome,) = world.execute(start(DEFENCE, "n1", "GPU-1"))
    assert (outcome.status, "GPU-2" in outcome.detail) == (OutcomeStatus.ACCEPTED, True)
    assert world.pods(DEFENCE) == []
    world.step(2)
    assert [proof.device for proof in world.ledger.proofs()] == ["GPU-2"]


def test_the_devices_that_were_given_count_not_those_that_were_planned(world: World) -> None:
    world.machines.prefer_last = True
    planned = start(DEFENCE, "n1", "GPU-1")
    world.execute(planned)
    world.step()
    world.execute(planned)
    world.step(3)
    (worker,) = world.observe().workers
    assert (worker.devices, worker.id) == (("GPU-2",), worker_id(DEFENCE, worker.devices))
    holders = {record.device: record.worker for record in world.ledger.devices()}
    assert holders == {"GPU-1": None, "GPU-2": worker.id}


def test_a_device_is_held_from_when_a_pod_is_given_its_node_not_from_when_one_is_asked_for(world: World) -> None:
    world.execute(start(DEFENCE, "n1", "GPU-1"))
    world.settle()
    assert world.ledger.devices() == ()
    world.kuberay.step()
    world.execute(start(DEFENCE, "n1", "GPU-1"))
    assert world.ledger.devices()[0].worker is not None


def test_a_pod_that_never_ran_leaves_nothing_held(world: World) -> None:
    world.execute(start(DEFENCE, "n1", "GPU-1"))
    world.kuberay.step()
    world.execute(start(DEFENCE, "n1", "GPU-1"))
    (pod,) = world.pods(DEFENCE)
    world.api.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
    world.settle()
    assert world.ledger.devices()[0].worker is None


def test_two_domains_that_start_on_one_node_at_once_take_turns(world: World) -> None:
    both = (start(CIVIL, "n1", "GPU-1"), start(DEFENCE, "n1", "GPU-2"))
    world.until_ready(*both)
    assert {(worker.domain, worker.devices) for worker in world.observe().workers} == {
        (CIVIL, ("GPU-1",)),
        (DEFENCE, ("GPU-2",)),
    }
    assert world.ledger.proofs() == ()


def test_nothing_starts_beside_a_scrub_and_nothing_is_scrubbed_beside_a_start(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    world.execute(stop(CIVIL, "GPU-1"))
    world.step(3)
    beside = start(CIVIL, "n1", "GPU-2")
    world.execute(beside)
    world.kuberay.step()
    world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    (waits,) = world.execute(beside)
    assert "waits for GPU-1" in waits.detail
    world.step(2)
    assert [proof.passed for proof in world.ledger.proofs()] == [True]
    for _ in range(2):
        world.kuberay.step()
        world.execute(beside)
    (refused,) = world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    assert (refused.status, "node_starting" in refused.detail) == (OutcomeStatus.REFUSED, True)
    world.until_ready(start(CIVIL, "n1", "GPU-1"))


def test_a_request_is_taken_back_although_the_agent_writes_at_the_same_time(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    world.execute(stop(CIVIL, "GPU-1"))
    world.step(3)
    world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    world.machines.step()
    seen = world.api.list_all(NODE_DEVICES)[0]
    world.machines.step()
    collect(world.api, world.ledger, tuple(seen), world.fencing)
    assert world.ledger.devices()[0].scrub is ScrubState.CLEAN
    assert not (world.api.get(NODE_DEVICES, None, "n1").get("spec") or {}).get("scrubs")


def test_a_scrub_is_asked_for_again_when_its_leader_died_before_the_agent_heard_of_it(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    world.execute(stop(CIVIL, "GPU-1"))
    world.step(3)
    world.ledger.scrubbing(DeviceId("GPU-1"), world.fencing)
    world.fencing = 2
    world.settle()
    (asked,) = _requests(world)
    assert (asked["device"], asked["from"], asked["to"]) == ("GPU-1", "civil", "defence")
    stale = world.api.get(NODE_DEVICES, None, "n1")
    for _ in range(3):
        world.settle()
        collect(world.api, world.ledger, ({**stale, "spec": {}},), world.fencing)
    assert (
        world.api.get(NODE_DEVICES, None, "n1")["metadata"]["resourceVersion"] == stale["metadata"]["resourceVersion"]
    )
    world.step(2)
    assert [(proof.device, proof.passed) for proof in world.ledger.proofs()] == [("GPU-1", True)]
    assert _requests(world) == []
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))


def test_a_scrub_that_nobody_was_asked_for_waits_while_a_pod_of_others_has_the_device(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    world.execute(stop(CIVIL, "GPU-1"))
    world.step(3)
    world.ledger.scrubbing(DeviceId("GPU-1"), world.fencing)
    world.machines.given["GPU-1"] = "elsewhere/by-hand"
    world.machines.step()
    world.settle()
    assert _requests(world) == []


def _requests(world: World) -> list[dict]:
    return (world.api.get(NODE_DEVICES, None, "n1").get("spec") or {}).get("scrubs") or []


def test_a_spare_that_nobody_needs_goes_by_name(world: World) -> None:
    world.execute(start(DEFENCE, "n1", "GPU-1"))
    world.kuberay.step()
    assert len(world.pods(DEFENCE)) == 1
    world.execute(stop(DEFENCE, "GPU-9"))
    world.step(2)
    assert (world.pods(DEFENCE), world.replicas(DEFENCE)["h100-1x"]) == ([], 0)
    assert world.kuberay.random_deletions == []


def test_a_gated_spare_is_no_worker_and_holds_nothing(world: World) -> None:
    world.execute(start(DEFENCE, "n1", "GPU-1"))
    world.step(2)
    assert len(world.pods(DEFENCE)) == 1
    assert world.observe().workers == ()
    assert world.machines.given == {}


def test_a_pool_without_a_fitting_worker_group_says_what_to_add(world: World) -> None:
    (refused,) = world.execute(start(DEFENCE, "n1", "GPU-1", "GPU-2", "GPU-3"))
    assert (refused.status, "devicesPerWorker" in refused.detail) == (OutcomeStatus.REFUSED, True)


def test_an_older_leader_is_refused_at_the_object_even_by_a_fresh_process(world: World) -> None:
    world.fencing = 5
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    stale = world.new_actuator()
    (refused,) = stale.execute(world.plan(stop(DEFENCE, "GPU-1"), fencing=4)).results
    assert (refused.status, "stale_generation" in refused.detail) == (OutcomeStatus.REFUSED, True)
    assert len(world.pods(DEFENCE)) == 1


def test_a_leader_that_slept_through_a_change_of_leadership_writes_nothing(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    sleeper, newer = world.new_actuator(), world.new_actuator()
    newer.execute(world.plan(stop(DEFENCE, "GPU-9"), start(DEFENCE, "n2", "GPU-3"), fencing=7))
    world.fencing = 7
    before = world.replicas(DEFENCE)
    (refused,) = sleeper.execute(world.plan(stop(DEFENCE, "GPU-1"), fencing=1)).results
    assert refused.status is OutcomeStatus.REFUSED
    assert world.replicas(DEFENCE) == before


def test_a_full_resync_gives_the_same_picture(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"), start(CIVIL, "n2", "GPU-4", "GPU-3"))
    first, second = world.observe(), world.observe()
    assert (first.nodes, first.devices, first.workers) == (second.nodes, second.devices, second.workers)


def test_a_pod_of_others_makes_its_devices_no_capacity(world: World) -> None:
    namespace = make_namespace(world.api, next(iter(world.namespaces.values())) + "-x")
    limits = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    spec = {"nodeSelector": {"kubernetes.io/hostname": "n1"}, "containers": [{"name": "c", "image": "x/y:1", **limits}]}
    world.api.create(PODS, namespace, {"metadata": {"name": "by-hand"}, "spec": spec})
    world.machines.step()
    seen = {device.id: device.health for device in world.observe().devices}
    assert seen == {
        "GPU-1": DeviceHealth.SUSPECT,
        "GPU-2": DeviceHealth.HEALTHY,
        "GPU-3": DeviceHealth.HEALTHY,
        "GPU-4": DeviceHealth.HEALTHY,
    }
    world.api._tried("DELETE", PODS.path(namespace, "by-hand"), {}, {"gracePeriodSeconds": 0})


def test_a_node_without_an_agent_is_a_gap_not_zero_devices(world: World) -> None:
    world.api.delete(NODE_DEVICES, None, "n2")
    seen = world.observe()
    assert [(gap.kind, gap.subject, gap.cause) for gap in seen.gaps] == [(GapKind.NODE, "n2", "no_agent_report")]


def test_a_cordoned_node_receives_nothing_and_keeps_what_it_has(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    world.api.merge(NODES, None, "n1", {"spec": {"unschedulable": True}})
    seen = world.observe()
    assert [(node.id, node.schedulable) for node in seen.nodes] == [("n1", False), ("n2", True)]
    assert [worker.state for worker in seen.workers] == [WorkerState.READY]


def test_f13_a_node_that_vanishes_keeps_its_workers_through_the_grace_then_loses_them(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    world.machines.down.add("n1")
    world.machines.ready("n1", status="Unknown")
    seen = world.observe()
    assert [(gap.kind, gap.subject) for gap in seen.gaps] == [(GapKind.NODE, "n1")]
    assert [worker.state for worker in seen.workers] == [WorkerState.READY]
    world.machines.ready("n1", status="Unknown", since="2021-01-01T00:00:00Z")
    assert [worker.state for worker in world.observe().workers] == [WorkerState.LOST]


def test_f13_nothing_of_a_vanished_node_is_given_to_anyone_and_its_zombies_are_stopped_on_return(world: World) -> None:
    world.until_ready(start(CIVIL, "n1", "GPU-1"))
    world.machines.down.add("n1")
    world.machines.ready("n1", status="Unknown")
    world.api._tried(
        "DELETE",
        PODS.path(world.namespaces[CIVIL], world.pods(CIVIL)[0]["metadata"]["name"]),
        {},
        {"gracePeriodSeconds": 0},
    )
    world.settle()
    assert world.ledger.devices()[0].worker is not None
    (refused,) = world.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    assert (refused.status, "device_held" in refused.detail) == (OutcomeStatus.REFUSED, True)
    world.machines.down.clear()
    world.machines.ready("n1", since="2020-01-01T00:00:00Z")
    world.machines.step()
    world.settle()
    assert world.ledger.devices()[0].worker is not None, "the agent still sees the pod's process on the device"
    world.machines.given.clear()
    world.step()
    assert world.ledger.devices()[0].worker is None


def test_f14_a_flapping_node_receives_nothing_until_it_has_been_well_for_a_while(world: World) -> None:
    for status in ("Unknown", "True", "Unknown", "True"):
        world.machines.ready("n1", status=status)
        assert [node.schedulable for node in world.observe().nodes] == [False, True]
    world.machines.ready("n1", since="2021-01-01T00:00:00Z")
    assert [node.schedulable for node in world.observe().nodes] == [True, True]


def test_f17_a_dead_head_is_a_gap_and_the_workers_are_neither_lost_nor_doubled(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    head = next(
        pod
        for pod in world.api.list_all(PODS)[0]
        if pod["metadata"]["namespace"] == world.namespaces[DEFENCE]
        and pod["metadata"]["labels"]["ray.io/node-type"] == "head"
    )
    world.api._tried(
        "DELETE", PODS.path(world.namespaces[DEFENCE], head["metadata"]["name"]), {}, {"gracePeriodSeconds": 0}
    )
    seen = world.observe()
    assert [(gap.kind, gap.subject, gap.cause) for gap in seen.gaps] == [(GapKind.CLUSTER, "defence", "ray_head_down")]
    world.step(2)
    seen = world.observe()
    assert seen.gaps == ()
    assert len(seen.workers) == len(world.pods(DEFENCE)) == 1


def test_a_suspended_service_is_a_gap_and_is_not_acted_on(world: World) -> None:
    world.api.merge(RAY_SERVICES, world.namespaces[CIVIL], "civil", {"spec": {"suspend": True}})
    assert [(gap.subject, gap.cause) for gap in world.observe().gaps] == [("civil", "rayservice_suspended")]
    world.api.merge(RAY_SERVICES, world.namespaces[CIVIL], "civil", {"status": {"activeServiceStatus": None}}, "status")
    (refused,) = world.execute(start(CIVIL, "n1", "GPU-1"))
    assert (refused.status, "no_active_cluster" in refused.detail) == (OutcomeStatus.REFUSED, True)


def test_another_writer_of_the_cluster_is_not_overwritten(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    (cluster,) = [
        c for c in world.api.list_all(RAY_CLUSTERS)[0] if c["metadata"]["namespace"] == world.namespaces[DEFENCE]
    ]
    where = (RAY_CLUSTERS, cluster["metadata"]["namespace"], cluster["metadata"]["name"])
    world.api.merge(*where, {"metadata": {"labels": {"team": "ops"}}})
    world.execute(stop(DEFENCE, "GPU-1"))
    now = world.api.get(*where)
    assert now["metadata"]["labels"]["team"] == "ops"
    assert now["spec"]["workerGroupSpecs"][0]["replicas"] == 0


def test_a_worker_whose_readiness_is_left_to_the_operator_is_never_ready(world: World) -> None:
    where = (RAY_CLUSTERS, world.namespaces[DEFENCE], "defence-abcde")
    cluster = world.api.get(*where)
    for group in cluster["spec"]["workerGroupSpecs"]:
        del group["template"]["spec"]["containers"][0]["readinessProbe"]
    world.api.replace(*where, cluster)
    with pytest.raises(AssertionError):
        world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    assert [worker.state for worker in world.observe().workers] == [WorkerState.STARTING]


def test_a_seed_for_the_next_cluster_asks_for_no_device(world: World) -> None:
    world.until_ready(start(DEFENCE, "n1", "GPU-1"))
    (service,) = [s for s in world.api.list_all(RAY_SERVICES)[0] if s["metadata"]["name"] == "defence"]
    assert {group["replicas"] for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]} == {0}
