"""Which flavors are short of what their quotas promise: devices were lost, take nothing new, or were not seen."""

from __future__ import annotations

from policies.evidence.survey import Survey
from policies.granting.working import Allocation
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.units import FlavorId


def shortages(work: Allocation) -> dict[FlavorId, PendingReason]:
    """Return why each flavor is short whose capacity is below the nominal quotas; the others are left out.

    Depends on inventory and policy alone, never on what anybody asks for, so that every tenant may be told. Lost
    devices and closed hosts come first: they need a person, what was not seen may come back by itself.
    """
    promised: dict[FlavorId, int] = {}
    for flavor, some in work.shares.items():
        promised[flavor] = sum(some[root].nominal for root in work.roots if root in some)
    if all(work.capacity.get(flavor, 0) >= amount for flavor, amount in promised.items()):
        return {}
    lost, unseen = _missing(work.survey)
    found: dict[FlavorId, PendingReason] = {}
    for flavor, amount in promised.items():
        capacity = work.capacity.get(flavor, 0)
        if capacity < amount and flavor in lost:
            found[flavor] = PendingReason.CAPACITY_LOST
        elif capacity < amount and flavor in unseen:
            found[flavor] = PendingReason.TELEMETRY_STALE
    return found


def _missing(survey: Survey) -> tuple[set[FlavorId], set[FlavorId]]:
    """Return the flavors of which devices are broken or on closed hosts, and those of which some were not seen."""
    lost: set[FlavorId] = set()
    unseen: set[FlavorId] = set()
    for device in survey.devices.values():
        if device.id not in survey.open:
            is_broken = device.health is not DeviceHealth.HEALTHY or device.scrub is ScrubState.FAILED
            is_hidden = device.id in survey.unseen or device.node in survey.unseen
            (unseen if is_hidden and not is_broken else lost).add(device.flavor)
    return lost, unseen
