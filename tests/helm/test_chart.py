"""The chart: every value described, every manifest valid, and nothing in it that a security officer would refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cluster.dashboards.chart import write_files
from cluster.embedded.nodes import HEAD_ROLE, ROLE_LABEL
from cluster.kubernetes.adapters import RECORDS, gateway_arguments, gateway_url
from cluster.serve_apps import gateway_app
from policies.model.routing import RoutingTable
from policies.model.units import SecurityDomain
from tests.contract.apiserver import schema as crd_schema
from tests.contract.apiserver.kinds import resources_of_crd
from tests.contract.kubernetes.conftest import crds, monitoring_crds
from tests.helm import accept
from tests.helm.chart import CHART, MATRIX, name_of, of_kind, pods, refused, rendered, schema, values
from tests.kubernetes_tools import run, tool

KUBERNETES = ("1.32", "1.35")
VALID: set[tuple[str, str]] = set()
"""Manifests found valid: most are the same in every case, and checking one takes a while."""
every_case = pytest.mark.parametrize("case", MATRIX)


def test_helm_finds_nothing_to_complain_about() -> None:
    done = run(tool("helm"), "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("case", "version"), [(case, KUBERNETES[-1]) for case in MATRIX] + [("default", version) for version in KUBERNETES]
)
def test_every_manifest_is_valid(case: str, version: str) -> None:
    custom = {crd["spec"]["names"]["kind"] for crd in crds() + monitoring_crds()}
    for obj in rendered(case):
        content = (version, json.dumps(obj, sort_keys=True))
        if obj["kind"] not in custom and content not in VALID:
            kubernetes_validate.validate(obj, version, strict=True)
            VALID.add(content)


@every_case
def test_every_custom_resource_fits_its_definition(case: str) -> None:
    known = {(r.api_version, r.kind): r for crd in crds() + monitoring_crds() for r in resources_of_crd(crd)}
    found = [obj for obj in rendered(case) if (obj["apiVersion"], obj["kind"]) in known]
    assert found
    for obj in found:
        crd_schema.admit(known[obj["apiVersion"], obj["kind"]], obj, None, strict=True)


@pytest.mark.parametrize("crd", crds()[:3], ids=lambda crd: crd["metadata"]["name"])
def test_our_definitions_are_valid_and_describe_what_a_person_writes(crd: dict) -> None:
    kubernetes_validate.validate(crd, "1.35", strict=True)
    (version,) = crd["spec"]["versions"]
    assert version["additionalPrinterColumns"]
    assert "status" in version["subresources"]


@every_case
def test_pods_are_restricted_but_for_the_agent(case: str) -> None:
    for name, spec in pods(rendered(case)):
        faults = restricted(spec)
        if name.startswith("DaemonSet"):
            assert set(faults) <= {"hostPID", "hostPath", "root"}, (name, faults)
        else:
            assert faults == [], (name, faults)


def restricted(spec: dict[str, Any]) -> list[str]:
    """Return what the Pod Security Standard `restricted` forbids in the pod; our own rule adds a read-only root."""
    pod = spec.get("securityContext") or {}
    faults = [name for name in ("hostPID", "hostIPC", "hostNetwork") if spec.get(name)]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in spec.get("volumes", ()):
        faults += [kind for kind in volume if kind not in allowed | {"name"}]
    for container in spec["containers"] + spec.get("initContainers", []):
        own = container.get("securityContext") or {}
        if own.get("runAsUser", pod.get("runAsUser")) == 0 or not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            faults.append("root")
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            faults.append("escalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            faults.append("capabilities")
        if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
            faults.append("seccomp")
        if own.get("readOnlyRootFilesystem") is not True:
            faults.append("writable root")
        faults += ["hostPort" for port in container.get("ports", ()) if port.get("hostPort")]
    return faults


@every_case
def test_images_come_from_one_prefix_with_a_fixed_version(case: str) -> None:
    for name, spec in pods(rendered(case)):
        for container in spec["containers"]:
            image = container["image"]
            assert image.startswith("registry.partage.internal/"), (name, image)
            assert re.search(r"(@sha256:[0-9a-f]{64}|:\d+\.\d+\.\d+)$", image), (name, image)


@every_case
def test_every_container_says_what_it_needs_and_no_more(case: str) -> None:
    for name, spec in pods(rendered(case)):
        for container in spec["containers"]:
            for bound in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][bound]), (name, bound)


@every_case
def test_no_rule_has_a_wildcard_and_none_reads_secrets(case: str) -> None:
    for role in of_kind(rendered(case), "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], name_of(role)
            assert not {"secrets", "pods/exec", "pods/attach", "serviceaccounts/token"} & set(rule["resources"])
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


@every_case
def test_nothing_points_outside_the_site(case: str) -> None:
    inside = re.compile(r"\.(internal|svc)([:/]|$)|^[a-z0-9.-]+\.svc\b")
    for obj in rendered(case):
        if obj["kind"] == "ConfigMap" and obj["metadata"]["name"].startswith("partage-dashboard"):
            continue
        for address in re.findall(r"https?://([^\s\"'/]+)", str(obj)):
            assert inside.search(address), (name_of(obj), address)


def test_dashboards_load_nothing_from_outside_the_site() -> None:
    for obj in of_kind(rendered("air gap"), "ConfigMap"):
        addresses = re.findall(r"https?://[^\s\"'\\]+", str(obj.get("data")))
        assert [address for address in addresses if ".internal" not in address] == [], name_of(obj)


@every_case
def test_what_must_be_mounted_is_a_volume_and_what_is_a_volume_is_mounted(case: str) -> None:
    for name, spec in pods(rendered(case)):
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", ())}
        assert volumes == mounted, name


@every_case
def test_only_pods_that_speak_to_the_api_server_get_a_token(case: str) -> None:
    with_token = {name for name, spec in pods(rendered(case)) if spec.get("automountServiceAccountToken") is not False}
    assert with_token <= {"Deployment partage/partage-control-plane", "DaemonSet partage-agent/partage-agent"}


def test_each_domain_has_its_own_namespace_and_rayservice_and_asks_for_no_device() -> None:
    services = of_kind(rendered("default"), "RayService")
    assert [(s["metadata"]["namespace"], s["metadata"]["name"]) for s in services] == [
        ("partage-civil", "civil"),
        ("partage-defence", "defence"),
    ]
    for service in services:
        assert service["spec"]["upgradeStrategy"] == {"type": "None"}
        config = service["spec"]["rayClusterConfig"]
        assert config["enableInTreeAutoscaling"] is False
        assert config["authOptions"] == {"mode": "token", "secretName": "partage-domain"}
        for group in config["workerGroupSpecs"]:
            assert (group["replicas"], group["minReplicas"]) == (0, 0)
            assert group["template"]["spec"]["schedulingGates"] == [{"name": "partage.lu/placement"}]


def test_the_gateway_that_a_domain_starts_with_is_the_one_that_the_platform_writes() -> None:
    for service in of_kind(rendered("default"), "RayService"):
        domain = SecurityDomain(service["metadata"]["name"])
        written = gateway_app(
            RoutingTable(generation=0, domain=domain), gateway_arguments(domain), {ROLE_LABEL: HEAD_ROLE}
        )
        seed = yaml.safe_load(service["spec"]["serveConfigV2"])
        assert seed["applications"] == [written]
        assert (seed["proxy_location"], seed["http_options"]) == ("Disabled", {"host": "0.0.0.0", "port": 8000})  # noqa: S104 - in the pod
        assert service["spec"]["rayClusterConfig"]["headGroupSpec"]["labels"] == {ROLE_LABEL: HEAD_ROLE}


@pytest.mark.parametrize(
    ("case", "volume"),
    [
        ("default", {"emptyDir": {"sizeLimit": "10Gi"}}),
        ("everything named", {"persistentVolumeClaim": {"claimName": "partage-records"}}),
    ],
)
def test_usage_files_and_batches_of_a_domain_are_on_a_volume_of_its_own_head(case: str, volume: dict) -> None:
    heads = {name: spec for name, spec in pods(rendered(case)) if name.endswith("/civil head")}
    (spec,) = heads.values()
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == RECORDS]
    assert not mount.get("readOnly")
    (found,) = [dict(v) for v in spec["volumes"] if v["name"] == mount["name"]]
    assert found == {"name": mount["name"], **volume}
    for argument in ("ledger_dir", "batch_dir"):
        assert gateway_arguments(SecurityDomain.CIVIL)[argument].startswith(f"{RECORDS}/")


def test_records_outlive_their_head_where_a_volume_is_asked_for() -> None:
    assert of_kind(rendered("default"), "PersistentVolumeClaim") == []
    (volume,) = of_kind(rendered("everything named"), "PersistentVolumeClaim")
    assert name_of(volume) == "PersistentVolumeClaim partage-civil/partage-records"
    assert volume["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert (volume["spec"]["storageClassName"], volume["spec"]["accessModes"]) == ("fast", ["ReadWriteOnce"])
    assert volume["spec"]["resources"] == {"requests": {"storage": "50Gi"}}


def test_a_worker_is_ready_without_a_proxy_and_only_the_head_is_behind_the_gateways_service() -> None:
    objects = rendered("default")
    for service in of_kind(objects, "RayService"):
        config = service["spec"]["rayClusterConfig"]
        for group in config["workerGroupSpecs"]:
            probe = group["template"]["spec"]["containers"][0]["readinessProbe"]
            assert probe["httpGet"] == {"path": "/api/healthz", "port": 52365}
        domain = service["metadata"]["name"]
        (door,) = [s for s in of_kind(objects, "Service") if s["metadata"]["name"] == f"{domain}-gateway"]
        head = config["headGroupSpec"]["template"]["metadata"]["labels"]
        assert door["spec"]["selector"].items() <= head.items()
        for group in config["workerGroupSpecs"]:
            assert not door["spec"]["selector"].items() <= group["template"]["metadata"]["labels"].items()
        assert f"http://{door['metadata']['name']}.{door['metadata']['namespace']}.svc:8000" == gateway_url(
            SecurityDomain(domain), service["metadata"]["namespace"]
        )


def test_a_worker_group_asks_for_as_many_devices_as_it_says() -> None:
    for service in of_kind(rendered("MIG pool"), "RayService"):
        (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert (group["groupName"], limits["nvidia.com/mig-3g.40gb"], limits["cpu"]) == ("slices-1x", "1", "4")


def test_the_rendered_default_is_the_one_that_was_reviewed() -> None:
    assert accept.golden() == accept.GOLDEN.read_text(), "review the difference: python -m tests.helm.accept"


def test_dashboards_and_rules_in_the_chart_are_those_of_the_code(tmp_path: Path) -> None:
    write_files(tmp_path)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    kept = {
        path.relative_to(CHART / "files"): path.read_text() for path in (CHART / "files").rglob("*.*") if path.is_file()
    }
    assert kept == fresh, "write them again: make chart"


def _properties(part: dict[str, Any], path: str = "") -> Any:
    yield path, part
    for name, sub in (part.get("properties") or {}).items():
        yield from _properties(sub, f"{path}.{name}")
    if isinstance(part.get("items"), dict):
        yield from _properties(part["items"], f"{path}[]")
    if isinstance(part.get("additionalProperties"), dict):
        yield from _properties(part["additionalProperties"], f"{path}.*")


def test_every_value_is_described_in_a_sentence() -> None:
    for path, part in _properties(schema()):
        assert re.match(r"^[A-Z].*[.:]$", part.get("description", ""), flags=re.DOTALL) or not path, path


def test_every_value_has_a_default_and_every_default_is_known() -> None:
    def leaves(part: Any, path: str = "") -> set[str]:
        if isinstance(part, dict) and part:
            return set().union(*(leaves(value, f"{path}.{name}") for name, value in part.items())) | {path}
        return {path}

    described = {path for path, _ in _properties(schema()) if "[]" not in path and "*" not in path} - {".global"}
    given = leaves(values())
    assert described - given == set()


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("colour=red", "additional properties 'colour' not allowed"),
        ("images.ray.tag=latest", "/images/ray/tag"),
        ("controlPlane.replicas=0", "minimum"),
        ("controlPlane.persistence.enabled=true", "/controlPlane/persistence/enabled"),
        ("pools[0].resource=nvidia.com/mig-1g.5gb.me", "/pools/0"),
        ("imageRegistry=https://docker.io", "/imageRegistry"),
        ("domains.secret.enabled=true", "additional properties 'secret' not allowed"),
        ("networkPolicy.apiServer.cidrs={everyone}", "/networkPolicy/apiServer/cidrs/0"),
        ("agent.metricsPort=80", "minimum"),
        ("domains.civil.head.persistence.size=lots", "/domains/civil/head/persistence/size"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_their_place(assignment: str, says: str) -> None:
    assert says in refused("--set", assignment)


def test_secrets_are_long_random_and_the_same_on_both_sides() -> None:
    found = {name_of(obj): obj["data"] for obj in of_kind(rendered("default"), "Secret")}
    own, civil = found["Secret partage/partage-secrets"], found["Secret partage-civil/partage-domain"]
    assert own["civil.ray"] == civil["auth_token"]
    assert own["civil.pepper"] == civil["pepper"]
    assert len(set(own.values())) == len(own) == 8
    assert all(len(value) >= 80 for value in own.values())


def test_the_admission_policy_holds_an_agent_to_its_own_node() -> None:
    import cel

    (policy,) = of_kind(rendered("default"), "ValidatingAdmissionPolicy")
    agent = "system:serviceaccount:partage-agent:partage-agent"

    def allowed(user: str, node: str, report: str) -> bool:
        extra = {"authentication.kubernetes.io/node-name": [node]} if node else {}
        context = {
            "request": {"userInfo": {"username": user, "extra": extra}},
            "object": {"metadata": {"name": report}},
        }
        if not all(cel.evaluate(each["expression"], context) for each in policy["spec"]["matchConditions"]):
            return True
        return all(cel.evaluate(each["expression"], context) for each in policy["spec"]["validations"])

    assert allowed(agent, "n1", "n1")
    assert not allowed(agent, "n1", "n2")
    assert not allowed(agent, "", "n1")
    assert allowed("system:serviceaccount:partage:partage-control-plane", "", "n2")
