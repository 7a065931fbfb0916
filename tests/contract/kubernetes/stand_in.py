"""Stand-ins for what is around an API server: KubeRay's operator, scheduler and kubelet, the node's agent."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from cluster.kubernetes.api import Api, Selection
from cluster.kubernetes.kinds import (
    NODE_DEVICES,
    NODES,
    PODS,
    RAY_CLUSTER_LABEL,
    RAY_CLUSTERS,
    RAY_GROUP_LABEL,
    RAY_NODE_TYPE_LABEL,
    RAY_SERVICES,
)
from cluster.kubernetes.refusals import Absent, Exists
from cluster.ports import Clock

Object = dict[str, Any]
LONG_AGO = "2020-01-01T00:00:00Z"
PROXY_HEALTH = "/-/healthz"


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - a kubelet has a clock


def _with_probe(spec: Object) -> Object:
    """Return the worker's spec with the operator's readiness probe, which a RayService's template may forestall."""
    first, *others = spec["containers"]
    command = ["bash", "-c", f"wget --tries 1 -q -O- http://localhost:8000{PROXY_HEALTH} | grep success"]
    return {**spec, "containers": [{"readinessProbe": {"exec": {"command": command}}, **first}, *others]}


def _is_ready(pod: Object) -> bool:
    """Return what the kubelet would find: no worker has a Serve proxy, as only the head answers requests."""
    probe = pod["spec"]["containers"][0].get("readinessProbe") or {}
    return PROXY_HEALTH not in str((probe.get("exec") or {}).get("command"))


def _address(uid: str) -> str:
    """Return an address of the pod's own."""
    return f"10.{int(uid[:2], 16)}.{int(uid[2:4], 16)}.{int(uid[4:6], 16)}"


def _is_alive(pod: Object) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and pod.get("status", {}).get("phase") != "Failed"


@dataclass
class KubeRay:
    """Turns RayServices into RayClusters and those into pods, as the operator does. One call is one reconciliation."""

    api: Api
    namespaces: tuple[str, ...]
    random_deletions: list[str] = field(default_factory=list)
    """Pods that the operator had to choose itself, because nobody named a victim."""

    def step(self) -> None:
        for namespace in self.namespaces:
            for service in self.api.list_all(RAY_SERVICES, Selection(namespace=namespace))[0]:
                self._service(service)
            for cluster in self.api.list_all(RAY_CLUSTERS, Selection(namespace=namespace))[0]:
                self._cluster(cluster)

    def _service(self, service: Object) -> None:
        meta = service["metadata"]
        name = f"{meta['name']}-abcde"
        owner = {"apiVersion": "ray.io/v1", "kind": "RayService", "name": meta["name"], "uid": meta["uid"]}
        body = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": service["spec"]["rayClusterConfig"]}
        with contextlib.suppress(Exists):
            self.api.create(RAY_CLUSTERS, meta["namespace"], body)
        status = {"activeServiceStatus": {"rayClusterName": name}}
        self.api.merge(RAY_SERVICES, meta["namespace"], meta["name"], {"status": status}, "status")

    def _cluster(self, cluster: Object) -> None:
        name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
        pods = self.api.list_all(PODS, Selection(namespace=namespace, labels=f"{RAY_CLUSTER_LABEL}={name}"))[0]
        if not any(pod["metadata"]["labels"][RAY_NODE_TYPE_LABEL] == "head" for pod in pods):
            self._pod(cluster, "headgroup", "head", cluster["spec"]["headGroupSpec"]["template"])
        for group in cluster["spec"].get("workerGroupSpecs") or ():
            own = [pod for pod in pods if pod["metadata"]["labels"].get(RAY_GROUP_LABEL) == group["groupName"]]
            self._group(cluster, group, own)

    def _group(self, cluster: Object, group: Object, pods: list[Object]) -> None:
        for pod in pods:
            if pod.get("status", {}).get("phase") == "Failed":
                self._delete(pod)
        alive = [pod for pod in pods if _is_alive(pod)]
        named = set((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
        for pod in alive:
            if pod["metadata"]["name"] in named:
                self._delete(pod)
        left = [pod for pod in alive if pod["metadata"]["name"] not in named]
        for pod in left[group["replicas"] :]:
            self.random_deletions.append(pod["metadata"]["name"])
            self._delete(pod)
        for _ in range(group["replicas"] - len(left)):
            self._pod(cluster, group["groupName"], "worker", group["template"])

    def _delete(self, pod: Object) -> None:
        self.api.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], pod["metadata"]["uid"])

    def _pod(self, cluster: Object, group: str, kind: str, template: Object) -> None:
        meta = template.get("metadata") or {}
        labels = {RAY_CLUSTER_LABEL: cluster["metadata"]["name"], RAY_GROUP_LABEL: group, RAY_NODE_TYPE_LABEL: kind}
        body = {
            "metadata": {
                "generateName": f"{cluster['metadata']['name']}-{group}-{kind}-",
                "labels": {**(meta.get("labels") or {}), **labels},
                "annotations": {"ray.io/ft-enabled": "false", **(meta.get("annotations") or {})},
            },
            "spec": _with_probe(template["spec"]) if kind == "worker" else template["spec"],
        }
        self.api.create(PODS, cluster["metadata"]["namespace"], body)


