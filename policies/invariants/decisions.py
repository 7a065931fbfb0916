"""Rules that every decided state keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from policies.invariants.floors import floors_hold
from policies.invariants.leaving import broken_by_leaving, is_over
from policies.invariants.world import Violation, World, is_working, shape_of
from policies.model.decision import Decision, Eviction, EvictionReason
from policies.model.inventory import DeviceHealth, Group, ScrubState
from policies.model.snapshot import Snapshot
from policies.model.units import (
    WHOLE_GPU_MILLIS,
    ClaimId,
    DeviceId,
    FlavorId,
    GroupId,
    NodeId,
    SecurityDomain,
    WorkerId,
)


def broken_by_decision(world: World, snapshot: Snapshot, decision: Decision) -> Iterator[Violation]:
    """Yield every rule that the decided state would break, in no particular order."""
    yield from _fresh(snapshot, decision)
    yield from _quotas_hold(world, snapshot, decision)
    for rule in (_devices_are_bound_once, _one_domain_per_gpu, _placements_fit, _hosts_carry_what_starts,
                 _placements_are_asked_for, _victims_may_leave, _each_claim_has_a_reason, broken_by_leaving,
                 floors_hold):  # fmt: skip
        yield from rule(world, decision)


def _fresh(snapshot: Snapshot, decision: Decision) -> Iterator[Violation]:
    if decision.snapshot_generation != snapshot.generation:
        sentence = f"it was taken from generation {decision.snapshot_generation}, not {snapshot.generation}"
        yield Violation(rule="decision_is_of_this_snapshot", subject=str(snapshot.generation), sentence=sentence)


def _devices_are_bound_once(world: World, decision: Decision) -> Iterator[Violation]:
    holder: dict[DeviceId, WorkerId] = {}
    for binding in decision.bindings:
        for one in binding.devices:
            if holder.setdefault(one, binding.worker) != binding.worker:
                sentence = f"device {one} would be held by {holder[one]} and {binding.worker}"
                yield Violation(rule="one_worker_per_device", subject=one, sentence=sentence)
            if one not in world.devices and binding.worker not in world.workers:
                yield Violation(rule="only_seen_devices_are_bound", subject=one, sentence=f"device {one} is unknown")


def _one_domain_per_gpu(world: World, decision: Decision) -> Iterator[Violation]:
    domain: dict[DeviceId, SecurityDomain] = {}
    for binding in decision.bindings:
        for one in binding.devices:
            device = world.devices.get(one)
            if device is not None and domain.setdefault(device.gpu, binding.domain) != binding.domain:
                sentence = f"GPU {device.gpu} would be shared by {domain[device.gpu]} and {binding.domain}"
                yield Violation(rule="one_domain_per_gpu", subject=device.gpu, sentence=sentence)


def _placements_fit(world: World, decision: Decision) -> Iterator[Violation]:
    millis: defaultdict[DeviceId, int] = defaultdict(int)
    memory: defaultdict[DeviceId, int] = defaultdict(int)
    workers = {binding.worker: binding for binding in decision.bindings}
    for placement in decision.placements:
        binding, shape = workers.get(placement.worker), shape_of(world, placement.claim, placement.rung)
        if binding is None or not set(placement.devices) <= set(binding.devices):
            sentence = f"group {placement.group} would run on devices that its worker does not hold"
            yield Violation(rule="groups_stay_inside_their_worker", subject=placement.group, sentence=sentence)
        if shape is None:
            continue
        each = placement.replicas * shape.devices // max(1, len(placement.devices))
        for one in placement.devices:
            millis[one] += shape.gpu_millis * each
            memory[one] += shape.memory_mib * each
    for one, amount in millis.items():
        device = world.devices.get(one)
        if amount > WHOLE_GPU_MILLIS or (device is not None and memory[one] > device.memory_mib):
            sentence = f"device {one} would carry {amount} millis and {memory[one]} MiB"
            yield Violation(rule="sums_within_capacity", subject=one, sentence=sentence)


def _hosts_carry_what_starts(world: World, decision: Decision) -> Iterator[Violation]:
    """Find hosts on which something would start although their CPUs or memory do not suffice for all that is there."""
    taken: defaultdict[NodeId, list[int]] = defaultdict(lambda: [0, 0])
    growing: set[NodeId] = set()
    for placement in decision.placements:
        shape, group = shape_of(world, placement.claim, placement.rung), world.groups.get(placement.group)
        device = world.devices.get(placement.devices[0]) if placement.devices else None
        if shape is None or device is None:
            continue
        taken[device.node][0] += placement.replicas * shape.cpu_millis
        taken[device.node][1] += placement.replicas * shape.host_memory_mib
        if group is None or group.replicas < placement.replicas:
            growing.add(device.node)
    for name in growing & set(world.nodes):
        (cpu, memory), node = taken[name], world.nodes[name]
        if cpu > node.cpu_millis or memory > node.memory_mib:
            sentence = f"host {name} would carry {cpu} CPU millis and {memory} MiB beside its devices"
            yield Violation(rule="sums_within_capacity", subject=name, sentence=sentence)


def _placements_are_asked_for(world: World, decision: Decision) -> Iterator[Violation]:
    replicas: defaultdict[ClaimId, int] = defaultdict(int)
    workers = {binding.worker: binding for binding in decision.bindings}
    for placement in decision.placements:
        replicas[placement.claim] += placement.replicas
        claim, binding = world.claims.get(placement.claim), workers.get(placement.worker)
        if binding is not None and binding.domain in world.blind:
            continue
        yield from _new_ones_are_healthy(world, placement.group, placement.devices)
        if claim is not None and is_over(claim, decision.decided_at_ms):
            sentence = f"group {placement.group} would run although the end of {claim.id} has passed"
            yield Violation(rule="the_expired_leave", subject=placement.group, sentence=sentence)
        if claim is None or (binding is not None and world.domain_of.get(claim.tenant) != binding.domain):
            sentence = f"group {placement.group} would run for a claim that is not of its worker's domain"
            yield Violation(rule="tenants_run_in_their_own_domain", subject=placement.group, sentence=sentence)
    for name, count in replicas.items():
        claim = world.claims.get(name)
        if claim is None or world.domain_of.get(claim.tenant) in world.blind:
            continue
        if not claim.min_replicas <= count <= claim.max_replicas:
            sentence = f"{count} replicas, outside {claim.min_replicas} to {claim.max_replicas}"
            yield Violation(rule="gangs_are_whole", subject=name, sentence=sentence)


def _new_ones_are_healthy(world: World, group: GroupId, devices: tuple[DeviceId, ...]) -> Iterator[Violation]:
    if group in world.groups:
        return
    for one in devices:
        device = world.devices.get(one)
        is_lost = device is None or one in world.unseen or device.node in world.unseen
        if device is None or is_lost or device.health is not DeviceHealth.HEALTHY or device.scrub is ScrubState.FAILED:
            sentence = f"group {group} would start on device {one}, which is not healthy and seen"
            yield Violation(rule="new_work_goes_to_healthy_devices", subject=one, sentence=sentence)


def _quotas_hold(world: World, snapshot: Snapshot, decision: Decision) -> Iterator[Violation]:
    capacity: defaultdict[FlavorId, int] = defaultdict(int)
    for device in snapshot.devices:
        capacity[device.flavor] += WHOLE_GPU_MILLIS
    parents = {tenant.id: tenant.parent for tenant in world.policy.tenants}
    roots: defaultdict[FlavorId, int] = defaultdict(int)
    for one in decision.entitlements:
        if min(one.guaranteed_millis, one.entitled_millis, one.held_millis, one.borrowed_millis, one.lent_millis) < 0:
            sentence = f"a figure of {one.tenant} for {one.flavor} is negative"
            yield Violation(rule="no_amount_is_negative", subject=one.tenant, sentence=sentence)
        if parents.get(one.tenant) is None and one.tenant in parents:
            roots[one.flavor] += one.entitled_millis
    for flavor, total in roots.items():
        if total > capacity[flavor]:
            sentence = f"{total} millis of {flavor} are promised, {capacity[flavor]} exist"
            yield Violation(rule="sums_within_capacity", subject=flavor, sentence=sentence)


def _victims_may_leave(world: World, decision: Decision) -> Iterator[Violation]:
    classes = {cls.name: cls for cls in world.policy.priority_classes}
    for eviction in decision.evictions:
        group, claim = world.groups.get(eviction.group), world.claims.get(eviction.claim)
        worker = world.workers.get(group.worker) if group is not None else None
        if worker is not None and worker.domain in world.blind:
            sentence = f"group {eviction.group} would leave although its domain was not seen"
            yield Violation(rule="no_move_rests_on_a_gap", subject=eviction.group, sentence=sentence)
        if claim is None or group is None:
            continue
        if eviction.beneficiary is None and (eviction.reason not in _TAKEN or not _was_whole(world, group)):
            continue
        if _is_hidden(world, eviction):
            sentence = f"group {eviction.group} would leave although its devices were not seen"
            yield Violation(rule="no_move_rests_on_a_gap", subject=eviction.group, sentence=sentence)
        cls = classes.get(claim.priority_class)
        if cls is not None and not cls.preemptible:
            sentence = f"group {eviction.group} is of class {cls.name}, which nobody may preempt"
            yield Violation(rule="the_non_preemptible_stay", subject=eviction.group, sentence=sentence)


def _was_whole(world: World, group: Group) -> bool:
    """Say whether its claim had its minimum on the group's rung, on devices that may carry it: fewer is no service.

    Fewer leaves. A claim runs on one rung: what it has on another is about to leave.
    """
    least = world.claims[group.claim].min_replicas
    beside = (one for one in world.groups.values() if (one.claim, one.rung) == (group.claim, group.rung))
    return sum(one.replicas for one in beside if is_working(world, one)) >= least


def _is_hidden(world: World, eviction: Eviction) -> bool:
    """Say whether the group was not seen: what leaves for nobody may go with others of its claim that were."""
    group = world.groups[eviction.group]
    beside = [one for one in world.groups.values() if one.claim == eviction.claim]
    hosts = {device.id: device.node for device in world.devices.values()}
    return all(
        any(device in world.unseen or hosts.get(device) in world.unseen for device in one.devices)
        for one in ((group,) if eviction.beneficiary is not None else beside)
    )


_TAKEN = (EvictionReason.RECLAIM, EvictionReason.PREEMPT, EvictionReason.REBALANCE)


def _each_claim_has_a_reason(world: World, decision: Decision) -> Iterator[Violation]:
    counts: defaultdict[ClaimId, int] = defaultdict(int)
    for reason in decision.reasons:
        counts[reason.claim] += 1
    for claim in sorted(set(world.claims) | set(counts)):
        if counts[claim] != 1 or claim not in world.claims:
            sentence = f"claim {claim} has {counts[claim]} reasons"
            yield Violation(rule="one_reason_per_claim", subject=claim, sentence=sentence)
