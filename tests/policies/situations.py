"""Small situations that tests begin from, each in a few words."""

from __future__ import annotations

from policies.model.inventory import Device, Flavor, Group, GroupState, Node, ScrubState, Worker, WorkerState
from policies.model.naming import group_id, worker_id
from policies.model.policy import Bounds, Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, ClaimKind, Demand, Shape

NOW_MS = 10_000_000
LONG_AGO_MS = 1_000_000
CLASSES = (
    PriorityClass(name="critical", value=1000),
    PriorityClass(name="standard", value=500),
    PriorityClass(name="batch", value=100, min_runtime_s=60, preemption_delay_s=30),
    PriorityClass(name="pinned", value=800, preemptible=False),
)


def rules(civil: int = 2000, defence: int = 2000, floor: int = 1000, **bounds: int) -> Policy:
    """Two domains, each with two tenants that share its quota; a floor for each domain."""
    tenants = []
    for domain, nominal in ((SecurityDomain.DEFENCE, defence), (SecurityDomain.CIVIL, civil)):
        tenants.append(Tenant(
            id=str(domain), domain=domain, quotas=(Quota(flavor="A", nominal_millis=nominal),),
            floor_millis=(("A", min(floor, nominal)),),
        ))  # fmt: skip
        for name in ("x", "y"):
            quota = Quota(flavor="A", nominal_millis=nominal // 2)
            tenants.append(Tenant(id=f"{domain}/{name}", domain=domain, parent=str(domain), quotas=(quota,)))
    return Policy(revision="test", tenants=tuple(tenants), priority_classes=CLASSES, bounds=Bounds(**bounds))


def claim(
    name: str, *, devices: int = 1, millis: int = 1000, least: int = 1, most: int | None = None, **terms
) -> Claim:
    """A claim such as ``civil/x:chat``."""
    most = least if most is None else most
    return Claim(
        id=name, tenant=name.split(":", maxsplit=1)[0], kind=terms.pop("kind", ClaimKind.SERVING), min_replicas=least,
        ladder=terms.pop("ladder", (Shape(flavors=("A",), devices=devices, gpu_millis=millis),)),
        desired_replicas=terms.pop("desired", most), max_replicas=most, **terms,
    )  # fmt: skip


def device(name: str, node: str = "n0", **state) -> Device:
    return Device(id=name, node=node, flavor="A", gpu=state.pop("gpu", name), memory_mib=80_000, **state)


def running(one: Claim, *places: tuple[str, ...], domain: SecurityDomain | None = None, **state):
    """Workers and groups that run one replica of the claim at each place."""
    domain = domain or SecurityDomain(one.tenant.split("/")[0])
    workers = [
        Worker(id=worker_id(domain, place), domain=domain, node="n0", devices=place, state=WorkerState.READY)
        for place in places
    ]
    groups = [
        Group(
            id=group_id(one.id, worker.id, 0), claim=one.id, worker=worker.id, rung=0, variant=None,
            devices=worker.devices, replicas=1, running=1, state=GroupState.RUNNING, routed=True, in_flight=1,
            since_ms=state.get("since_ms", LONG_AGO_MS), cold_start_ms=5_000,
        )
        for worker in workers
    ]  # fmt: skip
    return workers, groups


def together(runs):
    """What runs, each worker listed once: replicas that share a device share its worker."""
    known: set[str] = set()
    for workers, groups in runs:
        new = [worker for worker in workers if worker.id not in known]
        known.update(worker.id for worker in new)
        yield new, groups


def snapshot(devices, claims, *runs, demands=(), **rest) -> Snapshot:
    """A snapshot of these devices and claims, with what runs; held devices belong to the domain that runs on them."""
    workers = [worker for some, _ in runs for worker in some]
    groups = [group for _, some in runs for group in some]
    held = {one: worker.domain for worker in workers for one in worker.devices}
    devices = [
        Device(**{name: getattr(one, name) for name in Device.__slots__} | (
            {"domain": held[one.id], "scrub": ScrubState.DIRTY} if one.id in held else {}
        ))
        for one in devices
    ]  # fmt: skip
    nodes = sorted({one.node for one in devices})
    return Snapshot(
        generation=1, observed_at_ms=NOW_MS, flavors=(Flavor(id="A", model="A", memory_mib=80_000),),
        nodes=tuple(Node(id=node, cpu_millis=64_000, memory_mib=500_000) for node in nodes), devices=tuple(devices),
        claims=tuple(claims), workers=tuple(workers), groups=tuple(groups),
        demands=tuple(Demand(claim=name, replicas=count, observed_at_ms=NOW_MS) for name, count in demands), **rest,
    )  # fmt: skip
