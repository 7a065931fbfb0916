"""The cheapest place that becomes free when others leave it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

from policies.fleet.board import BOUND, FOREIGN, Board, Kind, Need, Seat, Site, sited
from policies.fleet.topology import divided
from policies.granting.leaving import enough, is_room_on, lacking
from policies.granting.places import candidates, carries, ending_for, may_end, worker_for
from policies.model.inventory import Worker
from policies.model.units import DeviceId, NodeId

TRIED_TOGETHER = 128
"""Sets of devices that are tried where replicas stand on several; a host with eight devices has no more."""
PARTS = 1 << 16
"""Of what one replica costs, more than any host has devices: what is lost where that is divided is less than one."""

Price = Callable[[Seat], int | None]
"""What it costs to move a replica; None if it must stay."""
Freed = tuple[int, int, DeviceId, list[Seat]]
"""A device that becomes free: what that costs, how many leave, the device, who leaves."""


@dataclass(slots=True)
class Found:
    """What one host comes to, and what that rests on: it is the same as long as these prices are."""

    asked: dict[int, tuple[Seat, int | None]]
    """The prices that were asked for, by identity of the replica."""
    site: Site | None


@dataclass(slots=True)
class Moment:
    """What was found while nothing was seated, moved or granted, and no right changed."""

    touched: int = 0
    """Entries of ``Board.touched`` at that time."""
    exact: dict[Kind, set[NodeId]] = field(default_factory=dict)
    """Hosts whose entry in the heap was made in this moment."""
    found: dict[tuple[Kind, NodeId, tuple[DeviceId, ...]], list[Found]] = field(default_factory=dict)
    """What came of looking at a host with these devices open to the need."""


@dataclass(slots=True)
class Weak:
    """Hosts by what it costs, at the least, to make room on them; one order for each kind of need."""

    nodes: frozenset[NodeId]
    """Hosts that carry something which somebody may move."""
    least: Mapping[NodeId, Mapping[int, int]] | None = None
    """The cheapest move on each host, by the devices that are left by it, with nothing free; None if not looked at."""
    heaps: dict[Kind, list[tuple[int, NodeId]]] = field(default_factory=dict)
    read: dict[Kind, int] = field(default_factory=dict)
    """Entries of ``Board.touched`` that each of these orders knows."""
    moment: Moment | None = None
    """For hosts that are looked at in one moment only, and by claims of which nothing stands anywhere."""


def find_by_displacing(board: Board, need: Need, price: Price, anybodys: Price, weak: Weak) -> Site | None:
    """Return the cheapest place that becomes free when replicas leave which ``price`` allows to go.

    Args:
        board: the fleet as it would be.
        need: what has to fit.
        price: cost of moving a replica for this need.
        anybodys: the same for whoever may ask for most; never more than ``price``, and never None where that is not.
        weak: hosts to look at.

    Returns:
        A place whose victims are minimal: without any one of them leaving, the replica does not fit. None if there is
        none. Cost: hosts are looked at in the order of their least cost, until no cheaper one can follow.
    """
    heap, moment = _heap(board, need, weak), _moment(board, weak)
    exact = moment.exact.setdefault(need.kind, set())
    best: Site | None = None
    aside: dict[NodeId, int] = {}
    while heap and (best is None or heap[0][0] < best.cost):
        bound, node = heapq.heappop(heap)
        if node in aside:
            continue  # it was there twice, since something changed on it
        if node not in exact:
            now = _least(board, need, anybodys, node)
            if now is None:
                continue
            exact.add(node)
            if now != bound:
                heapq.heappush(heap, (now, node))
                continue
        aside[node] = bound
        here = _on_node(board, need, price, node, moment)
        if here is not None and (best is None or here.cost < best.cost):
            best = here
    for node, bound in aside.items():
        heapq.heappush(heap, (bound, node))
    return best


def _moment(board: Board, weak: Weak) -> Moment:
    """Return what is known of this moment: nothing where something was seated or moved since the last search."""
    if weak.moment is None:
        return Moment()
    if weak.moment.touched != len(board.touched):
        weak.moment = Moment(len(board.touched))
    return weak.moment


def _heap(board: Board, need: Need, weak: Weak) -> list[tuple[int, NodeId]]:
    """Return the hosts in their order; where something changed since it may cost less than before: looked at first."""
    heap = weak.heaps.get(need.kind)
    if heap is None:
        bounds = ((_bound(board, need, weak, node), node) for node in weak.nodes)
        heap = weak.heaps[need.kind] = [(bound, node) for bound, node in bounds if bound is not None]
        heapq.heapify(heap)
    else:
        for node in weak.nodes.intersection(board.touched[weak.read[need.kind] :]):
            heapq.heappush(heap, (0, node))
    weak.read[need.kind] = len(board.touched)
    return heap


def _bound(board: Board, need: Need, weak: Weak, node: NodeId) -> int | None:
    """Return a cost at or below the least one, without looking at the host; None if nothing there can be moved."""
    if weak.least is None or board.free_on_node(node):
        return 0
    many, of_size = need.devices, weak.least.get(node, {})
    return min((-(-many * cost // min(size, many)) for size, cost in of_size.items()), default=None)


def _least(board: Board, need: Need, anybodys: Price, node: NodeId) -> int | None:
    """Return a cost that making room on the host cannot fall below; None if it is impossible.

    A replica on several devices is paid once, by those of them together that are needed: in parts, of which the sum is
    rounded up, so that a host on which there is one such replica comes to no less than that costs.
    """
    costs, many = [], need.devices
    for one in board.hosts_of.get(need.flavor, {}).get(node, ()):
        seats = board.seats[one]
        known = [(anybodys(seat), min(len(seat.devices), many)) for seat in seats]
        movable = [cost * PARTS // size for cost, size in known if cost is not None]
        if need.is_part:
            costs.append(0 if board.free_millis[one] else min(movable, default=-1))
        else:
            costs.append(sum(movable) if len(movable) == len(known) else -1)
    possible = sorted(cost for cost in costs if cost >= 0)
    return -(-sum(possible[:many]) // PARTS) if len(possible) >= many else None


def _on_node(board: Board, need: Need, price: Price, node: NodeId, moment: Moment) -> Site | None:
    """Return the cheapest place on one host; what came of looking at it before stands while its prices are the same.

    They are asked for in the order in which they were: up to the first that differs, whoever looks asks for the same.
    What is kept for the need comes first of what costs the same: others moved for it, and have their new places beside.
    """
    open_to = [one.id for one in candidates(board, need, node)]
    free_to = tuple(sorted(open_to, key=lambda one: need.claim not in board.holder.get(one, ())))
    before = moment.found.setdefault((need.kind, node, free_to), [])
    for one in before:
        if all(price(seat) == was for seat, was in one.asked.values()):
            return one.site
    asked = dict[int, tuple[Seat, int | None]]()
    before.append(Found(asked, _cheapest(board, need, _noted(price, asked), free_to)))
    return before[-1].site


def _noted(price: Price, asked: dict[int, tuple[Seat, int | None]]) -> Price:
    """Return the same price, asked for once per replica and noted: nothing moves while one place is looked for."""

    def noted(seat: Seat) -> int | None:
        known = asked.get(id(seat))
        if known is None:
            known = asked[id(seat)] = seat, price(seat)
        return known[1]

    return noted


def _cheapest(board: Board, need: Need, price: Price, free_to: Sequence[DeviceId]) -> Site | None:
    """Return the cheapest place on these devices of a host, also inside a worker that holds more than it needs."""
    sites = [_cheapest_of(board, need, price, free_to, None), *(
        _cheapest_of(board, need, price, [one for one in free_to if one in worker.devices], worker)
        for worker in _wider(board, need, free_to)
    )]  # fmt: skip
    found = [one for one in sites if one is not None]
    return min(found, key=lambda one: (one.cost, len(one.victims)), default=None)


def _wider(board: Board, need: Need, free_to: Sequence[DeviceId]) -> list[Worker]:
    """Return the domain's workers that hold more devices than the several of the need: they are used as they are."""
    held = (board.worker_of.get(one) for one in free_to) if need.devices > 1 else ()
    workers = {one.id: one for one in held if one is not None and len(one.devices) > need.devices}
    return [one for one in workers.values() if one.domain == need.domain]


