"""Rules that every plan keeps, action by action."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from policies.invariants.world import Violation, World, shape_of
from policies.model.inventory import ScrubState
from policies.model.plan import Action, Plan, ScrubDevice, StartGroup, StartRouting, StartWorker, StopGroup, StopWorker
from policies.model.snapshot import Snapshot
from policies.model.units import (
    WHOLE_GPU_MILLIS,
    DeviceId,
    SecurityDomain,
    WorkerId,
)
from policies.model.workload import Shape


def broken_by_plan(world: World, snapshot: Snapshot, plan: Plan) -> Iterator[Violation]:
    """Yield every rule that the plan would break, in no particular order."""
    yield from _fresh(snapshot, plan)
    for rule in (_groups_stop_drained, _workers_stop_empty, _scrubs_touch_nobody, _bindings_are_clean,
                 _groups_start_on_their_own, _routing_finds_replicas, _gaps_move_nothing):  # fmt: skip
        yield from rule(world, plan)


def _fresh(snapshot: Snapshot, plan: Plan) -> Iterator[Violation]:
    if plan.snapshot_generation != snapshot.generation:
        yield Violation(
            rule="plan_is_of_this_snapshot", subject=plan.id,
            sentence=f"the plan was made from generation {plan.snapshot_generation}, not {snapshot.generation}",
        )  # fmt: skip


def _groups_stop_drained(world: World, plan: Plan) -> Iterator[Violation]:
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


def _workers_stop_empty(world: World, plan: Plan) -> Iterator[Violation]:
    stopped = {action.worker for action in plan.actions if isinstance(action, StopWorker)}
    for group in world.groups.values():
        if group.worker in stopped:
            yield Violation(
                rule="no_worker_stops_under_a_group", subject=group.worker,
                sentence=f"worker {group.worker} still carries group {group.id}",
            )  # fmt: skip


def _scrubs_touch_nobody(world: World, plan: Plan) -> Iterator[Violation]:
    held = {device: worker.id for worker in world.workers.values() for device in worker.devices}
    for action in plan.actions:
        if isinstance(action, ScrubDevice) and action.device in held:
            yield Violation(
                rule="no_held_device_is_scrubbed", subject=action.device,
                sentence=f"device {action.device} is still held by worker {held[action.device]}",
            )  # fmt: skip


def _bindings_are_clean(world: World, plan: Plan) -> Iterator[Violation]:
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
    world: World,
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


def _groups_start_on_their_own(world: World, plan: Plan) -> Iterator[Violation]:
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


def _no_device_is_filled_twice(world: World, plan: Plan) -> Iterator[Violation]:
    taken: defaultdict[DeviceId, int] = defaultdict(int)
    for group in world.groups.values():
        shape = shape_of(world, group.claim, group.rung)
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


def _share(shape: Shape | None, replicas: int, devices: int) -> int:
    if shape is None or shape.gpu_millis == WHOLE_GPU_MILLIS:
        return WHOLE_GPU_MILLIS
    return shape.gpu_millis * max(1, replicas // max(1, devices))


def _routing_finds_replicas(world: World, plan: Plan) -> Iterator[Violation]:
    for action in plan.actions:
        if isinstance(action, StartRouting):
            group = world.groups.get(action.group)
            if group is None or group.running < 1:
                sentence = f"group {action.group} would receive requests without a running replica"
                yield Violation(rule="requests_go_to_running_replicas", subject=action.group, sentence=sentence)


def _gaps_move_nothing(world: World, plan: Plan) -> Iterator[Violation]:
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
