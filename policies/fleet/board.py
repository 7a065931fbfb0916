"""The fleet as it would be: what is free, what is taken, which worker holds what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter

from policies.evidence.survey import Survey
from policies.fleet.market import Market
from policies.model.building import builder
from policies.model.inventory import Group, Worker, WorkerState
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

Kind = tuple[SecurityDomain, FlavorId, int, int, int, int, int, ModelId | None]
"""Needs of one kind find the same places."""
UNBOUNDED = 2**50
"""CPU millis and memory of a host of which nothing is known: only its devices limit it."""


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
    LEFT = 5
    """Another domain held it last and nobody holds it now: scrub, bind."""
    FOREIGN = 6
    """Another domain holds it: stop the idle worker, scrub, bind."""


SHARED, BOUND, HELD, UNBOUND, REBIND, LEFT, FOREIGN = Reach
"""The same by themselves: an enumeration looks each of its members up whenever it is named."""


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
    avoid_devices: frozenset[DeviceId] = frozenset()
    """Devices on which a start of the claim failed."""
    strength: tuple[int, int] = (0, 0)
    """Its right and class: devices kept for a weaker claim do not bind it."""
    ends_ms: int | None = None
    """When it will have left again, as announced; None if that is not known."""
    model: ModelId | None = None
    """What it runs, for scores that look for warm hosts; None where no host has its weights."""
    cpu_millis: int = 0
    """Of the host."""
    host_memory_mib: int = 0
    rack: str = ""
    """Where it goes among places that are otherwise as good; empty for anywhere."""

    @property
    def is_part(self) -> bool:
        """Whether the replica shares its device with others."""
        return self.devices == 1 and self.gpu_millis < WHOLE_GPU_MILLIS

    @property
    def kind(self) -> Kind:
        """What decides where it fits, whosever it is."""
        return (
            self.domain, self.flavor, self.devices, self.gpu_millis, self.memory_mib, self.cpu_millis,
            self.host_memory_mib, self.model,
        )  # fmt: skip


needed = builder(Need)
"""Makes one."""


@dataclass(slots=True, eq=False)
class Seat:
    """One replica at its place. ``group`` is None until it has been started."""

    claim: ClaimId
    domain: SecurityDomain
    rung: int
    worker: WorkerId
    node: NodeId
    devices: tuple[DeviceId, ...]
    gpu_millis: int
    memory_mib: int
    charge: int
    flavor: FlavorId
    group: Group | None = None
    since_ms: int = 0
    cpu_millis: int = 0
    """Of the host."""
    host_memory_mib: int = 0


seated = builder(Seat)
"""Makes one."""
_by_group = attrgetter("group.id")


@dataclass(slots=True)
class Spare:
    """What is left of one flavor's devices on one host that takes new work."""

    idle: int
    """Idle millis of all of them."""
    whole: int
    """Devices that are fully idle."""


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


sited = builder(Site)
"""Makes one."""


Order = tuple[int, int, int, int, tuple[DeviceId, ...]]
"""Free places in order: what must be done first, the score, the reach, what is left of islands, the devices."""
Score = Callable[[Need, Site, "Board"], int]
"""Orders sites of equal reach: the smallest is chosen, ties by device id. Pure; called once per candidate site."""


@dataclass(slots=True)
class Shelf:
    """The best place of each host for one kind of need, in the order in which they would be chosen."""

    heap: list[tuple[Order, NodeId]]
    read: int
    """How many entries of ``Board.touched`` it knows."""
    anybody: Need
    """A need of this kind that is no claim's in particular."""
    best: dict[NodeId, Order] = field(default_factory=dict)
    """Each host's entry as it is now; others of the host are out of date."""


@dataclass(slots=True)
class Watch:
    """Which hosts changed since somebody last looked, also where the board was begun anew in between."""

    read: int = 0
    """Entries of ``Board.touched`` that were looked at."""
    before: set[NodeId] = field(default_factory=set)
    """Hosts that changed before the board was last begun anew, and were not looked at."""


