"""Where a replica may go: what is free, what would have to leave, and which of the possible places is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from policies.model.inventory import Device, Group, ScrubState, Worker, WorkerState
from policies.model.naming import worker_id
from policies.model.units import (
    WHOLE_GPU_MILLIS,
    ClaimId,
    DeviceId,
    FlavorId,
    ModelId,
    NodeId,
    SecurityDomain,
    WorkerId,
)
from policies.survey import Survey


class Reach(IntEnum):
    """What must happen before a free device can be used, cheapest first."""

    SHARED = 0
    """Another replica of the domain already uses part of it."""
    BOUND = 1
    """An idle worker of the domain holds it."""
    HELD = 2
    """Freed for this claim earlier."""
    UNBOUND = 3
    """Nobody holds it and it needs no scrub."""
    REBIND = 4
    """A worker of the domain holds it together with others, or in another layout."""
    FOREIGN = 5
    """Another domain holds it or held it last: stop the idle worker, scrub, bind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one replica of a claim must find."""

    claim: ClaimId
    domain: SecurityDomain
    rung: int
    flavor: FlavorId
    devices: int
    gpu_millis: int
    memory_mib: int
    charge: int
    avoid_nodes: frozenset[NodeId] = frozenset()
    """Hosts that already carry a replica of a claim that asked to be spread."""
    strength: tuple[int, int] = (0, 0)
    """Its right and class: devices kept for a weaker claim do not bind it."""
    model: ModelId | None = None
    """What it runs, for scores that look for warm hosts."""

    @property
    def is_part(self) -> bool:
        """Whether the replica shares its device with others."""
        return self.devices == 1 and self.gpu_millis < WHOLE_GPU_MILLIS


@dataclass(slots=True, eq=False)
class Seat:
    """One replica at its place. ``group`` is None until it has been started."""

    claim: ClaimId
    domain: SecurityDomain
    rung: int
    worker: WorkerId
    devices: tuple[DeviceId, ...]
    gpu_millis: int
    memory_mib: int
    charge: int
    flavor: FlavorId
    group: Group | None = None
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place where a replica fits, or would fit without ``victims``."""

    worker: WorkerId
    node: NodeId
    devices: tuple[DeviceId, ...]
    reach: Reach
    free_millis: int
    """Free on its devices before the replica is placed."""
    free_memory_mib: int
    victims: tuple[Seat, ...] = ()
    cost: int = 0


Score = Callable[[Need, Site, "Board"], int]
"""Orders sites of equal reach: the smallest is chosen, ties by device id. Pure; called once per candidate site."""


def best_fit(_need: Need, site: Site, board: Board) -> int:
    """Prefer the place that is left fullest: the least free memory and compute on device and host. Range >= 0."""
    return site.free_millis * 64 + board.free_on_node(site.node) + site.free_memory_mib // 1024


