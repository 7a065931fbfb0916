"""Prove, when a policy is loaded, that every floor can be recovered in time on this inventory, or say which cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from policies.model.inventory import Device
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import Tenant
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, SecurityDomain, TenantId
from policies.survey import Survey, survey


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorProof:
    """Whether one floor can be kept, and what that rests on."""

    tenant: TenantId
    flavor: FlavorId
    floor_millis: int
    is_recoverable: bool
    worst_case_ms: int
    """Longest time from demand to service: drain, scrub and start, one after the other."""
    deadline_ms: int
    sentence: str


def certify(snapshot: Snapshot, policy: Policy, now_ms: int) -> tuple[FloorProof, ...]:
    """Return one proof per floor, sorted by tenant and flavor.

    A floor is recoverable when its flavor exists; when the whole GPUs of all domains' floors, none shared between
    domains, fit into the healthy ones together with what nobody may preempt; when a host has as many devices together
    as the tenant's own claims inside the floor need; and when drain, scrub and start end before the deadline.
    """
    seen = survey(snapshot, policy, Memory(), now_ms)
    proofs = [_proof(seen, tenant, flavor, floor) for tenant, flavor, floor in _floors(seen)]
    return tuple(sorted(proofs, key=lambda one: (one.tenant, one.flavor)))


def _floors(seen: Survey) -> Iterator[tuple[Tenant, FlavorId, int]]:
    for tenant in seen.policy.tenants:
        for flavor, floor in tenant.floor_millis:
            if floor > 0:
                yield tenant, flavor, floor


def _proof(seen: Survey, tenant: Tenant, flavor: FlavorId, floor: int) -> FloorProof:
    bounds = seen.policy.bounds
    worst = bounds.drain_deadline_ms + bounds.scrub_time_ms + bounds.worker_start_ms
    deadline = tenant.reclaim_deadline_s * 1000
    fault = _fault(seen, tenant, flavor, floor) or _late(worst, deadline)
    said = fault or f"{floor} of {flavor} come back within {worst} ms, {deadline} are promised"
    return FloorProof(
        tenant=tenant.id, flavor=flavor, floor_millis=floor, is_recoverable=not fault, worst_case_ms=worst,
        deadline_ms=deadline, sentence=f"{tenant.id}: {said}",
    )  # fmt: skip


def _late(worst: int, deadline: int) -> str:
    return f"drain, scrub and start may take {worst} ms, only {deadline} are promised" if worst > deadline else ""


def _fault(seen: Survey, tenant: Tenant, flavor: FlavorId, floor: int) -> str:
    gpus = _healthy_gpus(seen, flavor)
    if not gpus:
        return f"no healthy device of {flavor} exists"
    least = min(len(parts) for parts in gpus.values()) * WHOLE_GPU_MILLIS
    needed = {domain: -(-amount // least) for domain, amount in _floor_by_domain(seen, flavor).items()}
    fixed = _unmovable(seen, flavor, tenant.domain)
    if sum(needed.values()) > len(gpus):
        return f"the floors of all domains need {sum(needed.values())} whole GPUs of {flavor}, {len(gpus)} are healthy"
    if needed.get(tenant.domain, 0) > len(gpus) - len(fixed):
        return f"{len(fixed)} GPUs of {flavor} carry other domains' work that nobody may preempt; too few remain"
    return _shape_fault(seen, tenant, flavor, floor)


def _healthy_gpus(seen: Survey, flavor: FlavorId) -> dict[DeviceId, list[Device]]:
    gpus: dict[DeviceId, list[Device]] = {}
    for device in seen.devices.values():
        if device.flavor == flavor and device.id in seen.open:
            gpus.setdefault(device.gpu, []).append(device)
    return gpus


def _floor_by_domain(seen: Survey, flavor: FlavorId) -> dict[SecurityDomain, int]:
    """Return each domain's floor: its own, or the sum of its tenants' where that is more."""
    top: dict[SecurityDomain, int] = {}
    below: dict[SecurityDomain, int] = {}
    for tenant, of_flavor, floor in _floors(seen):
        if of_flavor == flavor:
            found = top if tenant.parent is None else below
            found[tenant.domain] = found.get(tenant.domain, 0) + floor
    return {domain: max(top.get(domain, 0), below.get(domain, 0)) for domain in {*top, *below}}


def _unmovable(seen: Survey, flavor: FlavorId, domain: SecurityDomain) -> set[DeviceId]:
    """Return the GPUs on which another domain runs what nobody may preempt."""
    found = set()
    for group in seen.groups.values():
        claim, worker = seen.claims.get(group.claim), seen.workers.get(group.worker)
        rank = seen.classes.get(claim.priority_class) if claim is not None else None
        if rank is None or rank.preemptible or worker is None or worker.domain == domain:
            continue
        known = (seen.devices.get(one) for one in group.devices)
        found |= {device.gpu for device in known if device is not None and device.flavor == flavor}
    return found


def _shape_fault(seen: Survey, tenant: Tenant, flavor: FlavorId, floor: int) -> str:
    """Name a claim of the tenant that lies inside the floor but needs more devices of one host than any has."""
    on_host: dict[str, int] = {}
    for parts in _healthy_gpus(seen, flavor).values():
        on_host[parts[0].node] = on_host.get(parts[0].node, 0) + len(parts)
    most = max(on_host.values(), default=0)
    for _, claim in sorted(seen.claims.items()):
        if claim.tenant != tenant.id and not claim.tenant.startswith(f"{tenant.id}/"):
            continue
        needs = [shape.devices for shape in claim.ladder if not shape.flavors or flavor in shape.flavors]
        if needs and min(needs) > most and min(needs) * WHOLE_GPU_MILLIS <= floor:
            return f"{claim.id} needs {min(needs)} devices of one host, the largest has {most}"
    return ""
