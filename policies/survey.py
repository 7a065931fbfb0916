"""One snapshot, indexed for one decision: what is there, what can be used, what was not seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from policies.model.inventory import Device, DeviceHealth, Group, Node, ScrubState, Worker, WorkerState
from policies.model.memory import ClaimMemory, Memory
from policies.model.policy import ModeOverlay, Policy
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.tenancy import PriorityClass, Tenant
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, NodeId, SecurityDomain, TenantId, WorkerId
from policies.model.workload import Claim, Demand
from policies.modes import effective, overlay_in_force

_BY_ID = attrgetter("id")
_BAD = (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The snapshot by identifier, with the policy in force. Built once per decision, never changed."""

    snapshot: Snapshot
    policy: Policy
    overlay: ModeOverlay | None
    now_ms: int
    flavors: tuple[FlavorId, ...]
    nodes: dict[NodeId, Node]
    devices: dict[DeviceId, Device]
    workers: dict[WorkerId, Worker]
    groups: dict[GroupId, Group]
    groups_of: dict[ClaimId, list[Group]]
    claims: dict[ClaimId, Claim]
    demands: dict[ClaimId, Demand]
    tenants: dict[TenantId, Tenant]
    classes: dict[str, PriorityClass]
    remembered: dict[ClaimId, ClaimMemory]
    sound: frozenset[DeviceId]
    """Devices that count as capacity: healthy, seen, known to the policy, and not failed in a scrub."""
    open: frozenset[DeviceId]
    """Sound devices on hosts that take new work."""
    lost: frozenset[DeviceId]
    """Devices on which nothing may stay."""
    blind: frozenset[SecurityDomain]
    """Domains whose groups could not be seen: they hold, nothing starts and nothing stops there."""
    unseen: frozenset[str]
    """Nodes and devices that were not seen."""
    unheard: frozenset[str]
    """Claims and domains whose demand was not seen."""

    def has_all(self, devices: Iterable[DeviceId]) -> bool:
        """Say whether each of the devices is in the inventory."""
        known = self.devices
        for one in devices:  # noqa: SIM110  # a loop is quicker: this is asked of each group, and most have one device
            if one not in known:
                return False
        return True

    def may_carry(self, device: Device) -> bool:
        """Say whether what runs on the device may stay there."""
        return device.health in (DeviceHealth.HEALTHY, DeviceHealth.SUSPECT) and device.scrub is not ScrubState.FAILED


def survey(snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> Survey:
    """Return the snapshot indexed by identifier, in the order of ids, so that the order of its lists has no effect."""
    in_force = effective(policy, now_ms)
    flavors = {device.flavor for device in snapshot.devices} | {flavor.id for flavor in snapshot.flavors}
    unseen = frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.NODE, GapKind.DEVICE))
    sound = frozenset(device.id for device in snapshot.devices if _is_sound(device, in_force, unseen))
    closed = frozenset(node.id for node in snapshot.nodes if not node.schedulable)
    return Survey(
        snapshot=snapshot,
        policy=in_force,
        overlay=overlay_in_force(policy, now_ms),
        now_ms=now_ms,
        flavors=tuple(sorted(in_force.flavors or flavors)),
        nodes={node.id: node for node in snapshot.nodes},
        devices={device.id: device for device in sorted(snapshot.devices, key=_BY_ID)},
        workers={w.id: w for w in sorted(snapshot.workers, key=_BY_ID) if w.state is not WorkerState.LOST},
        groups={group.id: group for group in sorted(snapshot.groups, key=_BY_ID)},
        groups_of=_by_claim(snapshot.groups),
        claims={claim.id: claim for claim in sorted(snapshot.claims, key=_BY_ID)},
        demands={demand.claim: demand for demand in snapshot.demands},
        tenants={tenant.id: tenant for tenant in in_force.tenants},
        classes={cls.name: cls for cls in in_force.priority_classes},
        remembered={one.claim: one for one in memory.claims},
        sound=sound,
        open=frozenset(one.id for one in snapshot.devices if one.id in sound and one.node not in closed),
        lost=frozenset(device.id for device in snapshot.devices if device.health in _BAD),
        blind=frozenset(snapshot.adopting) | _subjects_as_domains(snapshot.gaps),
        unseen=unseen,
        unheard=frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.DEMAND, GapKind.GATEWAY)),
    )


def _is_sound(device: Device, policy: Policy, unseen: frozenset[str]) -> bool:
    return (
        device.health is DeviceHealth.HEALTHY
        and device.scrub is not ScrubState.FAILED
        and device.id not in unseen
        and device.node not in unseen
        and (not policy.flavors or device.flavor in policy.flavors)
    )


def _by_claim(groups: Iterable[Group]) -> dict[ClaimId, list[Group]]:
    found: dict[ClaimId, list[Group]] = {}
    for group in sorted(groups, key=_BY_ID):
        found.setdefault(group.claim, []).append(group)
    return found


def _subjects_as_domains(gaps: Iterable[Gap]) -> frozenset[SecurityDomain]:
    known = {str(domain): domain for domain in SecurityDomain}
    return frozenset(known[gap.subject] for gap in gaps if gap.kind is GapKind.CLUSTER and gap.subject in known)
