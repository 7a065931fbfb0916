"""What stands from one decision to the next: everything that follows from each claim and each host by itself.

A decision from nothing lays all of it out; a later one lays out anew only what changed. Granting places, which joins
everything with everything, is done from the start each time, on the same lots and the same board.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

from policies.admission import Ask, Fleet, Forms, ask, asks, fleet
from policies.allocation import lots_of
from policies.board import Seat
from policies.changes import Change, between
from policies.model.inventory import Device, Group, ScrubState, Worker, WorkerState
from policies.model.memory import ClaimMemory, Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, TenantId, WorkerId
from policies.model.workload import Claim, Demand
from policies.modes import overlay_in_force
from policies.quota import caps, count_demand, demands, healthy_capacity, shares
from policies.reclaim import Tier
from policies.results import Results
from policies.setting import begin, count_complete, seats_held, seats_of, start
from policies.survey import Survey, survey
from policies.working import Allocation

LONGEST_STANDING = 1000
"""Decisions after which everything is laid out anew, so that what no claim uses any more does not pile up."""
_id, _claim = attrgetter("id"), attrgetter("claim")


@dataclass(slots=True)
class Standing:
    """One decision's arguments with what follows from them, ready to be brought up to the next ones."""

    snapshot: Snapshot
    policy: Policy
    memory: Memory
    now_ms: int
    fleet: Fleet
    forms: Forms
    wishes: dict[ClaimId, Ask]
    asked: dict[FlavorId, dict[TenantId, int]]
    work: Allocation
    results: Results = field(default_factory=Results)
    changed: Iterable[ClaimId] = ()
    """Claims that are not what they were at the decision before."""
    volatile: set[ClaimId] = field(default_factory=set)
    """Claims whose wish may change with time alone."""
    leaving: dict[ClaimId, list[Seat]] = field(default_factory=dict)
    """Replicas that cannot stay whatever is decided, by claim."""
    groups_on: dict[WorkerId, set[GroupId]] = field(default_factory=dict)
    """See ``_groups_on``."""
    is_plain: bool = True
    """Whether every name occurs once, every device has one worker at most, and nothing is reserved or lost."""
    age: int = 0
    """Decisions since everything was laid out."""


