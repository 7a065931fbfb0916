"""Kueue's published performance set-ups, replayed in virtual time. Run by ``make bench-decide``.

Not the same measurement: Kueue runs real controllers against a real API server and waits for real time; here only
decisions are taken, each is carried out at once, and wall time is the decisions' own. All cohorts, queues and workloads
of a set-up are there. A turn is taken whenever something happened: a workload came, ended, or was decided upon. The mix
of the large set-up is not published beside its size; that of the baseline is used.
"""

from __future__ import annotations

import heapq
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from cluster.collecting import collect_seldom
from policies.decide import Decider
from policies.model.decision import Decision, Placement
from policies.model.inventory import Device, Flavor, Group, GroupState, Node, ScrubState, Worker, WorkerState
from policies.model.memory import Memory
from policies.model.naming import worker_id
from policies.model.policy import Bounds, Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, ClaimKind, Shape

NOMINAL, BORROWING = 20, 100
SIZES = {"small": (1, 200, 100), "medium": (5, 500, 500), "large": (20, 1000, 1200)}
"""Units, run time in ms, and ms between arrivals in one queue."""
CLASSES = (PriorityClass(name="small", value=50), PriorityClass(name="medium", value=100),
           PriorityClass(name="large", value=200))  # fmt: skip
SETUPS = {
    "baseline": (5, 6, {"small": 350, "medium": 100, "large": 50}),
    "large": (10, 100, {"small": 35, "medium": 10, "large": 5}),
}
"""Cohorts, queues in each, workloads of each class in each queue."""
PUBLISHED = {
    "baseline": {"wall": 351.1, "usage": 55.9, "large": 16.5, "medium": 76.8, "small": 215.5},
    "large": {"wall": 1179.4, "usage": 38.6, "large": 105.6, "medium": 256.4, "small": 700.4},
}
"""Kueue's own means: seconds of wall time, usage in percent, seconds to admission by class."""
PAGE = Path(__file__).parents[2] / "runbooks" / "deciding.md"


def rules(cohorts: int, queues: int) -> Policy:
    """Each cohort is a tree of its own: its queues borrow from one another, and from nobody outside."""
    quota = Quota(flavor="unit", nominal_millis=NOMINAL * 1000, borrowing_limit_millis=BORROWING * 1000)
    tenants: list[Tenant] = []
    for cohort in range(cohorts):
        top = f"civil/c{cohort}"
        own = Quota(flavor="unit", nominal_millis=queues * NOMINAL * 1000, lending_limit_millis=0,
                    borrowing_limit_millis=0)  # fmt: skip
        tenants.append(Tenant(id=top, domain=SecurityDomain.CIVIL, quotas=(own,)))
        tenants += [
            Tenant(id=f"{top}/q{index:03}", domain=SecurityDomain.CIVIL, parent=top, quotas=(quota,))
            for index in range(queues)
        ]
    free = Bounds(cooldown_ms=0, victim_hold_ms=1, evictions_per_window=10**9)
    return Policy(revision="kueue", tenants=tuple(tenants), priority_classes=CLASSES, bounds=free)


def hosts(units: int) -> Snapshot:
    """Return as many whole devices as all nominal quotas together, each with a worker that is ready."""
    civil = SecurityDomain.CIVIL
    devices = tuple(
        Device(id=f"u{index:05}", node=f"n{index // 8:04}", flavor="unit", gpu=f"u{index:05}", memory_mib=1,
               domain=civil, scrub=ScrubState.DIRTY) for index in range(units)
    )  # fmt: skip
    workers = tuple(
        Worker(id=worker_id(civil, (one.id,)), domain=civil, node=one.node, devices=(one.id,), state=WorkerState.READY)
        for one in devices
    )
    return Snapshot(
        generation=0, observed_at_ms=0, devices=devices, workers=workers,
        flavors=(Flavor(id="unit", model="unit", memory_mib=1),),
        nodes=tuple(Node(id=one, cpu_millis=0, memory_mib=0) for one in sorted({one.node for one in devices})),
    )  # fmt: skip


