"""The small parts: who stays and who goes in a worker group, quantities, DRA slices, contention."""

from __future__ import annotations

from random import Random  # noqa: TID251 - seeded

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.actuate.kubernetes import staffing
from cluster.actuate.kubernetes.refusals import Contended
from cluster.actuate.kubernetes.writes import change
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.kinds import GATE, WORKER, Kind
from cluster.kubernetes.refusals import Invalid
from cluster.kubernetes.resources import claim_of
from cluster.observe.kubernetes import clusters, devices, nodes
from cluster.observe.kubernetes.quantities import epoch_ms, mebibytes, millis
from cluster.refusals import StaleGeneration
from cluster.sim.clock import VirtualClock
from policies.model.inventory import DeviceHealth
from policies.model.units import SecurityDomain
from tests.contract.apiserver.server import FakeApiServer

GROUP = "h100-1x"
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")


def pod(name: str, kind: str) -> dict:
    meta = {"name": name, "labels": {"ray.io/group": GROUP}, "annotations": {}}
    spec: dict = {}
    if kind == "spare":
        spec["schedulingGates"] = [{"name": GATE}]
    else:
        meta["annotations"] = {WORKER: f"civil-{name}"}
    if kind == "ending":
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta, "spec": spec, "status": {"phase": "Failed" if kind == "failed" else "Running"}}


kinds = st.sampled_from(["busy", "spare", "ending", "failed"])


@given(st.lists(kinds, max_size=8), st.sets(st.integers(0, 9)), st.integers(0, 4), st.integers(0, 2))
def test_the_operator_is_never_left_to_choose(shape: list[str], chosen: set[int], unmet: int, kept: int) -> None:
    """KubeRay deletes what is named, then makes or deletes pods until ``replicas`` are there: it must find them so."""
    pods = tuple(pod(f"p{n}", kind) for n, kind in enumerate(shape))
    team = staffing.staff(pods, GROUP)
    wanted = staffing.target(team, frozenset(f"p{n}" for n in chosen), unmet, kept)
    staying = [each for each in (*team.busy, *team.spare) if each["metadata"]["name"] not in wanted.leaving]
    assert len(staying) <= wanted.replicas
    busy = {each["metadata"]["name"] for each in team.busy}
    assert busy - {f"p{n}" for n in chosen} == busy - set(wanted.leaving), "only victims lose their place"
    spares = [each for each in staying if staffing.is_gated(each)]
    assert wanted.replicas - len([s for s in staying if not staffing.is_gated(s)]) >= max(unmet, min(kept, len(spares)))


def test_groups_that_have_their_size_are_not_written() -> None:
    cluster = {
        "spec": {"workerGroupSpecs": [{"groupName": GROUP, "replicas": 2, "scaleStrategy": {"workersToDelete": []}}]}
    }
    assert staffing.edits(cluster, {GROUP: staffing.Target(replicas=2, leaving=())}) == []
    assert staffing.edits(cluster, {}) == []


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("2", 2000), ("1500m", 1500), ("0.5", 500), (4, 4000), ("1k", 1_000_000), ("1e3", 1_000_000)],
)
def test_quantities_are_whole_numbers_of_thousandths(text: str | int, thousandths: int) -> None:
    assert millis(text) == thousandths


@pytest.mark.parametrize(("text", "amount"), [("2Gi", 2048), ("2113411308Ki", 2063878), ("1G", 953), ("0", 0)])
def test_memory_is_rounded_down_to_mebibytes(text: str, amount: int) -> None:
    assert mebibytes(text) == amount


def test_times_are_milliseconds_and_no_time_is_zero() -> None:
    assert epoch_ms("1970-01-01T00:00:01Z") == 1000
    assert epoch_ms("") == 0


NODE = {"metadata": {"name": "n1"}, "status": {"capacity": {"nvidia.com/gpu": "2"}}}


