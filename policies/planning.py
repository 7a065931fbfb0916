"""From what is to what should be: only the actions that are safe now, give back before take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from policies.model.codec import digest
from policies.model.decision import Binding, Decision, EvictionReason, Placement
from policies.model.inventory import Device, Group, GroupState, ScrubState, Worker, WorkerState
from policies.model.plan import (
    Action,
    Plan,
    ScaleGroup,
    ScrubDevice,
    StartGroup,
    StartRouting,
    StartWorker,
    StopGroup,
    StopRouting,
    StopWorker,
)
from policies.model.policy import Policy
from policies.model.snapshot import GapKind, Snapshot
from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, WorkerId
from policies.model.workload import Claim

K = TypeVar("K")
V = TypeVar("V")
Begun = dict[DeviceId, list[Placement]]
"""What the plan has added to each device so far."""
MAKE_BEFORE_BREAK = (EvictionReason.RUNG_CHANGE, EvictionReason.CONSOLIDATE)
"""Moves of a claim's own replicas: the new one answers before the old one stops, where there is room for both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What planning looks at, by identifier."""

    now_ms: int
    drain_deadline_ms: int
    decision: Decision
    workers: dict[WorkerId, Worker]
    groups: dict[GroupId, Group]
    devices: dict[DeviceId, Device]
    siblings: dict[DeviceId, list[DeviceId]]
    """Devices of each GPU of which something is to be bound anew."""
    claims: dict[ClaimId, Claim]
    bindings: dict[WorkerId, Binding]
    missing: tuple[Binding, ...]
    """Those that no worker carries out yet, in the decision's order."""
    growing: tuple[Placement, ...]
    """Groups that are to start or to change their size, in the decision's order."""
    unrouted: tuple[Placement, ...]
    """Groups that are there and receive no requests yet, in the decision's order."""
    reasons: dict[GroupId, EvictionReason]
    drains: dict[GroupId, int]
    holder: dict[DeviceId, Worker]
    """The worker of each of the devices in ``siblings``, and of those to be bound."""
    on_device: dict[DeviceId, list[Group]]
    """Groups that stand on each device on which something grows."""
    placed_of: dict[ClaimId, list[Placement]]
    """Placements of the claims of which a group goes."""
    bound_on: dict[DeviceId, list[int]]
    """Places in ``decision.bindings`` of the devices of workers that stop."""
    newly_on: frozenset[DeviceId]
    """Devices on which a group is to start."""
    blind: frozenset[str]
    unseen: frozenset[str]


def plan(snapshot: Snapshot, decision: Decision, policy: Policy, fencing_generation: int) -> Plan:
    """Return the actions that are safe now; later ones follow from later observations.

    Level-triggered: nothing is remembered between turns but what the snapshot and the decision's memory hold, so that
    a crash at any instruction is safe and the same input gives the same plan. Groups stop before workers, workers
    before scrubs, scrubs before starts.
    """
    view = _view(snapshot, decision, policy)
    steps = (
        _stop_routing,
        _stop_groups,
        _stop_workers,
        _scrubs,
        _start_workers,
        _grow,
        _start_routing,
    )
    actions = tuple(action for step in steps for action in step(view))
    made = Plan(
        id="", snapshot_generation=snapshot.generation, fencing_generation=fencing_generation,
        decided_at_ms=decision.decided_at_ms, actions=actions,
    )  # fmt: skip
    return Plan(
        id=digest(made)[:16], snapshot_generation=made.snapshot_generation, fencing_generation=fencing_generation,
        decided_at_ms=made.decided_at_ms, actions=actions,
    )  # fmt: skip


def _view(snapshot: Snapshot, decision: Decision, policy: Policy) -> _View:
    """Return what planning looks at. Cost: a look at each thing that is there; more only for what changes."""
    clusters = {gap.subject for gap in snapshot.gaps if gap.kind is GapKind.CLUSTER}
    devices = {device.id: device for device in snapshot.devices}
    workers = {worker.id: worker for worker in sorted(snapshot.workers, key=_by_id)}
    groups = {group.id: group for group in sorted(snapshot.groups, key=_by_id)}
    bindings = {binding.worker: binding for binding in decision.bindings}
    missing = tuple(binding for binding in decision.bindings if binding.worker not in workers)
    gpus = {devices[one].gpu for binding in missing for one in binding.devices if one in devices}
    siblings = _grouped((device.gpu, device.id) for device in snapshot.devices if device.gpu in gpus)
    asked = {one for some in siblings.values() for one in some} | {one for new in missing for one in new.devices}
    growing = tuple(new for new in decision.placements if _grows(groups.get(new.group), new))
    filling = {device for new in growing for device in new.devices}
    stopping = {one for name in workers.keys() - bindings.keys() for one in workers[name].devices}
    waiting = {group.id for group in snapshot.groups if not group.routed}
    leaving = {eviction.claim for eviction in decision.evictions}
    return _View(
        now_ms=decision.decided_at_ms,
        drain_deadline_ms=policy.bounds.drain_deadline_ms,
        decision=decision,
        workers=workers,
        groups=groups,
        devices=devices,
        siblings=siblings,
        claims={claim.id: claim for claim in snapshot.claims},
        bindings=bindings,
        missing=missing,
        growing=growing,
        unrouted=tuple(new for new in decision.placements if new.group in waiting) if waiting else (),
        reasons={eviction.group: eviction.reason for eviction in decision.evictions},
        drains={drain.group: drain.since_ms for drain in decision.memory.drains},
        holder={one: worker for worker in snapshot.workers for one in worker.devices if one in asked},
        on_device=_grouped((one, group) for group in snapshot.groups for one in group.devices if one in filling),
        placed_of=_grouped((new.claim, new) for new in decision.placements if new.claim in leaving),
        bound_on=_grouped(
            (one, at) for at, new in enumerate(decision.bindings) for one in new.devices if one in stopping
        ),
        newly_on=frozenset(one for new in growing if new.group not in groups for one in new.devices),
        blind=frozenset(snapshot.adopting) | clusters,
        unseen=frozenset(gap.subject for gap in snapshot.gaps if gap.kind in (GapKind.NODE, GapKind.DEVICE)),
    )


