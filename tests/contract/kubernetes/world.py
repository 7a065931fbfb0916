"""Two domains on a few machines, and a hand that carries out plans as the control loop would."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from cluster.actuate.kubernetes.actuator import KubernetesActuator
from cluster.actuate.kubernetes.custody import Shown, settle
from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Selection
from cluster.kubernetes.kinds import NODE_DEVICES, NODES, PODS, RAY_CLUSTERS, RAY_SERVICES
from cluster.kubernetes.mirror import MirrorLimits
from cluster.observe.kubernetes.mirrors import Mirrors, mirrors
from cluster.observe.kubernetes.nodes import unreachable
from cluster.observe.kubernetes.observer import KubernetesObserver, ObservationRules, Served
from cluster.ray_rest import RayUnreadable
from cluster.sim.journal import MemoryLedger, Shared
from policies.model.inventory import WorkerState
from policies.model.naming import worker_id
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
from policies.model.snapshot import Snapshot
from policies.model.units import DeviceId, GroupId, NodeId, SecurityDomain, WorkerId

from .stand_in import KubeRay, Machine, Machines, ray_service

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
SHORT = MirrorLimits(watch_s=1, resync_ms=0, first_wait_ms=10)
_numbers = itertools.count(1)


@dataclass
class NoServe:
    """A Ray Serve that has nothing and takes everything: what is tested here is below it."""

    plans: list[Plan] = field(default_factory=list)
    groups: dict[WorkerId, tuple[GroupId, ...]] = field(default_factory=dict)
    unreadable: bool = False
    """Whether the head does not answer."""

    def look(self) -> dict[SecurityDomain, Served]:
        return {domain: Served() for domain in SecurityDomain}

    def execute(self, plan: Plan) -> Outcome:
        self.plans.append(plan)
        results = tuple(ActionOutcome(action=action, status=OutcomeStatus.ACCEPTED) for action in plan.actions)
        return Outcome(plan=plan.id, results=results, finished_at_ms=0)

    def carried(self, domain: SecurityDomain, worker: WorkerId) -> tuple[GroupId, ...]:
        if self.unreadable:
            raise RayUnreadable(f"http://{domain}", "read_timeout")
        return self.groups.get(worker, ())


class World:
    """Everything around the control plane, and the control plane's two hands."""

    def __init__(self, api: Api, hosts: tuple[Machine, ...], prefix: str) -> None:
        self.api, self.clock = api, SystemClock()
        self.namespaces = {DEFENCE: f"{prefix}-defence", CIVIL: f"{prefix}-civil"}
        self.kuberay = KubeRay(api, tuple(self.namespaces.values()))
        self.machines = Machines(api, self.clock, hosts)
        self.ledger = MemoryLedger(Shared(), self.clock)
        self.serve = NoServe()
        self.fencing = 1
        self.actuator = self.new_actuator()
        self.mirrors = mirrors(api, self.clock, tuple(self.namespaces.values()), SHORT)
        self.observer = self.new_observer(self.mirrors)

    def new_actuator(self) -> KubernetesActuator:
        return KubernetesActuator(self.api, self.serve, self.ledger, self.clock, self.namespaces, spares_kept=0)

    def new_observer(self, copies: Mirrors) -> KubernetesObserver:
        domains = {namespace: domain for domain, namespace in self.namespaces.items()}
        return KubernetesObserver(copies, self.serve, self.ledger, self.clock, domains, ObservationRules())

    def step(self, times: int = 1) -> None:
        """Let the operator, the scheduler, the kubelets and the agents act, and the control plane keep its ledger."""
        for _ in range(times):
            self.kuberay.step()
            self.machines.step()
            self.settle()

    def settle(self) -> None:
        pods, reports = self.api.list_all(PODS)[0], self.api.list_all(NODE_DEVICES)[0]
        away = unreachable(tuple(self.api.list_all(NODES)[0]))
        shown = Shown(pods=tuple(pods), reports=tuple(reports), unreachable=frozenset(away))
        settle(self.api, self.ledger, shown, {n: d for d, n in self.namespaces.items()}, self.fencing)

    def execute(self, *actions: Action, fencing: int | None = None) -> tuple[ActionOutcome, ...]:
        return self.actuator.execute(self.plan(*actions, fencing=fencing)).results

    def plan(self, *actions: Action, fencing: int | None = None) -> Plan:
        return Plan(
            id=f"plan-{next(_numbers)}",
            snapshot_generation=1,
            fencing_generation=self.fencing if fencing is None else fencing,
            decided_at_ms=0,
            actions=actions,
        )

    def observe(self) -> Snapshot:
        """List everything anew and look."""
        for mirror in self.mirrors.all():
            mirror._list()
        return self.observer.observe()

    def pods(self, domain: SecurityDomain) -> list[dict]:
        found = self.api.list_all(PODS, Selection(namespace=self.namespaces[domain], labels="ray.io/node-type=worker"))[
            0
        ]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def replicas(self, domain: SecurityDomain) -> dict[str, int]:
        (cluster,) = self.api.list_all(RAY_CLUSTERS, Selection(namespace=self.namespaces[domain]))[0]
        return {group["groupName"]: group["replicas"] for group in cluster["spec"]["workerGroupSpecs"]}

    def until_ready(self, *actions: StartWorker) -> None:
        """Carry out the starts, again and again as the loop would, until each worker is ready."""
        for _ in range(8):
            self.execute(*actions)
            self.step()
            ready = {worker.id for worker in self.observe().workers if worker.state is WorkerState.READY}
            if all(action.worker in ready for action in actions):
                return
        raise AssertionError([outcome.detail for outcome in self.execute(*actions)])


def start(domain: SecurityDomain, node: str, *devices: str) -> StartWorker:
    names = tuple(DeviceId(device) for device in devices)
    return StartWorker(domain=domain, worker=worker_id(domain, names), node=NodeId(node), devices=names, reason="test")


def stop(domain: SecurityDomain, *devices: str) -> StopWorker:
    names = tuple(DeviceId(device) for device in devices)
    return StopWorker(domain=domain, worker=worker_id(domain, names), devices=names, reason="test")


def scrub(node: str, device: str, origin: SecurityDomain, target: SecurityDomain) -> ScrubDevice:
    return ScrubDevice(device=DeviceId(device), node=NodeId(node), from_domain=origin, to_domain=target, reason="test")


def install_services(world: World) -> None:
    for domain, namespace in world.namespaces.items():
        world.api.create(RAY_SERVICES, namespace, ray_service(str(domain)))
    world.machines.start()
    world.kuberay.step()
    world.machines.step()
    world.machines.step()
