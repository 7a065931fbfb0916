"""The chart as real helm renders it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes_tools import run, tool

CHART = Path(__file__).parents[2] / "helm" / "partage"
Object = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

SLICES = {
    "name": "slices",
    "resource": "nvidia.com/mig-3g.40gb",
    "devicesPerWorker": [1],
    "perDevice": {"cpu": 4, "memoryGi": 32},
    "maxWorkers": 10,
}
MATRIX: dict[str, tuple[str, ...]] = {
    "default": (),
    "air gap": ("-f", str(CHART / "values-airgap.yaml")),
    "one replica with a file": (
        "--set",
        "controlPlane.replicas=1,controlPlane.persistence.enabled=true",
    ),
    "no agent": ("--set", "agent.enabled=false"),
    "one domain": ("--set", "domains.civil.enabled=false"),
    "bare": (
        "--set",
        ",".join(
            f"{name}=false"
            for name in (
                "monitoring.serviceMonitors",
                "monitoring.rules",
                "monitoring.dashboards",
                "tests.enabled",
                "networkPolicy.enabled",
                "admission.enabled",
                "namespaces.create",
                "secrets.create",
            )
        )
        + ",secrets.existingSecret=mine",
    ),
    "MIG pool": (
        "--set-json",
        "pools=" + json.dumps([SLICES]),
    ),
    "everything named": (
        "--set",
        "domains.civil.gcs.redisAddress=redis.civil:6379,domains.civil.gcs.redisSecret=redis,domains.civil.head.persistence.enabled=true,domains.civil.head.persistence.size=50Gi,domains.civil.head.persistence.storageClass=fast,networkPolicy.apiServer.cidrs={10.0.0.1/32},networkPolicy.database.cidrs={10.1.0.0/24},controlPlane.clients.namespaces={ingress},domains.civil.clients.cidrs={10.2.0.0/16},controlPlane.priorityClassName=high,imagePullSecrets[0].name=pull",
    ),
}


def render(*arguments: str) -> str:
    done = run(tool("helm"), "template", "partage", str(CHART), "-n", "partage", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str) -> str:
    """Return what helm says of values that it refuses."""
    done = run(tool("helm"), "template", "partage", str(CHART), "-n", "partage", *arguments)
    assert done.returncode != 0, "helm took it"
    return done.stderr


@functools.cache
def rendered(name: str) -> tuple[Object, ...]:
    found = yaml.load_all(render(*MATRIX[name]), Loader=LOADER)
    return tuple(obj for obj in found if obj)


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    return [obj for obj in objects if obj["kind"] in kinds]


def name_of(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def pods(objects: tuple[Object, ...]) -> list[tuple[str, Object]]:
    """Return every pod specification that the chart leads to, with a name for it."""
    found = []
    for obj in objects:
        if obj["kind"] == "Pod":
            found.append((name_of(obj), obj["spec"]))
        elif obj["kind"] in {"Deployment", "DaemonSet"}:
            found.append((name_of(obj), obj["spec"]["template"]["spec"]))
        elif obj["kind"] == "RayService":
            config = obj["spec"]["rayClusterConfig"]
            found.append((f"{name_of(obj)} head", config["headGroupSpec"]["template"]["spec"]))
            found += [
                (f"{name_of(obj)} {group['groupName']}", group["template"]["spec"])
                for group in config["workerGroupSpecs"]
            ]
    return found


def schema() -> Object:
    found: Object = json.loads((CHART / "values.schema.json").read_text())
    return found


def values() -> Object:
    found: Object = yaml.safe_load((CHART / "values.yaml").read_text())
    return found
