"""Prove, when a policy is loaded, that every floor can be recovered in time on this inventory, or say which cannot."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from policies.evidence.survey import Survey, survey
from policies.granting.reclaim import path
from policies.model.memory import Memory
from policies.model.naming import tenant_of
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import Tenant
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, NodeId, SecurityDomain, TenantId
from policies.model.workload import Claim, Shape
from policies.wishes.admission import flavor_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorProof:
    """Whether one floor can be kept, and what that rests on."""

    tenant: TenantId
    flavor: FlavorId
    floor_millis: int
    is_recoverable: bool
    worst_case_ms: int
    """Longest time from demand to service: drain, scrub, start of a worker and of the slowest of its replicas."""
    deadline_ms: int
    sentence: str


def certify(snapshot: Snapshot, policy: Policy, now_ms: int) -> tuple[FloorProof, ...]:
    """Return one proof per floor, sorted by tenant and flavor.

    A floor is recoverable when its flavor exists and its domain is seen; when the whole GPUs of all domains, none
    shared between them, suffice for all floors at once and for what runs and nobody may preempt; when the hosts can
    carry each of the tenant's own claims inside the floor; and when drain, scrub and start end before the deadline.
    Where GPUs are divided into different numbers of devices, each counts as the one with the fewest: the refusal of a
    floor then says that it may need more than there is, or that too few may remain.

    Cost: one look at devices, groups and claims, then one at each floor.
    """
    seen = survey(snapshot, policy, Memory(), now_ms)
    floors = [(tenant, flavor, floor) for tenant in seen.policy.tenants for flavor, floor in tenant.floor_millis]
    fleets = {flavor: _fleet(seen, flavor) for flavor in {flavor for _, flavor, floor in floors if floor > 0}}
    odd, slow = _claims_without_a_host(seen, fleets), _slowest_starts(seen)
    proofs = [
        _proof(seen, fleets[flavor], (tenant, floor), (odd.get((tenant.id, flavor), []), slow.get(tenant.id, 0)))
        for tenant, flavor, floor in floors if floor > 0
    ]  # fmt: skip
    return tuple(sorted(proofs, key=lambda one: (one.tenant, one.flavor)))


Odd = tuple[str, int, str]
"""A claim that no host can carry, its least need in millis, and what is missing."""


LEFT_IN_PARTS = "too few whole ones remain"
"""Replicas that need parts of a device may still find all of their floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """What the floors of one flavor rest on."""

    flavor: FlavorId
    gpus: int
    """Whole GPUs on which work may start or that may be given back."""
    is_mixed: bool
    """Whether GPUs are divided into different numbers of devices: then each counts as the one with the fewest."""
    hosts: dict[NodeId, int]
    """Devices on each host."""
    memory_mib: int
    floors: dict[SecurityDomain, int]
    """GPUs that each domain's floors need together."""
    fixed: dict[SecurityDomain, int]
    """GPUs that each domain needs for its floors and for what runs in it and stays, with what is left beside that."""
    is_tight: bool
    """Whether these are too many also where replicas that need parts of a device use what is left there."""
    stuck: Counter[SecurityDomain]
    """GPUs on which something of the domain stays."""
    kept: dict[TenantId, int]
    """Millis that each tenant and all below it hold in what stays: nobody may preempt it, or it is not seen."""
    fits: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict)
    """By devices, CPU and memory of a replica: how many the empty hosts carry, and how many hosts carry one."""


def _proof(seen: Survey, fleet: _Fleet, promise: tuple[Tenant, int], own: tuple[list[Odd], int]) -> FloorProof:
    (tenant, floor), (odd, slowest), bounds = promise, own, seen.policy.bounds
    worst = bounds.drain_deadline_ms + bounds.scrub_time_ms + bounds.worker_start_ms + slowest
    deadline = tenant.reclaim_deadline_s * 1000
    fault = _fault(seen, fleet, tenant, floor) or _no_host(odd, floor) or _late(worst, deadline)
    said = fault or f"{floor} of {fleet.flavor} come back within {worst} ms, {deadline} are promised"
    return FloorProof(
        tenant=tenant.id, flavor=fleet.flavor, floor_millis=floor, is_recoverable=not fault, worst_case_ms=worst,
        deadline_ms=deadline, sentence=f"{tenant.id}: {said}",
    )  # fmt: skip


def _late(worst: int, deadline: int) -> str:
    return f"drain, scrub and start may take {worst} ms, only {deadline} are promised" if worst > deadline else ""


