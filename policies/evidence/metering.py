"""What each tenant used of a device in an interval: time, memory and energy, divided so that nothing is lost.

Device time is what was held, whether it computed or not: a held device is nobody else's. Energy follows the work where
processes are seen to work, and the holding where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.model.telemetry import DeviceSample, GroupShare, Missing, MissingCause, Owner, ProcessUse, Reading
from policies.model.units import WHOLE_GPU_MILLIS, ClaimId, DeviceId, GroupId, TenantId

UNATTRIBUTED = TenantId("")
"""Stands for what nobody held: free devices, foreign processes."""
NO_CLAIM = ClaimId("")
MOST_POWER_MW = 5_000_000
"""No board draws more; a counter that moves faster is not being read."""
SLACK_MS = 1_000
"""A board's counter moves in steps, so an interval may hold a little of the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one claim used of one device in one interval."""

    tenant: TenantId
    claim: ClaimId
    device: DeviceId
    milli_seconds: int
    """Thousandths of the device times seconds held."""
    memory_mib_seconds: int
    energy_mj: Reading
    """Missing where the board's counter could not be read on both ends."""


def energy_between(before: DeviceSample | None, now: DeviceSample) -> Reading:
    """Return the millijoules that the board used between two samples, or why that is not known."""
    if before is None:
        return Missing(MissingCause.NO_DATA, "first sample")
    first, last = before.load.energy_mj, now.load.energy_mj
    if isinstance(first, Missing):
        return first
    if isinstance(last, Missing):
        return last
    if last < first:
        return Missing(MissingCause.COUNTER_RESET, f"energy_mj {first} to {last}")
    interval_ms = max(0, now.at_ms - before.at_ms) + SLACK_MS
    if (last - first) * 1000 > MOST_POWER_MW * interval_ms:
        return Missing(MissingCause.IMPOSSIBLE, f"energy_mj {first} to {last} in {interval_ms} ms")
    return last - first


def split(total: int, weights: tuple[int, ...]) -> tuple[int, ...]:
    """Return integer parts in proportion to the weights that add up to the total exactly; zeros if all weights are.

    The rest after rounding down goes to the largest remainders, first come first.
    """
    weight = sum(weights)
    if weight <= 0:
        return tuple(0 for _ in weights)
    parts = [total * one // weight for one in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: -(total * weights[place] % weight))
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return tuple(parts)


def meter(
    device: DeviceId,
    interval_ms: int,
    energy_mj: Reading,
    holders: tuple[GroupShare, ...],
    processes: tuple[tuple[ProcessUse, Owner | None], ...],
) -> tuple[Usage, ...]:
    """Return what each claim used of the device, in the holders' order, then what nobody held.

    Energy goes to the claims by the SM time of their processes where any worked, else by the shares that they hold.
    """
    working = tuple(_work_of(holder.claim, processes) for holder in holders)
    held = tuple(holder.gpu_millis for holder in holders)
    foreign = _work_of(NO_CLAIM, processes)
    free = max(0, WHOLE_GPU_MILLIS - sum(held))
    by_work = sum(working) + foreign > 0
    weights = (*working, foreign) if by_work else (*held, free)
    energies = _energies(energy_mj, weights)
    rows = [
        _usage(device, interval_ms, holder, energy, processes)
        for holder, energy in zip(holders, energies, strict=False)
    ]
    nobody = GroupShare(group=GroupId(""), claim=NO_CLAIM, tenant=UNATTRIBUTED, gpu_millis=free, devices=(device,))
    return (*rows, _usage(device, interval_ms, nobody, energies[-1], processes))


def _usage(
    device: DeviceId,
    interval_ms: int,
    holder: GroupShare,
    energy: Reading,
    processes: tuple[tuple[ProcessUse, Owner | None], ...],
) -> Usage:
    memory = sum(
        one.memory_mib
        for one, owner in processes
        if _claim_of(owner) == holder.claim and isinstance(one.memory_mib, int)
    )
    return Usage(
        tenant=holder.tenant,
        claim=holder.claim,
        device=device,
        milli_seconds=holder.gpu_millis * interval_ms // 1000,
        memory_mib_seconds=memory * interval_ms // 1000,
        energy_mj=energy,
    )


def _energies(energy_mj: Reading, weights: tuple[int, ...]) -> tuple[Reading, ...]:
    if isinstance(energy_mj, Missing):
        return tuple(energy_mj for _ in weights)
    return split(energy_mj, weights)


def _work_of(claim: ClaimId, processes: tuple[tuple[ProcessUse, Owner | None], ...]) -> int:
    return sum(
        one.sm_percent for one, owner in processes if _claim_of(owner) == claim and isinstance(one.sm_percent, int)
    )


def _claim_of(owner: Owner | None) -> ClaimId:
    return NO_CLAIM if owner is None or owner.claim is None else owner.claim
