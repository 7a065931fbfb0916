"""Kueue's published performance set-ups, replayed in virtual time. Run by ``make bench-decide``.

Not the same measurement: Kueue runs real controllers against a real API server and waits for real time; here only
decisions are taken, each tick of virtual time sees all of them carried out at once, and wall time is the decisions'
own.
Cohorts are independent of each other and alike, so one of them is replayed. The mix of the large set-up is not
published beside its size; the mix of the baseline is used.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field

from policies.decide import decide
from policies.model.inventory import Device, Flavor, Group, GroupState, Node, ScrubState, Worker, WorkerState
from policies.model.memory import Memory
from policies.model.naming import worker_id
from policies.model.policy import Bounds, Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, ClaimKind, Shape

TICK_MS = 100
NOMINAL, BORROWING = 20, 100
SIZES = {"small": (1, 200, 100), "medium": (5, 500, 500), "large": (20, 1000, 1200)}
"""Units, run time in ms, and ms between arrivals in one queue."""
CLASSES = (PriorityClass(name="small", value=50), PriorityClass(name="medium", value=100),
           PriorityClass(name="large", value=200))  # fmt: skip
PUBLISHED = {
    "baseline": "Kueue, five such cohorts: 351.1 s wall, 42.7 admissions/s, usage 55.9 %, "
    "time to admission large 16.5 s, medium 76.8 s, small 215.5 s",
    "large": "Kueue, ten such cohorts: 1179.4 s wall, 42.4 admissions/s, usage 38.6 %, "
    "time to admission large 105.6 s, medium 256.4 s, small 700.4 s",
}


@dataclass
class Cohort:
    """One cohort: queues that may borrow from one another, and the devices of all their nominal quotas."""

    queues: int
    each: dict[str, int]
    """Workloads of each class per queue."""
    now_ms: int = 0
    memory: Memory = field(default_factory=Memory)
    waiting: dict[str, Claim] = field(default_factory=dict)
    running: dict[str, tuple[int, tuple[Group, ...]]] = field(default_factory=dict)
    admitted_after: dict[str, list[int]] = field(default_factory=dict)
    evictions: int = 0
    busy: list[int] = field(default_factory=list)
    decided_s: float = 0.0
    decisions: int = 0

    def __post_init__(self) -> None:
        quota = Quota(flavor="unit", nominal_millis=NOMINAL * 1000, borrowing_limit_millis=BORROWING * 1000)
        top = Tenant(id="civil", domain=SecurityDomain.CIVIL)
        names = [f"civil/q{index:03}" for index in range(self.queues)]
        tenants = tuple(Tenant(id=one, domain=SecurityDomain.CIVIL, parent="civil", quotas=(quota,)) for one in names)
        free = Bounds(cooldown_ms=0, victim_hold_ms=TICK_MS, evictions_per_window=10**9, search_steps=10**9)
        self.policy = Policy(revision="kueue", tenants=(top, *tenants), priority_classes=CLASSES, bounds=free)
        ids = [f"u{index:05}" for index in range(self.queues * NOMINAL)]
        self.devices = tuple(
            Device(id=one, node=f"n{index // 8}", flavor="unit", gpu=one, memory_mib=1, domain=SecurityDomain.CIVIL,
                   scrub=ScrubState.DIRTY) for index, one in enumerate(ids)
        )  # fmt: skip
        self.workers = tuple(
            Worker(id=worker_id(SecurityDomain.CIVIL, (one.id,)), domain=SecurityDomain.CIVIL, node=one.node,
                   devices=(one.id,), state=WorkerState.READY) for one in self.devices
        )  # fmt: skip
        nodes = sorted({one.node for one in self.devices})
        self.nodes = tuple(Node(id=one, cpu_millis=0, memory_mib=0) for one in nodes)
        self.arrivals = sorted(
            (number * SIZES[kind][2], f"{queue}:{kind}{number:03}", kind, queue)
            for queue in names for kind, count in self.each.items() for number in range(count)
        )  # fmt: skip

    def replay(self) -> None:
        """Run until every workload has ended."""
        while self.arrivals or self.waiting or self.running:
            while self.arrivals and self.arrivals[0][0] <= self.now_ms:
                self._arrive(*self.arrivals.pop(0))
            done = [name for name, (ends, _) in self.running.items() if ends <= self.now_ms]
            for name in done:
                del self.running[name], self.waiting[name]
            self._tick()
            self.now_ms += TICK_MS

    def _arrive(self, at_ms: int, name: str, kind: str, queue: str) -> None:
        units = SIZES[kind][0]
        self.waiting[name] = Claim(
            id=name, tenant=queue, kind=ClaimKind.JOB, ladder=(Shape(flavors=("unit",)),), min_replicas=units,
            desired_replicas=units, max_replicas=units, priority_class=kind, submitted_at_ms=at_ms,
        )  # fmt: skip

    def _tick(self) -> None:
        snapshot = Snapshot(
            generation=self.decisions, observed_at_ms=self.now_ms, devices=self.devices, workers=self.workers,
            flavors=(Flavor(id="unit", model="unit", memory_mib=1),), nodes=self.nodes,
            claims=tuple(self.waiting.values()), groups=tuple(g for _, some in self.running.values() for g in some),
        )  # fmt: skip
        begin = time.perf_counter()
        decision = decide(snapshot, self.policy, self.memory, self.now_ms)
        self.decided_s += time.perf_counter() - begin
        self.decisions += 1
        self.memory = decision.memory
        self._carry_out(decision)

    def _carry_out(self, decision) -> None:
        gone = {one.claim for one in decision.evictions} & set(self.running)
        self.evictions += len(gone)
        for name in gone:
            del self.running[name]
        placed: dict[str, list] = {}
        for one in decision.placements:
            placed.setdefault(one.claim, []).append(one)
        for name, some in placed.items():
            if name not in self.running:
                self._admit(name, some)
        self.busy.append(sum(len(some) for _, some in self.running.values()))

    def _admit(self, name: str, some: list) -> None:
        kind = self.waiting[name].priority_class
        self.admitted_after.setdefault(kind, []).append(self.now_ms - self.waiting[name].submitted_at_ms)
        self.running[name] = self.now_ms + SIZES[kind][1], tuple(
            Group(id=one.group, claim=name, worker=one.worker, rung=0, variant=None, devices=one.devices,
                  replicas=one.replicas, running=one.replicas, state=GroupState.RUNNING, routed=True, in_flight=1,
                  since_ms=self.now_ms) for one in some
        )  # fmt: skip


def main(name: str, queues: int, each: dict[str, int]) -> None:
    """Replay one cohort and print the figures beside the published ones."""
    cohort = Cohort(queues, each)
    cohort.replay()
    admitted = sum(len(some) for some in cohort.admitted_after.values())
    usage = 100 * statistics.mean(cohort.busy) / (queues * NOMINAL)
    print(f"{name}: one cohort, {queues} queues, {queues * sum(each.values())} workloads")
    print(f"  virtual time {cohort.now_ms / 1000:.1f} s, usage {usage:.1f} %, evictions per admission "
          f"{cohort.evictions / admitted:.4f}, first admissions and re-admissions {admitted}")  # fmt: skip
    for kind in ("large", "medium", "small"):
        print(f"  time to admission {kind}: mean {statistics.mean(cohort.admitted_after[kind]) / 1000:.1f} s")
    per_s = f"{cohort.decisions / cohort.decided_s:.1f} decisions/s, {admitted / cohort.decided_s:.0f} admissions/s"
    print(f"  {cohort.decisions} decisions in {cohort.decided_s:.1f} s of wall time: {per_s}")
    print(f"  published: {PUBLISHED[name]}")


if __name__ == "__main__":
    if "large" in sys.argv:
        main("large", 100, {"small": 35, "medium": 10, "large": 5})
    else:
        main("baseline", 6, {"small": 350, "medium": 100, "large": 50})