_by_id = attrgetter("id")


def _grows(group: Group | None, placement: Placement) -> bool:
    return group is None or group.replicas != placement.replicas


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _leaving(view: _View) -> Iterator[tuple[Group, SecurityDomain, str]]:
    """Yield the groups that go now, with their domain and why; those that wait for their replacement are left out."""
    for name in sorted(view.reasons.keys() & view.groups.keys()):
        group = view.groups[name]
        domain = _domain_of(view, group)
        if domain is None or domain in view.blind:
            continue
        if not _waits_for_replacement(view, group):
            yield group, domain, str(view.reasons[group.id])


def _domain_of(view: _View, group: Group) -> SecurityDomain | None:
    """Return the domain of the group's worker; of its claim's path when the worker is gone."""
    worker = view.workers.get(group.worker)
    if worker is not None:
        return worker.domain
    first = group.claim.split("/")[0]
    return SecurityDomain(first) if first in set(SecurityDomain) else None


def _waits_for_replacement(view: _View, group: Group) -> bool:
    """Say whether the group still serves until its claim's new groups run: nobody else needs its devices.

    A program runs once: a job leaves one place before it begins at another.
    """
    claim = view.claims.get(group.claim)
    if claim is not None and claim.job is not None:
        return False
    if view.reasons[group.id] not in MAKE_BEFORE_BREAK or not group.routed or group.running == 0:
        return False
    new = [one for one in view.placed_of.get(group.claim, ()) if one.group != group.id]
    ready = all((there := view.groups.get(one.group)) is not None and there.routed for one in new)
    return not ready and not _is_wanted_by_others(view, group)


def _is_wanted_by_others(view: _View, group: Group) -> bool:
    kept = view.bindings.get(group.worker)
    if kept is None:
        return True
    return not view.newly_on.isdisjoint(group.devices)


def _stop_routing(view: _View) -> Iterator[Action]:
    for group, domain, reason in _leaving(view):
        if group.routed:
            yield StopRouting(domain=domain, group=group.id, reason=reason)


def _stop_groups(view: _View) -> Iterator[Action]:
    for group, domain, reason in _leaving(view):
        if group.routed or group.state is GroupState.STOPPING:
            continue
        is_late = view.now_ms - view.drains.get(group.id, view.now_ms) >= view.drain_deadline_ms
        if group.in_flight == 0 or is_late or (group.running == 0 and _never_ran(group)):
            yield StopGroup(domain=domain, group=group.id, reason=reason, in_flight_lost=group.in_flight or 0)


def _never_ran(group: Group) -> bool:
    return group.state in (GroupState.STARTING, GroupState.FAILED)


def _stop_workers(view: _View) -> Iterator[Action]:
    busy = {group.worker for group in view.groups.values()}
    for worker in view.workers.values():
        if worker.id in view.bindings or worker.id in busy or worker.domain in view.blind:
            continue
        if worker.state is WorkerState.STOPPING or {worker.node, *worker.devices} & view.unseen:
            continue
        yield StopWorker(domain=worker.domain, worker=worker.id, devices=worker.devices, reason=_why_stop(view, worker))


def _why_stop(view: _View, worker: Worker) -> str:
    places = [place for device in worker.devices for place in view.bound_on.get(device, ())]
    if not places:
        return "no longer needed"
    binding = view.decision.bindings[min(places)]
    return f"its devices go to {binding.domain}" if binding.domain != worker.domain else "another layout"


def _missing(view: _View) -> Iterator[Binding]:
    return (binding for binding in view.missing if binding.domain not in view.blind)


def _scrubs(view: _View) -> Iterator[Action]:
    for binding in _missing(view):
        for one in _on_same_gpus(view, binding):
            device = view.devices[one]
            if not _needs_scrub(device, binding.domain) or one in view.holder or one in view.unseen:
                continue
            if device.scrub is ScrubState.DIRTY and device.domain is not None:
                yield ScrubDevice(
                    device=one, node=device.node, from_domain=device.domain, to_domain=binding.domain,
                    reason=f"leaves {device.domain} for {binding.domain}",
                )  # fmt: skip