@dataclass(slots=True)
class Board:
    """The fleet as it would be, while one decision is being worked out."""

    survey: Survey
    score: Score
    free_millis: dict[DeviceId, int] = field(default_factory=dict)
    free_memory: dict[DeviceId, int] = field(default_factory=dict)
    seats: dict[DeviceId, list[Seat]] = field(default_factory=dict)
    siblings: dict[DeviceId, list[DeviceId]] = field(default_factory=dict)
    """Devices of each physical GPU."""
    on_node: dict[NodeId, list[DeviceId]] = field(default_factory=dict)
    open_of: dict[FlavorId, list[DeviceId]] = field(default_factory=dict)
    worker_of: dict[DeviceId, Worker] = field(default_factory=dict)
    holder: dict[DeviceId, tuple[ClaimId, tuple[int, int]]] = field(default_factory=dict)
    """Claims for which devices were freed, with the strength of their right."""
    node_free: dict[NodeId, int] = field(default_factory=dict)
    steps: int = 0

    def take(self, seat: Seat) -> None:
        """Put the replica at its place."""
        for device in seat.devices:
            self.free_millis[device] -= seat.gpu_millis
            self.free_memory[device] -= seat.memory_mib
            self.node_free[self.survey.devices[device].node] -= seat.gpu_millis
            self.seats[device].append(seat)

    def leave(self, seat: Seat) -> None:
        """Take the replica away again."""
        for device in seat.devices:
            self.free_millis[device] += seat.gpu_millis
            self.free_memory[device] += seat.memory_mib
            self.node_free[self.survey.devices[device].node] += seat.gpu_millis
            self.seats[device].remove(seat)

    def bind(self, site: Site, domain: SecurityDomain) -> list[tuple[DeviceId, Worker | None]]:
        """Let the site's worker hold its devices, ending those that hold them now. Return what ``unbind`` needs."""
        current = self.worker_of.get(site.devices[0])
        if current is not None and current.id == site.worker:
            return []
        made = Worker(
            id=site.worker, domain=domain, node=site.node, devices=site.devices, state=WorkerState.STARTING
        )  # fmt: skip
        ended = {worker.id: worker for one in site.devices for worker in self.in_the_way(one, domain)}
        ended |= {worker.id: worker for one in site.devices if (worker := self.worker_of.get(one))}
        touched = dict.fromkeys(one for worker in ended.values() for one in worker.devices)
        before = [(one, self.worker_of.get(one)) for one in {**touched, **dict.fromkeys(site.devices)}]
        for one in touched:
            del self.worker_of[one]
        self.worker_of.update(dict.fromkeys(site.devices, made))
        return before

    def in_the_way(self, device: DeviceId, domain: SecurityDomain) -> list[Worker]:
        """Return the workers of other domains on the same physical GPU."""
        beside = (self.worker_of.get(one) for one in self.siblings[self.survey.devices[device].gpu])
        return [worker for worker in beside if worker is not None and worker.domain != domain]

    def unbind(self, before: list[tuple[DeviceId, Worker | None]]) -> None:
        """Undo a ``bind``."""
        for device, worker in before:
            self.worker_of.pop(device, None)
            if worker is not None:
                self.worker_of[device] = worker

    def free_on_node(self, node: NodeId) -> int:
        """Return the free millis on a host."""
        return self.node_free.get(node, 0)

    def is_idle(self, device: DeviceId) -> bool:
        """Say whether nothing runs or is to run on the device."""
        return not self.seats.get(device)  # what is not seen has no seats that are known

    def foreigners(self, device: DeviceId, domain: SecurityDomain) -> list[Seat]:
        """Return the replicas of other domains on the same physical GPU."""
        gpu = self.survey.devices[device].gpu
        return [seat for one in self.siblings[gpu] for seat in self.seats[one] if seat.domain != domain]


def board(survey: Survey, score: Score) -> Board:
    """Return the empty fleet: every known device free."""
    made = Board(survey=survey, score=score)
    for device in survey.devices.values():
        made.free_millis[device.id] = WHOLE_GPU_MILLIS
        made.free_memory[device.id] = device.memory_mib
        made.seats[device.id] = []
        made.siblings.setdefault(device.gpu, []).append(device.id)
        made.node_free[device.node] = made.node_free.get(device.node, 0) + WHOLE_GPU_MILLIS
        if survey.is_open(device):
            made.on_node.setdefault(device.node, []).append(device.id)
            made.open_of.setdefault(device.flavor, []).append(device.id)
    for worker in survey.workers.values():
        for one in worker.devices:
            made.worker_of[one] = worker
    return made


def find(board: Board, need: Need) -> Site | None:
    """Return the best place that is free now, None if there is none. Cost: a look at each open device of the flavor."""
    sites = _single_sites(board, need) if need.devices == 1 else _multiple_sites(board, need)
    return min(sites, key=lambda site: _order(board, need, site), default=None)


def find_by_displacing(board: Board, need: Need, price: Callable[[Seat], int | None]) -> Site | None:
    """Return the cheapest place that becomes free when replicas leave which ``price`` allows to go.

    ``price`` returns the cost of moving a replica, or None if it must stay. The victims of the site returned are
    minimal: without any one of them leaving, the replica does not fit.
    """
    sites = (
        _single_by_displacing(board, need, price) if need.devices == 1 else _multiple_by_displacing(board, need, price)
    )
    return min(sites, key=lambda site: (site.cost, len(site.victims), *_order(board, need, site)), default=None)


def _order(board: Board, need: Need, site: Site) -> tuple[int, int, tuple[DeviceId, ...]]:
    return site.reach, board.score(need, site, board), site.devices


def _candidates(board: Board, need: Need) -> Iterator[Device]:
    for one in board.open_of.get(need.flavor, ()):
        device = board.survey.devices[one]
        board.steps += 1
        if device.node not in need.avoid_nodes and not _is_kept_from(board, device, need):
            yield device


def _is_kept_from(board: Board, device: Device, need: Need) -> bool:
    claim, strength = board.holder.get(device.id, (need.claim, need.strength))
    if claim != need.claim and strength >= need.strength:
        return True
    return device.domain is not None and device.domain != need.domain and device.domain in board.survey.blind


def _fits(board: Board, need: Need, device: DeviceId) -> bool:
    return board.free_millis[device] >= need.gpu_millis and board.free_memory[device] >= need.memory_mib