@dataclass(slots=True)
class Room:
    """What is free on the hosts of one flavor; see ``policies.fleet.room``."""

    order: list[tuple[int, NodeId]]
    """Free millis, negative, and the host; sorted."""
    free: dict[NodeId, int]
    """The first of these, by host."""
    watch: Watch


@dataclass(slots=True)
class Board:
    """The fleet as it would be, while one decision is being worked out."""

    survey: Survey
    score: Score
    free_millis: dict[DeviceId, int] = field(default_factory=dict)
    free_memory: dict[DeviceId, int] = field(default_factory=dict)
    seats: dict[DeviceId, list[Seat]] = field(default_factory=dict)
    siblings: dict[DeviceId, list[DeviceId]] = field(default_factory=dict)
    """Devices of each physical GPU that is divided; see ``beside``."""
    on_node: dict[NodeId, list[DeviceId]] = field(default_factory=dict)
    hosts_of: dict[FlavorId, dict[NodeId, list[DeviceId]]] = field(default_factory=dict)
    """Devices that take new work, by flavor and host."""
    islands: dict[DeviceId, tuple[DeviceId, ...]] = field(default_factory=dict)
    """Devices that take new work on the NVLink island of each one that is on one, itself included."""
    linked: frozenset[NodeId] = frozenset()
    """Hosts of which islands are known."""
    racks: dict[str, list[NodeId]] = field(default_factory=dict)
    """Hosts of each rack that is known."""
    worker_of: dict[DeviceId, Worker] = field(default_factory=dict)
    needed_at: dict[DeviceId, int] = field(default_factory=dict)
    """When a device that is kept will be used, where that follows from jobs that end: until then it may be lent."""
    holder: dict[DeviceId, dict[ClaimId, tuple[int, int]]] = field(default_factory=dict)
    """Claims for which devices were freed, several where they are to share one, with the strength of their right."""
    node_free: dict[NodeId, int] = field(default_factory=dict)
    node_cpu: dict[NodeId, int] = field(default_factory=dict)
    """Free CPU millis of each host."""
    node_memory: dict[NodeId, int] = field(default_factory=dict)
    """Free memory of each host, in MiB."""
    spare: dict[DeviceId, Spare] = field(default_factory=dict)
    """Of the flavor and host of each device that takes new work."""
    market: Market | None = None
    """What the scores know beside the fleet; None before the first score is asked for."""
    appraise: Callable[[Board], Market] | None = None
    """Makes ``market``."""
    touched: list[NodeId] = field(default_factory=list)
    """Hosts on which something changed, in that order; a shelf reads on from where it stopped."""
    shelves: dict[Kind, Shelf] = field(default_factory=dict)
    rooms: dict[FlavorId, Room] = field(default_factory=dict)
    watches: list[Watch] = field(default_factory=list)
    moved: dict[Seat, int] = field(default_factory=dict)
    """How often more each replica was seated than taken away, since the board showed the snapshot."""
    rebound: set[DeviceId] = field(default_factory=set)
    """Devices whose worker was changed since then."""
    leaving: list[Seat] = field(default_factory=list)
    """Replicas that cannot stay whatever is decided, but still stand."""
    steps: int = 0

    def show(self, seats: Iterable[Seat]) -> None:
        """Put the replicas where the snapshot has them, on a board that was empty: none of them counts as moved.

        In whatever order they come, on each device they stand in the order of their groups.
        """
        on, millis, memory = self.seats, self.free_millis, self.free_memory
        for seat in seats:
            for device in seat.devices:
                on[device].append(seat)
                millis[device] -= seat.gpu_millis
                memory[device] -= seat.memory_mib
            node = seat.node
            self.node_free[node] -= seat.gpu_millis * len(seat.devices)
            if seat.cpu_millis or seat.host_memory_mib:
                self.node_cpu[node] -= seat.cpu_millis
                self.node_memory[node] -= seat.host_memory_mib
        for some in on.values():
            if len(some) > 1:
                some.sort(key=_by_group)
        for device, spare in self.spare.items():
            free = millis[device]
            if free != WHOLE_GPU_MILLIS:
                spare.idle -= WHOLE_GPU_MILLIS - free
                spare.whole -= 1

    def take(self, seat: Seat) -> None:
        """Put the replica at its place."""
        self.moved[seat] = self.moved.get(seat, 0) + 1
        for device in seat.devices:
            self.seats[device].append(seat)
        self._count(seat, -1)

    def leave(self, seat: Seat) -> None:
        """Take the replica away again."""
        self.moved[seat] = self.moved.get(seat, 0) - 1
        for device in seat.devices:
            self.seats[device].remove(seat)
        self._count(seat, 1)

    def _count(self, seat: Seat, sign: int) -> None:
        millis, memory, node = sign * seat.gpu_millis, sign * seat.memory_mib, seat.node
        for device in seat.devices:
            before = self.free_millis[device]
            self.free_millis[device] = before + millis
            self.free_memory[device] += memory
            spare = self.spare.get(device)
            if spare is not None:
                spare.idle += millis
                spare.whole += (before + millis == WHOLE_GPU_MILLIS) - (before == WHOLE_GPU_MILLIS)
        self.node_free[node] += millis * len(seat.devices)
        self.node_cpu[node] += sign * seat.cpu_millis
        self.node_memory[node] += sign * seat.host_memory_mib
        self.touched.append(node)

    def begin_anew(self) -> None:
        """Forget what was found and kept on the way: what stands now is what the snapshot shows.

        What watches hosts is kept, such as their order by what is free: it needs to look only at those that changed.
        """
        for watch in self.watches:
            watch.before.update(self.touched[watch.read :])
            watch.read = 0
        for kept in (self.moved, self.rebound, self.holder, self.needed_at, self.shelves, self.touched):
            kept.clear()
        self.steps, self.market = 0, None

    def watch(self) -> Watch:
        """Return a watch of the hosts that change from now on."""
        self.watches.append(Watch(len(self.touched)))
        return self.watches[-1]

    def changed(self, watch: Watch) -> set[NodeId]:
        """Return the hosts that changed since this was last asked for with the same watch."""
        found = watch.before.union(self.touched[watch.read :])
        watch.before.clear()
        watch.read = len(self.touched)
        return found

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
        self.rebound.update(one for one, _ in before)
        for one in touched:
            del self.worker_of[one]
        self.worker_of.update(dict.fromkeys(site.devices, made))
        self.touched.append(site.node)
        return before

    def in_the_way(self, device: DeviceId, domain: SecurityDomain) -> list[Worker]:
        """Return the workers of other domains on the same physical GPU."""
        of = self.worker_of
        return [of[one] for one in self.beside(device) if one in of and of[one].domain != domain]

    def beside(self, device: DeviceId) -> Sequence[DeviceId]:
        """Return the devices of the same physical GPU, itself included."""
        return self.siblings.get(self.survey.devices[device].gpu) or (device,)

    def unbind(self, before: list[tuple[DeviceId, Worker | None]]) -> None:
        """Undo a ``bind``."""
        for device, worker in before:
            self.worker_of.pop(device, None)
            self.touched.append(self.survey.devices[device].node)
            if worker is not None:
                self.worker_of[device] = worker

    def free_on_node(self, node: NodeId) -> int:
        """Return the free millis on a host."""
        return self.node_free.get(node, 0)

    def has_host_room(self, need: Need, node: NodeId) -> bool:
        """Say whether CPU and memory of the host suffice for one more replica."""
        return self.node_cpu[node] >= need.cpu_millis and self.node_memory[node] >= need.host_memory_mib

    def is_idle(self, device: DeviceId) -> bool:
        """Say whether nothing runs or is to run on the device."""
        return not self.seats.get(device)  # what is not seen has no seats that are known

    def foreigners(self, device: DeviceId, domain: SecurityDomain) -> list[Seat]:
        """Return the replicas of other domains on the same physical GPU."""
        return [seat for one in self.beside(device) for seat in self.seats[one] if seat.domain != domain]