def _no_host(odd: list[Odd], floor: int) -> str:
    return next((f"{claim} {fault}" for claim, need, fault in odd if need <= floor), "")


def _fault(seen: Survey, fleet: _Fleet, tenant: Tenant, floor: int) -> str:
    needed = sum(fleet.floors.values())
    if not fleet.gpus:
        return f"no healthy device of {fleet.flavor} exists"
    if tenant.domain in seen.blind:
        return f"{tenant.domain} is not seen now: nothing moves there"
    if needed > fleet.gpus:
        need = "may need" if fleet.is_mixed else "need"
        return f"the floors of all domains {need} {needed} whole GPUs of {fleet.flavor}, {fleet.gpus} are healthy"
    if sum(fleet.fixed.values()) <= fleet.gpus or fleet.kept.get(tenant.id, 0) >= floor:
        return ""
    remain = "too few may remain" if fleet.is_mixed else "too few remain" if fleet.is_tight else LEFT_IN_PARTS
    others = sum(count for domain, count in fleet.stuck.items() if domain != tenant.domain)
    if fleet.floors[tenant.domain] > fleet.gpus - others:
        return f"{others} GPUs of {fleet.flavor} carry other domains' work that nobody may preempt; {remain}"
    stuck = sum(fleet.stuck.values())
    return f"{stuck} GPUs of {fleet.flavor} carry work that nobody may preempt; {remain} for all floors at once"


