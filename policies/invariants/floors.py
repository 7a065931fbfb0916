"""Nobody who asks for its floor is put below it by what leaves for others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from policies.invariants.world import Violation, World, shape_of
from policies.model.decision import Decision, EvictionReason
from policies.model.inventory import DeviceHealth, GroupState
from policies.model.units import (
    WHOLE_GPU_MILLIS,
    ClaimId,
    DeviceId,
    FlavorId,
    SecurityDomain,
    TenantId,
)
from policies.model.workload import Shape


def floors_hold(world: World, decision: Decision) -> Iterator[Violation]:
    """Find tenants that still ask for more and are put below their floor by what leaves for others."""
    after = {(one.tenant, one.flavor): one for one in decision.entitlements}
    before = _held_before(world)
    lacking = {world.claims[r.claim].tenant for r in decision.reasons if r.granted_replicas < r.wanted_replicas}
    waived = {
        one for overlay in world.policy.overlays if overlay.mode == decision.mode for one in overlay.waived_floors
    }
    for tenant in world.policy.tenants:
        for flavor, floor in tenant.floor_millis:
            one = after.get((tenant.id, flavor))
            if one is None or tenant.id in waived or not _any_below(tenant.id, lacking):
                continue
            if not _floors_can_be_met(world, flavor):
                continue
            promised = min(floor, one.demand_millis, before[tenant.id, flavor])
            least = _least_lost_to_others(world, decision, tenant.id, flavor)
            fits = least is not None and one.held_millis + least <= one.guaranteed_millis
            if one.held_millis < promised and fits:
                sentence = f"{tenant.id} would hold {one.held_millis} of {flavor}, below its floor of {floor}"
                yield Violation(rule="no_victim_below_its_floor", subject=tenant.id, sentence=sentence)


def _floors_can_be_met(world: World, flavor: FlavorId) -> bool:
    """Say whether the healthy GPUs, each of one domain, suffice for every domain's floor."""
    parts: defaultdict[DeviceId, int] = defaultdict(int)
    for device in world.devices.values():
        if device.flavor == flavor and device.health is DeviceHealth.HEALTHY:
            parts[device.gpu] += WHOLE_GPU_MILLIS
    needed: defaultdict[SecurityDomain, int] = defaultdict(int)
    for tenant in world.policy.tenants:
        floor = dict(tenant.floor_millis).get(flavor, 0)
        needed[tenant.domain] = max(needed[tenant.domain], floor)
    least = min(parts.values(), default=0)
    return least > 0 and sum(-(-floor // least) for floor in needed.values()) <= len(parts)


def _least_lost_to_others(world: World, decision: Decision, tenant: TenantId, flavor: FlavorId) -> int | None:
    """Return the smallest group, in millis, that the tenant loses to somebody outside; None if it loses none."""
    lost = []
    for eviction in decision.evictions:
        loser, winner = world.claims.get(eviction.claim), world.claims.get(eviction.beneficiary or ClaimId(""))
        if loser is None or winner is None or eviction.reason in (EvictionReason.IDLE, EvictionReason.CONSOLIDATE):
            continue
        group, device = world.groups[eviction.group], world.devices.get(world.groups[eviction.group].devices[0])
        shape = shape_of(world, group.claim, group.rung)
        is_its = _any_below(tenant, {loser.tenant}) and not _any_below(tenant, {winner.tenant})
        if is_its and shape is not None and device is not None and device.flavor == flavor:
            lost.append(_counts(world, shape, flavor) * max(1, group.replicas, loser.min_replicas))
    return min(lost, default=None)


def _counts(world: World, shape: Shape, flavor: FlavorId) -> int:
    """Return what a replica counts against a quota: the larger part that it takes of a device, compute or memory."""
    least = world.least_memory.get(flavor, 0)
    by_memory = -(-shape.memory_mib * WHOLE_GPU_MILLIS // least) if least > 0 else 0
    return max(shape.gpu_millis, by_memory) * shape.devices


def _any_below(top: TenantId, tenants: set[TenantId]) -> bool:
    return any(one == top or one.startswith(f"{top}/") for one in tenants)


def _held_before(world: World) -> defaultdict[tuple[str, FlavorId], int]:
    """Return what each tenant and all below it held in claims that had their minimum: fewer is no service."""
    held: defaultdict[tuple[str, FlavorId], int] = defaultdict(int)
    alone: defaultdict[tuple[TenantId, FlavorId], int] = defaultdict(int)
    working: defaultdict[ClaimId, int] = defaultdict(int)
    for group in world.groups.values():
        working[group.claim] += group.replicas if group.state is not GroupState.FAILED else 0
    for group in world.groups.values():
        claim, shape = world.claims.get(group.claim), shape_of(world, group.claim, group.rung)
        device = world.devices.get(group.devices[0])
        if claim is None or shape is None or device is None or working[group.claim] < claim.min_replicas:
            continue
        alone[claim.tenant, device.flavor] += _counts(world, shape, device.flavor) * group.replicas
    for (tenant, flavor), millis in alone.items():
        parts = tenant.split("/")
        for depth in range(1, len(parts) + 1):
            held["/".join(parts[:depth]), flavor] += millis
    return held
