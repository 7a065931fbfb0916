"""What the platform relies on a Kubernetes API server to do. The fake is held to it, and so is the real one."""

from __future__ import annotations

import json

import kubernetes
import pytest
import yaml

from cluster.kubernetes.api import Api, Selection
from cluster.kubernetes.kinds import CLAIMS, LEASES, PODS, RAY_CLUSTERS, Kind
from cluster.kubernetes.refusals import Absent, ApiRefusal, Exists, Expired, Invalid, Stale

from .conftest import Kubectl, Served

CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
DEFINITIONS = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> dict:
    return {"metadata": {"name": name, **({"labels": labels} if labels else {})}, "data": data}


def claim(name: str = "chat", **spec: object) -> dict:
    return {"metadata": {"name": name}, "spec": {"kind": "serving", "model": "small", **spec}}


def gated_pod(name: str) -> dict:
    spec = {
        "containers": [{"name": "c", "image": "registry/x:1"}],
        "schedulingGates": [{"name": "partage.lu/placement"}],
    }
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
def api(served: Served) -> Api:
    return served.api()


def test_a_second_object_of_the_same_name_is_refused(api: Api, namespace: str) -> None:
    api.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(Exists):
        api.create(CONFIG_MAPS, namespace, config_map("a"))


def test_nothing_is_created_in_a_namespace_that_is_not_there(api: Api) -> None:
    with pytest.raises(Absent):
        api.create(CONFIG_MAPS, "nowhere", config_map("a"))


def test_a_write_from_an_old_version_is_refused(api: Api, namespace: str) -> None:
    first = api.create(CONFIG_MAPS, namespace, config_map("a", x="1"))
    api.replace(CONFIG_MAPS, namespace, "a", {**first, "data": {"x": "2"}})
    with pytest.raises(Stale):
        api.replace(CONFIG_MAPS, namespace, "a", {**first, "data": {"x": "3"}})
    with pytest.raises(Stale):
        api.merge(CONFIG_MAPS, namespace, "a", {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}})
    assert api.get(CONFIG_MAPS, namespace, "a")["data"] == {"x": "2"}


def test_a_patch_whose_test_fails_changes_nothing(api: Api, namespace: str) -> None:
    made = api.create(CONFIG_MAPS, namespace, config_map("a", x="1"))
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": "1"}
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request"):
        api.patch(CONFIG_MAPS, namespace, "a", [test, {"op": "replace", "path": "/data/x", "value": "2"}])
    test["value"] = made["metadata"]["resourceVersion"]
    changed = api.patch(CONFIG_MAPS, namespace, "a", [test, {"op": "replace", "path": "/data/x", "value": "2"}])
    assert changed["data"] == {"x": "2"}


def test_null_in_a_merge_patch_removes_the_key(api: Api, namespace: str) -> None:
    api.create(CONFIG_MAPS, namespace, config_map("a", x="1", y="2"))
    assert api.merge(CONFIG_MAPS, namespace, "a", {"data": {"x": None}})["data"] == {"y": "2"}


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier=gold", ["a"]),
        ("tier!=gold", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier in (gold,silver)", ["a", "b"]),
        ("tier notin (gold),zone=1", ["b"]),
    ],
)
def test_labels_select(api: Api, namespace: str, selector: str, found: list[str]) -> None:
    api.create(CONFIG_MAPS, namespace, config_map("a", {"tier": "gold", "zone": "1"}))
    api.create(CONFIG_MAPS, namespace, config_map("b", {"tier": "silver", "zone": "1"}))
    api.create(CONFIG_MAPS, namespace, config_map("c", {"zone": "2"}))
    objects, _ = api.list_all(CONFIG_MAPS, Selection(namespace=namespace, labels=selector))
    assert [obj["metadata"]["name"] for obj in objects if obj["metadata"]["name"] != "kube-root-ca.crt"] == found


