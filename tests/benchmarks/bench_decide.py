"""How long one decision takes, how that grows, and what a small change costs. Run by ``make bench-decide``.

Prints CPU seconds of one thread, ratios and a growth exponent, and writes them to ``runbooks/deciding.md``. Between
decisions what was decided is carried out: what should run runs, what was to go is gone.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.collecting import collect_seldom, not_collecting
from policies.decide import Decider, decide
from policies.invariants import check, check_decision
from policies.model.decision import Decision
from policies.model.inventory import Device, Flavor, Group, GroupState, Node, ScrubState, Worker, WorkerState
from policies.model.memory import Memory
from policies.model.naming import group_id, worker_id
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, ClaimKind, Demand, Shape
from policies.planning import plan
from tests.simulation.generate import Dice

NOW_MS = 1_000_000_000
ORGANISATIONS = 50
DEVICES_PER_NODE = 8
SIZES = (1_250, 2_500, 5_000, 10_000)
TURNS = 3
TURN_MS = 1_000
PAGE = Path(__file__).parents[2] / "runbooks" / "deciding.md"
WHOLE, HALF, NODE = (
    Shape(flavors=("H100",)),
    Shape(flavors=("H100",), gpu_millis=500),
    Shape(flavors=("H100",), devices=8),
)


def policy(nodes: int) -> Policy:
    """Two domains of fifty organisations each; nominal quotas cover the fleet exactly."""
    each = nodes * DEVICES_PER_NODE * 1000 // (2 * ORGANISATIONS)
    tenants = []
    for domain in SecurityDomain:
        quota = Quota(flavor="H100", nominal_millis=each * ORGANISATIONS)
        tenants.append(Tenant(id=str(domain), domain=domain, quotas=(quota,), floor_millis=(("H100", each),)))
        tenants += [
            Tenant(
                id=f"{domain}/o{index:02}", domain=domain, parent=str(domain), fair_weight=1 + index % 3,
                quotas=(Quota(flavor="H100", nominal_millis=each),),
            )
            for index in range(ORGANISATIONS)
        ]  # fmt: skip
    classes = (PriorityClass(name="critical", value=1000), PriorityClass(name="standard", value=500),
               PriorityClass(name="batch", value=100, min_runtime_s=60))  # fmt: skip
    return Policy(revision="bench", tenants=tuple(tenants), priority_classes=classes)


def fleet(nodes: int) -> Snapshot:
    """Return a full fleet: whole hosts, single devices and halves, and one waiting claim per nine that run."""
    devices, workers, groups, claims = [], [], [], []
    named: set[str] = set()
    for host in range(nodes):
        domain = list(SecurityDomain)[host % 2]
        names = tuple(_unused(f"GPU-{host:05}-{index}", domain, named) for index in range(DEVICES_PER_NODE))
        devices += [_device(one, host, domain) for one in names]
        layout = [names] if host % 8 in (0, 1) and host % 16 < 2 else [(one,) for one in names]
        for held in layout:
            worker = worker_id(domain, held)
            workers.append(Worker(id=worker, domain=domain, node=f"n{host:05}", devices=held, state=WorkerState.READY))
            shape = NODE if len(held) > 1 else (HALF if int(held[0][10]) >= 5 else WHOLE)
            for _ in range(2 if shape is HALF else 1):
                claim = _claim(domain, len(claims), shape)
                claims.append(claim)
                groups.append(Group(
                    id=group_id(claim.id, worker, 0), claim=claim.id, worker=worker, rung=0, variant=None, devices=held,
                    replicas=1, running=1, state=GroupState.RUNNING, routed=True, in_flight=1,
                    since_ms=NOW_MS - 3_600_000, cold_start_ms=10_000,
                ))  # fmt: skip
    running = len(claims)
    shapes = [NODE if index % 30 == 0 else (WHOLE, HALF, NODE)[index % 3] for index in range(running // 9)]
    claims += [_claim(list(SecurityDomain)[i % 2], running + i, shape) for i, shape in enumerate(shapes)]
    node = tuple(Node(id=f"n{host:05}", cpu_millis=128_000, memory_mib=1_000_000) for host in range(nodes))
    return Snapshot(
        generation=1, observed_at_ms=NOW_MS, flavors=(Flavor(id="H100", model="H100", memory_mib=80_000),), nodes=node,
        devices=tuple(devices), workers=tuple(workers), groups=tuple(groups), claims=tuple(claims),
    )  # fmt: skip


def _unused(name: str, domain: SecurityDomain, named: set[str]) -> str:
    """Return a device name whose worker has a name of its own: these have 32 bits, and here are very many."""
    while (worker := worker_id(domain, (name,))) in named:
        name = f"{name}+"
    named.add(worker)
    return name


def _device(name: str, host: int, domain: SecurityDomain) -> Device:
    return Device(
        id=name, node=f"n{host:05}", flavor="H100", gpu=name, memory_mib=80_000, domain=domain, scrub=ScrubState.DIRTY
    )  # fmt: skip


def _claim(domain: SecurityDomain, number: int, shape: Shape) -> Claim:
    tenant = f"{domain}/o{number % ORGANISATIONS:02}"
    return Claim(
        id=f"{tenant}:c{number:06}", tenant=tenant, kind=ClaimKind.SERVING, ladder=(shape,), submitted_at_ms=number,
        priority_class=("standard", "batch", "standard", "critical")[number % 4],
    )  # fmt: skip


def carried_out(snapshot: Snapshot, decision: Decision, now_ms: int) -> Snapshot:
    """Return the fleet after the decision: what should run runs, what should go is gone."""
    groups, workers = {one.id: one for one in snapshot.groups}, {one.id: one for one in snapshot.workers}
    domain = {device: one.domain for one in decision.bindings for device in one.devices}
    return replace(
        snapshot,
        groups=tuple(
            groups.get(one.group) or Group(
                id=one.group, claim=one.claim, worker=one.worker, rung=one.rung, variant=one.variant,
                devices=one.devices, replicas=one.replicas, running=one.replicas, state=GroupState.RUNNING,
                routed=True, in_flight=1, since_ms=now_ms, cold_start_ms=10_000,
            ) for one in decision.placements
        ),
        workers=tuple(
            workers.get(one.worker)
            or Worker(id=one.worker, domain=one.domain, node=one.node, devices=one.devices, state=WorkerState.READY)
            for one in decision.bindings
        ),
        devices=tuple(
            one if domain.get(one.id, one.domain) is one.domain else replace(one, domain=domain[one.id])
            for one in snapshot.devices
        ),
    )  # fmt: skip


def changed(snapshot: Snapshot, dice: Dice, turn: int) -> Snapshot:
    """Return the fleet with one claim in a hundred changed: of these half went and as many came."""
    count = len(snapshot.claims) // 200
    gone = {dice.choice(snapshot.claims).id for _ in range(count)}
    stay = [one for one in snapshot.claims if one.id not in gone]
    came = [
        replace(one, id=f"{one.tenant}:t{turn}x{index}", submitted_at_ms=10**6 + turn * 10**5 + index)
        for index, one in enumerate(dice.choice(stay) for _ in range(count))
    ]  # fmt: skip
    return replace(
        snapshot, generation=snapshot.generation + 1, claims=(*stay, *came),
        groups=tuple(one for one in snapshot.groups if one.claim not in gone),
    )  # fmt: skip


def in_use(snapshot: Snapshot, dice: Dice, now_ms: int) -> Snapshot:
    """Return the fleet under traffic: of each claim that runs a sample taken now, in each group other requests."""
    groups = tuple(replace(one, in_flight=dice.randint(0, 9)) for one in snapshot.groups)
    claims = sorted({one.claim for one in groups})
    samples = tuple(Demand(claim=one, replicas=1, observed_at_ms=now_ms, in_flight=1) for one in claims)
    return replace(snapshot, groups=groups, demands=samples)


@dataclass(frozen=True)
class Point:
    """What one size of fleet came to; times in CPU seconds of one thread."""

    nodes: int
    devices: int
    claims: int
    waiting: int
    first_s: float
    whole_s: list[float]
    follow_s: list[float]
    live_s: list[float]
    """With one in a hundred changed, while each group has other requests inside and each claim a new sample."""
    plan_s: float
    check_s: float
    peak_mib: int


def cpu_s(work: Callable[[], object]) -> tuple[float, object]:
    """Return how much processor time the work took, done as the loop does it, and its result."""
    with not_collecting():
        begin = time.process_time()
        result = work()
        return time.process_time() - begin, result


def measure(nodes: int) -> Point:
    """Decide for one size of fleet: at first, then turn by turn with one claim in a hundred changed, both ways."""
    collect_seldom()
    rules, seen, dice, decider = policy(nodes), fleet(nodes), Dice(nodes), Decider()
    waiting, now = len(seen.claims) - len(seen.groups), NOW_MS
    whole, follow, live = list[float](), list[float](), list[float]()
    first, decision = cpu_s(lambda: decider.decide(seen, rules, Memory(), now))
    count = len(seen.devices), len(seen.claims)
    for turn in range(2 * TURNS + 1):
        now += TURN_MS
        memory, seen = decision.memory, changed(carried_out(seen, decision, now), dice, turn)
        if turn >= TURNS:
            seen = in_use(seen, dice, now)
        taken, decision = cpu_s(lambda s=seen, m=memory, n=now: decider.decide(s, rules, m, n))
        if turn != TURNS:  # the first turn with traffic brings a demand to every claim
            (follow if turn < TURNS else live).append(taken)
        taken, other = cpu_s(lambda s=seen, m=memory, n=now: decide(s, rules, m, n))
        whole += [taken] if turn < TURNS else []
        if other != decision or (decider.age == 0 and turn != TURNS):
            raise SystemExit("a decision that follows is not the decision from nothing")
    plan_s, made = cpu_s(lambda: plan(seen, decision, rules, 1))
    check_s, _ = cpu_s(lambda: (check(seen, made, rules, decision.memory), check_decision(seen, decision, rules)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Point(nodes, *count, waiting, first, whole, follow, live, plan_s, check_s, peak)


def apart(nodes: int) -> Point:
    """Measure in a process of its own, so that the memory is that of one size alone."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_decide", "one", str(nodes)]
    return Point(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def exponent(points: list[Point], of: Callable[[Point], float]) -> float:
    """Return the power of the number of claims with which the time grows."""
    logs = [(math.log(point.claims), math.log(of(point))) for point in points]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def whole_s(point: Point) -> float:
    """Return the median time of a decision from nothing."""
    return statistics.median(point.whole_s)


def follow_s(point: Point) -> float:
    """Return the median time of a decision that follows."""
    return statistics.median(point.follow_s)


def table(points: list[Point]) -> str:
    """Return the page's tables."""
    rows = [
        f"| {p.nodes:,} | {p.devices:,} | {p.claims:,} ({p.waiting:,}) | {whole_s(p):.2f} "
        f"({min(p.whole_s):.2f} to {max(p.whole_s):.2f}) | {follow_s(p):.3f} ({min(p.follow_s):.3f} to "
        f"{max(p.follow_s):.3f}) | {whole_s(p) / follow_s(p):.1f} | {statistics.median(p.live_s):.3f} "
        f"| {p.plan_s:.2f} | {p.check_s:.2f} | {p.peak_mib:,} |"
        for p in points
    ]
    head = ("| hosts | devices | claims (waiting) | from nothing, s | 1 % changed, s | ratio "
            "| the same under traffic, s | plan, s | checks, s | peak memory, MiB |\n"
            "|---|---|---|---|---|---|---|---|---|---|\n")  # fmt: skip
    grown = ""
    if len(points) > 1:
        grown = (f"\nGrowth with the number of claims: from nothing to the power {exponent(points, whole_s):.2f}, "
                 f"with 1 % changed to the power {exponent(points, follow_s):.2f}.\n")  # fmt: skip
    return head + "\n".join(rows) + "\n" + grown


def main(sizes: tuple[int, ...]) -> None:
    """Print the table; with the usual sizes, write it to the page."""
    points = []
    for nodes in sizes:
        points.append(apart(nodes))
        print(table(points[-1:]), flush=True)
    print(table(points))
    if sizes == SIZES:
        page = PAGE.read_text() if PAGE.exists() else TEXT
        begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(page[:begin] + "\n" + machine() + "\n\n" + table(points) + page[end:])


def machine() -> str:
    """Return the machine in words."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    return (f"Machine: {os.cpu_count()} processors ({model}), shared with other work; one thread is used. "
            f"Python {platform.python_version()}.")  # fmt: skip


BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
TEXT = f"""# Deciding, measured

The part between the marks is written by `make bench-decide`; how a decision follows the one before:
[decisions/deciding-again.md](decisions/deciding-again.md).

## A full fleet

Whole hosts, single devices and halves, all held; of ten claims one waits. Two domains of fifty organisations each. Each
turn one claim in a hundred changes (half of these go, as many come), and what was decided is carried out before the
next. "From nothing" is `decide`; "1 % changed" is the same decision by a `Decider` that took the one before; they must
be equal. "Under traffic" every claim that runs has a new sample of its demand each turn, and every group other requests
inside. CPU seconds of one thread: median (least to most) of {TURNS} turns.

{BEGIN}
{END}
"""


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(measure(int(sys.argv[2])).__dict__))
    else:
        main(tuple(int(size) for size in sys.argv[1:]) or SIZES)
