"""Nobody who asks for its floor is put below it by what leaves for others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from policies.invariants.world import Violation, World, is_working, mode_now, shape_of
from policies.model.decision import Decision, EvictionReason
from policies.model.inventory import Device, DeviceHealth, ScrubState, UsageState
from policies.model.tenancy import Tenant
from policies.model.units import (
    UNLIMITED,
    WHOLE_GPU_MILLIS,
    ClaimId,
    DeviceId,
    FlavorId,
    SecurityDomain,
    TenantId,
)
from policies.model.workload import Shape

_NO_LOSS = (EvictionReason.IDLE, EvictionReason.CONSOLIDATE)
"""What is idle asks for nothing; what is moved keeps its replicas. Both have a rule of their own."""
_TAKEN_FOR_NOBODY = (
    EvictionReason.REBALANCE, EvictionReason.RECLAIM, EvictionReason.PREEMPT, EvictionReason.MODE_CHANGE,
)  # fmt: skip
Held = tuple[str, FlavorId]
"""Whose, and of what."""
_AT_WORK = {UsageState.ACTIVE, UsageState.IDLE_HELD}


def floors_hold(world: World, decision: Decision) -> Iterator[Violation]:
    """Find tenants that still ask for more and are put below their floor by what leaves for others or for nobody."""
    after = {(one.tenant, one.flavor): one for one in decision.entitlements}
    served = _served(world)
    before, held = _held_before(world, served), held_after(world, decision)
    most = _most(before, held)
    wanting = {one.claim for one in decision.reasons if one.granted_replicas < one.wanted_replicas}
    lacking = {world.claims[one].tenant for one in wanting if one in world.claims}
    mode = mode_now(world)
    if decision.mode != mode:
        yield Violation(rule="the_mode_is_in_force", subject=decision.mode, sentence=f"the mode in force is {mode}")
    waived = {one for overlay in world.policy.overlays if overlay.mode is mode for one in overlay.waived_floors}
    for tenant in world.policy.tenants:
        for flavor, floor in tenant.floor_millis if tenant.id not in waived else ():
            one = after.get((tenant.id, flavor))
            if one is None or not _floors_can_be_met(world, flavor, waived):
                continue
            due = max(0, floor - _reserved_inside(world, tenant, flavor))
            if one.guaranteed_millis < min(due, one.demand_millis):
                sentence = f"{tenant.id} is guaranteed {one.guaranteed_millis} of {flavor}, below its floor of {floor}"
                yield Violation(rule="floors_are_guaranteed", subject=tenant.id, sentence=sentence)
            if not _any_below(tenant.id, lacking):
                continue
            lendable = one.guaranteed_millis - _kept_inside(world, tenant, flavor, most)
            promised = min(due, one.demand_millis, before[tenant.id, flavor], lendable)
            lost, inside = _lost(world, decision, served, (tenant.id, flavor))
            left = held[tenant.id, flavor]
            fits = bool(lost) and left + min(lost) <= one.guaranteed_millis
            is_others = left + sum(inside) < promised or before[tenant.id, flavor] - sum(lost) < promised
            if left < promised and fits and is_others:
                sentence = f"{tenant.id} would hold {left} of {flavor}, below its floor of {floor}"
                yield Violation(rule="no_victim_below_its_floor", subject=tenant.id, sentence=sentence)


def _reserved_inside(world: World, tenant: Tenant, flavor: FlavorId) -> int:
    """Return what the tenant's own reservations, and those below it, keep now: that much of its floor has an owner."""
    bounds = world.policy.bounds
    ahead = bounds.drain_deadline_ms + bounds.scrub_time_ms + bounds.worker_start_ms
    return sum(
        one.gpu_millis for one in world.reservations
        if one.flavor == flavor and _any_below(tenant.id, {one.tenant})
        and one.starts_at_ms - ahead <= world.now_ms < one.ends_at_ms
    )  # fmt: skip