def _single_sites(board: Board, need: Need) -> Iterator[Site]:
    for device in _candidates(board, need):
        if not _fits(board, need, device.id) or board.foreigners(device.id, need.domain):
            continue
        reach = _reach(board, need, device)
        if reach is not None:
            yield _site(board, need, (device.id,), reach)


def _reach(board: Board, need: Need, device: Device) -> Reach | None:
    """Say what it takes to use the device for the need; None if a worker that would have to end still carries work."""
    ending = _ending(board, need, device.id)
    if not all(_can_end(board, one) for one in ending):
        return None
    worker = board.worker_of.get(device.id)
    if any(one.domain != need.domain for one in ending):
        return Reach.FOREIGN
    if worker is None:
        return _unbound(board, need, device)
    if ending or len(worker.devices) > 1:
        return Reach.REBIND
    return Reach.BOUND if board.is_idle(device.id) else Reach.SHARED


def _can_end(board: Board, worker: Worker) -> bool:
    """Say whether the worker carries nothing and everything about it was seen."""
    return _may_end(board, worker) and all(board.is_idle(one) for one in worker.devices)


def _may_end(board: Board, worker: Worker) -> bool:
    survey = board.survey
    is_seen = worker.node not in survey.unseen and not any(one in survey.unseen for one in worker.devices)
    return is_seen and worker.domain not in survey.blind


def _ending(board: Board, need: Need, device: DeviceId) -> list[Worker]:
    """Return the workers that must end before the device can serve the need: of other domains, or of another layout."""
    found = board.in_the_way(device, need.domain)
    worker = board.worker_of.get(device)
    if worker is not None and worker.domain == need.domain and need.is_part and len(worker.devices) > 1:
        found.append(worker)
    return found


def _unbound(board: Board, need: Need, device: Device) -> Reach:
    if not board.is_idle(device.id):
        return Reach.SHARED
    if device.id in board.holder and board.holder[device.id][0] == need.claim:
        return Reach.HELD
    is_foreign = any(_last_domain(board, one) not in (None, need.domain) for one in board.siblings[device.gpu])
    return Reach.FOREIGN if is_foreign else Reach.UNBOUND


def _last_domain(board: Board, device: DeviceId) -> SecurityDomain | None:
    one = board.survey.devices[device]
    return None if one.scrub is ScrubState.CLEAN and board.worker_of.get(device) is None else one.domain


def _site(board: Board, need: Need, devices: tuple[DeviceId, ...], reach: Reach) -> Site:
    return Site(
        worker=_worker_for(board, need, devices), node=board.survey.devices[devices[0]].node, devices=devices,
        reach=reach, free_millis=sum(board.free_millis[one] for one in devices),
        free_memory_mib=sum(board.free_memory[one] for one in devices),
    )  # fmt: skip


def _worker_for(board: Board, need: Need, devices: tuple[DeviceId, ...]) -> WorkerId:
    """Return the worker of the domain that holds all of the devices, else the name of the one to be made."""
    worker = board.worker_of.get(devices[0])
    holds_all = worker is not None and worker.domain == need.domain and set(devices) <= set(worker.devices)
    if worker is not None and holds_all and (not need.is_part or len(worker.devices) == 1):
        return worker.id
    return worker_id(need.domain, devices)


def _multiple_sites(board: Board, need: Need) -> Iterator[Site]:
    for worker, devices in _free_by_node(board, need):
        if len(devices) >= need.devices:
            chosen = tuple(sorted(devices[: need.devices]))
            reach = Reach.BOUND if worker else max(_reach_of_many(board, need, one) for one in chosen)
            yield _site(board, need, chosen, reach)


def _free_by_node(board: Board, need: Need) -> Iterator[tuple[Worker | None, list[DeviceId]]]:
    """Yield, per existing worker of the domain and per host, the free devices that one replica may use together."""
    by_node: dict[NodeId, list[Device]] = {}
    for device in _candidates(board, need):
        if board.is_idle(device.id) and _fits(board, need, device.id) and not board.foreigners(device.id, need.domain):
            by_node.setdefault(device.node, []).append(device)
    for free in by_node.values():
        own = {w.id: w for one in free if (w := board.worker_of.get(one.id)) and w.domain == need.domain}
        for worker in own.values():
            yield worker, [one.id for one in free if one.id in worker.devices]
        loose = [one for one in free if _is_loose(board, need, one)]
        loose.sort(key=lambda one: (_reach_of_many(board, need, one.id), one.id))
        yield None, [one.id for one in loose]


