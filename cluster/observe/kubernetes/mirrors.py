"""The copies of the cluster's objects that observation reads, each cut down to what is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.api import Api, Selection
from cluster.kubernetes.kinds import (
    NODE_DEVICES,
    NODES,
    PODS,
    RAY_CLUSTERS,
    RAY_NODE_TYPE_LABEL,
    RAY_SERVICES,
    RESOURCE_SLICES,
    Kind,
)
from cluster.kubernetes.mirror import Mirror, MirrorLimits, whole
from cluster.observe.kubernetes.devices import wants_devices
from cluster.ports import Clock

Object = dict[str, Any]


def pod_in_brief(pod: Object) -> Object:
    """Keep of a pod what observation reads; of a pod without devices that is no Ray pod, its name only."""
    meta = pod["metadata"]
    names = {key: meta[key] for key in ("namespace", "name", "resourceVersion") if key in meta}
    labels = meta.get("labels") or {}
    if RAY_NODE_TYPE_LABEL not in labels and not wants_devices(pod):
        return {"metadata": names}
    wanted = ("uid", "labels", "annotations", "creationTimestamp", "deletionTimestamp")
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = [
        {"resources": {"limits": (each.get("resources") or {}).get("limits") or {}}} for each in spec["containers"]
    ]
    return {
        "metadata": names | {key: meta[key] for key in wanted if key in meta},
        "spec": {"containers": containers}
        | {key: spec[key] for key in ("nodeName", "nodeSelector", "schedulingGates") if key in spec},
        "status": {key: status[key] for key in ("phase", "podIP", "conditions") if key in status},
    }


def node_in_brief(node: Object) -> Object:
    """Keep of a node what observation reads; images alone would be most of its size."""
    meta, status = node["metadata"], node.get("status") or {}
    return {
        "metadata": {k: meta[k] for k in ("name", "resourceVersion", "labels", "creationTimestamp") if k in meta},
        "spec": {k: v for k, v in (node.get("spec") or {}).items() if k in {"taints", "unschedulable"}},
        "status": {k: status[k] for k in ("allocatable", "capacity", "conditions") if k in status},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """One copy per kind."""

    nodes: Mirror
    pods: Mirror
    services: tuple[Mirror, ...]
    """One per domain: rights end at the namespace."""
    clusters: tuple[Mirror, ...]
    reports: Mirror
    slices: Mirror

    def all(self) -> tuple[Mirror, ...]:
        """Return them all."""
        return (self.nodes, self.pods, *self.services, *self.clusters, self.reports, self.slices)

    def start(self) -> None:
        """Begin to list and watch."""
        for mirror in self.all():
            mirror.start()

    def stop(self) -> None:
        """End soon."""
        for mirror in self.all():
            mirror.stop()


def mirrors(api: Api, clock: Clock, namespaces: tuple[str, ...], limits: MirrorLimits | None = None) -> Mirrors:
    """Return mirrors that are not started yet; ``namespaces`` are those of the domains."""

    def in_each(kind: Kind) -> tuple[Mirror, ...]:
        chosen = [Selection(namespace=namespace) for namespace in namespaces]
        return tuple(Mirror(api, clock, kind, selection, keep=whole, limits=limits) for selection in chosen)

    return Mirrors(
        nodes=Mirror(api, clock, NODES, keep=node_in_brief, limits=limits),
        pods=Mirror(api, clock, PODS, keep=pod_in_brief, limits=limits),
        services=in_each(RAY_SERVICES),
        clusters=in_each(RAY_CLUSTERS),
        reports=Mirror(api, clock, NODE_DEVICES, keep=whole, limits=limits),
        slices=Mirror(api, clock, RESOURCE_SLICES, keep=whole, limits=limits),
    )