@dataclass
class Replay:
    """One set-up under way: what waits, what runs, and what was seen of it."""

    policy: Policy
    seen: Snapshot
    arrivals: list[tuple[int, str, str, str]]
    """When, name, class and queue; sorted."""
    now_ms: int = 0
    memory: Memory = field(default_factory=Memory)
    decider: Decider = field(default_factory=Decider)
    claims: dict[str, Claim] = field(default_factory=dict)
    running: dict[str, tuple[Group, ...]] = field(default_factory=dict)
    ends: list[tuple[int, str, int]] = field(default_factory=list)
    """When, name, and the start that it belongs to: one that was evicted ends later."""
    started_ms: dict[str, int] = field(default_factory=dict)
    first_ms: dict[str, list[int]] = field(default_factory=dict)
    """Time to the first admission, by class."""
    admissions: int = 0
    evictions: int = 0
    unit_ms: int = 0
    decided_s: float = 0.0
    decisions: int = 0

    def run(self) -> None:
        """Take a turn at each moment at which something happens, until every workload has ended."""
        while self.arrivals or self.claims:
            while self.arrivals and self.arrivals[0][0] <= self.now_ms:
                self._arrive(*heapq.heappop(self.arrivals))
            while self.ends and self.ends[0][0] <= self.now_ms:
                self._end(*heapq.heappop(self.ends))
            if self.claims:
                self._turn()
            moments = [some[0][0] for some in (self.arrivals, self.ends) if some]
            later = min(moments, default=self.now_ms)
            print(f"{self.now_ms} ms: {len(self.claims)} there, {len(self.running)} run, {self.decisions} decisions, "
                  f"{self.decided_s:.1f} s", file=sys.stderr, flush=True)  # fmt: skip
            self.unit_ms += (later - self.now_ms) * sum(len(some) for some in self.running.values())
            self.now_ms = later

    def _arrive(self, at_ms: int, name: str, kind: str, queue: str) -> None:
        units = SIZES[kind][0]
        self.claims[name] = Claim(
            id=name, tenant=queue, kind=ClaimKind.JOB, ladder=(SHAPE,), min_replicas=units, desired_replicas=units,
            max_replicas=units, priority_class=kind, submitted_at_ms=at_ms,
        )  # fmt: skip

    def _end(self, at_ms: int, name: str, started_ms: int) -> None:
        if name in self.running and self.started_ms[name] == started_ms and at_ms <= self.now_ms:
            del self.running[name], self.claims[name]

    def _turn(self) -> None:
        """Decide and carry out, until a decision changes nothing more: evicted first, started then."""
        while True:
            self.decisions += 1
            groups = tuple(one for some in self.running.values() for one in some)
            seen = replace(self.seen, generation=self.decisions, observed_at_ms=self.now_ms, groups=groups,
                           claims=tuple(self.claims.values()))  # fmt: skip
            begin = time.process_time()
            decision = self.decider.decide(seen, self.policy, self.memory, self.now_ms)
            self.decided_s += time.process_time() - begin
            self.memory = decision.memory
            if not self._carried_out(decision):
                return

    def _carried_out(self, decision: Decision) -> bool:
        """Stop what is to go; start whose places are free; say whether a further turn could start more."""
        gone = {one.claim for one in decision.evictions} & self.running.keys()
        self.evictions += len(gone)
        for name in gone:
            del self.running[name]
        taken = {one for some in self.running.values() for group in some for one in group.devices}
        for name, some in groupby(sorted(decision.placements, key=lambda one: one.claim), key=lambda one: one.claim):
            placed = list(some)
            if name not in self.running and taken.isdisjoint(one for each in placed for one in each.devices):
                self._start(name, placed)
        return bool(gone)

    def _start(self, name: str, placed: list[Placement]) -> None:
        claim = self.claims[name]
        self.admissions += 1
        if name not in self.started_ms:
            self.first_ms.setdefault(claim.priority_class, []).append(self.now_ms - claim.submitted_at_ms)
        self.started_ms[name] = self.now_ms
        heapq.heappush(self.ends, (self.now_ms + SIZES[claim.priority_class][1], name, self.now_ms))
        self.running[name] = tuple(
            Group(id=one.group, claim=name, worker=one.worker, rung=0, variant=None, devices=one.devices,
                  replicas=one.replicas, running=one.replicas, state=GroupState.RUNNING, routed=True, in_flight=1,
                  since_ms=self.now_ms) for one in placed
        )  # fmt: skip


