"""A second program that checks every decision and plan before it is carried out. It shares nothing with the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from policies.model.decision import Decision, EvictionReason
from policies.model.inventory import Device, DeviceHealth, Group, ScrubState, Worker
from policies.model.memory import Memory
from policies.model.plan import Action, Plan, ScrubDevice, StartGroup, StartRouting, StartWorker, StopGroup, StopWorker
from policies.model.policy import Policy
from policies.model.snapshot import GapKind, Snapshot
from policies.model.units import (
    WHOLE_GPU_MILLIS,
    ClaimId,
    DeviceId,
    FlavorId,
    GroupId,
    SecurityDomain,
    TenantId,
    WorkerId,
)
from policies.model.workload import Claim, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule: its stable name, what it concerns, and a sentence for whoever is called."""

    rule: str
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    policy: Policy
    now_ms: int
    devices: dict[DeviceId, Device]
    workers: dict[WorkerId, Worker]
    groups: dict[GroupId, Group]
    claims: dict[ClaimId, Claim]
    domain_of: dict[TenantId, SecurityDomain]
    blind: frozenset[str]
    unseen: frozenset[str]
    drains: dict[GroupId, int]


def check(snapshot: Snapshot, plan: Plan, policy: Policy, memory: Memory | None = None) -> tuple[Violation, ...]:
    """Return every rule that the plan would break, sorted; empty when it may be carried out.

    Args:
        snapshot: what the plan was made from.
        plan: what is to be done.
        policy: the revision in force.
        memory: of the decision behind the plan; it says since when groups receive no requests. Without it every group
            that is not routed counts as past its drain deadline.
    """
    drains = {} if memory is None else {one.group: one.since_ms for one in memory.drains}
    unknown = dict.fromkeys((group.id for group in snapshot.groups), 0) if memory is None else {}
    world = _world(snapshot, policy, plan.decided_at_ms, drains or unknown)
    rules = (
        _fresh(snapshot, plan),
        _groups_stop_drained(world, plan),
        _workers_stop_empty(world, plan),
        _scrubs_touch_nobody(world, plan),
        _bindings_are_clean(world, plan),
        _groups_start_on_their_own(world, plan),
        _routing_finds_replicas(world, plan),
        _gaps_move_nothing(world, plan),
    )
    return _sorted(violation for rule in rules for violation in rule)


def check_decision(snapshot: Snapshot, decision: Decision, policy: Policy) -> tuple[Violation, ...]:
    """Return every rule that the decided state would break, sorted; empty when it is sound."""
    world = _world(
        snapshot, policy, decision.decided_at_ms, {one.group: one.since_ms for one in decision.memory.drains}
    )
    rules = (_devices_are_bound_once(world, decision), _one_domain_per_gpu(world, decision),
             _placements_fit(world, decision), _placements_are_asked_for(world, decision),
             _quotas_hold(world, snapshot, decision), _victims_may_leave(world, decision),
             _each_claim_has_a_reason(world, decision), _floors_hold(world, decision))  # fmt: skip
    return _sorted(violation for rule in rules for violation in rule)


def _sorted(found: Iterator[Violation]) -> tuple[Violation, ...]:
    return tuple(sorted(set(found), key=lambda one: (one.rule, one.subject, one.sentence)))


def _world(snapshot: Snapshot, policy: Policy, now_ms: int, drains: dict[GroupId, int]) -> _World:
    clusters = {gap.subject for gap in snapshot.gaps if gap.kind is GapKind.CLUSTER}
    return _World(
        policy=policy, now_ms=now_ms,
        devices={device.id: device for device in snapshot.devices},
        workers={worker.id: worker for worker in snapshot.workers},
        groups={group.id: group for group in snapshot.groups},
        claims={claim.id: claim for claim in snapshot.claims},
        domain_of={tenant.id: tenant.domain for tenant in policy.tenants},
        blind=frozenset(str(domain) for domain in snapshot.adopting) | frozenset(clusters),
        unseen=frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.NODE, GapKind.DEVICE)),
        drains=drains,
    )  # fmt: skip


# Plans ---------------------------------------------------------------------------------------------------------------


def _fresh(snapshot: Snapshot, plan: Plan) -> Iterator[Violation]:
    if plan.snapshot_generation != snapshot.generation:
        yield Violation(
            rule="plan_is_of_this_snapshot", subject=plan.id,
            sentence=f"the plan was made from generation {plan.snapshot_generation}, not {snapshot.generation}",
        )  # fmt: skip


