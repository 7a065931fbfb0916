"""How long one decision takes, how that grows, and what a small change costs. Run by ``make bench-decide``.

Prints medians with their spread, ratios and a growth exponent. Absolute times are of the machine that ran it.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable

from policies.decide import decide
from policies.model.inventory import Device, Flavor, Group, GroupState, Node, ScrubState, Worker, WorkerState
from policies.model.memory import Memory
from policies.model.naming import group_id, worker_id
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, ClaimKind, Shape

NOW_MS = 1_000_000_000
ORGANISATIONS = 50
DEVICES_PER_NODE = 8
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
    for host in range(nodes):
        domain = list(SecurityDomain)[host % 2]
        names = tuple(f"GPU-{host:05}-{index}" for index in range(DEVICES_PER_NODE))
        devices += [_device(one, host, domain) for one in names]
        layout = [names] if host % 8 in (0, 1) and host % 16 < 2 else [(one,) for one in names]
        for held in layout:
            worker = worker_id(domain, held)
            workers.append(Worker(id=worker, domain=domain, node=f"n{host:05}", devices=held, state=WorkerState.READY))
            shape = NODE if len(held) > 1 else (HALF if int(held[0][-1]) >= 5 else WHOLE)
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


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """Return how long the work took, each time."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found


def main(sizes: tuple[int, ...]) -> None:
    """Print the table."""
    points = []
    for nodes in sizes:
        snapshot, rules = fleet(nodes), policy(nodes)
        taken = seconds(lambda s=snapshot, p=rules: decide(s, p, Memory(), NOW_MS), 3)
        middle = statistics.median(taken)
        points.append((math.log(len(snapshot.claims)), math.log(middle)))
        waiting = len(snapshot.claims) - len(snapshot.groups)
        size = f"{nodes:6} nodes {len(snapshot.devices):6} devices {len(snapshot.claims):7} claims"
        print(f"{size} ({waiting} waiting): "
              f"{middle:.2f} s (of {min(taken):.2f} to {max(taken):.2f})")  # fmt: skip
    if len(points) > 1:
        slope = statistics.linear_regression(*zip(*points, strict=True)).slope
        print(f"growth exponent over {len(points)} sizes: {slope:.2f}")


if __name__ == "__main__":
    main(tuple(int(size) for size in sys.argv[1:]) or (1_250, 2_500, 5_000, 10_000))