def slice_of(generation: int, *uuids: str, taints: list | None = None) -> dict:
    listed = [
        {
            "name": f"gpu-{n}",
            "attributes": {"uuid": {"string": uuid}, "productName": {"string": "NVIDIA H100 80GB HBM3"}},
            "capacity": {"memory": {"value": "81559Mi"}},
            **({"taints": taints} if taints else {}),
        }
        for n, uuid in enumerate(uuids)
    ]
    spec = {"driver": "gpu.nvidia.com", "nodeName": "n1", "pool": {"name": "n1", "generation": generation}}
    return {"metadata": {"name": f"s{generation}"}, "spec": {**spec, "devices": listed}}


def test_devices_are_known_from_dra_where_no_agent_speaks_and_only_of_the_newest_generation() -> None:
    seen = devices.in_nouns((), (slice_of(1, "GPU-old"), slice_of(2, "GPU-1", "GPU-2")), (NODE,), 1000, 5000)
    assert [(device.id, device.memory_mib, device.flavor) for device in seen.devices] == [
        ("GPU-1", 81559, "H100-80GB"),
        ("GPU-2", 81559, "H100-80GB"),
    ]


def test_a_device_that_dra_taints_is_no_capacity() -> None:
    taints = [{"key": "gpu.nvidia.com/unhealthy", "effect": "NoExecute"}]
    seen = devices.in_nouns((), (slice_of(1, "GPU-1", taints=taints),), (NODE,), 1000, 5000)
    assert seen.devices[0].health is DeviceHealth.SUSPECT


def test_the_island_that_the_agent_reports_is_the_devices_own() -> None:
    fact = {"model": "NVIDIA H100 80GB HBM3", "memoryMiB": 81000}
    status = {
        "observedAtMs": 1000,
        "devices": [{**fact, "uuid": "GPU-1", "island": "GPU-1"}, {**fact, "uuid": "GPU-2"}],
    }
    seen = devices.in_nouns(({"metadata": {"name": "n1"}, "status": status},), (), (NODE,), 60_000, 2_000)
    assert [device.island for device in seen.devices] == ["GPU-1", ""]


def test_an_old_report_is_a_gap_for_each_device_and_none_is_forgotten() -> None:
    fact = {"uuid": "GPU-1", "model": "NVIDIA H100 80GB HBM3", "memoryMiB": 81000}
    report = {"metadata": {"name": "n1"}, "status": {"observedAtMs": 1000, "devices": [fact]}}
    seen = devices.in_nouns((report,), (), (NODE,), 60_000, 100_000)
    assert [(gap.subject, gap.cause, gap.since_ms) for gap in seen.gaps] == [("GPU-1", "stale", 1000)]
    assert [device.id for device in seen.devices] == ["GPU-1"]


def test_f08_a_node_whose_gpus_are_divided_anew_is_a_gap() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    meta = {"name": "n1", "labels": {"nvidia.com/mig.config.state": "pending"}}
    _, gaps = nodes.in_nouns(({"metadata": meta, "status": {"conditions": [ready]}},), nodes.NodeRules(), 10**13)
    assert [(gap.subject, gap.cause) for gap in gaps] == [("n1", "mig_changing")]