def _groups_stop_drained(world: _World, plan: Plan) -> Iterator[Violation]:
    for action in plan.actions:
        if not isinstance(action, StopGroup) or (group := world.groups.get(action.group)) is None:
            continue
        waited = world.now_ms - world.drains.get(group.id, world.now_ms)
        is_drained = group.in_flight == 0 or group.running == 0 or waited >= world.policy.bounds.drain_deadline_ms
        if group.routed or not is_drained:
            yield Violation(
                rule="no_group_stops_undrained", subject=group.id,
                sentence=f"group {group.id} still answers requests and its drain deadline has not passed",
            )  # fmt: skip


def _workers_stop_empty(world: _World, plan: Plan) -> Iterator[Violation]:
    for action in plan.actions:
        if isinstance(action, StopWorker):
            for group in world.groups.values():
                if group.worker == action.worker:
                    yield Violation(
                        rule="no_worker_stops_under_a_group", subject=action.worker,
                        sentence=f"worker {action.worker} still carries group {group.id}",
                    )  # fmt: skip


def _scrubs_touch_nobody(world: _World, plan: Plan) -> Iterator[Violation]:
    held = {device: worker.id for worker in world.workers.values() for device in worker.devices}
    for action in plan.actions:
        if isinstance(action, ScrubDevice) and action.device in held:
            yield Violation(
                rule="no_held_device_is_scrubbed", subject=action.device,
                sentence=f"device {action.device} is still held by worker {held[action.device]}",
            )  # fmt: skip


def _bindings_are_clean(world: _World, plan: Plan) -> Iterator[Violation]:
    bound: dict[DeviceId, WorkerId] = {one: worker.id for worker in world.workers.values() for one in worker.devices}
    on_gpu: dict[DeviceId, SecurityDomain] = {
        world.devices[one].gpu: worker.domain
        for worker in world.workers.values() for one in worker.devices if one in world.devices
    }  # fmt: skip
    for action in plan.actions:
        if isinstance(action, StartWorker):
            for one in action.devices:
                yield from _binding(world, action, one, bound, on_gpu)


def _binding(
    world: _World,
    action: StartWorker,
    one: DeviceId,
    bound: dict[DeviceId, WorkerId],
    on_gpu: dict[DeviceId, SecurityDomain],
) -> Iterator[Violation]:
    device = world.devices.get(one)
    if device is None or one in world.unseen:
        yield Violation(rule="only_seen_devices_are_bound", subject=one, sentence=f"device {one} was not seen")
        return
    if bound.setdefault(one, action.worker) != action.worker:
        sentence = f"device {one} is already held by worker {bound[one]}"
        yield Violation(rule="one_worker_per_device", subject=one, sentence=sentence)
    if on_gpu.setdefault(device.gpu, action.domain) != action.domain:
        sentence = f"GPU {device.gpu} is in use by {on_gpu[device.gpu]}; {action.domain} may not be beside it"
        yield Violation(rule="one_domain_per_gpu", subject=device.gpu, sentence=sentence)
    is_own = device.scrub is ScrubState.DIRTY and device.domain == action.domain
    if device.scrub is not ScrubState.CLEAN and not is_own:
        sentence = f"device {one} is {device.scrub} of {device.domain}: no proof that it is clean"
        yield Violation(rule="scrub_proof_before_domain_change", subject=one, sentence=sentence)


def _groups_start_on_their_own(world: _World, plan: Plan) -> Iterator[Violation]:
    for action in plan.actions:
        if not isinstance(action, StartGroup):
            continue
        worker, claim = world.workers.get(action.worker), world.claims.get(action.claim)
        if worker is None or not set(action.devices) <= set(worker.devices):
            sentence = f"group {action.group} would start on devices that worker {action.worker} does not hold"
            yield Violation(rule="groups_stay_inside_their_worker", subject=action.group, sentence=sentence)
        elif claim is None or world.domain_of.get(claim.tenant) != worker.domain:
            sentence = f"group {action.group} of claim {action.claim} would run in domain {worker.domain}"
            yield Violation(rule="tenants_run_in_their_own_domain", subject=action.group, sentence=sentence)
    yield from _no_device_is_filled_twice(world, plan)