@dataclass
class Machine:
    """A host with GPUs."""

    name: str
    devices: tuple[str, ...]
    pool: str = "h100"
    agent: bool = True
    residue: set[str] = field(default_factory=set)
    """Devices whose memory cannot be wiped."""


@dataclass
class Machines:
    """Scheduler, kubelets with their device plugin, and agents. One call lets each act once."""

    api: Api
    clock: Clock
    hosts: tuple[Machine, ...]
    given: dict[str, str] = field(default_factory=dict)
    """Device to ``namespace/pod``."""
    prefer_last: bool = False
    """Whether the device plugin hands out the last free device rather than the first."""
    down: set[str] = field(default_factory=set)

    def start(self) -> None:
        for host in self.hosts:
            labels = {"kubernetes.io/hostname": host.name, "partage.lu/pool": host.pool}
            with contextlib.suppress(Exists):
                self.api.create(NODES, None, {"metadata": {"name": host.name, "labels": labels}})
            # A real server taints every new node until its controller finds it ready.
            self.api.merge(NODES, None, host.name, {"spec": {"taints": None}})
            self.ready(host.name, since=LONG_AGO)
            if host.agent:
                self._report(host)

    def ready(self, name: str, *, since: str | None = None, status: str = "True") -> None:
        host = next(host for host in self.hosts if host.name == name)
        condition = {"type": "Ready", "status": status, "lastTransitionTime": since or _now(), "reason": "K"}
        amounts = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": str(len(host.devices))}
        body = {"status": {"conditions": [condition], "capacity": amounts, "allocatable": amounts}}
        self.api.merge(NODES, None, name, body, "status")

    def step(self) -> None:
        for pod in self.api.list_all(PODS)[0]:
            if pod["metadata"]["namespace"].startswith("kube-"):
                continue
            self._schedule(pod) if not pod["spec"].get("nodeName") else self._run(pod)
        for host in self.hosts:
            if host.agent and host.name not in self.down:
                self._scrub(host)
                self._report(host)

    def _schedule(self, pod: Object) -> None:
        if pod["spec"].get("schedulingGates") or pod["metadata"].get("deletionTimestamp"):
            return
        wanted = pod["spec"].get("nodeSelector") or {}
        count = sum(
            int(((each.get("resources") or {}).get("limits") or {}).get("nvidia.com/gpu", 0))
            for each in pod["spec"]["containers"]
        )
        for host in self.hosts:
            labels = {"kubernetes.io/hostname": host.name, "partage.lu/pool": host.pool}
            free = [device for device in host.devices if device not in self.given]
            if wanted.items() <= labels.items() and len(free) >= count and host.name not in self.down:
                chosen = free[-count:] if self.prefer_last else free[:count]
                self._bind(pod, host, chosen if count else [])
                return

    def _bind(self, pod: Object, host: Machine, devices: list[str]) -> None:
        meta = pod["metadata"]
        body = {"metadata": {"name": meta["name"]}, "target": {"kind": "Node", "name": host.name}}
        path = PODS.path(meta["namespace"], meta["name"], "binding")
        self.api._tried("POST", path, {}, {"apiVersion": "v1", "kind": "Binding", **body})
        self.given |= dict.fromkeys(devices, f"{meta['namespace']}/{meta['name']}")

    def _run(self, pod: Object) -> None:
        meta = pod["metadata"]
        if pod["spec"]["nodeName"] in self.down:
            return
        if meta.get("deletionTimestamp"):
            self.api._tried("DELETE", PODS.path(meta["namespace"], meta["name"]), {}, {"gracePeriodSeconds": 0})
            self.given = {d: p for d, p in self.given.items() if p != f"{meta['namespace']}/{meta['name']}"}
        elif pod.get("status", {}).get("phase") == "Pending":
            ready = {"type": "Ready", "status": str(_is_ready(pod)), "lastTransitionTime": _now()}
            status = {"phase": "Running", "podIP": _address(meta["uid"]), "conditions": [ready]}
            self.api.merge(PODS, meta["namespace"], meta["name"], {"status": status}, "status")

    def _report(self, host: Machine) -> None:
        devices = [
            {"uuid": device, "gpu": device, "model": "NVIDIA H100 80GB HBM3", "memoryMiB": 81000, "health": "healthy"}
            | ({"pod": self.given[device]} if device in self.given else {})
            for device in host.devices
        ]
        status = {"observedAtMs": self.clock.now_ms(), "driver": "580.1", "count": len(devices), "devices": devices}
        try:
            self.api.merge(NODE_DEVICES, None, host.name, {"status": status}, "status")
        except Absent:
            self.api.create(NODE_DEVICES, None, {"metadata": {"name": host.name}, "spec": {}})
            self.api.merge(NODE_DEVICES, None, host.name, {"status": status}, "status")

    def _scrub(self, host: Machine) -> None:
        report = self.api.get(NODE_DEVICES, None, host.name)
        asked = (report.get("spec") or {}).get("scrubs") or []
        if not asked:
            return
        now = self.clock.now_ms()
        proofs = [
            each
            | {"startedAtMs": now, "finishedAtMs": now, "simulated": True, "driver": "580.1"}
            | {"steps": [{"name": "no_process", "passed": each["device"] not in self.given, "atMs": now, "detail": ""},
                         {"name": "write_pattern", "passed": each["device"] not in host.residue, "atMs": now}]}
            for each in asked
        ]  # fmt: skip
        self.api.merge(NODE_DEVICES, None, host.name, {"status": {"proofs": proofs}}, "status")