def test_pages_make_up_the_whole_list(served: Served, namespace: str) -> None:
    api = served.api()
    for number in range(7):
        api.create(CONFIG_MAPS, namespace, config_map(f"m{number}"))
    core = kubernetes.client.CoreV1Api(served.connection().client)
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert [name for name in names if name.startswith("m")] == [f"m{number}" for number in range(7)]


def test_spec_and_status_have_doors_of_their_own(api: Api, namespace: str) -> None:
    made = api.create(CLAIMS, namespace, {**claim(), "status": {"state": "served"}})
    assert "status" not in made
    made = api.merge(CLAIMS, namespace, "chat", {"status": {"state": "waiting"}, "spec": {"model": "big"}}, "status")
    assert made["status"] == {"state": "waiting"}
    assert made["spec"]["model"] == "small"
    made = api.merge(CLAIMS, namespace, "chat", {"status": {"state": "served"}, "spec": {"model": "big"}})
    assert (made["status"], made["spec"]["model"]) == ({"state": "waiting"}, "big")


def test_only_changes_of_the_spec_count_as_a_generation(api: Api, namespace: str) -> None:
    made = api.create(CLAIMS, namespace, claim())
    assert made["metadata"]["generation"] == 1
    assert api.merge(CLAIMS, namespace, "chat", {"status": {"state": "held"}}, "status")["metadata"]["generation"] == 1
    assert api.merge(CLAIMS, namespace, "chat", {"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert api.merge(CLAIMS, namespace, "chat", {"spec": {"suspended": True}})["metadata"]["generation"] == 2


def test_a_write_that_changes_nothing_makes_no_version(api: Api, namespace: str) -> None:
    made = api.create(CONFIG_MAPS, namespace, config_map("a", x="1"))
    again = api.merge(CONFIG_MAPS, namespace, "a", {"data": {"x": "1"}})
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_apply_owns_what_it_applied_and_removes_what_it_no_longer_names(api: Api, namespace: str) -> None:
    api.apply(CONFIG_MAPS, namespace, config_map("a", x="1", y="2"))
    api.merge(CONFIG_MAPS, namespace, "a", {"data": {"z": "3"}})
    now = api.apply(CONFIG_MAPS, namespace, config_map("a", x="1"))
    assert now["data"] == {"x": "1", "z": "3"}
    managers = {(entry["manager"], entry["operation"]) for entry in now["metadata"]["managedFields"]}
    assert ("partage", "Apply") in managers


def test_apply_over_another_managers_field_is_a_conflict_unless_forced(
    served: Served, kubectl: Kubectl, namespace: str
) -> None:
    served.api().apply(CONFIG_MAPS, namespace, config_map("a", x="1"))
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a", x="2")}
    arguments = ("-n", namespace, "apply", "--server-side", "-f", "-")
    refused = kubectl(*arguments, stdin=json.dumps(theirs))
    assert refused.returncode != 0
    assert 'conflict with "partage"' in refused.stderr
    assert kubectl(*arguments, "--force-conflicts", stdin=json.dumps(theirs)).returncode == 0
    assert served.api().get(CONFIG_MAPS, namespace, "a")["data"] == {"x": "2"}


def test_apply_from_an_old_version_is_refused(api: Api, namespace: str) -> None:
    made = api.apply(CONFIG_MAPS, namespace, config_map("a", x="1"))
    api.merge(CONFIG_MAPS, namespace, "a", {"data": {"y": "2"}})
    body = config_map("a", x="3")
    body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with pytest.raises(Stale):
        api.apply(CONFIG_MAPS, namespace, body)


def test_a_watch_tells_what_came_after_the_list_and_no_more(api: Api, namespace: str) -> None:
    api.create(CONFIG_MAPS, namespace, config_map("before"))
    _, version = api.list_all(CONFIG_MAPS, Selection(namespace=namespace))
    api.create(CONFIG_MAPS, namespace, config_map("a", {"keep": "yes"}))
    api.merge(CONFIG_MAPS, namespace, "a", {"data": {"x": "1"}})
    api.delete(CONFIG_MAPS, namespace, "a")
    events = [
        (event["type"], event["object"]["metadata"]["name"])
        for event in api.watch(CONFIG_MAPS, Selection(namespace=namespace), version, 2)
        if event["type"] != "BOOKMARK"
    ]
    assert events == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_an_object_that_leaves_the_selection_is_told_as_deleted(api: Api, namespace: str) -> None:
    chosen = Selection(namespace=namespace, labels="keep=yes")
    api.create(CONFIG_MAPS, namespace, config_map("a", {"keep": "yes"}))
    _, version = api.list_all(CONFIG_MAPS, chosen)
    api.merge(CONFIG_MAPS, namespace, "a", {"metadata": {"labels": {"keep": "no"}}})
    events = [event["type"] for event in api.watch(CONFIG_MAPS, chosen, version, 2) if event["type"] != "BOOKMARK"]
    assert events == ["DELETED"]


def test_a_finalizer_holds_the_object_until_it_is_taken_off(api: Api, namespace: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["partage.lu/test"]
    api.create(CONFIG_MAPS, namespace, body)
    api.delete(CONFIG_MAPS, namespace, "a")
    assert api.get(CONFIG_MAPS, namespace, "a")["metadata"]["deletionTimestamp"]
    api.merge(CONFIG_MAPS, namespace, "a", {"metadata": {"finalizers": None}})
    with pytest.raises(Absent):
        api.get(CONFIG_MAPS, namespace, "a")


def test_a_gated_pod_takes_a_node_choice_once_and_no_more(api: Api, namespace: str) -> None:
    api.create(PODS, namespace, gated_pod("p"))
    choose = [
        {"op": "add", "path": "/spec/nodeSelector", "value": {"kubernetes.io/hostname": "n1"}},
        {"op": "remove", "path": "/spec/schedulingGates/0"},
    ]
    chosen = api.patch(PODS, namespace, "p", choose)
    assert chosen["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "n1"}
    assert not chosen["spec"].get("schedulingGates")
    with pytest.raises(Invalid):
        api.patch(PODS, namespace, "p", [choose[0], {"op": "add", "path": "/spec/nodeSelector/x", "value": "y"}])


def test_a_pod_on_a_node_ends_only_when_its_kubelet_says_so(api: Api, namespace: str) -> None:
    api.create(PODS, namespace, {"metadata": {"name": "p"}, "spec": {**gated_pod("p")["spec"], "schedulingGates": []}})
    binding = Kind("", "v1", "pods", "Binding")
    api._tried(
        "POST",
        binding.path(namespace, "p", "binding"),
        {},
        {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}},
    )
    api.delete(PODS, namespace, "p")
    assert api.get(PODS, namespace, "p")["metadata"]["deletionTimestamp"]
    api._tried("DELETE", PODS.path(namespace, "p"), {}, {"gracePeriodSeconds": 0})
    with pytest.raises(Absent):
        api.get(PODS, namespace, "p")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"kind": "job", "model": None}, "at least one shape"),
        ({"model": None}, "names a model"),
        ({"replicas": {"min": 3, "max": 2}}, "min is at most max"),
        ({"replicas": {"min": 1, "max": 2, "desired": 3}}, "between min and max"),
        ({"deadline": "2026-12-01T00:00:00Z"}, "only jobs have a deadline"),
        ({"ladder": [{"gpuMillis": 500, "devices": 2}]}, "exactly one device"),
        ({"kind": "magic"}, "kind"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused_with_the_reason(
    api: Api, namespace: str, spec: dict, says: str
) -> None:
    body = claim(**spec)
    body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
    with pytest.raises(Invalid, match=says):
        api.create(CLAIMS, namespace, body)


def test_a_claim_gets_its_defaults_and_keeps_its_kind(api: Api, namespace: str) -> None:
    made = api.create(CLAIMS, namespace, claim())
    assert made["spec"]["replicas"] == {"min": 1, "max": 1}
    assert made["spec"]["priorityClass"] == "standard"
    with pytest.raises(Invalid, match="kind is fixed"):
        api.merge(CLAIMS, namespace, "chat", {"spec": {"kind": "job", "model": None, "ladder": [{}]}})


def test_kubectl_applies_prints_and_deletes_a_claim(kubectl: Kubectl, served: Served, namespace: str) -> None:
    text = yaml.safe_dump({"apiVersion": "partage.lu/v1alpha1", "kind": "Claim", **claim()})
    created = kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
    assert created.stdout.strip() == "claim.partage.lu/chat created", created.stderr
    served.api().merge(
        CLAIMS,
        namespace,
        "chat",
        {"status": {"state": "waiting", "reason": "WAITING_FOR_QUOTA", "grantedReplicas": 0, "wantedReplicas": 1}},
        "status",
    )
    header, line = kubectl("-n", namespace, "get", "claims").stdout.splitlines()
    assert header.split() == ["NAME", "KIND", "MODEL", "STATE", "GRANTED", "WANTED", "REASON", "ETA", "AGE"]
    assert line.split()[:7] == ["chat", "serving", "small", "waiting", "0", "1", "WAITING_FOR_QUOTA"]
    unknown = kubectl(
        "-n", namespace, "apply", "-f", "-", stdin=text.replace("model: small", "model: small\n  colour: red")
    )
    assert 'unknown field "spec.colour"' in unknown.stderr
    assert "deleted" in kubectl("-n", namespace, "delete", "claim", "chat").stdout


def test_the_official_client_reads_and_writes_a_lease(served: Served, namespace: str) -> None:
    leases = kubernetes.client.CoordinationV1Api(served.connection().client)
    spec = kubernetes.client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15, lease_transitions=1)
    body = kubernetes.client.V1Lease(metadata=kubernetes.client.V1ObjectMeta(name="l"), spec=spec)
    made = leases.create_namespaced_lease(namespace, body)
    made.spec.holder_identity = "b"
    leases.replace_namespaced_lease("l", namespace, made)
    with pytest.raises(kubernetes.client.exceptions.ApiException) as refused:
        leases.replace_namespaced_lease("l", namespace, made)
    assert refused.value.status == 409
    assert served.api().get(LEASES, namespace, "l")["spec"]["holderIdentity"] == "b"


def test_a_definition_whose_default_breaks_its_own_rule_is_refused(api: Api) -> None:
    pair = {
        "type": "object",
        "default": {},
        "properties": {"min": {"type": "integer", "default": 1}, "max": {"type": "integer", "default": 1}},
        "x-kubernetes-validations": [{"rule": "self.min <= self.max"}],
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": pair}}}}
    names = {"plural": "pairs", "singular": "pair", "kind": "Pair", "listKind": "PairList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": "tests.partage.lu", "scope": "Namespaced", "names": names, "versions": [version]}
    with pytest.raises(Invalid, match="default"):
        api.create(DEFINITIONS, None, {"metadata": {"name": "pairs.tests.partage.lu"}, "spec": spec})


def test_a_name_is_made_from_its_beginning(api: Api, namespace: str) -> None:
    body = {"metadata": {"generateName": "a-"}, "data": {}}
    made = {api.create(CONFIG_MAPS, namespace, body)["metadata"]["name"] for _ in range(3)}
    assert len(made) == 3
    assert all(name.startswith("a-") and len(name) == len("a-") + 5 for name in made)


def test_an_object_is_deleted_only_if_it_still_is_the_one_that_was_meant(api: Api, namespace: str) -> None:
    first = api.create(CONFIG_MAPS, namespace, config_map("a"))
    api.delete(CONFIG_MAPS, namespace, "a")
    api.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(Stale):
        api.delete(CONFIG_MAPS, namespace, "a", first["metadata"]["uid"])
    assert api.get(CONFIG_MAPS, namespace, "a")


def test_nothing_is_added_to_an_object_that_is_being_deleted_but_its_finalizers_go(api: Api, namespace: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["partage.lu/one"]
    api.create(CONFIG_MAPS, namespace, body)
    api.delete(CONFIG_MAPS, namespace, "a")
    with pytest.raises(Invalid):
        api.merge(CONFIG_MAPS, namespace, "a", {"metadata": {"finalizers": ["partage.lu/one", "partage.lu/two"]}})
    api.merge(CONFIG_MAPS, namespace, "a", {"metadata": {"finalizers": []}})
    with pytest.raises(Absent):
        api.get(CONFIG_MAPS, namespace, "a")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.name!=a", ["b"]),
        ("status.phase=Pending", ["a", "b"]),
        ("spec.nodeName=", ["a", "b"]),
    ],
)
def test_fields_select_pods(api: Api, namespace: str, selector: str, found: list[str]) -> None:
    for name in ("a", "b"):
        api.create(PODS, namespace, gated_pod(name))
    objects, _ = api.list_all(PODS, Selection(namespace=namespace, fields=selector))
    assert [obj["metadata"]["name"] for obj in objects] == found


def test_a_field_that_cannot_select_is_refused(api: Api, namespace: str) -> None:
    with pytest.raises(ApiRefusal, match=r"field label not supported: spec\.priority"):
        api.list_all(PODS, Selection(namespace=namespace, fields="spec.priority=1"))


def test_unknown_fields_of_a_claim_are_dropped(api: Api, namespace: str) -> None:
    made = api.create(CLAIMS, namespace, claim(colour="red"))
    assert "colour" not in made["spec"]


def test_a_status_is_applied_through_its_own_door_and_leaves_the_spec(api: Api, namespace: str) -> None:
    api.create(CLAIMS, namespace, claim())
    made = api.apply(CLAIMS, namespace, {"metadata": {"name": "chat"}, "status": {"state": "served"}}, "status")
    assert (made["status"]["state"], made["spec"]["model"]) == ("served", "small")
    managers = {(e["manager"], e["operation"], e.get("subresource", "")) for e in made["metadata"]["managedFields"]}
    assert ("partage", "Apply", "status") in managers


def test_bookmarks_come_while_nothing_happens(api: Api, namespace: str) -> None:
    _, version = api.list_all(CONFIG_MAPS, Selection(namespace=namespace))
    events = list(api.watch(CONFIG_MAPS, Selection(namespace=namespace), version, 4))
    assert {event["type"] for event in events} <= {"BOOKMARK"}


def test_a_ray_cluster_takes_replicas_and_victims(api: Api, namespace: str) -> None:
    template = {"spec": {"containers": [{"name": "ray", "image": "registry/ray:1"}]}}
    group = {"groupName": "g", "replicas": 0, "minReplicas": 0, "maxReplicas": 9, "template": template}
    spec = {"headGroupSpec": {"template": template, "rayStartParams": {}}, "workerGroupSpecs": [group]}
    api.create(RAY_CLUSTERS, namespace, {"metadata": {"name": "r"}, "spec": spec})
    operations = [
        {"op": "add", "path": "/spec/workerGroupSpecs/0/replicas", "value": 2},
        {"op": "add", "path": "/spec/workerGroupSpecs/0/scaleStrategy", "value": {"workersToDelete": ["p"]}},
    ]
    seen = api.patch(RAY_CLUSTERS, namespace, "r", operations)["spec"]["workerGroupSpecs"][0]
    assert (seen["replicas"], seen["scaleStrategy"]) == (2, {"workersToDelete": ["p"]})


def test_a_version_that_is_forgotten_is_said_to_be(fake: Served) -> None:
    api = fake.api()
    api.create(CONFIG_MAPS, "default", config_map("a"))
    fake.fake.store.compact()
    with pytest.raises(Expired):
        list(api.watch(CONFIG_MAPS, Selection(namespace="default"), "1", 2))
