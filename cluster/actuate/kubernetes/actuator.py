"""Actuator of a Kubernetes cluster: idempotent, fenced, each RayCluster written at most once per plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cluster.actuate.kubernetes import scrubs
from cluster.actuate.kubernetes.domain import DomainCluster
from cluster.actuate.kubernetes.refusals import FROZEN, NodeStarting, NodeUnsafe
from cluster.actuate.refusals import WorkerCarriesGroups
from cluster.custody import refuse_binding
from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import NODE_DEVICES, NODES, POOL
from cluster.kubernetes.refusals import Absent, ApiRefusal
from cluster.ports import Clock, Ledger
from cluster.ray_rest import RayUnreadable
from cluster.refusals import Refusal, StaleGeneration
from policies.model.inventory import ScrubState
from policies.model.plan import (
    Action,
    ActionOutcome,
    Outcome,
    OutcomeStatus,
    Plan,
    ScrubDevice,
    StartWorker,
    StopWorker,
)
from policies.model.proof import DeviceRecord
from policies.model.units import DeviceId, GroupId, NodeId, SecurityDomain, WorkerId

Object = dict[str, Any]
DEFAULT_POOL = "default"
Records = Mapping[DeviceId, DeviceRecord]


class ServeActions(Protocol):
    """Carries out the actions on groups and routes, through Ray Serve."""

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action of the plan, all of which concern groups."""
        ...

    def carried(self, domain: SecurityDomain, worker: WorkerId) -> tuple[GroupId, ...]:
        """Return the groups that are on the worker now, stopping ones included. Raises ``RayUnreadable``."""
        ...


class KubernetesActuator:
    """Begins every action of a plan on the cluster and returns; progress is seen by the next observation."""

    def __init__(
        self,
        api: Api,
        serve: ServeActions,
        ledger: Ledger,
        clock: Clock,
        namespaces: Mapping[SecurityDomain, str],
        spares_kept: int = 1,
    ) -> None:
        self._api, self._serve, self._ledger, self._clock = api, serve, ledger, clock
        self._namespaces = dict(namespaces)
        self._spares_kept = spares_kept
        self._newest = 0

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action; an action of an older leadership than any seen is REFUSED."""
        self._newest = max(self._newest, plan.fencing_generation)
        served = self._on_groups(plan)
        turn = _Turn(self._api, self._ledger, self._namespaces, plan.fencing_generation)
        results = [served.get(index) or self._result(turn, action, plan) for index, action in enumerate(plan.actions)]
        results = self._written(turn, results)
        return Outcome(plan=plan.id, results=tuple(results), finished_at_ms=self._clock.now_ms())

    def _on_groups(self, plan: Plan) -> dict[int, ActionOutcome]:
        mine = (StartWorker, StopWorker, ScrubDevice)
        chosen = [index for index, action in enumerate(plan.actions) if not isinstance(action, mine)]
        if plan.fencing_generation < self._newest:
            return {}
        part = Plan(
            id=plan.id,
            snapshot_generation=plan.snapshot_generation,
            fencing_generation=plan.fencing_generation,
            decided_at_ms=plan.decided_at_ms,
            actions=tuple(plan.actions[index] for index in chosen),
        )
        return dict(zip(chosen, self._serve.execute(part).results, strict=True))

    def _result(self, turn: _Turn, action: Action, plan: Plan) -> ActionOutcome:
        try:
            if plan.fencing_generation < self._newest:
                raise StaleGeneration(plan.fencing_generation, self._newest)
            if isinstance(action, StopWorker):
                self._refuse_carrying(action)
            return ActionOutcome(action=action, status=OutcomeStatus.ACCEPTED, detail=turn.begin(action))
        except RayUnreadable as error:
            return ActionOutcome(action=action, status=OutcomeStatus.REFUSED, detail=f"{FROZEN}: {error}")
        except (Refusal, ApiRefusal) as refusal:
            return _refused(action, refusal)

    def _refuse_carrying(self, action: StopWorker) -> None:
        """Ask Ray itself, after what this plan began: the snapshot that the plan came from is older than that."""
        if carried := self._serve.carried(action.domain, action.worker):
            raise WorkerCarriesGroups(action.worker, carried)

    def _written(self, turn: _Turn, results: list[ActionOutcome]) -> list[ActionOutcome]:
        """Write each domain's RayCluster; where that fails, so have the actions that waited for it."""
        failed = turn.write(self._spares_kept)
        return [
            _refused(result.action, failed[result.action.domain])
            if isinstance(result.action, StartWorker | StopWorker)
            and result.status is OutcomeStatus.ACCEPTED
            and result.action.domain in failed
            else result
            for result in results
        ]


class _Known(dict[DeviceId, DeviceRecord]):
    def __missing__(self, device: DeviceId) -> DeviceRecord:
        return DeviceRecord(device=device)