def _most(before: Mapping[Held, int], after: Mapping[Held, int]) -> dict[Held, int]:
    return {key: max(before.get(key, 0), after.get(key, 0)) for key in before.keys() | after.keys()}


def _kept_inside(world: World, tenant: Tenant, flavor: FlavorId, held: Mapping[Held, int]) -> int:
    """Return what those below the tenant did not use, and do not lend either: it is theirs, and nobody loses it."""
    total = 0
    for one in world.policy.tenants:
        if one.parent == tenant.id:
            quota = next((quota for quota in one.quotas if quota.flavor == flavor), None)
            unused = (0 if quota is None else quota.nominal_millis) - held.get((one.id, flavor), 0)
            lends = UNLIMITED if quota is None else quota.lending_limit_millis
            own = 0 if lends == UNLIMITED else max(0, unused - int(lends))
            total += max(own, _kept_inside(world, one, flavor, held))
    return total


def _floors_can_be_met(world: World, flavor: FlavorId, waived: Collection[TenantId]) -> bool:
    """Say whether the healthy GPUs that were seen, each of one domain, suffice for every domain's floors."""
    parts: defaultdict[DeviceId, int] = defaultdict(int)
    for device in world.devices.values():
        if device.flavor == flavor and _counts_as_capacity(world, device):
            parts[device.gpu] += WHOLE_GPU_MILLIS
    needed: defaultdict[SecurityDomain, int] = defaultdict(int)
    for tenant in world.policy.tenants:
        if tenant.parent is None:
            needed[tenant.domain] += _floors_below(world, tenant, flavor, waived)
    least = min(parts.values(), default=0)
    return least > 0 and sum(-(-floor // least) for floor in needed.values()) <= len(parts)


def _counts_as_capacity(world: World, device: Device) -> bool:
    node = world.nodes.get(device.node)
    is_sound = device.health is DeviceHealth.HEALTHY and device.scrub is not ScrubState.FAILED
    is_seen = device.id not in world.unseen and device.node not in world.unseen
    return is_sound and is_seen and (node is None or node.schedulable)


def _floors_below(world: World, tenant: Tenant, flavor: FlavorId, waived: Collection[TenantId]) -> int:
    """Return the tenant's floor or what the floors below it come to, whichever is more."""
    own = 0 if tenant.id in waived else dict(tenant.floor_millis).get(flavor, 0)
    below = (one for one in world.policy.tenants if one.parent == tenant.id)
    return max(own, sum(_floors_below(world, one, flavor, waived) for one in below))


def _lost(
    world: World, decision: Decision, served: Collection[tuple[ClaimId, int]], of: tuple[TenantId, FlavorId]
) -> tuple[list[int], list[int]]:
    """Return each group, in millis with the minimum that goes with it, lost to somebody outside, and to its own.

    Of a claim that had not its minimum nothing is lost: it did not serve.
    What leaves for nobody, with the rest of a claim that lost a replica, is lost to whoever took that replica; of a
    claim that idles nothing is lost, whatever is seen of each of its groups.
    """
    (tenant, flavor), lost, inside = of, list[int](), list[int]()
    takers, idle = _takers(world, decision), _idle(world, decision)
    for eviction in decision.evictions:
        loser, winner = world.claims.get(eviction.claim), world.claims.get(eviction.beneficiary or ClaimId(""))
        is_taken = eviction.reason in _TAKEN_FOR_NOBODY if winner is None else eviction.reason not in _NO_LOSS
        group = world.groups.get(eviction.group)
        if loser is None or group is None or not is_taken or loser.id in idle:
            continue
        if (loser.id, group.rung) not in served:
            continue
        device = world.devices.get(group.devices[0])
        shape = shape_of(world, group.claim, group.rung)
        winners = takers[eviction.claim] if winner is None else {winner.tenant}
        is_inside = bool(winners) and all(_any_below(tenant, {one}) for one in winners)
        is_its = _any_below(tenant, {loser.tenant})
        if is_its and shape is not None and device is not None and device.flavor == flavor:
            millis = _counts(world, shape, flavor) * max(1, group.replicas, loser.min_replicas)
            (inside if is_inside else lost).append(millis)
    return lost, inside


def _idle(world: World, decision: Decision) -> set[ClaimId]:
    """Return the claims that are remembered as idle for long enough, and of which nothing is seen to work."""
    until_ms = world.now_ms - world.policy.bounds.idle_after_ms
    found = {one.claim for one in decision.memory.claims
             if one.idle_since_ms is not None and one.idle_since_ms <= until_ms}  # fmt: skip
    usages: defaultdict[ClaimId, set[UsageState]] = defaultdict(set)
    for group in world.groups.values():
        usages[group.claim].add(group.usage)
    return {one for one in found if UsageState.TRULY_IDLE in usages[one] and not usages[one] & _AT_WORK}


def _takers(world: World, decision: Decision) -> defaultdict[ClaimId, set[TenantId]]:
    """Return the tenants for which something of each claim leaves."""
    found: defaultdict[ClaimId, set[TenantId]] = defaultdict(set)
    for eviction in decision.evictions:
        winner = world.claims.get(eviction.beneficiary or ClaimId(""))
        if winner is not None:
            found[eviction.claim].add(winner.tenant)
    return found


def _counts(world: World, shape: Shape, flavor: FlavorId) -> int:
    """Return what a replica counts against a quota: the larger part that it takes of a device, compute or memory."""
    least = world.least_memory.get(flavor, 0)
    by_memory = -(-shape.memory_mib * WHOLE_GPU_MILLIS // least) if least > 0 else 0
    return max(shape.gpu_millis, by_memory) * shape.devices


def _any_below(top: TenantId, tenants: set[TenantId]) -> bool:
    return any(one == top or one.startswith(f"{top}/") for one in tenants)


def held_after(world: World, decision: Decision) -> defaultdict[Held, int]:
    """Return what each tenant and all below it hold of each flavor by the decision's placements, whatever it says."""
    alone: defaultdict[tuple[TenantId, FlavorId], int] = defaultdict(int)
    for one in decision.placements:
        claim, shape = world.claims.get(one.claim), shape_of(world, one.claim, one.rung)
        device = world.devices.get(one.devices[0]) if one.devices else None
        if claim is not None and shape is not None and device is not None:
            alone[claim.tenant, device.flavor] += _counts(world, shape, device.flavor) * one.replicas
    return _with_all_above(alone)


def _served(world: World) -> set[tuple[ClaimId, int]]:
    """Return the claims that have their minimum on one rung, on devices that may carry it, with that rung.

    Fewer is no service; a claim runs on one rung, and what it has on another is about to leave.
    """
    working: defaultdict[tuple[ClaimId, int], int] = defaultdict(int)
    for group in world.groups.values():
        working[group.claim, group.rung] += group.replicas if is_working(world, group) else 0
    least = {name: claim.min_replicas for name, claim in world.claims.items()}
    return {(name, rung) for (name, rung), count in working.items() if count >= least.get(name, count + 1)}


def _held_before(world: World, served: Collection[tuple[ClaimId, int]]) -> defaultdict[Held, int]:
    """Return what each tenant and all below it held in the claims that were served."""
    alone: defaultdict[tuple[TenantId, FlavorId], int] = defaultdict(int)
    for group in world.groups.values():
        claim, shape = world.claims.get(group.claim), shape_of(world, group.claim, group.rung)
        device = world.devices.get(group.devices[0])
        if claim is not None and shape is not None and device is not None and (claim.id, group.rung) in served:
            alone[claim.tenant, device.flavor] += _counts(world, shape, device.flavor) * group.replicas
    return _with_all_above(alone)


def _with_all_above(alone: defaultdict[tuple[TenantId, FlavorId], int]) -> defaultdict[Held, int]:
    held: defaultdict[Held, int] = defaultdict(int)
    for (tenant, flavor), millis in alone.items():
        parts = tenant.split("/")
        for depth in range(1, len(parts) + 1):
            held["/".join(parts[:depth]), flavor] += millis
    return held
