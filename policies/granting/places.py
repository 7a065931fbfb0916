"""Places on one host: which devices a replica could use there, and what would have to be done first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from policies.fleet.board import (
    BOUND,
    FOREIGN,
    HELD,
    LEFT,
    REBIND,
    SHARED,
    UNBOUND,
    Board,
    Need,
    Order,
    Reach,
    Site,
    sited,
)
from policies.fleet.topology import divided, left_over, picks
from policies.granting.reclaim import ENTITLED
from policies.model.inventory import Device, ScrubState, Worker
from policies.model.naming import worker_id
from policies.model.units import ClaimId, DeviceId, NodeId, SecurityDomain, WorkerId

EFFORT = {
    SHARED: 1, BOUND: 1, HELD: 0, UNBOUND: 1, REBIND: 2, LEFT: 3,
    FOREIGN: 4,
}  # fmt: skip
"""What must be done to use a place, in classes: what was freed for the claim, then what disturbs nothing."""
_EFFORTS = tuple(EFFORT[one] for one in Reach)
APART = 1 + max(EFFORT.values())
"""Devices on one NVLink island come before those on two, whatever must be done first: a scrub is over in seconds."""
NOWHERE: Order = (1 << 30, 0, 0, 0, ())
"""After every place."""


def order(board: Board, need: Need, site: Site) -> Order:
    """Return the order among free places: the least to be done first, then the score, the reach and the ids.

    Several devices on one NVLink island come before all that are apart, save those that were freed for the claim. What
    another domain's worker came to hold is no longer kept: a kubelet may have given it a device for another.
    """
    devices, reach, holder = site.devices, site.reach, board.holder
    effort = _EFFORTS[reach] + APART * divided(board, site.node, devices)
    if holder and reach is not FOREIGN and all(need.claim in holder.get(one, ()) for one in devices):
        effort = 0
    return effort, board.score(need, site, board), reach, left_over(board, devices), devices


def sites_on(board: Board, need: Need, node: NodeId) -> Iterable[Site]:
    """Return the places on one host that are free for the need."""
    if not board.has_host_room(need, node):
        return ()
    return _single_sites(board, need, node) if need.devices == 1 else _multiple_sites(board, need, node)


def candidates(board: Board, need: Need, node: NodeId) -> Iterable[Device]:
    """Return the devices of one host that the need might use, free or not."""
    return _open_to(board, need, _looked_at(board, need, node))


def _looked_at(board: Board, need: Need, node: NodeId) -> Sequence[DeviceId]:
    """Return the devices of one host; a look at each is a step of the search."""
    devices = () if node in need.avoid_nodes else board.hosts_of.get(need.flavor, {}).get(node, ())
    board.steps += len(devices)
    return devices


def _open_to(board: Board, need: Need, some: Iterable[DeviceId]) -> Iterator[Device]:
    devices, avoid, is_guarded = board.survey.devices, need.avoid_devices, bool(board.holder or board.survey.blind)
    for one in some:
        if one not in avoid and not (is_guarded and _is_kept_from(board, devices[one], need)):
            yield devices[one]


def _is_kept_from(board: Board, device: Device, need: Need) -> bool:
    holders = board.holder.get(device.id)
    is_foreign = holders and need.claim not in holders and not _ends_before(board, device, need)
    if holders and is_foreign and any(_binds(claim, strength, need) for claim, strength in holders.items()):
        return True
    return device.domain != need.domain and device.domain in board.survey.blind


def _ends_before(board: Board, device: Device, need: Need) -> bool:
    """Say whether the replica will have left before the device is used by whom it is kept for."""
    begins = board.needed_at.get(device.id)
    return begins is not None and need.ends_ms is not None and need.ends_ms <= begins


def _binds(claim: ClaimId, strength: tuple[int, int], need: Need) -> bool:
    """Say whether what is kept for a claim is kept from the need: inside one tenant only a higher class takes it.

    What would only borrow keeps nothing from what its tenant is entitled to, of whatever class.
    """
    if -strength[0] > ENTITLED >= -need.strength[0]:
        return False
    if claim.partition(":")[0] == need.claim.partition(":")[0]:
        return strength[1] >= need.strength[1]
    return strength >= need.strength


def _fits(board: Board, need: Need, device: DeviceId) -> bool:
    return board.free_millis[device] >= need.gpu_millis and board.free_memory[device] >= need.memory_mib


def _single_sites(board: Board, need: Need, node: NodeId) -> Iterator[Site]:
    free, memory, domain = board.free_millis, board.free_memory, need.domain
    millis, memory_mib = need.gpu_millis, need.memory_mib
    roomy = [one for one in _looked_at(board, need, node) if free[one] >= millis and memory[one] >= memory_mib]
    for device in _open_to(board, need, roomy):
        reach = None if board.foreigners(device.id, domain) else _reach(board, need, device)
        if reach is not None:
            yield _site(board, need, (device.id,), reach)


def _reach(board: Board, need: Need, device: Device) -> Reach | None:
    """Say what it takes to use the device for the need; None if a worker that would have to end still carries work."""
    ending, worker = ending_for(board, need, device.id), board.worker_of.get(device.id)
    if ending and not all(_can_end(board, one) for one in ending):
        return None
    if ending and any(one.domain != need.domain for one in ending):
        return FOREIGN
    if worker is None:
        return _unbound(board, need, device)
    if ending:
        return REBIND
    if len(worker.devices) > 1:
        return None if carries(board, worker, need) else REBIND
    return BOUND if board.is_idle(device.id) else SHARED


def _can_end(board: Board, worker: Worker) -> bool:
    """Say whether the worker carries nothing and everything about it was seen."""
    return may_end(board, worker) and all(board.is_idle(one) for one in worker.devices)


def may_end(board: Board, worker: Worker) -> bool:
    """Say whether everything about the worker was seen."""
    survey = board.survey
    is_seen = worker.node not in survey.unseen and not any(one in survey.unseen for one in worker.devices)
    return is_seen and worker.domain not in survey.blind


def ending_for(board: Board, need: Need, device: DeviceId) -> list[Worker]:
    """Return the workers that must end before the device can serve the need: of other domains, or of another layout."""
    found = board.in_the_way(device, need.domain)
    worker = board.worker_of.get(device)
    if worker is not None and worker.domain == need.domain and need.is_part and len(worker.devices) > 1:
        found.append(worker)
    return found


def _unbound(board: Board, need: Need, device: Device) -> Reach:
    if not board.is_idle(device.id):
        return SHARED
    if need.claim in board.holder.get(device.id, ()):
        return HELD
    is_foreign = any(_last_domain(board, one) not in (None, need.domain) for one in board.beside(device.id))
    return LEFT if is_foreign else UNBOUND


def _last_domain(board: Board, device: DeviceId) -> SecurityDomain | None:
    one = board.survey.devices[device]
    return None if one.scrub is ScrubState.CLEAN and board.worker_of.get(device) is None else one.domain


def _site(board: Board, need: Need, devices: tuple[DeviceId, ...], reach: Reach) -> Site:
    return sited(
        worker=worker_for(board, need, devices), node=board.survey.devices[devices[0]].node, devices=devices,
        reach=reach, free_millis=sum(board.free_millis[one] for one in devices),
        free_memory_mib=sum(board.free_memory[one] for one in devices),
    )  # fmt: skip


def worker_for(board: Board, need: Need, devices: tuple[DeviceId, ...]) -> WorkerId:
    """Return the worker of the domain that holds all of the devices, else the name of the one to be made."""
    worker = board.worker_of.get(devices[0])
    holds_all = worker is not None and worker.domain == need.domain and set(devices) <= set(worker.devices)
    if worker is not None and holds_all and (not need.is_part or len(worker.devices) == 1):
        return worker.id
    return worker_id(need.domain, devices)


def _multiple_sites(board: Board, need: Need, node: NodeId) -> Iterator[Site]:
    """Yield, per worker of the domain there and for the devices that no one needs, the places that have enough."""
    free = [
        one for one in candidates(board, need, node)
        if board.is_idle(one.id) and _fits(board, need, one.id) and not board.foreigners(one.id, need.domain)
    ]  # fmt: skip
    if len(free) < need.devices:
        return
    own = {w.id: w for one in free if (w := board.worker_of.get(one.id)) and w.domain == need.domain}
    for worker in (one for one in own.values() if not carries(board, one, need)):
        inside = {one.id: BOUND for one in free if one.id in worker.devices}
        for chosen in picks(board, need.devices, inside):
            yield _site(board, need, chosen, BOUND)
    loose = {one.id: _reach_of_many(board, need, one.id) for one in free if _is_loose(board, need, one)}
    for chosen in picks(board, need.devices, loose):
        yield _site(board, need, chosen, max(loose[one] for one in chosen))


def carries(board: Board, worker: Worker, need: Need) -> bool:
    """Say whether a replica of the claim runs on the worker: a group cannot grow onto further devices once started.

    One on another rung is about to leave: a claim runs on one rung.
    """
    return any(
        seat.claim == need.claim and seat.group is not None and seat.rung == need.rung
        for one in worker.devices for seat in board.seats.get(one, ())
    )  # fmt: skip


def _is_loose(board: Board, need: Need, device: Device) -> bool:
    worker = board.worker_of.get(device.id)
    ending = [*board.in_the_way(device.id, need.domain), *([worker] if worker else [])]
    return all(_can_end(board, one) for one in ending)


def _reach_of_many(board: Board, need: Need, device: DeviceId) -> Reach:
    if board.in_the_way(device, need.domain):
        return FOREIGN
    if board.worker_of.get(device) is not None:
        return REBIND
    return _unbound(board, need, board.survey.devices[device])
