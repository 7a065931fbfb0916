"""A large site: nodes, agents' reports, worker pods and others, in the sizes that they really have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from policies.model.naming import worker_id
from policies.model.units import DeviceId, FlavorId, SecurityDomain

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
REPORTS_PER_MINUTE = 2
NODE_STATUS_PER_MINUTE = 0.2
"""The kubelet writes an unchanged status every five minutes; its heartbeat is a lease that nobody here watches."""
FLAVOR = FlavorId("H100-80GB")
Object = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """How large it is."""

    nodes: int = 1_000
    gpus_per_node: int = 8
    clusters: int = 200
    pods_of_others_per_node: int = 25
    claims: int = 400

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


def gpu(node: int, index: int) -> str:
    return f"GPU-{node:04x}{index:04x}-0000-4000-8000-{node * 64 + index:012x}"


def domain_of(node: int) -> SecurityDomain:
    return CIVIL if node % 2 else DEFENCE


def node_objects(site: Site) -> list[Object]:
    images = [{"names": [f"registry.site.internal/image-{n}@sha256:{'a' * 64}"], "sizeBytes": 10**9} for n in range(50)]
    amounts = {"cpu": "192", "memory": "2113411308Ki", "nvidia.com/gpu": str(site.gpus_per_node), "pods": "110"}
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    condition = {
        "status": "False",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    conditions = [{"type": kind, "reason": "K", "message": "kubelet says so", **condition} for kind in kinds]
    conditions[-1]["status"] = "True"
    labels = {f"feature.node.kubernetes.io/cpu-{n}": "true" for n in range(60)}
    return [
        {
            "metadata": {
                "name": f"n{number:04d}",
                "resourceVersion": str(number + 1),
                "uid": f"{number:036x}",
                "labels": labels | {"kubernetes.io/hostname": f"n{number:04d}", "partage.lu/pool": "h100"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"providerID": f"site://{number}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": conditions, "images": images},
        }
        for number in range(site.nodes)
    ]


def report_objects(site: Site, now_ms: int) -> list[Object]:
    return [
        {
            "metadata": {"name": f"n{number:04d}", "resourceVersion": str(number + 1)},
            "spec": {},
            "status": {
                "observedAtMs": now_ms,
                "driver": "580.105.08",
                "count": site.gpus_per_node,
                "proofs": [],
                "devices": [
                    {
                        "uuid": gpu(number, index),
                        "gpu": gpu(number, index),
                        "model": "NVIDIA H100 80GB HBM3",
                        "memoryMiB": 81559,
                        "health": "healthy",
                        "simulated": False,
                        "pod": f"partage-{domain_of(number)}/{_pod_name(site, number, index)}",
                    }
                    for index in range(site.gpus_per_node)
                ],
            },
        }
        for number in range(site.nodes)
    ]


def _pod_name(site: Site, node: int, index: int) -> str:
    return f"{domain_of(node)}-{node % (site.clusters // 2):03d}-h100-1x-worker-{node:04d}{index}"


def worker_pods(site: Site) -> list[Object]:
    """Every device is held by a worker of one device: the most pods that there can be."""
    container = {"name": "ray-worker", "image": "registry.site.internal/partage/ray:0.1.0"}
    limits = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"}
    times = {"status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [{"type": kind, **times} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
    found = []
    for number in range(site.nodes):
        for index in range(site.gpus_per_node):
            domain, device = domain_of(number), DeviceId(gpu(number, index))
            cluster = f"{domain}-{number % (site.clusters // 2):03d}"
            env = [{"name": f"VARIABLE_{n}", "value": "x" * 20} for n in range(25)]
            found.append(
                {
                    "metadata": {
                        "namespace": f"partage-{domain}",
                        "name": _pod_name(site, number, index),
                        "resourceVersion": str(len(found) + 1),
                        "uid": f"{len(found):036x}",
                        "labels": {
                            "ray.io/cluster": cluster,
                            "ray.io/group": "h100-1x",
                            "ray.io/node-type": "worker",
                            "partage.lu/pool": "h100",
                        },
                        "annotations": {
                            "partage.lu/worker": worker_id(domain, (device,)),
                            "partage.lu/devices": device,
                        },
                        "creationTimestamp": "2026-01-01T00:00:00Z",
                    },
                    "spec": {
                        "nodeName": f"n{number:04d}",
                        "nodeSelector": {"kubernetes.io/hostname": f"n{number:04d}"},
                        "containers": [{**container, "env": env, "resources": {"limits": limits, "requests": limits}}],
                    },
                    "status": {
                        "phase": "Running",
                        "podIP": f"10.{number // 250}.{number % 250}.{index}",
                        "conditions": conditions,
                    },
                }
            )
    return found


def other_pods(site: Site) -> list[Object]:
    container = {"name": "c", "image": "registry.site.internal/app:1", "env": [{"name": "A", "value": "b" * 400}]}
    return [
        {
            "metadata": {
                "namespace": "apps",
                "name": f"app-{number}-{n}",
                "resourceVersion": "1",
                "labels": {"app": "x"},
            },
            "spec": {"nodeName": f"n{number:04d}", "containers": [container]},
            "status": {"phase": "Running"},
        }
        for number in range(site.nodes)
        for n in range(site.pods_of_others_per_node)
    ]


def size(obj: Object) -> int:
    return len(json.dumps(obj).encode())