class _Turn:
    """What one plan reads once and writes at its end."""

    def __init__(self, api: Api, ledger: Ledger, namespaces: Mapping[SecurityDomain, str], fencing: int) -> None:
        self._api, self._ledger, self._namespaces, self._fencing = api, ledger, namespaces, fencing
        self._clusters: dict[SecurityDomain, DomainCluster] = {}

    def begin(self, action: Action) -> str:
        """Begin the action; returns what there is to say of it."""
        match action:
            case StopWorker():
                return "" if self._cluster(action.domain).stop(action.worker) else "gone already"
            case ScrubDevice():
                self._scrub(action)
                return ""
            case StartWorker():
                return self._start(action)
            case _:
                raise AssertionError(action)

    def write(self, spares_kept: int) -> dict[SecurityDomain, Exception]:
        """Write the RayClusters that were read; returns the domains where that was refused, and why."""
        failed: dict[SecurityDomain, Exception] = {}
        for domain, cluster in self._clusters.items():
            try:
                cluster.write(spares_kept)
            except (Refusal, ApiRefusal) as refusal:
                failed[domain] = refusal
        return failed

    def _start(self, action: StartWorker) -> str:
        cluster = self._cluster(action.domain)
        if cluster.runs(action.worker):
            return "running already"
        records = self._records()
        for device in action.devices:
            refuse_binding(records[device], action.worker, action.domain)
        if waits := self._clean_neighbours(action, records):
            return f"waits for {', '.join(waits)}: the device plugin may hand out any free device of the node"
        node = self._api.get(NODES, None, action.node)
        pool = (node["metadata"].get("labels") or {}).get(POOL, DEFAULT_POOL)
        pod = cluster.spare(action, pool)
        if pod is None:
            return "waits for the operator to make its pod"
        self._ledger.bind(action.worker, action.domain, action.devices, self._fencing)
        cluster.assign(pod, action, node)
        return ""

    def _clean_neighbours(self, action: StartWorker, records: Records) -> list[str]:
        """Return the other free devices of the node that this domain may not have now, and have them scrubbed.

        What is being scrubbed is waited for, and so is what a worker of another domain is about to get: two pods that
        start on a node at once could be given each other's devices.
        """
        free = self._free_devices(action.node) - set(action.devices)
        promised = [one for one in free if records[one].worker is not None]
        waits = [one for one in promised if records[one].domain != action.domain]
        dirty = []
        for device in sorted(free - set(promised)):
            match records[device].scrub:
                case ScrubState.FAILED:
                    raise NodeUnsafe(action.node, device)
                case ScrubState.SCRUBBING:
                    waits.append(device)
                case ScrubState.DIRTY if records[device].domain != action.domain:
                    dirty.append(device)
        for device in () if promised else dirty:
            scrubs.ask(self._api, self._ledger, action.node, (device, action.domain), self._fencing)
        return sorted(waits + dirty)

    def _scrub(self, action: ScrubDevice) -> None:
        """Ask for the scrub, unless a pod that starts on the node could still be given the device."""
        records = self._records()
        for device in sorted(self._free_devices(action.node) - {action.device}):
            if (worker := records[device].worker) is not None:
                raise NodeStarting(action.node, worker)
        scrubs.ask(self._api, self._ledger, action.node, (action.device, action.to_domain), self._fencing)

    def _records(self) -> Records:
        """Return the ledger's record of every device; of a device that was never bound, an empty one."""
        return _Known({record.device: record for record in self._ledger.devices()})

    def _free_devices(self, node: NodeId) -> set[DeviceId]:
        """Return the devices of the node that no pod has, by its agent's word."""
        try:
            report = self._api.get(NODE_DEVICES, None, node)
        except Absent:
            return set()
        facts = (report.get("status") or {}).get("devices") or ()
        return {DeviceId(fact["uuid"]) for fact in facts if not fact.get("pod")}

    def _cluster(self, domain: SecurityDomain) -> DomainCluster:
        if domain not in self._clusters:
            self._clusters[domain] = DomainCluster(self._api, domain, self._namespaces[domain], self._fencing)
        return self._clusters[domain]


def _refused(action: Action, refusal: Exception) -> ActionOutcome:
    """Return REFUSED if the world moved on or may not be touched, FAILED if the request made no sense."""
    moved_on = isinstance(refusal, Refusal) or getattr(refusal, "code", "") in {
        "kubernetes_stale",
        "kubernetes_unavailable",
        "kubernetes_absent",
    }
    status = OutcomeStatus.REFUSED if moved_on else OutcomeStatus.FAILED
    return ActionOutcome(action=action, status=status, detail=f"{getattr(refusal, 'code', 'refused')}: {refusal}")