def lay_out(snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> Standing:
    """Return what follows from the arguments of a decision."""
    seen = survey(snapshot, policy, memory, now_ms)
    capacity = healthy_capacity(seen)
    size, forms = fleet(seen, caps(seen)), Forms()
    wishes = asks(seen, size, forms)
    asked = demands(seen, wishes)
    work = start(seen, memory, wishes, shares(seen, asked, capacity), capacity)
    made = Standing(
        snapshot=snapshot, policy=policy, memory=memory, now_ms=now_ms, fleet=size, forms=forms,
        wishes={wish.claim.id: wish for wish in wishes}, asked=asked, work=work, changed=seen.claims,
    )  # fmt: skip
    made.volatile = {wish.claim.id for wish in wishes if _is_volatile(seen, wish)}
    for seat in work.board.leaving:
        made.leaving.setdefault(seat.claim, []).append(seat)
    made.is_plain = _is_plain(seen, memory)
    made.results.orphans = seen.groups_of.keys() - seen.claims.keys()
    return made


def _is_plain(seen: Survey, memory: Memory) -> bool:
    snapshot = seen.snapshot
    pairs = (
        (seen.devices, snapshot.devices), (seen.workers, snapshot.workers), (seen.groups, snapshot.groups),
        (seen.claims, snapshot.claims), (seen.demands, snapshot.demands), (seen.remembered, memory.claims),
    )  # fmt: skip
    held = [device for worker in snapshot.workers for device in worker.devices]
    is_single = all(len(known) == len(listed) for known, listed in pairs)
    return is_single and len(set(held)) == len(held) and not snapshot.reservations


def _is_volatile(seen: Survey, wish: Ask) -> bool:
    claim = wish.claim
    times = (claim.deadline_ms, wish.seen_lower_since_ms, wish.idle_since_ms, seen.demands.get(claim.id))
    return times != (None, None, None, None)


# Bringing it up to date ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    devices: Change[DeviceId, Device]
    workers: Change[WorkerId, Worker]
    groups: Change[GroupId, Group]
    claims: Change[ClaimId, Claim]
    demands: Change[ClaimId, Demand]
    remembered: Change[ClaimId, ClaimMemory]


def follow(standing: Standing, snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> bool:
    """Bring what stands up to the arguments of the next decision.

    Returns False, with nothing changed, where that could differ from laying it out anew: other rules or another mode,
    other devices or hosts, reservations, other gaps, names that occur twice, or too long since it was last done.
    """
    if not _is_alike(standing, snapshot, policy, now_ms):
        return False
    before = standing.snapshot
    changes = _Changes(
        devices=between(before.devices, snapshot.devices, _id),
        workers=between(before.workers, snapshot.workers, _id),
        groups=between(before.groups, snapshot.groups, _id),
        claims=between(before.claims, snapshot.claims, _id),
        demands=between(before.demands, snapshot.demands, _claim),
        remembered=between(standing.memory.claims, memory.claims, _claim),
    )
    if not _can_follow(standing, changes, snapshot, memory):
        return False
    _lay_back(standing)
    dirty = _dirty(standing, changes)
    seen = _seen(standing, changes, snapshot, now_ms)
    _rehouse(standing, changes.workers)
    reseated = _reseat(standing, seen, changes, dirty)
    orphans = standing.results.orphans | dirty
    standing.results.orphans = {one for one in orphans if one in seen.groups_of and one not in seen.claims}
    standing.changed = changed = _ask_again(standing, seen, dirty, reseated)
    _leaving(standing, changed | dirty | reseated)
    standing.snapshot, standing.policy, standing.memory, standing.now_ms = snapshot, policy, memory, now_ms
    standing.age += 1
    capacity = _capacity(standing, seen)
    entitled = shares(seen, standing.asked, capacity)
    standing.work = begin(standing.work.layout, seen, memory, entitled, capacity)
    return True


def _capacity(standing: Standing, seen: Survey) -> Mapping[FlavorId, int]:
    """Return what counts as capacity: as before where every device takes new work, whatever stands on it."""
    return standing.work.capacity if len(seen.open) == len(seen.devices) else healthy_capacity(seen)


def _is_alike(standing: Standing, snapshot: Snapshot, policy: Policy, now_ms: int) -> bool:
    before = standing.snapshot
    return (
        standing.age < LONGEST_STANDING
        and standing.is_plain
        and policy == standing.policy
        and overlay_in_force(policy, now_ms) == overlay_in_force(policy, standing.now_ms)
        and not snapshot.reservations
        and snapshot.nodes == before.nodes
        and snapshot.flavors == before.flavors
        and snapshot.gaps == before.gaps
        and snapshot.adopting == before.adopting
    )


def _can_follow(standing: Standing, changes: _Changes, snapshot: Snapshot, memory: Memory) -> bool:
    seen = standing.work.survey
    lists: tuple[tuple[Change[Any, Any], Mapping[Any, Any], int], ...] = (
        (changes.devices, seen.devices, len(snapshot.devices)),
        (changes.workers, seen.workers, len(snapshot.workers)),
        (changes.groups, seen.groups, len(snapshot.groups)),
        (changes.claims, seen.claims, len(snapshot.claims)),
        (changes.demands, seen.demands, len(snapshot.demands)),
        (changes.remembered, seen.remembered, len(memory.claims)),
    )
    return (
        all(change.leaves(len(known), known.keys()) == count for change, known, count in lists)
        and changes.devices.gone.keys() == changes.devices.new.keys()
        and all(_is_only_held_anew(old, changes.devices.new[name]) for name, old in changes.devices.gone.items())
        and _are_workers_apart(standing.work.layout.home, changes.workers)
        and standing.asked.keys() <= set(seen.flavors)
    )


def _is_only_held_anew(old: Device, new: Device) -> bool:
    """Say whether at most the domain and the scrub of the device differ, and neither of them failed."""
    failed = ScrubState.FAILED in (old.scrub, new.scrub)
    return not failed and replace(new, domain=old.domain, scrub=old.scrub) == old


def _are_workers_apart(home: Mapping[DeviceId, Worker], workers: Change[WorkerId, Worker]) -> bool:
    """Say whether none is lost, and each device has one worker."""
    devices = [one for worker in workers.new.values() for one in worker.devices]
    is_lost = any(one.state is WorkerState.LOST for one in (*workers.gone.values(), *workers.new.values()))
    is_free = all(one not in home or home[one].id in workers.gone for one in devices)
    return not is_lost and is_free and len(set(devices)) == len(devices)


def _lay_back(standing: Standing) -> None:
    """Put every replica, worker and lot back to where the snapshot of the last decision shows it."""
    work, board = standing.work, standing.work.board
    moved = dict(board.moved)
    for seat, times in moved.items():
        if times:
            (board.leave if times > 0 else board.take)(seat)
        work.victims.lot_of.pop(id(seat), None)
    for device in {one for seat in moved for one in seat.devices}:
        _in_order(work, device)
    for device in board.rebound:
        worker = work.layout.home.get(device)
        if worker is None:
            board.worker_of.pop(device, None)
        else:
            board.worker_of[device] = worker
    for claim in {seat.claim for seat in moved if seat.claim in work.of_claim}:
        wish = standing.wishes[claim]
        for lot, fresh in zip(work.of_claim[claim], lots_of(wish, seats_held(wish, work.layout.seated)), strict=True):
            lot.seats = fresh.seats
            work.victims.lot_of.update((id(seat), lot) for seat in lot.seats)
    for lot in work.lots():
        lot.tier, lot.is_kept, lot.has_failed = Tier.NONE, False, False
    board.begin_anew()


def _in_order(work: Allocation, device: DeviceId) -> None:
    """Put the replicas on the device in the order in which a snapshot seats them."""

    def place(seat: Seat) -> tuple[GroupId, int]:
        group = seat.group.id if seat.group is not None else GroupId("")
        return group, work.layout.seated[group].index(seat)

    work.board.seats[device].sort(key=place)


def _dirty(standing: Standing, changes: _Changes) -> set[ClaimId]:
    """Return the claims of which something was changed that their wish or what is remembered of them rests on."""
    found = {*changes.claims.gone, *changes.claims.new, *changes.remembered.gone, *changes.remembered.new}
    for groups in (changes.groups.gone, changes.groups.new):
        found.update(group.claim for group in groups.values())
    groups = standing.work.survey.groups
    for worker in _rehoused(changes.workers):
        found.update(groups[name].claim for name in _groups_on(standing).get(worker, ()))
    return found


def _groups_on(standing: Standing) -> dict[WorkerId, set[GroupId]]:
    """Return the groups of each worker; found when first asked for."""
    if not standing.groups_on:
        for group in standing.work.survey.groups.values():
            standing.groups_on.setdefault(group.worker, set()).add(group.id)
    return standing.groups_on


def _rehoused(workers: Change[WorkerId, Worker]) -> set[WorkerId]:
    """Return the workers that came, went, or are elsewhere or another domain's."""
    gone, new = workers.gone, workers.new
    same = {name for name in gone.keys() & new.keys() if replace(gone[name], state=new[name].state,
            ray_node_id=new[name].ray_node_id, since_ms=new[name].since_ms) == new[name]}  # fmt: skip
    return (gone.keys() | new.keys()) - same


def _seen(standing: Standing, changes: _Changes, snapshot: Snapshot, now_ms: int) -> Survey:
    """Return the survey of the new snapshot, in the dictionaries of the old one."""
    seen = standing.work.survey
    for change, known in (
        (changes.devices, seen.devices), (changes.workers, seen.workers), (changes.groups, seen.groups),
        (changes.claims, seen.claims), (changes.demands, seen.demands), (changes.remembered, seen.remembered),
    ):  # fmt: skip
        change.apply(known)  # type: ignore[arg-type]  # each change is of its own list
    on = standing.groups_on
    for group in changes.groups.gone.values():
        on.get(group.worker, set()).discard(group.id)
        seen.groups_of[group.claim] = [one for one in seen.groups_of[group.claim] if one.id != group.id]
        if not seen.groups_of[group.claim]:
            del seen.groups_of[group.claim]
    for group in changes.groups.new.values():
        if on:
            on.setdefault(group.worker, set()).add(group.id)
        insort(seen.groups_of.setdefault(group.claim, []), group, key=_id)
    return replace(seen, snapshot=snapshot, now_ms=now_ms)


def _rehouse(standing: Standing, workers: Change[WorkerId, Worker]) -> None:
    """Let the board and the results know the workers as they are now."""
    work, results = standing.work, standing.results
    for worker in (*workers.gone.values(), *workers.new.values()):
        results.bound.drop(worker.id)
        results.moved_devices.update(worker.devices)
    for worker in workers.gone.values():
        for device in worker.devices:
            work.layout.home.pop(device, None)
            work.board.worker_of.pop(device, None)
    for worker in workers.new.values():
        work.layout.home.update(dict.fromkeys(worker.devices, worker))
        work.board.worker_of.update(dict.fromkeys(worker.devices, worker))


def _reseat(standing: Standing, seen: Survey, changes: _Changes, dirty: Iterable[ClaimId]) -> set[ClaimId]:
    """Seat the groups of the dirty claims anew where they or their claim changed; return the claims concerned."""
    work, board = standing.work, standing.work.board
    known = {group.id: group for claim in dirty for group in seen.groups_of.get(claim, ())}
    whole = changes.claims.gone.keys() | changes.claims.new.keys()
    rehoused = _rehoused(changes.workers)
    again = {one.id for one in known.values() if one.claim in whole or one.worker in rehoused}
    again |= changes.groups.gone.keys() | changes.groups.new.keys()
    claims, devices = set[ClaimId](), set[DeviceId]()
    for group in sorted(again):
        for seat in work.layout.seated.pop(group, ()):
            board.leave(seat)
            work.victims.lot_of.pop(id(seat), None)
            claims.add(seat.claim)
            devices.update(seat.devices)
        seats = seats_of(seen, known[group], standing.fleet.memory) if group in known else None
        if seats is not None:
            work.layout.seated[group] = seats
            for seat in seats:
                board.take(seat)
                claims.add(seat.claim)
                devices.update(seat.devices)
    for device in devices:
        _in_order(work, device)
    standing.results.moved_devices.update(devices)
    board.begin_anew()
    return claims


def _ask_again(standing: Standing, seen: Survey, dirty: set[ClaimId], reseated: set[ClaimId]) -> set[ClaimId]:
    """Bring the wishes, what they add up to, and the lots up to date; return the claims that are not as before."""
    changed = set(dirty)
    for name in dirty | standing.volatile | seen.demands.keys():
        claim, before = seen.claims.get(name), standing.wishes.get(name)
        after = None if claim is None else ask(seen, claim, standing.fleet, standing.forms)
        if before is not None and after is not None and name not in reseated and _terms(before) == _terms(after):
            continue
        changed.add(name)
        _exchange(standing, name, before, after)
        if after is not None and _is_volatile(seen, after):
            standing.volatile.add(name)
        else:
            standing.volatile.discard(name)
    return changed & seen.claims.keys()


_terms = attrgetter(*(one.name for one in fields(Ask)))


def _exchange(standing: Standing, name: ClaimId, before: Ask | None, after: Ask | None) -> None:
    """Put the new wish in the place of the old one, with its lots."""
    work = standing.work
    for wish, sign in ((before, -1), (after, 1)):
        if wish is not None:
            count_demand(standing.asked, wish, sign)
            work.layout.appraiser.add(wish, sign)
    gone = work.of_claim.pop(name, [])
    count_complete(work.layout.complete, gone, -1)
    work.layout.queues.remove(gone)
    for lot in gone:
        for seat in lot.seats:
            work.victims.lot_of.pop(id(seat), None)
    if after is None:
        standing.wishes.pop(name, None)
        standing.results.forget(name)
    else:
        standing.wishes[name] = after
        work.of_claim[name] = lots_of(after, seats_held(after, work.layout.seated))
        count_complete(work.layout.complete, work.of_claim[name], 1)
        work.layout.queues.add(work.of_claim[name])
        for lot in work.of_claim[name]:
            work.victims.lot_of.update((id(seat), lot) for seat in lot.seats)


def _leaving(standing: Standing, claims: Iterable[ClaimId]) -> None:
    """Note anew which replicas of these claims cannot stay whatever is decided."""
    work = standing.work
    for claim in claims:
        seats = [
            seat for group in work.survey.groups_of.get(claim, ()) for seat in work.layout.seated.get(group.id, ())
            if id(seat) not in work.victims.lot_of
        ]  # fmt: skip
        if seats:
            standing.leaving[claim] = seats
        else:
            standing.leaving.pop(claim, None)
    work.board.leaving = [seat for seats in standing.leaving.values() for seat in seats]
