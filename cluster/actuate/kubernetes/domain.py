"""One domain's RayCluster during one plan: what it is, who works in it, and the one write that changes it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cluster.actuate.kubernetes import staffing
from cluster.actuate.kubernetes.refusals import NoActiveCluster, NoWorkerGroup, WorkerEnding
from cluster.actuate.kubernetes.writes import annotate, change, refuse_stale
from cluster.kubernetes.api import Api, Selection
from cluster.kubernetes.kinds import (
    DEVICES,
    GATE,
    HOSTNAME,
    PODS,
    RAY_CLUSTER_LABEL,
    RAY_CLUSTERS,
    RAY_NODE_TYPE_LABEL,
    RAY_SERVICES,
    WORKER,
)
from policies.model.plan import StartWorker
from policies.model.units import SecurityDomain, WorkerId

Object = dict[str, Any]


class DomainCluster:
    """Reads once, collects what the plan wants, writes the RayCluster once."""

    def __init__(self, api: Api, domain: SecurityDomain, namespace: str, fencing: int) -> None:
        self._api, self._namespace, self._fencing = api, namespace, fencing
        self._cluster = self._read(domain)
        labels = f"{RAY_CLUSTER_LABEL}={self._cluster['metadata']['name']},{RAY_NODE_TYPE_LABEL}=worker"
        self._pods = tuple(api.list_all(PODS, Selection(namespace=namespace, labels=labels))[0])
        self._victims: set[str] = set()
        self._unmet: Counter[str] = Counter()
        self._taken: set[str] = set()

    def pods_of(self, worker: WorkerId) -> tuple[Object, ...]:
        """Return the pods that are this worker, ending ones among them."""
        return tuple(pod for pod in self._pods if staffing.worker_of(pod) == worker)

    def stop(self, worker: WorkerId) -> bool:
        """Choose the worker's pod to leave; returns whether there is one."""
        pods = self.pods_of(worker)
        self._victims |= {pod["metadata"]["name"] for pod in pods}
        return bool(pods)

    def runs(self, worker: WorkerId) -> bool:
        """Return whether the worker has a pod. Raises ``WorkerEnding`` while one of its pods is being stopped."""
        pods = self.pods_of(worker)
        if any(pod["metadata"].get("deletionTimestamp") for pod in pods):
            raise WorkerEnding(worker)
        return bool(pods)

    def spare(self, action: StartWorker, pool: str) -> Object | None:
        """Return a spare pod that the worker can have; None after asking for one more. Raises ``NoWorkerGroup``."""
        group = staffing.fitting_group(self._cluster, pool, len(action.devices))
        if group is None:
            raise NoWorkerGroup(pool, len(action.devices))
        for pod in staffing.staff(self._pods, group).spare:
            if pod["metadata"]["name"] not in self._taken:
                return pod
        self._unmet[group] += 1
        return None

    def assign(self, pod: Object, action: StartWorker, node: Object) -> None:
        """Make the spare pod the worker, on this node."""
        hostname = (node["metadata"].get("labels") or {}).get(HOSTNAME, node["metadata"]["name"])

        def edit(seen: Object) -> list[Object]:
            gates = [gate["name"] for gate in seen["spec"].get("schedulingGates") or ()]
            selector = {**(seen["spec"].get("nodeSelector") or {}), HOSTNAME: hostname}
            return [
                *annotate({WORKER: action.worker, DEVICES: ",".join(sorted(action.devices))}),
                {"op": "add", "path": "/spec/nodeSelector", "value": selector},
                {"op": "remove", "path": f"/spec/schedulingGates/{gates.index(GATE)}"},
            ]

        change(self._api, PODS, pod, self._fencing, edit)
        self._taken.add(pod["metadata"]["name"])

    def write(self, spares_kept: int) -> None:
        """Give the worker groups their size: the victims leave, pods that are missing come."""

        def edit(cluster: Object) -> list[Object]:
            targets = {}
            for group in cluster["spec"].get("workerGroupSpecs") or ():
                team = self._team(group["groupName"])
                unmet = self._unmet[group["groupName"]]
                targets[group["groupName"]] = staffing.target(team, frozenset(self._victims), unmet, spares_kept)
            return staffing.edits(cluster, targets)

        self._cluster = change(self._api, RAY_CLUSTERS, self._cluster, self._fencing, edit)

    def _team(self, group: str) -> staffing.Staff:
        team = staffing.staff(self._pods, group)
        taken = tuple(pod for pod in team.spare if pod["metadata"]["name"] in self._taken)
        left = tuple(pod for pod in team.spare if pod["metadata"]["name"] not in self._taken)
        return staffing.Staff(busy=team.busy + taken, spare=left, ending=team.ending)

    def _read(self, domain: SecurityDomain) -> Object:
        services, _ = self._api.list_all(RAY_SERVICES, Selection(namespace=self._namespace))
        for service in services:
            active = (service.get("status") or {}).get("activeServiceStatus") or {}
            if name := active.get("rayClusterName"):
                cluster = self._api.get(RAY_CLUSTERS, self._namespace, name)
                refuse_stale(cluster, self._fencing)
                return cluster
        raise NoActiveCluster(domain, self._namespace)