def _fleet(seen: Survey, flavor: FlavorId) -> _Fleet:
    parts: Counter[DeviceId] = Counter()
    hosts: Counter[NodeId] = Counter()
    for one in seen.open:
        device = seen.devices[one]
        if device.flavor == flavor:
            parts[device.gpu] += 1
            hosts[device.node] += 1
    least, kept, stuck, waste = min(parts.values(), default=0), *_what_stays(seen, flavor)
    floors, fixed = _needed(seen, flavor, {}), _needed(seen, flavor, kept)
    whole = max(1, least) * WHOLE_GPU_MILLIS
    domains = {*floors, *stuck}
    least_fixed = sum(max(-(-fixed[one] // whole), stuck[one]) for one in domains)
    return _Fleet(
        flavor=flavor, gpus=len(parts), is_mixed=len(set(parts.values())) > 1, hosts=hosts,
        memory_mib=flavor_memory(seen).get(flavor, 0), is_tight=least_fixed > len(parts),
        floors={one: -(-floors[one] // whole) for one in domains},
        fixed={one: max(-(-(fixed[one] + waste[one]) // whole), stuck[one]) for one in domains}, stuck=stuck, kept=kept,
    )  # fmt: skip


def _what_stays(
    seen: Survey, flavor: FlavorId
) -> tuple[dict[TenantId, int], Counter[SecurityDomain], Counter[SecurityDomain]]:
    """Return the millis that each tenant, with all below it, holds in what stays, and the GPUs that carry it.

    Last, by domain, the millis that are left beside it on its devices: a whole device cannot be had there.
    """
    kept: defaultdict[TenantId, int] = defaultdict(int)
    stuck: defaultdict[DeviceId, set[SecurityDomain]] = defaultdict(set)
    beside: defaultdict[tuple[DeviceId, SecurityDomain], int] = defaultdict(lambda: WHOLE_GPU_MILLIS)
    for group in seen.groups.values():
        claim, worker = seen.claims.get(group.claim), seen.workers.get(group.worker)
        device = seen.devices.get(group.devices[0])
        if claim is None or worker is None or device is None or device.flavor != flavor:
            continue
        rank = seen.classes.get(claim.priority_class)
        if worker.domain not in seen.blind and (rank is None or rank.preemptible):
            continue
        shape = claim.ladder[group.rung] if group.rung < len(claim.ladder) else Shape(flavors=())
        for at in _and_above(seen, claim.tenant):
            kept[at] += shape.gpu_millis * shape.devices * group.replicas
        for one in group.devices:
            if one in seen.devices:
                stuck[seen.devices[one].gpu].add(worker.domain)
                each = shape.gpu_millis * max(1, group.replicas * shape.devices // len(group.devices))
                beside[one, worker.domain] = max(0, beside[one, worker.domain] - each)
    waste: Counter[SecurityDomain] = Counter()
    for (_, domain), left in beside.items():
        waste[domain] += left
    return kept, Counter(domain for domains in stuck.values() for domain in domains), waste


def _needed(seen: Survey, flavor: FlavorId, kept: dict[TenantId, int]) -> dict[SecurityDomain, int]:
    """Return what each domain needs for its floors and for what stays: of each subtree whichever is more.

    Tenants are taken from the bottom up, so that a floor above others holds theirs.
    """
    below: defaultdict[TenantId, int] = defaultdict(int)
    kept_below: defaultdict[TenantId, int] = defaultdict(int)
    domains: defaultdict[SecurityDomain, int] = defaultdict(int)
    for tenant in sorted(seen.tenants.values(), key=lambda one: -one.id.count("/")):
        stays = kept.get(tenant.id, 0)
        inside = below[tenant.id] + stays - kept_below[tenant.id]
        amount = max(dict(tenant.floor_millis).get(flavor, 0), inside)
        if tenant.parent is None:
            domains[tenant.domain] += amount
        else:
            below[tenant.parent] += amount
            kept_below[tenant.parent] += stays
    return domains


def _and_above(seen: Survey, tenant: TenantId) -> frozenset[TenantId]:
    known = seen.tenants.get(tenant)
    return frozenset() if known is None else path(seen, known)


def _slowest_starts(seen: Survey) -> dict[TenantId, int]:
    """Return the longest measured start of a replica of each tenant or of one below it, in milliseconds."""
    found: dict[TenantId, int] = {}
    for group in seen.groups.values():
        for at in _and_above(seen, tenant_of(group.claim)):
            found[at] = max(found.get(at, 0), group.cold_start_ms)
    return found


def _claims_without_a_host(seen: Survey, fleets: dict[FlavorId, _Fleet]) -> dict[tuple[TenantId, FlavorId], list[Odd]]:
    """Return by tenant and flavor the claims, of it or of one below it, that the empty hosts could not carry."""
    found: defaultdict[tuple[TenantId, FlavorId], list[Odd]] = defaultdict(list)
    for _, claim in sorted(seen.claims.items()):
        for flavor, fleet in sorted(fleets.items()):
            odd = _odd(seen, fleet, claim)
            if odd is None:
                continue
            for at in _and_above(seen, claim.tenant):
                found[at, flavor].append(odd)
    return found


def _odd(seen: Survey, fleet: _Fleet, claim: Claim) -> Odd | None:
    """Return why no rung of the claim finds hosts; None if one does, or none is for this flavor."""
    gang = max(1, claim.min_replicas)
    shapes = [
        shape for shape in claim.ladder
        if shape.devices > 0 and shape.gpu_millis > 0 and (not shape.flavors or fleet.flavor in shape.flavors)
    ]  # fmt: skip
    found: list[Odd] = []
    for shape in shapes:
        fault = _missing(seen, fleet, shape, gang, is_spread=claim.spread)
        if not fault:
            return None
        found.append((claim.id, shape.devices * shape.gpu_millis * gang, fault))
    return min(found, key=lambda one: one[1], default=None)


def _missing(seen: Survey, fleet: _Fleet, shape: Shape, gang: int, *, is_spread: bool) -> str:
    if shape.memory_mib > fleet.memory_mib:
        return f"needs {shape.memory_mib} MiB of a device, the smallest of {fleet.flavor} has {fleet.memory_mib}"
    most = max(fleet.hosts.values(), default=0)
    if shape.devices > most:
        return f"needs {shape.devices} devices of one host, the largest has {most}"
    terms = shape.devices, shape.cpu_millis, shape.host_memory_mib
    if terms not in fleet.fits:
        each = [_on_host(seen, shape, node, count) for node, count in fleet.hosts.items()]
        fleet.fits[terms] = sum(each), sum(1 for one in each if one)
    replicas, hosts = fleet.fits[terms]
    room = hosts if is_spread else replicas * (WHOLE_GPU_MILLIS // shape.gpu_millis)
    where = "hosts" if is_spread else "replicas"
    return f"needs {gang} {where} at once, the empty hosts have room for {room}" if room < gang else ""


def _on_host(seen: Survey, shape: Shape, node: NodeId, devices: int) -> int:
    """Return how many replicas of the shape the empty host carries, a part of a device counted as a whole one."""
    host, room = seen.nodes.get(node), devices // shape.devices
    if host is None:
        return room
    share = WHOLE_GPU_MILLIS // shape.gpu_millis
    for need, has in ((shape.cpu_millis, host.cpu_millis), (shape.host_memory_mib, host.memory_mib)):
        room = min(room, -(-(has // need) // share)) if need > 0 else room
    return room
