"""How many pods each worker group should have, and which of them go. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.kinds import DEVICES_PER_WORKER, GATE, POOL, RAY_GROUP_LABEL, WORKER

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """The pods of one worker group."""

    busy: tuple[Object, ...]
    """Have a node and are not ending."""
    spare: tuple[Object, ...]
    """Held back by the gate, without a node: they hold no device."""
    ending: tuple[Object, ...]


def staff(pods: tuple[Object, ...], group: str) -> Staff:
    """Return the group's pods by what they are; ended ones are left out."""
    own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(RAY_GROUP_LABEL) == group]
    alive = [pod for pod in own if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}]
    staying = [pod for pod in alive if not pod["metadata"].get("deletionTimestamp")]
    return Staff(
        busy=tuple(pod for pod in staying if worker_of(pod)),
        spare=tuple(pod for pod in staying if not worker_of(pod) and is_gated(pod)),
        ending=tuple(pod for pod in alive if pod["metadata"].get("deletionTimestamp")),
    )


def worker_of(pod: Object) -> str:
    """Return the worker that the pod is; empty for a spare."""
    return str((pod["metadata"].get("annotations") or {}).get(WORKER, ""))


def is_gated(pod: Object) -> bool:
    """Return whether the pod waits for its node."""
    return any(gate["name"] == GATE for gate in (pod.get("spec") or {}).get("schedulingGates") or ())


def fitting_group(cluster: Object, pool: str, devices: int) -> str | None:
    """Return the worker group for this pool and number of devices, None if there is none."""
    for group in cluster["spec"].get("workerGroupSpecs") or ():
        labels = ((group.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if labels.get(POOL) == pool and labels.get(DEVICES_PER_WORKER) == str(devices):
            return str(group["groupName"])
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a worker group should be."""

    replicas: int
    leaving: tuple[str, ...]
    """Pods to delete, by name; sorted."""


def target(team: Staff, victims: frozenset[str], unmet: int, spares_kept: int) -> Target:
    """Return the group's size when the victims leave and ``unmet`` workers still need a pod.

    Spares beyond those needed and kept leave too. Pods that are ending already stay named, so that a deletion that the
    operator has not carried out yet is not forgotten.
    """
    staying = [pod for pod in team.busy if pod["metadata"]["name"] not in victims]
    kept = max(unmet, spares_kept)
    surplus = team.spare[kept:]
    names = {pod["metadata"]["name"] for pod in (*surplus, *team.ending)} | (
        victims & {pod["metadata"]["name"] for pod in (*team.busy, *team.spare)}
    )
    return Target(replicas=len(staying) + kept, leaving=tuple(sorted(names)))


def edits(cluster: Object, targets: dict[str, Target]) -> list[Object]:
    """Return the JSON patch that gives the worker groups their targets; empty if they have them."""
    operations: list[Object] = []
    for index, group in enumerate(cluster["spec"].get("workerGroupSpecs") or ()):
        wanted = targets.get(group["groupName"])
        if wanted is None:
            continue
        where = f"/spec/workerGroupSpecs/{index}"
        if group.get("replicas") != wanted.replicas:
            operations.append({"op": "add", "path": f"{where}/replicas", "value": wanted.replicas})
        named = tuple(sorted((group.get("scaleStrategy") or {}).get("workersToDelete") or ()))
        if named != wanted.leaving:
            value = {"workersToDelete": list(wanted.leaving)}
            operations.append({"op": "add", "path": f"{where}/scaleStrategy", "value": value})
    if not operations:
        return []
    guard = [
        {"op": "test", "path": f"/spec/workerGroupSpecs/{index}/groupName", "value": group["groupName"]}
        for index, group in enumerate(cluster["spec"]["workerGroupSpecs"])
        if group["groupName"] in targets
    ]
    return guard + operations
