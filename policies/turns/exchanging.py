"""What changed from one snapshot to the next, taken out of what stands and put back as it is now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from policies.evidence.survey import Survey
from policies.fleet.board import Seat
from policies.granting.allocation import lots_of
from policies.granting.working import Allocation
from policies.model.inventory import Device, Group, Worker
from policies.model.memory import ClaimMemory
from policies.model.units import ClaimId, DeviceId, GroupId, WorkerId
from policies.model.workload import Claim, Demand
from policies.shares.quota import count_demand
from policies.turns.changes import Change
from policies.turns.setting import count_complete, seats_held, seats_of
from policies.turns.standing import Standing, is_volatile
from policies.wishes.admission import Ask, ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What became of each list of the snapshot, and of what is remembered."""

    devices: Change[DeviceId, Device]
    workers: Change[WorkerId, Worker]
    groups: Change[GroupId, Group]
    claims: Change[ClaimId, Claim]
    demands: Change[ClaimId, Demand]
    remembered: Change[ClaimId, ClaimMemory]


def lay_back(standing: Standing) -> None:
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
    work.layout.queues.begin_anew()
    board.begin_anew()


def _in_order(work: Allocation, device: DeviceId) -> None:
    """Put the replicas on the device in the order in which a snapshot seats them."""
    if len(work.board.seats[device]) <= 1:
        return

    def place(seat: Seat) -> tuple[GroupId, int]:
        group = seat.group.id if seat.group is not None else GroupId("")
        return group, work.layout.seated[group].index(seat)

    work.board.seats[device].sort(key=place)


def rehoused(workers: Change[WorkerId, Worker]) -> set[WorkerId]:
    """Return the workers that came, went, or are elsewhere or another domain's."""
    gone, new = workers.gone, workers.new
    same = {name for name in gone.keys() & new.keys() if replace(gone[name], state=new[name].state,
            ray_node_id=new[name].ray_node_id, since_ms=new[name].since_ms) == new[name]}  # fmt: skip
    return (gone.keys() | new.keys()) - same


def rehouse(standing: Standing, workers: Change[WorkerId, Worker]) -> None:
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


def reseat(standing: Standing, seen: Survey, changes: Changes, dirty: Iterable[ClaimId]) -> set[ClaimId]:
    """Seat the groups of the dirty claims anew where they or their claim changed; return the claims concerned."""
    work, board = standing.work, standing.work.board
    known = {group.id: group for claim in dirty for group in seen.groups_of.get(claim, ())}
    whole = changes.claims.gone.keys() | changes.claims.new.keys()
    housed_anew = rehoused(changes.workers)
    again = {one.id for one in known.values() if one.claim in whole or one.worker in housed_anew}
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


def ask_again(
    standing: Standing, seen: Survey, dirty: set[ClaimId], asking: set[ClaimId], reseated: set[ClaimId]
) -> set[ClaimId]:
    """Bring the wishes, what they add up to, and the lots up to date; return the claims that are not as before.

    Asked are those of which something changed that a wish rests on, and those that change by themselves. Of the other
    dirty ones something else is remembered, which may tell them apart from others.
    """
    changed, asked, of_claim = set(dirty), standing.volatile | asking, standing.work.of_claim
    for name in dirty - asked:
        standing.work.layout.queues.tell_apart(of_claim.get(name, ()), seen)
    for name in asked:
        claim, before = seen.claims.get(name), standing.wishes.get(name)
        if claim is None and before is None:
            continue
        after = None if claim is None else ask(seen, claim, standing.fleet, standing.forms)
        if before is not None and after is not None and name not in reseated and _terms(before) == _terms(after):
            standing.work.layout.queues.tell_apart(of_claim[name], seen)
            continue
        changed.add(name)
        _exchange(standing, seen, name, before, after)
        if after is not None and is_volatile(after):
            standing.volatile.add(name)
        else:
            standing.volatile.discard(name)
    return changed & seen.claims.keys()


_terms = attrgetter(*(one.name for one in fields(Ask)))


def _exchange(standing: Standing, seen: Survey, name: ClaimId, before: Ask | None, after: Ask | None) -> None:
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
        work.layout.queues.add(work.of_claim[name], seen)
        for lot in work.of_claim[name]:
            work.victims.lot_of.update((id(seat), lot) for seat in lot.seats)


def note_leaving(standing: Standing, claims: Iterable[ClaimId]) -> None:
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
