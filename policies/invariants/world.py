"""What the second program looks at: the snapshot by identifier, and what was not seen."""

from __future__ import annotations

from dataclasses import dataclass

from policies.model.decision import Decision
from policies.model.inventory import Device, DeviceHealth, Group, GroupState, Node, Worker
from policies.model.policy import ModeDeclaration, OperatingMode, Policy
from policies.model.snapshot import GapKind, Snapshot
from policies.model.tenancy import Tenant
from policies.model.units import (
    ClaimId,
    DeviceId,
    FlavorId,
    GroupId,
    NodeId,
    SecurityDomain,
    TenantId,
    WorkerId,
)
from policies.model.workload import Claim, Reservation, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule: its stable name, what it concerns, and a sentence for whoever is called."""

    rule: str
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The snapshot by identifier, with the rules in force."""

    policy: Policy
    now_ms: int
    nodes: dict[NodeId, Node]
    devices: dict[DeviceId, Device]
    least_memory: dict[FlavorId, int]
    """Usable memory of the smallest device of each flavor, in MiB."""
    workers: dict[WorkerId, Worker]
    groups: dict[GroupId, Group]
    claims: dict[ClaimId, Claim]
    domain_of: dict[TenantId, SecurityDomain]
    blind: frozenset[str]
    unseen: frozenset[str]
    drains: dict[GroupId, int]
    reservations: tuple[Reservation, ...]


def world_of(snapshot: Snapshot, policy: Policy, now_ms: int, drains: dict[GroupId, int]) -> World:
    """Return the snapshot as the rules look at it. ``drains``: since when each group receives no requests."""
    clusters = {gap.subject for gap in snapshot.gaps if gap.kind is GapKind.CLUSTER}
    return World(
        policy=policy, now_ms=now_ms,
        nodes={node.id: node for node in snapshot.nodes},
        devices={device.id: device for device in snapshot.devices},
        least_memory=_least_memory(snapshot),
        workers={worker.id: worker for worker in snapshot.workers},
        groups={group.id: group for group in snapshot.groups},
        claims={claim.id: claim for claim in snapshot.claims},
        domain_of={tenant.id: tenant.domain for tenant in policy.tenants},
        blind=frozenset(str(domain) for domain in snapshot.adopting) | frozenset(clusters),
        unseen=frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.NODE, GapKind.DEVICE)),
        drains=drains, reservations=snapshot.reservations,
    )  # fmt: skip


def unwritten(decision: Decision) -> Policy:
    """Return a policy that promises and forbids nothing: the tenants and the mode that the decision names."""
    names, domains = {one.tenant for one in decision.entitlements}, {domain.value: domain for domain in SecurityDomain}
    tenants = tuple(
        Tenant(id=name, domain=domains[root], parent=_above(name, names))
        for name in sorted(names) if (root := name.split("/")[0]) in domains
    )  # fmt: skip
    is_declared = decision.mode in set(OperatingMode) - {OperatingMode.NORMAL}
    declaration = ModeDeclaration(
        mode=OperatingMode(decision.mode), declared_at_ms=decision.decided_at_ms,
        expires_at_ms=decision.decided_at_ms + 1, approvers=("", "-"),
    ) if is_declared else None  # fmt: skip
    return Policy(revision="", tenants=tenants, priority_classes=(), declaration=declaration)


def _above(name: TenantId, names: set[TenantId]) -> TenantId | None:
    parts = name.split("/")
    above = (TenantId("/".join(parts[:end])) for end in range(len(parts) - 1, 0, -1))
    return next((one for one in above if one in names), None)


def mode_now(world: World) -> OperatingMode:
    """Return the mode in force: declared, not over, and approved by two."""
    one = world.policy.declaration
    is_on = one is not None and one.declared_at_ms <= world.now_ms < one.expires_at_ms and len(set(one.approvers)) > 1
    return one.mode if one is not None and is_on else OperatingMode.NORMAL


def _least_memory(snapshot: Snapshot) -> dict[FlavorId, int]:
    least: dict[FlavorId, int] = {}
    for device in snapshot.devices:
        least[device.flavor] = min(device.memory_mib, least.get(device.flavor, device.memory_mib))
    return least


def shape_of(world: World, claim: ClaimId, rung: int) -> Shape | None:
    """Return what one replica of the claim takes on this rung; None if the claim or the rung is not known."""
    known = world.claims.get(claim)
    return known.ladder[rung] if known is not None and 0 <= rung < len(known.ladder) else None


def is_working(world: World, group: Group) -> bool:
    """Say whether the group runs, or may, on devices that may carry it, and in its claim's own domain.

    What stands on a lost device is no service; what was given to a tenant of the other domain has to leave.
    """
    may_carry = (DeviceHealth.HEALTHY, DeviceHealth.SUSPECT)
    claim, worker = world.claims.get(group.claim), world.workers.get(group.worker)
    if claim is not None and worker is not None and world.domain_of.get(claim.tenant, worker.domain) != worker.domain:
        return False
    return group.state is not GroupState.FAILED and all(
        one in world.devices and world.devices[one].health in may_carry for one in group.devices
    )
