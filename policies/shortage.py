"""Which flavors are short of what their quotas promise: devices were lost, take nothing new, or were not seen."""

from __future__ import annotations

from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.units import WHOLE_GPU_MILLIS, FlavorId
from policies.survey import Survey
from policies.working import Allocation


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
        if capacity < amount and lost.get(flavor):
            found[flavor] = PendingReason.CAPACITY_LOST
        elif capacity < amount and unseen.get(flavor):
            found[flavor] = PendingReason.TELEMETRY_STALE
    return found


def _missing(survey: Survey) -> tuple[dict[FlavorId, int], dict[FlavorId, int]]:
    """Return the millis of each flavor that are broken or on closed hosts, and those that were not seen."""
    lost: dict[FlavorId, int] = {}
    unseen: dict[FlavorId, int] = {}
    for device in survey.devices.values():
        if device.health is not DeviceHealth.HEALTHY or device.scrub is ScrubState.FAILED:
            lost[device.flavor] = lost.get(device.flavor, 0) + WHOLE_GPU_MILLIS
        elif device.id in survey.unseen or device.node in survey.unseen:
            unseen[device.flavor] = unseen.get(device.flavor, 0) + WHOLE_GPU_MILLIS
        elif device.id not in survey.open:
            lost[device.flavor] = lost.get(device.flavor, 0) + WHOLE_GPU_MILLIS
    return lost, unseen
