"""Workers: the pods of a domain's RayCluster that were given a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.kubernetes.kinds import DEVICES, RAY_NODE_TYPE_LABEL, WORKER
from cluster.observe.kubernetes.quantities import epoch_ms
from policies.model.inventory import Worker, WorkerState
from policies.model.naming import worker_id
from policies.model.units import DeviceId, NodeId, SecurityDomain, WorkerId

Object = dict[str, Any]


def in_nouns(
    pods: tuple[Object, ...],
    domains: Mapping[str, SecurityDomain],
    holders: tuple[tuple[DeviceId, str], ...],
    lost: frozenset[NodeId],
) -> tuple[tuple[Worker, str], ...]:
    """Return the workers with the address of each one's pod, sorted. Spares, which have no node yet, are none.

    What the kubelet gave counts, not what was planned: a device plugin chooses among the free devices of a node by
    itself, so a worker's devices, and with them its name, are those that the agent saw it get.
    """
    given: dict[str, list[DeviceId]] = {}
    for device, name in holders:
        given.setdefault(name, []).append(device)
    found: dict[WorkerId, tuple[Worker, str]] = {}
    for pod in pods:
        if pod["metadata"]["namespace"] in domains and is_worker(pod):
            worker = _worker(pod, domains[pod["metadata"]["namespace"]], given.get(full_name(pod), []), lost)
            if worker.id not in found or worker.state is WorkerState.STOPPING:
                found[worker.id] = (worker, str((pod.get("status") or {}).get("podIP") or ""))
    return tuple(found[name] for name in sorted(found))


def is_worker(pod: Object) -> bool:
    """Return whether the pod is a Ray worker with a node, planned or given."""
    meta = pod["metadata"]
    return (
        (meta.get("labels") or {}).get(RAY_NODE_TYPE_LABEL) == "worker"
        and WORKER in (meta.get("annotations") or {})
        and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    )


def full_name(pod: Object) -> str:
    """Return ``namespace/name``."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _worker(pod: Object, domain: SecurityDomain, given: list[DeviceId], lost: frozenset[NodeId]) -> Worker:
    annotations = pod["metadata"]["annotations"]
    planned = [DeviceId(device) for device in annotations.get(DEVICES, "").split(",") if device]
    devices = tuple(sorted(given or planned))
    node = NodeId(_node_of(pod))
    return Worker(
        id=worker_id(domain, devices) if given else WorkerId(annotations[WORKER]),
        domain=domain,
        node=node,
        devices=devices,
        state=_state(pod, node in lost),
        since_ms=_since_ms(pod),
    )


def _node_of(pod: Object) -> str:
    spec = pod.get("spec") or {}
    return str(spec.get("nodeName") or (spec.get("nodeSelector") or {}).get("kubernetes.io/hostname", ""))


def _state(pod: Object, is_lost: bool) -> WorkerState:  # noqa: FBT001 - a fact about the node, not a mode
    if is_lost:
        return WorkerState.LOST
    if pod["metadata"].get("deletionTimestamp"):
        return WorkerState.STOPPING
    return WorkerState.READY if _condition(pod, "Ready").get("status") == "True" else WorkerState.STARTING


def _since_ms(pod: Object) -> int:
    ready = _condition(pod, "Ready").get("lastTransitionTime")
    return epoch_ms(str(ready or pod["metadata"].get("creationTimestamp") or ""))


def _condition(pod: Object, name: str) -> Object:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == name), {})