def _cheapest_of(
    board: Board, need: Need, price: Price, free_to: Sequence[DeviceId], inside: Worker | None
) -> Site | None:
    """Return the cheapest place on these devices; for several, those that cost least. ``inside`` need not end."""
    found: list[Freed] = []
    for device in free_to:
        victims = _least_victims(board, need, device, price, inside)
        if victims is not None:
            found.append((_paid(victims, price), len(victims), device, victims))
    if len(found) < need.devices:
        return None
    found.sort(key=lambda one: one[:2])
    chosen = _cheapest_together(need, found, price)
    chosen = _joined(board, need, found, _total(chosen, price), price) or chosen
    devices, leaving = tuple(sorted(one for _, _, one, _ in chosen)), _leaving(chosen)
    if not is_room_on(board, need, board.survey.devices[devices[0]].node, leaving):
        return _cheapest_for_host(board, need, found, price, inside)
    return _displacing_site(board, need, devices, leaving, price)


def _leaving(some: Iterable[Freed]) -> list[Seat]:
    """Return who leaves these devices, each once, in their order."""
    return list(dict.fromkeys(seat for *_, leaving in some for seat in leaving))


def _paid(seats: Iterable[Seat], price: Price) -> int:
    """Return what it costs that these leave, all of which may."""
    return sum(price(seat) or 0 for seat in seats)


