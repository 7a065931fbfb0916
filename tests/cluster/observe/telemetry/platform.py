"""A small platform over a fake driver: real bindings, agent, store and observer; a simulated world for the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cluster.observe.nvml import Inventory, inventory
from cluster.observe.telemetry.agent import Agent
from cluster.observe.telemetry.observer import Root, TelemetryObserver
from cluster.observe.telemetry.store import TelemetryStore
from policies.documents.document import parse_policy
from policies.model.decision import Decision, Reason
from policies.model.inventory import Device, Node
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, WorkerId
from policies.model.workload import Claim, ClaimKind, Shape
from tests.cluster.observe.telemetry.conftest import NODE, Rig
from tests.cluster.observe.telemetry.fake_node import FakeNode, FakeProcess
from tests.simulation.world import World

DEFAULT = Path(__file__).parents[4] / "policies" / "profiles" / "default.yaml"
FIRST_PID = 5_000_000
"""Above every PID that a Linux host can have: these processes exist in the fake driver alone."""


@dataclass
class WatchedWorld(World):
    """A world seen through telemetry."""

    observer: TelemetryObserver | None = None

    def observe(self) -> Snapshot:
        return super().observe() if self.observer is None else self.observer.observe()


@dataclass
class Bare:
    """The world without telemetry, for the observer to wrap."""

    world: WatchedWorld

    def observe(self) -> Snapshot:
        return World.observe(self.world)


@dataclass
class Platform:
    """Everything together; ``second`` is one round of the agent and one turn of the loop."""

    rig: Rig
    world: WatchedWorld
    agent: Agent
    store: TelemetryStore
    pids: dict[WorkerId, int] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    decision: Decision | None = None

    def second(self, *, report: bool = True) -> Decision:
        """Let a second pass. ``report`` is whether the agent's report reaches the control plane."""
        self._run_processes()
        seen = self.rig.later(self.agent)
        if report:
            answer = self.store.accept(seen)
            self.agent.acknowledged(answer.event_sequence)
        self.world.now_ms = self.rig.clock.now
        self.snapshot, self.decision, _ = self.world.step()
        return self.decision

    def seconds(self, count: int, *, report: bool = True) -> Decision:
        for _ in range(count):
            self.second(report=report)
        assert self.decision is not None
        return self.decision

    def device(self, uuid: str) -> Device:
        assert self.snapshot is not None
        return next(device for device in self.snapshot.devices if device.id == uuid)

    def gap(self, uuid: str) -> str | None:
        assert self.snapshot is not None
        return next((gap.cause for gap in self.snapshot.gaps if gap.subject == uuid), None)

    def reason(self, claim: str) -> Reason:
        assert self.decision is not None
        return next(reason for reason in self.decision.reasons if reason.claim == claim)

    def groups_on(self, uuid: str) -> set[str]:
        return {group.id for group in self.world.groups.values() if uuid in group.devices}

    def holder(self, claim: str) -> str:
        """Return the device that the claim's only replica is on."""
        found = {device for group in self.world.groups.values() if group.claim == claim for device in group.devices}
        assert len(found) == 1, found
        return found.pop()

    def _run_processes(self) -> None:
        """Every worker runs one process on each of its devices, started by its root."""
        for worker in self.world.workers.values():
            self.pids.setdefault(worker.id, FIRST_PID + len(self.pids))
        for gpu in self.rig.node.gpus:
            ours = [self.pids[w.id] for w in self.world.workers.values() if gpu.uuid in w.devices]
            strangers = [one for one in gpu.processes if one.pid not in self.pids.values()]
            gpu.processes = [*(FakeProcess(pid=pid, memory_mib=1_000, sm=30) for pid in ours), *strangers]


def claim(name: str, tenant: str = "civil/justice", replicas: int = 1) -> Claim:
    """Return a serving claim of whole devices."""
    return Claim(
        id=ClaimId(f"{tenant}:{name}"),
        tenant=tenant,
        kind=ClaimKind.SERVING,
        model="small",
        ladder=(Shape(flavors=()),),
        min_replicas=1,
        desired_replicas=replicas,
        max_replicas=replicas,
    )


def platform(rig: Rig, node: FakeNode, *claims: Claim, round_ms: int = 2_000) -> Platform:
    """Return a platform over this node with these claims, each served."""
    rig.show(node)
    listed = inventory(NODE)
    assert isinstance(listed, Inventory)
    world = WatchedWorld(policy=parse_policy(DEFAULT.read_text()))
    world.nodes[NODE] = Node(id=NODE, cpu_millis=64_000, memory_mib=512_000)
    world.flavors = {flavor.id: flavor for flavor in listed.flavors}
    world.devices = {device.id: device for device in listed.devices}
    world.claims = {one.id: one for one in claims}
    world.demands = {one.id: one.desired_replicas for one in claims}
    store = TelemetryStore(rig.clock)
    made = Platform(rig=rig, world=world, agent=rig.agent(round_ms), store=store)
    world.observer = TelemetryObserver(
        Bare(world), store, lambda: {worker: Root(pid=pid) for worker, pid in made.pids.items()}
    )
    made.seconds(15)
    for one in claims:
        assert world.running(one.id) == one.desired_replicas, made.reason(one.id)
    return made
