"""Rules of what is said of whoever leaves: each reason is true of it, and who leaves for somebody makes room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from policies.invariants.world import Violation, World, mode_now
from policies.model.decision import Decision, Eviction, EvictionReason, PendingReason, Reason
from policies.model.inventory import DeviceHealth, Group, GroupState, UsageState, WorkerState
from policies.model.policy import OperatingMode
from policies.model.units import ClaimId
from policies.model.workload import Claim

_BROKEN = (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)
_ASKS_FOR_NOTHING = (
    PendingReason.DEACTIVATED, PendingReason.MISCONFIGURED, PendingReason.DOMAIN_FORBIDDEN, PendingReason.SUSPENDED,
    PendingReason.NO_MATCHING_FLAVOR, PendingReason.EXCEEDS_MAX_QUOTA, PendingReason.TOPOLOGY_UNSATISFIED,
)  # fmt: skip
"""Codes of claims that may ask for no replica now, whatever their owner wants."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What the decision says of each claim."""

    world: World
    decided_at_ms: int
    placed: frozenset[ClaimId]
    reasons: dict[ClaimId, Reason]


def broken_by_leaving(world: World, decision: Decision) -> Iterator[Violation]:
    """Yield what is said wrongly of whoever leaves; of claims and groups that are known. Cost: one look at each."""
    placed = frozenset(one.claim for one in decision.placements)
    said = _Said(world, decision.decided_at_ms, placed, {one.claim: one for one in decision.reasons})
    for eviction in decision.evictions:
        group, claim = world.groups.get(eviction.group), world.claims.get(eviction.claim)
        if group is None or claim is None:
            continue
        for rule, sentence in _faults(said, eviction, group, claim):
            yield Violation(rule=rule, subject=group.id, sentence=f"group {group.id} would {sentence}")


def is_over(claim: Claim, at_ms: int) -> bool:
    """Say whether the end that the claim's owner announced has passed."""
    return claim.expires_at_ms is not None and claim.expires_at_ms <= at_ms


def _faults(said: _Said, eviction: Eviction, group: Group, claim: Claim) -> Iterator[tuple[str, str]]:
    reason, beneficiary = eviction.reason, eviction.beneficiary
    if beneficiary is not None and beneficiary not in said.placed:
        yield "victims_make_room", f"leave for {beneficiary}, which gets no place"
    if reason is EvictionReason.IDLE and group.usage is not UsageState.TRULY_IDLE:
        yield "only_the_idle_leave_as_idle", f"leave as idle and is {group.usage}"
    if reason is EvictionReason.EXPIRED and not is_over(claim, said.decided_at_ms):
        yield "only_the_expired_leave_as_expired", f"leave as expired, and the end of {claim.id} has not passed"
    if reason is EvictionReason.CONSOLIDATE and claim.id not in said.placed:
        yield "what_is_moved_has_a_place", "be moved, and its claim has no place any more"
    if reason is EvictionReason.DRAIN and not _is_broken(said.world, group):
        yield "only_what_is_broken_is_drained", "be drained, and neither it nor its devices are broken"
    if reason is EvictionReason.MODE_CHANGE and not _is_paused(said.world, claim):
        yield "only_the_paused_leave_for_a_mode", f"leave for a mode, and none in force pauses {claim.id}"
    if reason is EvictionReason.RELEASED and not _is_too_much(said, claim):
        yield "only_what_is_too_much_is_released", f"be released, and {claim.id} asks for more than it gets"


def _is_broken(world: World, group: Group) -> bool:
    worker = world.workers.get(group.worker)
    devices = [world.devices.get(one) for one in group.devices]
    is_lost = worker is None or worker.state is WorkerState.LOST or group.state is GroupState.FAILED
    return is_lost or any(one is None or one.health in _BROKEN for one in devices)


def _is_paused(world: World, claim: Claim) -> bool:
    """Say whether the mode in force pauses the claim; where the policy is not written, whether there is a mode."""
    mode = mode_now(world)
    if mode is OperatingMode.NORMAL or not world.policy.overlays:
        return mode is not OperatingMode.NORMAL
    overlay = next((one for one in world.policy.overlays if one.mode is mode), None)
    if overlay is None or claim.priority_class not in overlay.paused_classes:
        return False
    tops = overlay.paused_tenants
    return not tops or any(claim.tenant == top or claim.tenant.startswith(f"{top}/") for top in tops)


def _is_too_much(said: _Said, claim: Claim) -> bool:
    reason = said.reasons.get(claim.id)
    if reason is None or reason.code in _ASKS_FOR_NOTHING or reason.granted_replicas >= reason.wanted_replicas:
        return True
    running = sum(one.replicas for one in said.world.groups.values() if one.claim == claim.id)
    return running > reason.wanted_replicas
