"""One snapshot, indexed for one decision: what is there, what can be used, what was not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from policies.model.inventory import Device, DeviceHealth, Group, Node, ScrubState, Worker, WorkerState
from policies.model.memory import ClaimMemory, Memory
from policies.model.policy import ModeOverlay, Policy
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.tenancy import PriorityClass, Tenant
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, NodeId, SecurityDomain, TenantId, WorkerId
from policies.model.workload import Claim, Demand
from policies.modes import effective, overlay_in_force

N = TypeVar("N")
_ID, _OF_CLAIM = attrgetter("id"), attrgetter("claim")
_BAD = (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)
_HEALTHY, _UNSCRUBBED, _LOST = DeviceHealth.HEALTHY, ScrubState.FAILED, WorkerState.LOST
"""For what is asked of each device: an enumeration looks its members up each time, at the cost of ten steps."""


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
    """As they were when they were last laid out; requests inside and checkpoints may have changed since."""
    latest: dict[GroupId, Group]
    """The same groups as the snapshot shows them."""
    groups_of: dict[ClaimId, tuple[Group, ...]]
    claims: dict[ClaimId, Claim]
    demands: dict[ClaimId, Demand]
    tenants: dict[TenantId, Tenant]
    classes: dict[str, PriorityClass]
    remembered: dict[ClaimId, ClaimMemory]
    draining: frozenset[GroupId]
    """Groups that the decision before let go; they leave unless it is called off."""
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
    """Return the snapshot indexed by identifier. Devices are in the order of ids, all else as the snapshot lists it.

    Nothing that is decided may follow from the order of those lists.
    """
    in_force = effective(policy, now_ms)
    flavors = {device.flavor for device in snapshot.devices} | {flavor.id for flavor in snapshot.flavors}
    unseen = frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.NODE, GapKind.DEVICE))
    sound = frozenset([device.id for device in snapshot.devices if _is_sound(device, in_force, unseen)])
    closed = frozenset(node.id for node in snapshot.nodes if not node.schedulable)
    groups = _by_id(snapshot.groups)
    return Survey(
        snapshot=snapshot,
        policy=in_force,
        overlay=overlay_in_force(policy, now_ms),
        now_ms=now_ms,
        flavors=tuple(sorted(in_force.flavors or flavors)),
        nodes={node.id: node for node in snapshot.nodes},
        devices=_by_id(sorted(snapshot.devices, key=_ID)),
        workers=_by_id([one for one in snapshot.workers if one.state is not _LOST]),
        groups=groups,
        latest=groups.copy(),
        groups_of=_by_claim(groups.values()),
        claims=_by_id(snapshot.claims),
        demands={demand.claim: demand for demand in snapshot.demands},
        tenants={tenant.id: tenant for tenant in in_force.tenants},
        classes={cls.name: cls for cls in in_force.priority_classes},
        remembered=dict(zip(map(_OF_CLAIM, memory.claims), memory.claims, strict=True)),
        draining=frozenset([drain.group for drain in memory.drains]),
        sound=sound,
        open=frozenset([one.id for one in snapshot.devices if one.id in sound and one.node not in closed])
        if closed
        else sound,
        lost=frozenset([one.id for one in snapshot.devices if one.health is not _HEALTHY and one.health in _BAD]),
        blind=frozenset(snapshot.adopting) | _subjects_as_domains(snapshot.gaps),
        unseen=unseen,
        unheard=frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.DEMAND, GapKind.GATEWAY)),
    )


def _by_id(nouns: Sequence[N]) -> dict[Any, N]:
    """Return the nouns by id, as they come: a list lies in memory as it was made, and is gone through much quicker so.

    Of one that occurs twice it is the last.
    """
    return dict(zip(map(_ID, nouns), nouns, strict=True))


def _is_sound(device: Device, policy: Policy, unseen: frozenset[str]) -> bool:
    return (
        device.health is _HEALTHY
        and device.scrub is not _UNSCRUBBED
        and device.id not in unseen
        and device.node not in unseen
        and (not policy.flavors or device.flavor in policy.flavors)
    )


def _by_claim(groups: Collection[Group]) -> dict[ClaimId, tuple[Group, ...]]:
    """Return the groups of each claim, sorted by id. Most have one, and are found without a step of Python."""
    found = dict(zip(map(_OF_CLAIM, groups), zip(groups, strict=True), strict=True))
    if len(found) < len(groups):
        count, several = Counter(map(_OF_CLAIM, groups)), dict[ClaimId, list[Group]]()
        for group in groups:
            if count[group.claim] > 1:
                several.setdefault(group.claim, []).append(group)
        found.update((claim, tuple(sorted(some, key=_ID))) for claim, some in several.items())
    return found


def _subjects_as_domains(gaps: Iterable[Gap]) -> frozenset[SecurityDomain]:
    known = {str(domain): domain for domain in SecurityDomain}
    return frozenset(known[gap.subject] for gap in gaps if gap.kind is GapKind.CLUSTER and gap.subject in known)