@pytest.mark.parametrize(
    ("taint", "open_"),
    [
        ({"key": "partage.lu/pool", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "effect": "NoSchedule"}, True),
        ({"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}, False),
        ({"key": "maintenance", "effect": "PreferNoSchedule"}, True),
    ],
)
def test_taints_that_are_not_ours_close_a_node(taint: dict, open_: bool) -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    obj = {"metadata": {"name": "n1"}, "spec": {"taints": [taint]}, "status": {"conditions": [ready]}}
    (node,), _ = nodes.in_nouns((obj,), nodes.NodeRules(), 10**13)
    assert node.schedulable is open_


@pytest.mark.parametrize(
    ("labels", "rack"),
    [
        ({"partage.lu/rack": "a1", "topology.kubernetes.io/rack": "b1"}, "a1"),
        ({"topology.kubernetes.io/rack": "b1"}, "b1"),
        ({"network.topology.nvidia.com/leaf": "leaf-7"}, "leaf-7"),
        ({"fabric.topograph.run/tier-0": "leaf-8"}, "leaf-8"),
        ({"topology.kubernetes.io/zone": "z1"}, ""),
    ],
)
def test_a_node_is_in_the_rack_that_its_labels_name(labels: dict, rack: str) -> None:
    (node,), _ = nodes.in_nouns(({"metadata": {"name": "n1", "labels": labels}},), nodes.NodeRules(), 10**13)
    assert node.rack == rack


def test_an_upgrade_of_the_rayservice_holds_the_domain() -> None:
    upgrading = {"type": "UpgradeInProgress", "status": "True", "lastTransitionTime": "1970-01-01T00:00:05Z"}
    service = {"metadata": {"name": "civil"}, "spec": {}, "status": {"conditions": [upgrading]}}
    cluster = {"metadata": {"name": "civil-abc"}}
    gap = clusters.gap(SecurityDomain.CIVIL, service, cluster, ())
    assert gap is not None
    assert (gap.subject, gap.cause, gap.since_ms) == ("civil", "rayservice_upgrading", 5000)


@pytest.fixture
def api():
    server = FakeApiServer()
    api = Api(Connection.to(server.url), VirtualClock(), Random(1))  # noqa: S311 - jitter
    api.server = server
    yield api
    server.close()


def _edit(_: dict) -> list[dict]:
    return [{"op": "add", "path": "/data", "value": {"x": "ours"}}]


def test_f15_a_write_over_a_change_reads_again_and_keeps_both(api: Api) -> None:
    read = api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})
    api.merge(CONFIG_MAPS, "default", "a", {"metadata": {"labels": {"theirs": "yes"}}})
    now = change(api, CONFIG_MAPS, read, 3, _edit)
    assert (now["data"], now["metadata"]["labels"]) == ({"x": "ours"}, {"theirs": "yes"})
    assert now["metadata"]["annotations"] == {"partage.lu/fencing-generation": "3"}


def test_f15_a_patch_that_is_refused_for_what_it_asks_is_not_tried_again(api: Api) -> None:
    read = api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})
    api.server.requests.clear()
    with pytest.raises(Invalid):
        change(api, CONFIG_MAPS, read, 3, lambda _: [{"op": "remove", "path": "/data/x"}])
    assert [request.verb for request in api.server.requests] == ["patch", "get"]


def test_f15_an_object_that_changes_under_every_write_is_left_to_the_next_turn(api: Api) -> None:
    read = api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})
    body = b'{"kind":"Status","status":"Failure","reason":"Conflict","message":"modified","code":409}'
    api.server.fail("PATCH", "/configmaps/a", times=9, status=409, body=body)
    with pytest.raises(Contended, match="the next turn decides again"):
        change(api, CONFIG_MAPS, read, 3, _edit)


def test_f24_a_leadership_that_ended_between_read_and_write_writes_nothing(api: Api) -> None:
    read = api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})
    change(api, CONFIG_MAPS, read, 9, _edit)
    with pytest.raises(StaleGeneration):
        change(api, CONFIG_MAPS, read, 3, lambda _: [{"op": "add", "path": "/data", "value": {"x": "stale"}}])
    assert api.get(CONFIG_MAPS, "default", "a")["data"] == {"x": "ours"}


def test_a_claim_resource_says_when_it_is_over() -> None:
    spec = {"kind": "serving", "model": "m", "expires": "2026-11-27T18:00:00Z"}
    made = claim_of("civil/justice", "fair", spec, "2026-11-23T00:00:00Z")
    assert made.expires_at_ms == epoch_ms("2026-11-27T18:00:00Z")
    assert claim_of("civil/justice", "fair", {"kind": "serving"}, "2026-11-23T00:00:00Z").expires_at_ms is None