def _on_same_gpus(view: _View, binding: Binding) -> list[DeviceId]:
    known = [view.devices[one] for one in binding.devices if one in view.devices]
    return sorted({sibling for device in known for sibling in view.siblings[device.gpu]})


def _needs_scrub(device: Device, domain: SecurityDomain) -> bool:
    if device.scrub is ScrubState.CLEAN:
        return False
    return device.scrub is not ScrubState.DIRTY or device.domain not in (None, domain)


def _start_workers(view: _View) -> Iterator[Action]:
    for binding in _missing(view):
        if _can_be_bound(view, binding):
            yield StartWorker(
                domain=binding.domain, worker=binding.worker, node=binding.node, devices=binding.devices,
                reason="bound to serve its claims",
            )  # fmt: skip


def _can_be_bound(view: _View, binding: Binding) -> bool:
    """Say whether every device was seen, is free, and needs no scrub, nor does any other part of its GPU."""
    known = all(one in view.devices and one not in view.unseen and one not in view.holder for one in binding.devices)
    beside = [view.devices[one] for one in _on_same_gpus(view, binding)]
    return known and all(_may_be_beside(view, one, binding.domain) for one in beside)


def _may_be_beside(view: _View, device: Device, domain: SecurityDomain) -> bool:
    holder = view.holder.get(device.id)
    if holder is not None:
        return holder.domain == domain
    return not _needs_scrub(device, domain)


def _grow(view: _View) -> Iterator[Action]:
    """Yield starts and changes of size; together they fit, not only each for itself."""
    begun = Begun()
    yield from _start_groups(view, begun)
    yield from _scale_groups(view, begun)


def _start_groups(view: _View, begun: Begun) -> Iterator[Action]:
    for placement in view.growing:
        worker = view.workers.get(placement.worker)
        if placement.group in view.groups or worker is None or worker.state is not WorkerState.READY:
            continue
        if worker.domain in view.blind or not _has_room(view, placement, begun):
            continue
        _begin(begun, placement)
        claim = view.claims[placement.claim]
        shape = claim.ladder[placement.rung]
        yield StartGroup(
            domain=worker.domain, group=placement.group, claim=placement.claim, worker=placement.worker,
            model=claim.model, variant=placement.variant, devices=placement.devices, gpu_millis=shape.gpu_millis,
            memory_mib=shape.memory_mib, replicas=placement.replicas, concurrency=shape.concurrency,
            reason="wanted", rung=placement.rung,
        )  # fmt: skip


def _begin(begun: Begun, placement: Placement) -> None:
    for device in placement.devices:
        begun.setdefault(device, []).append(placement)


def _has_room(view: _View, placement: Placement, begun: Begun) -> bool:
    """Say whether what still stands on the devices and what is added fit together; if not, those that go, go first."""
    for one in placement.devices:
        device = view.devices.get(one)
        if device is None:
            return False
        millis, memory = 1000, device.memory_mib
        counted = {placement.group, *(other.group for other in begun.get(one, ()))}  # as large as they will be
        for group in view.on_device.get(one, ()):
            if group.id not in counted:
                taken = _per_device(view, group)
                millis, memory = millis - taken[0], memory - taken[1]
        for other in begun.get(one, ()):
            added = _added(view, other)
            millis, memory = millis - added[0], memory - added[1]
        wanted = _added(view, placement)
        if millis < wanted[0] or memory < wanted[1]:
            return False
    return True


def _added(view: _View, placement: Placement) -> tuple[int, int]:
    shape = view.claims[placement.claim].ladder[placement.rung]
    replicas = max(1, placement.replicas * shape.devices // len(placement.devices))
    return shape.gpu_millis * replicas, shape.memory_mib * replicas


def _per_device(view: _View, group: Group) -> tuple[int, int]:
    claim = view.claims.get(group.claim)
    if claim is None or group.rung >= len(claim.ladder):
        return 1000, 0
    shape = claim.ladder[group.rung]
    replicas = max(1, group.replicas * shape.devices // max(1, len(group.devices)))
    return shape.gpu_millis * replicas, shape.memory_mib * replicas


def _scale_groups(view: _View, begun: Begun) -> Iterator[Action]:
    for placement in view.growing:
        group, worker = view.groups.get(placement.group), view.workers.get(placement.worker)
        if group is None or worker is None or worker.domain in view.blind or group.replicas == placement.replicas:
            continue
        is_larger = placement.replicas > group.replicas
        if not is_larger or _has_room(view, placement, begun):
            if is_larger:  # until it is smaller it stands there as it is
                _begin(begun, placement)
            yield ScaleGroup(
                domain=worker.domain, group=group.id, replicas=placement.replicas, reason="replicas changed"
            )


def _start_routing(view: _View) -> Iterator[Action]:
    for placement in view.unrouted:
        group, worker = view.groups.get(placement.group), view.workers.get(placement.worker)
        if group is None or worker is None or worker.domain in view.blind or group.state is not GroupState.RUNNING:
            continue
        if group.running >= 1 and not group.routed:
            yield StartRouting(domain=worker.domain, group=group.id, reason="a replica runs")
