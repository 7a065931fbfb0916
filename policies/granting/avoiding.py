"""Devices on which a claim failed to start: left aside for its next tries while there is another place."""

from __future__ import annotations

from collections.abc import Iterable

from policies.evidence.survey import Survey
from policies.model.inventory import Group, GroupState
from policies.model.memory import ClaimMemory, Spoilt
from policies.model.policy import Bounds
from policies.model.units import ClaimId, DeviceId
from policies.wishes.admission import NEW, Ask

START_BACKOFF_DOUBLINGS = 6
"""The back-off after failed starts stops doubling here: 64 times the time of a worker's start."""
STARTS_REMEMBERED = 1 << START_BACKOFF_DOUBLINGS
"""A failed start speaks against a device for as long as this many starts take: the longest back-off."""
MOST_REMEMBERED = 64
"""Devices per claim; beyond them the earliest are forgotten."""


def avoided(survey: Survey, claim: ClaimId, rung: int) -> frozenset[DeviceId]:
    """Return the devices that failed the claim on this rung or on one that needs less, not too long ago.

    A lost device is none of them: nothing goes there in any case.
    """
    remembered, groups = survey.remembered.get(claim, NEW), survey.groups_of.get(claim, ())
    if not groups and not remembered.spoilt:
        return frozenset()
    found = [one.device for one in remembered.spoilt if one.rung >= rung and _lasts(survey, one)]
    found += [
        one for group in groups if group.state is GroupState.FAILED and group.rung >= rung for one in group.devices
    ]
    return frozenset(found) - survey.lost


def failures(survey: Survey, wish: Ask, before: ClaimMemory) -> tuple[int, int | None]:
    """Return how often it failed to start in a row and when last; a replica that runs wipes the slate.

    What stopped because its device was lost is no failed start: it may begin elsewhere at once.
    """
    if any(group.running for group in wish.held):
        return 0, None
    failed = [
        group
        for group in survey.groups_of.get(wish.claim.id, ())
        if group.state is GroupState.FAILED and survey.lost.isdisjoint(group.devices)
    ]
    is_new = any(before.failed_at_ms is None or group.since_ms > before.failed_at_ms for group in failed)
    return (before.failures + 1, survey.now_ms) if is_new else (before.failures, before.failed_at_ms)


def spoilt(survey: Survey, wish: Ask, before: ClaimMemory) -> tuple[Spoilt, ...]:
    """Return where its starts failed, as far as it still matters, sorted by device.

    A replica that runs on the device clears it; what is no longer in the inventory is forgotten.
    """
    groups = survey.groups_of.get(wish.claim.id, ())
    if not before.spoilt and all(group.state is not GroupState.FAILED for group in groups):
        return ()
    running = {device for group in groups if group.running for device in group.devices}
    known = {one.device: one for one in before.spoilt if _lasts(survey, one)}
    known.update((one.device, one) for one in _fresh(survey, groups, known))
    kept = [one for name, one in known.items() if name in survey.devices and name not in running]
    latest = sorted(kept, key=lambda one: (-one.since_ms, one.device))[:MOST_REMEMBERED]
    return tuple(sorted(latest, key=lambda one: one.device))


def _fresh(survey: Survey, groups: Iterable[Group], known: dict[DeviceId, Spoilt]) -> list[Spoilt]:
    """Return the devices of the failed starts that were not noted before."""
    return [
        Spoilt(device=device, rung=group.rung, since_ms=survey.now_ms)
        for group in groups
        if group.state is GroupState.FAILED
        for device in group.devices
        if device not in survey.lost
        if device not in known or known[device].since_ms < group.since_ms
    ]


def _lasts(survey: Survey, one: Spoilt) -> bool:
    return survey.now_ms - one.since_ms < survey.policy.bounds.worker_start_ms * STARTS_REMEMBERED


def backoff_ms(bounds: Bounds, failures: int) -> int:
    """Return how long a claim waits after this many failed starts in a row, in milliseconds."""
    return bounds.worker_start_ms << min(failures, START_BACKOFF_DOUBLINGS) if failures else 0