def _no_device_is_filled_twice(world: _World, plan: Plan) -> Iterator[Violation]:
    taken: defaultdict[DeviceId, int] = defaultdict(int)
    for group in world.groups.values():
        shape = _shape_of(world, group.claim, group.rung)
        for one in group.devices:
            taken[one] += _share(shape, group.replicas, len(group.devices))
    for action in plan.actions:
        if isinstance(action, StartGroup):
            per_device = max(1, action.replicas // max(1, len(action.devices)))
            for one in action.devices:
                taken[one] += action.gpu_millis * (1 if action.gpu_millis == WHOLE_GPU_MILLIS else per_device)
                if taken[one] > WHOLE_GPU_MILLIS:
                    sentence = f"device {one} would carry {taken[one]} of {WHOLE_GPU_MILLIS} millis"
                    yield Violation(rule="sums_within_capacity", subject=one, sentence=sentence)


def _shape_of(world: _World, claim: ClaimId, rung: int) -> Shape | None:
    known = world.claims.get(claim)
    return known.ladder[rung] if known is not None and rung < len(known.ladder) else None


def _share(shape: Shape | None, replicas: int, devices: int) -> int:
    if shape is None or shape.gpu_millis == WHOLE_GPU_MILLIS:
        return WHOLE_GPU_MILLIS
    return shape.gpu_millis * max(1, replicas // max(1, devices))


def _routing_finds_replicas(world: _World, plan: Plan) -> Iterator[Violation]:
    for action in plan.actions:
        if isinstance(action, StartRouting):
            group = world.groups.get(action.group)
            if group is None or group.running < 1:
                sentence = f"group {action.group} would receive requests without a running replica"
                yield Violation(rule="requests_go_to_running_replicas", subject=action.group, sentence=sentence)


def _gaps_move_nothing(world: _World, plan: Plan) -> Iterator[Violation]:
    for action in plan.actions:
        domain, seen = _concerns(action)
        if domain in world.blind or seen & world.unseen:
            sentence = f"{action.kind} concerns what was not seen"
            yield Violation(rule="no_move_rests_on_a_gap", subject=", ".join(sorted(seen)) or domain, sentence=sentence)


def _concerns(action: Action) -> tuple[str, frozenset[str]]:
    if isinstance(action, ScrubDevice):
        return "", frozenset((action.device, action.node))
    if isinstance(action, StartWorker):
        return action.domain, frozenset((*action.devices, action.node))
    if isinstance(action, StopWorker):
        return action.domain, frozenset(action.devices)
    return action.domain, frozenset()


# Decisions -----------------------------------------------------------------------------------------------------------


def _devices_are_bound_once(world: _World, decision: Decision) -> Iterator[Violation]:
    holder: dict[DeviceId, WorkerId] = {}
    for binding in decision.bindings:
        for one in binding.devices:
            if holder.setdefault(one, binding.worker) != binding.worker:
                sentence = f"device {one} would be held by {holder[one]} and {binding.worker}"
                yield Violation(rule="one_worker_per_device", subject=one, sentence=sentence)
            if one not in world.devices and binding.worker not in world.workers:
                yield Violation(rule="only_seen_devices_are_bound", subject=one, sentence=f"device {one} is unknown")


def _one_domain_per_gpu(world: _World, decision: Decision) -> Iterator[Violation]:
    domain: dict[DeviceId, SecurityDomain] = {}
    for binding in decision.bindings:
        for one in binding.devices:
            device = world.devices.get(one)
            if device is not None and domain.setdefault(device.gpu, binding.domain) != binding.domain:
                sentence = f"GPU {device.gpu} would be shared by {domain[device.gpu]} and {binding.domain}"
                yield Violation(rule="one_domain_per_gpu", subject=device.gpu, sentence=sentence)


def _placements_fit(world: _World, decision: Decision) -> Iterator[Violation]:
    millis: defaultdict[DeviceId, int] = defaultdict(int)
    memory: defaultdict[DeviceId, int] = defaultdict(int)
    workers = {binding.worker: binding for binding in decision.bindings}
    for placement in decision.placements:
        binding, shape = workers.get(placement.worker), _shape_of(world, placement.claim, placement.rung)
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


def _placements_are_asked_for(world: _World, decision: Decision) -> Iterator[Violation]:
    replicas: defaultdict[ClaimId, int] = defaultdict(int)
    workers = {binding.worker: binding for binding in decision.bindings}
    for placement in decision.placements:
        replicas[placement.claim] += placement.replicas
        claim, binding = world.claims.get(placement.claim), workers.get(placement.worker)
        if binding is not None and binding.domain in world.blind:
            continue
        yield from _new_ones_are_healthy(world, placement.group, placement.devices)
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


def _new_ones_are_healthy(world: _World, group: GroupId, devices: tuple[DeviceId, ...]) -> Iterator[Violation]:
    if group in world.groups:
        return
    for one in devices:
        device = world.devices.get(one)
        is_lost = device is None or one in world.unseen or device.node in world.unseen
        if device is None or is_lost or device.health is not DeviceHealth.HEALTHY or device.scrub is ScrubState.FAILED:
            sentence = f"group {group} would start on device {one}, which is not healthy and seen"
            yield Violation(rule="new_work_goes_to_healthy_devices", subject=one, sentence=sentence)


def _quotas_hold(world: _World, snapshot: Snapshot, decision: Decision) -> Iterator[Violation]:
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


def _victims_may_leave(world: _World, decision: Decision) -> Iterator[Violation]:
    classes = {cls.name: cls for cls in world.policy.priority_classes}
    for eviction in decision.evictions:
        group, claim = world.groups.get(eviction.group), world.claims.get(eviction.claim)
        worker = world.workers.get(group.worker) if group is not None else None
        if worker is not None and worker.domain in world.blind:
            sentence = f"group {eviction.group} would leave although its domain was not seen"
            yield Violation(rule="no_move_rests_on_a_gap", subject=eviction.group, sentence=sentence)
        if eviction.beneficiary is None or claim is None or group is None:
            continue
        if any(one in world.unseen for one in group.devices):
            sentence = f"group {eviction.group} would leave although its devices were not seen"
            yield Violation(rule="no_move_rests_on_a_gap", subject=eviction.group, sentence=sentence)
        cls = classes.get(claim.priority_class)
        if cls is not None and not cls.preemptible:
            sentence = f"group {eviction.group} is of class {cls.name}, which nobody may preempt"
            yield Violation(rule="the_non_preemptible_stay", subject=eviction.group, sentence=sentence)


def _each_claim_has_a_reason(world: _World, decision: Decision) -> Iterator[Violation]:
    counts: defaultdict[ClaimId, int] = defaultdict(int)
    for reason in decision.reasons:
        counts[reason.claim] += 1
    for claim in sorted(set(world.claims) | set(counts)):
        if counts[claim] != 1 or claim not in world.claims:
            sentence = f"claim {claim} has {counts[claim]} reasons"
            yield Violation(rule="one_reason_per_claim", subject=claim, sentence=sentence)


def _floors_hold(world: _World, decision: Decision) -> Iterator[Violation]:
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


def _floors_can_be_met(world: _World, flavor: FlavorId) -> bool:
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


def _least_lost_to_others(world: _World, decision: Decision, tenant: TenantId, flavor: FlavorId) -> int | None:
    """Return the smallest group, in millis, that the tenant loses to somebody outside; None if it loses none."""
    lost = []
    for eviction in decision.evictions:
        loser, winner = world.claims.get(eviction.claim), world.claims.get(eviction.beneficiary or ClaimId(""))
        if loser is None or winner is None or eviction.reason in (EvictionReason.IDLE, EvictionReason.CONSOLIDATE):
            continue
        group, device = world.groups[eviction.group], world.devices.get(world.groups[eviction.group].devices[0])
        shape = _shape_of(world, group.claim, group.rung)
        is_its = _any_below(tenant, {loser.tenant}) and not _any_below(tenant, {winner.tenant})
        if is_its and shape is not None and device is not None and device.flavor == flavor:
            lost.append(_counts(world, shape, flavor) * max(1, group.replicas, loser.min_replicas))
    return min(lost, default=None)


def _counts(world: _World, shape: Shape, flavor: FlavorId) -> int:
    """Return what a replica counts against a quota: the larger part that it takes of a device, compute or memory."""
    least = min((one.memory_mib for one in world.devices.values() if one.flavor == flavor), default=0)
    by_memory = -(-shape.memory_mib * WHOLE_GPU_MILLIS // least) if least > 0 else 0
    return max(shape.gpu_millis, by_memory) * shape.devices


def _any_below(top: TenantId, tenants: set[TenantId]) -> bool:
    return any(one == top or one.startswith(f"{top}/") for one in tenants)


def _held_before(world: _World) -> defaultdict[tuple[str, FlavorId], int]:
    held: defaultdict[tuple[str, FlavorId], int] = defaultdict(int)
    for group in world.groups.values():
        claim, shape = world.claims.get(group.claim), _shape_of(world, group.claim, group.rung)
        device = world.devices.get(group.devices[0])
        if claim is None or shape is None or device is None:
            continue
        parts = claim.tenant.split("/")
        for depth in range(1, len(parts) + 1):
            held["/".join(parts[:depth]), device.flavor] += _counts(world, shape, device.flavor) * group.replicas
    return held