def ray_service(name: str, pool: str = "h100", sizes: tuple[int, ...] = (1, 2)) -> Object:
    """Return a RayService as the chart makes it, cut to what matters here."""

    def group(devices: int) -> Object:
        limits = {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": str(devices)}
        probe = {"httpGet": {"path": "/api/healthz", "port": 52365}}
        labels = {"partage.lu/pool": pool, "partage.lu/devices-per-worker": str(devices)}
        return {
            "groupName": f"{pool}-{devices}x",
            "replicas": 0,
            "minReplicas": 0,
            "maxReplicas": 1000,
            "rayStartParams": {},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "schedulingGates": [{"name": "partage.lu/placement"}],
                    "nodeSelector": {"partage.lu/pool": pool},
                    "containers": [
                        {
                            "name": "ray-worker",
                            "image": "registry/ray:1",
                            "resources": {"limits": limits},
                            "readinessProbe": probe,
                        }
                    ],
                },
            },
        }

    head = {"spec": {"containers": [{"name": "ray-head", "image": "registry/ray:1"}]}}
    config = {
        "rayVersion": "2.60.0",
        "enableInTreeAutoscaling": False,
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
        "workerGroupSpecs": [group(devices) for devices in sizes],
    }
    return {"metadata": {"name": name}, "spec": {"serveConfigV2": "applications: []", "rayClusterConfig": config}}
