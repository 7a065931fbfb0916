"""A world small enough to read: it does at once, or after some steps, what a plan says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from policies.decide import decide
from policies.invariants import check, check_decision
from policies.model.decision import Decision
from policies.model.inventory import (
    Device,
    Flavor,
    Group,
    GroupState,
    Node,
    ScrubState,
    Worker,
    WorkerState,
)  # fmt: skip
from policies.model.memory import Memory
from policies.model.plan import Plan
from policies.model.policy import Policy
from policies.model.snapshot import Gap, Snapshot
from policies.model.workload import Claim, Demand, Reservation
from policies.planning import plan

STEP_MS = 1_000


@dataclass
class World:
    """Devices, workers, groups and traffic. ``step`` is one turn of the loop followed by a second of time."""

    policy: Policy
    nodes: dict[str, Node] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    flavors: dict[str, Flavor] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    demands: dict[str, int] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    """Requests that wait for each claim."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """Requests that stay inside a group after routing stopped; each step ends one."""
    reservations: list[Reservation] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    adopting: tuple = ()
    memory: Memory = field(default_factory=Memory)
    now_ms: int = 1_000_000
    generation: int = 0
    start_steps: int = 1
    """Turns between an action and its effect: worker joining, group running, scrub ending."""
    pending: dict[tuple[str, str], int] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    """Why each group lost its place, and for whom, in the order in which they left."""

    def observe(self) -> Snapshot:
        self.generation += 1
        return Snapshot(
            generation=self.generation, observed_at_ms=self.now_ms,
            flavors=tuple(self.flavors.values()), nodes=tuple(self.nodes.values()),
            devices=tuple(self.devices.values()), workers=tuple(self.workers.values()),
            groups=tuple(replace(g, in_flight=self._inside(g)) for g in self.groups.values()),
            claims=tuple(self.claims.values()), reservations=tuple(self.reservations), gaps=tuple(self.gaps),
            adopting=self.adopting,
            demands=tuple(Demand(claim=c, replicas=n, observed_at_ms=self.now_ms, queued=self.queued.get(c, 0))
                          for c, n in self.demands.items()),
        )  # fmt: skip

    def _inside(self, group: Group) -> int:
        return self.in_flight.get(group.id, 1 if group.routed else 0)

    def turn(self) -> tuple[Snapshot, Decision, Plan]:
        """Observe, decide, plan and let the second program check both; carry nothing out."""
        snapshot = self.observe()
        decision = decide(snapshot, self.policy, self.memory, self.now_ms)
        made = plan(snapshot, decision, self.policy, 1)
        found = check_decision(snapshot, decision, self.policy) + check(snapshot, made, self.policy, decision.memory)
        assert not found, found
        return snapshot, decision, made

    def step(self) -> tuple[Snapshot, Decision, Plan]:
        """Take a turn, carry it out, let a second pass."""
        snapshot, decision, made = self.turn()
        self.memory = decision.memory
        self.last = (snapshot, decision, made)
        for one in decision.evictions:
            self.left.setdefault(one.group, f"{one.reason} for {one.beneficiary}" if one.beneficiary else one.reason)
        for action in made.actions:
            self.history.append(action.kind)
            getattr(self, "_" + action.kind)(action)
        self._progress()
        self.now_ms += STEP_MS
        return snapshot, decision, made

    def run(self, steps: int):
        """Take so many turns; return the last one."""
        for _ in range(steps):
            last = self.step()
        return last

    def settle(self, limit: int = 200):
        """Take turns until a plan is empty and nothing is under way; return how many it took."""
        for taken in range(limit):
            _, _, made = self.step()
            if not made.actions and not self.pending and not self.memory.drains:
                return taken
        raise AssertionError(f"still moving after {limit} turns: {self.history[-20:]}")

    def held_by(self, domain: str) -> set[str]:
        """Return the devices that workers of the domain hold."""
        return {d for w in self.workers.values() if w.domain == domain for d in w.devices}

    def running(self, claim: str) -> int:
        """Return the routed, running replicas of a claim."""
        return sum(g.running for g in self.groups.values() if g.claim == claim and g.routed)

    def _stop_routing(self, action):
        group = self.groups[action.group]
        self.in_flight.setdefault(group.id, 2)
        self.groups[action.group] = replace(group, routed=False)

    def _stop_group(self, action):
        self.groups.pop(action.group, None)
        self.in_flight.pop(action.group, None)
        self.pending.pop(("group", action.group), None)

    def _stop_worker(self, action):
        worker = self.workers.pop(action.worker)
        self.pending.pop(("worker", action.worker), None)
        assert not any(g.worker == worker.id for g in self.groups.values()), "a worker stopped under its groups"

    def _scrub_device(self, action):
        self.devices[action.device] = replace(self.devices[action.device], scrub=ScrubState.SCRUBBING)
        self.pending["scrub", action.device] = self.start_steps

    def _start_worker(self, action):
        for one in action.devices:
            device = self.devices[one]
            assert not any(one in w.devices for w in self.workers.values()), "a device was bound twice"
            assert device.scrub is ScrubState.CLEAN or device.domain == action.domain, "a dirty device changed domain"
            self.devices[one] = replace(device, domain=action.domain, scrub=ScrubState.DIRTY)
        self.workers[action.worker] = Worker(
            id=action.worker, domain=action.domain, node=action.node, devices=action.devices,
            state=WorkerState.STARTING, since_ms=self.now_ms,
        )  # fmt: skip
        self.pending["worker", action.worker] = self.start_steps

    def _start_group(self, action):
        worker = self.workers[action.worker]
        assert worker.state is WorkerState.READY
        rung = next(
            i for i, shape in enumerate(self.claims[action.claim].ladder)
            if shape.variant == action.variant and shape.gpu_millis == action.gpu_millis
        )  # fmt: skip
        self.groups[action.group] = Group(
            id=action.group, claim=action.claim, worker=action.worker, rung=rung, variant=action.variant,
            devices=action.devices, replicas=action.replicas, since_ms=self.now_ms, cold_start_ms=5_000,
        )  # fmt: skip
        self.pending["group", action.group] = self.start_steps

    def _scale_group(self, action):
        group = self.groups[action.group]
        self.groups[action.group] = replace(
            group, replicas=action.replicas, running=min(group.running, action.replicas)
        )
        self.pending["group", action.group] = self.start_steps

    def _start_routing(self, action):
        self.groups[action.group] = replace(self.groups[action.group], routed=True)
        self.in_flight.pop(action.group, None)

    def _progress(self):
        for group, inside in list(self.in_flight.items()):
            self.in_flight[group] = max(0, inside - 1)
        for (kind, name), left in list(self.pending.items()):
            if left > 1:
                self.pending[kind, name] = left - 1
                continue
            del self.pending[kind, name]
            if kind == "scrub":
                self.devices[name] = replace(self.devices[name], scrub=ScrubState.CLEAN, domain=None)
            elif kind == "worker" and name in self.workers:
                self.workers[name] = replace(self.workers[name], state=WorkerState.READY)
            elif kind == "group" and name in self.groups:
                group = self.groups[name]
                self.groups[name] = replace(group, running=group.replicas, state=GroupState.RUNNING)


def fleet(policy: Policy, *hosts: int, flavor: str = "H100-80GB", memory_mib: int = 81_000) -> World:
    """Return a world of hosts with so many devices each."""
    world = World(policy=policy)
    world.flavors[flavor] = Flavor(id=flavor, model=flavor, memory_mib=memory_mib)
    for host, count in enumerate(hosts):
        node = f"node-{host}"
        world.nodes[node] = Node(id=node, cpu_millis=64_000, memory_mib=512_000)
        for index in range(count):
            one = f"GPU-{host}-{index}"
            world.devices[one] = Device(id=one, node=node, flavor=flavor, gpu=one, memory_mib=memory_mib)
    return world