def _cheapest_together(need: Need, found: list[Freed], price: Price) -> Sequence[Freed]:
    """Return those that cost least together: who leaves for several devices is paid once, and frees all of them.

    On a host with too many devices to try every set, those that cost least by themselves or, if that is less, by their
    parts of what stands on several.
    """
    apart, many = found[: need.devices], need.devices
    if many == 1 or len({id(seat) for *_, some in found for seat in some}) == sum(count for _, count, *_ in found):
        return apart
    if comb(len(found), many) <= TRIED_TOGETHER:
        return min(combinations(found, many), key=lambda some: _total(some, price))
    by_part = sorted(
        found, key=lambda one: (sum((price(seat) or 0) // len(seat.devices) for seat in one[3]), *one[1:3])
    )
    return min((apart, by_part[:many]), key=lambda some: _total(some, price))


def _joined(board: Board, need: Need, found: list[Freed], least: tuple[int, int], price: Price) -> list[Freed] | None:
    """Return those on one NVLink island that cost no more than the cheapest of all; None if there are none.

    Nobody moves for the sake of a link: of places that cost the same, the one on an island is taken.
    """
    if need.devices == 1:
        return None
    for island in {board.islands[one]: None for _, _, one, _ in found if one in board.islands}:
        inside = [one for one in found if one[2] in island][: need.devices]
        if len(inside) == need.devices and _total(inside, price) == least:
            return inside
    return None


def _total(some: Sequence[Freed], price: Price) -> tuple[int, int]:
    """Return what it costs that all of these come free, and how many leave: each once, on how many it may stand."""
    victims = {id(seat): seat for *_, leaving in some for seat in leaving}
    return _paid(victims.values(), price), len(victims)


def _cheapest_for_host(
    board: Board, need: Need, found: list[Freed], price: Price, inside: Worker | None
) -> Site | None:
    """Return the cheapest place where the devices that cost least leave the host short of CPU or memory.

    Sets of devices are tried in the order of what they cost by themselves, until none that follows can be cheaper. What
    lies in one worker of the domain is found inside that one, which then need not end. Of equal ones that on an island.
    """
    sets: Iterable[Sequence[Freed]] = [_cheapest_together(need, found, price)]
    if comb(len(found), need.devices) <= TRIED_TOGETHER:
        sets = sorted(combinations(found, need.devices), key=lambda some: _total(some, price))
    best: tuple[int, int, bool, tuple[DeviceId, ...], list[Seat]] | None = None
    for some in sets:
        if best is not None and _total(some, price) > best[:2]:
            break
        devices = tuple(sorted(one for _, _, one, _ in some))
        if inside is None and any(set(devices) <= set(one.devices) for one in _wider(board, need, devices)):
            continue
        victims = _with_host_room(board, need, devices, _leaving(some), price)
        if victims is None:
            return None  # all that may leave are not enough, whatever the devices
        is_apart = divided(board, board.survey.devices[devices[0]].node, devices) > 0
        one = _paid(victims, price), len(victims), is_apart, devices, victims
        best = one if best is None or one[:3] < best[:3] else best
    return None if best is None else _displacing_site(board, need, best[3], best[4], price)


def _with_host_room(
    board: Board, need: Need, devices: tuple[DeviceId, ...], leaving: list[Seat], price: Price
) -> list[Seat] | None:
    """Return who leaves these devices and their host; None if not even all that may leave are enough.

    Where the device is shared, whom it needs is found anew with the host's: one of them may make room on both.
    """
    node = board.survey.devices[devices[0]].node
    needed = leaving if not need.is_part else list(dict.fromkeys(_forced(board, need, devices[0])))
    short_of_cpu, short_of_memory = (one > 0 for one in lacking(board, need, node, needed))
    others = {id(seat): seat for one in board.on_node[node] for seat in board.seats[one] if seat not in needed}
    helping = [
        seat for seat in others.values()
        if (need.is_part and devices[0] in seat.devices)
        or (short_of_cpu and seat.cpu_millis) or (short_of_memory and seat.host_memory_mib)
    ]  # fmt: skip
    movable = [seat for seat in helping if price(seat) is not None]
    movable.sort(key=lambda s: (s not in leaving, price(s), s.worker, s.claim))

    def is_enough(gone: list[Seat]) -> bool:
        is_room = is_room_on(board, need, node, gone)
        return is_room and (not need.is_part or _fits_without(board, need, devices[0], gone))

    return enough(is_enough, needed, movable, price)


def _displacing_site(
    board: Board, need: Need, devices: tuple[DeviceId, ...], victims: list[Seat], price: Price
) -> Site:
    domains = {board.survey.devices[one].domain for one in devices}
    reach = FOREIGN if domains - {None, need.domain} else BOUND
    return sited(
        worker=worker_for(board, need, devices), node=board.survey.devices[devices[0]].node, devices=devices,
        reach=reach, free_millis=sum(board.free_millis[one] for one in devices),
        free_memory_mib=sum(board.free_memory[one] for one in devices), victims=tuple(victims),
        cost=_paid(victims, price),
    )  # fmt: skip


def _least_victims(
    board: Board, need: Need, device: DeviceId, price: Price, inside: Worker | None = None
) -> list[Seat] | None:
    """Return a minimal set of replicas whose leaving makes room on the device; None if those that may go do not do."""
    ending, worker = ending_for(board, need, device), board.worker_of.get(device)
    if not all(may_end(board, one) for one in ending):
        return None
    if worker is not None and len(worker.devices) > 1 and worker not in ending and carries(board, worker, need):
        return None
    forced = _forced(board, need, device, inside)
    if forced or not need.is_part:  # all of it: a GPU is of one domain, and what a worker carries leaves with it
        victims = list(dict.fromkeys([*forced, *board.seats[device]]))
        may_leave = all(price(seat) is not None for seat in victims)
        return victims if may_leave and _fits_without(board, need, device, victims) else None
    own = board.seats[device]
    movable = sorted((s for s in own if price(s) is not None), key=lambda s: (price(s), s.worker, s.claim))
    return enough(lambda gone: _fits_without(board, need, device, gone), [], movable, price)


def _forced(board: Board, need: Need, device: DeviceId, inside: Worker | None = None) -> list[Seat]:
    """Return who must leave whoever else does: other domains, and workers that end before the device is bound anew."""
    ending, worker = ending_for(board, need, device), board.worker_of.get(device)
    if worker is not None and worker is not inside and need.devices > 1 and worker not in ending:
        ending = [*ending, worker]
    in_the_way = [seat for one in ending for part in one.devices for seat in board.seats.get(part, ())]
    return board.foreigners(device, need.domain) + in_the_way


def _fits_without(board: Board, need: Need, device: DeviceId, victims: list[Seat]) -> bool:
    gone = [victim for victim in victims if device in victim.devices]
    millis = board.free_millis[device] + sum(victim.gpu_millis for victim in gone)
    memory = board.free_memory[device] + sum(victim.memory_mib for victim in gone)
    return millis >= need.gpu_millis and memory >= need.memory_mib