def _is_loose(board: Board, need: Need, device: Device) -> bool:
    worker = board.worker_of.get(device.id)
    ending = [*board.in_the_way(device.id, need.domain), *([worker] if worker else [])]
    return all(_can_end(board, one) for one in ending)


def _reach_of_many(board: Board, need: Need, device: DeviceId) -> Reach:
    if board.in_the_way(device, need.domain):
        return Reach.FOREIGN
    if board.worker_of.get(device) is not None:
        return Reach.REBIND
    return _unbound(board, need, board.survey.devices[device])


def _single_by_displacing(board: Board, need: Need, price: Callable[[Seat], int | None]) -> Iterator[Site]:
    for device in _candidates(board, need):
        victims = _least_victims(board, need, device.id, price)
        if victims is None:
            continue
        yield _displacing_site(board, need, (device.id,), victims, price)


def _displacing_site(
    board: Board, need: Need, devices: tuple[DeviceId, ...], victims: list[Seat], price: Callable[[Seat], int | None]
) -> Site:
    domains = {board.survey.devices[one].domain for one in devices}
    reach = Reach.FOREIGN if domains - {None, need.domain} else Reach.BOUND
    return Site(
        worker=_worker_for(board, need, devices), node=board.survey.devices[devices[0]].node, devices=devices,
        reach=reach, free_millis=sum(board.free_millis[one] for one in devices),
        free_memory_mib=sum(board.free_memory[one] for one in devices), victims=tuple(victims),
        cost=sum(price(victim) or 0 for victim in victims),
    )  # fmt: skip


def _least_victims(
    board: Board, need: Need, device: DeviceId, price: Callable[[Seat], int | None]
) -> list[Seat] | None:
    """Return a minimal set of replicas whose leaving makes room on the device; None if those that may go do not do."""
    if not all(_may_end(board, worker) for worker in _ending(board, need, device)):
        return None
    forced = board.foreigners(device, need.domain) + _in_the_way(board, need, device)
    own = [seat for seat in board.seats[device] if seat not in forced]
    if need.devices > 1 or not need.is_part:
        forced, own = forced + own, []
    if any(price(seat) is None for seat in forced):
        return None
    victims = list(dict.fromkeys(forced))
    for seat in sorted((s for s in own if price(s) is not None), key=lambda s: (price(s), s.worker, s.claim)):
        if _fits_without(board, need, device, victims):
            break
        victims.append(seat)
    if not _fits_without(board, need, device, victims):
        return None
    return _without_needless(board, need, device, victims, len(forced))


def _in_the_way(board: Board, need: Need, device: DeviceId) -> list[Seat]:
    """Return the replicas of the workers that must end before the device can be bound anew."""
    ending = _ending(board, need, device)
    worker = board.worker_of.get(device)
    if worker is not None and need.devices > 1 and worker not in ending and len(worker.devices) > 1:
        ending.append(worker)
    return [seat for worker in ending for one in worker.devices for seat in board.seats.get(one, ())]


def _fits_without(board: Board, need: Need, device: DeviceId, victims: list[Seat]) -> bool:
    gone = [victim for victim in victims if device in victim.devices]
    millis = board.free_millis[device] + sum(victim.gpu_millis for victim in gone)
    memory = board.free_memory[device] + sum(victim.memory_mib for victim in gone)
    return millis >= need.gpu_millis and memory >= need.memory_mib


def _without_needless(board: Board, need: Need, device: DeviceId, victims: list[Seat], forced: int) -> list[Seat]:
    for victim in reversed(victims[forced:]):
        fewer = [one for one in victims if one is not victim]
        if _fits_without(board, need, device, fewer):
            victims = fewer
    return victims


def _multiple_by_displacing(board: Board, need: Need, price: Callable[[Seat], int | None]) -> Iterator[Site]:
    by_node: dict[NodeId, list[tuple[int, DeviceId, list[Seat]]]] = {}
    for device in _candidates(board, need):
        victims = _least_victims(board, need, device.id, price)
        if victims is not None:
            cost = sum(price(victim) or 0 for victim in victims)
            by_node.setdefault(device.node, []).append((cost, device.id, victims))
    for found in by_node.values():
        if len(found) >= need.devices:
            found.sort(key=lambda one: (len(one[2]) > 0, one[0], one[1]))
            chosen = found[: need.devices]
            devices = tuple(sorted(one for _, one, _ in chosen))
            victims = list(dict.fromkeys(seat for _, _, some in chosen for seat in some))
            yield _displacing_site(board, need, devices, victims, price)


SCORES: dict[str, Score] = {"partage": best_fit}
"""Placement scores by the name that a policy gives in ``scoring``."""