SHAPE = Shape(flavors=("unit",))


def replay(name: str) -> Replay:
    """Return the set-up, replayed to its end."""
    cohorts, queues, each = SETUPS[name]
    arrivals = sorted(
        (number * SIZES[kind][2], f"{queue}:{kind}{number:03}", kind, queue)
        for queue in (f"civil/c{cohort}/q{index:03}" for cohort in range(cohorts) for index in range(queues))
        for kind, count in each.items() for number in range(count)
    )  # fmt: skip
    made = Replay(rules(cohorts, queues), hosts(cohorts * queues * NOMINAL), arrivals)
    made.run()
    return made


def table(name: str, made: Replay) -> str:
    """Return the figures beside the published ones."""
    cohorts, queues, each = SETUPS[name]
    units, published = cohorts * queues * NOMINAL, PUBLISHED[name]
    count = cohorts * queues * sum(each.values())
    usage = 100 * made.unit_ms / (units * made.now_ms)
    rows = [
        ("virtual time until all have ended, s", f"{made.now_ms / 1000:.1f}", f"{published['wall']:.1f} (wall)"),
        ("average usage, %", f"{usage:.1f}", f"{published['usage']:.1f}"),
        *((f"mean time to admission, {kind}, s", f"{statistics.mean(made.first_ms[kind]) / 1000:.1f}",
           f"{published[kind]:.1f}") for kind in ("large", "medium", "small")),
        ("evictions per admission", f"{made.evictions / made.admissions:.4f}", "not published"),
        ("decisions", f"{made.decisions:,}", "not published"),
        ("CPU time of all decisions, s", f"{made.decided_s:.1f}", "not comparable"),
        ("decisions per CPU second", f"{made.decisions / made.decided_s:.1f}", "not published"),
        ("admissions per second", f"{made.admissions / made.decided_s:.0f} (of deciding)",
         f"{count / published['wall']:.1f} (wall)"),
    ]  # fmt: skip
    title = f"**{name}**: {cohorts} cohorts of {queues} queues, {count:,} workloads, {units:,} units\n\n"
    lines = "\n".join(f"| {what} | {ours} | {theirs} |" for what, ours, theirs in rows)
    return f"{title}| | here | Kueue |\n|---|---|---|\n{lines}\n"


def main(names: list[str]) -> None:
    """Print the figures; with both set-ups, write them to the page."""
    collect_seldom()
    tables = []
    for name in names:
        tables.append(table(name, replay(name)))
        print(tables[-1], flush=True)
    if names == list(SETUPS):
        page = PAGE.read_text().partition(BEGIN)[0].rstrip()
        PAGE.write_text(page + TEXT + "\n".join(tables))


BEGIN = "\n## Kueue's set-ups"
TEXT = f"""
{BEGIN}

Written by `make bench-decide`. Workloads, queues, quotas, classes and run times are those of Kueue's performance test
(the mix of the large one is not published beside its size: the baseline's is used). **The method differs**: Kueue runs
its controllers against a real API server in real time; here only decisions are taken, in virtual time, and each is
carried out at once. So times to admission say how the order of admission fares under the same load, not how quick a
control plane is; wall time and admissions per second are not comparable. Kueue's quota is a number; here each unit is a
device with a place.

"""


if __name__ == "__main__":
    main(sys.argv[1:] or list(SETUPS))
