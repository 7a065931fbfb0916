"""Where a replica goes: feasible -> score -> pick. The definitions; ``policies.packing`` holds them over arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, ModelId, NodeId, SecurityDomain
from policies.model.workload import Shape
from policies.packing.arrays import GPU_CELL, MICROS, Prices

Places = tuple[int, ...]
"""Positions of the slots that a replica would use, ascending; empty for work that needs no device."""

MOST_CPU = 128_000
MOST_MILLIS = 8_000
"""Largest node of the published rules, to which their scores are scaled."""
WARM_BONUS = 50 * MICROS
"""Weights already in the host's cache are worth this much of a GPU: a tie-breaker, below any real loss of capacity."""
SCRUB_COST = 200 * MICROS
"""A change of domain costs drain, scrub and reload: this much of a GPU has to be gained by it."""


class Refusal(StrEnum):
    """Why a replica does not fit in a room: the first that applies. A closed list."""

    CORDONED = "cordoned"
    TAINTED = "tainted"
    APART = "apart"
    """Another replica of the claim is there and the two must not fail together."""
    RACK = "rack"
    FLAVOR = "flavor"
    CPU = "cpu"
    HOST_MEMORY = "host_memory"
    HEALTH = "health"
    DOMAIN = "domain"
    MILLIS = "millis"
    DEVICE_MEMORY = "device_memory"
    ISLAND = "island"
    """Enough devices are free, but not on one NVLink island."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One device, as placement sees it."""

    device: DeviceId
    millis: int
    """Idle, 0..1000."""
    memory_mib: int
    """Free on the device."""
    is_healthy: bool = True
    domain: SecurityDomain | None = None
    """Domain that holds it, or held it last and has not been scrubbed away; None if anybody's."""
    is_held: bool = False
    """Whether work of ``domain`` is on it now: no other domain may join."""
    island: str = ""
    """NVLink island; slots with the same text reach each other directly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is left on one node for one flavor."""

    node: NodeId
    flavor: FlavorId
    cpu_millis: int
    memory_mib: int
    slots: tuple[Slot, ...]
    rack: str = ""
    taints: frozenset[str] = frozenset()
    is_open: bool = True
    """False once cordoned."""
    warm: frozenset[ModelId] = frozenset()
    """Models whose weights are in the host's cache."""
    running: frozenset[int] = frozenset()
    """Kinds of GPU work on the node: 0 for shared devices, else whole devices per task. Read by ``gpu_clustering``."""

    @property
    def idle_millis(self) -> int:
        """Idle millis of all slots."""
        return sum(slot.millis for slot in self.slots)

    @property
    def free_slots(self) -> int:
        """Slots that are fully idle."""
        return sum(slot.millis == WHOLE_GPU_MILLIS for slot in self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one replica needs, and where it must not go."""

    shape: Shape
    domain: SecurityDomain | None = None
    """None where isolation does not apply."""
    tolerates: frozenset[str] = frozenset()
    apart_from: frozenset[NodeId] = frozenset()
    rack: str | None = None
    """Rack of the replicas that it must be near; None for any."""
    one_island: bool = False
    """Whether its devices must reach each other over NVLink."""
    model: ModelId | None = None

    @property
    def devices(self) -> int:
        """Devices wanted; 0 for work that needs none."""
        return self.shape.devices if self.shape.gpu_millis else 0

    @property
    def is_part(self) -> bool:
        """Whether it shares its device with others."""
        return 0 < self.shape.gpu_millis < WHOLE_GPU_MILLIS

    @property
    def millis(self) -> int:
        """Millis wanted on all devices together."""
        return self.devices * self.shape.gpu_millis


@dataclass(frozen=True, slots=True)
class Expected:
    """One kind of work in the mix that is expected, with its share of all tasks (the shares sum to 1)."""

    shape: Shape
    share: float


@dataclass(frozen=True, slots=True)
class Market:
    """What a score may know beside the room: the expected mix, today's prices, and a number to draw with."""

    expected: tuple[Expected, ...] = ()
    prices: Prices | None = None
    flavors: tuple[FlavorId, ...] = ()
    """Order of the flavors in ``prices``."""
    draw: int = 0


ScoreFunction = Callable[[Room, Ask, Places, Market], int]
"""Rates one feasible placement: the highest is chosen. Pure. Each states its range."""


def refusal(room: Room, ask: Ask) -> Refusal | None:
    """Return why the replica does not fit in the room, None if it does. Cost: a look at each slot."""
    shape = ask.shape
    checks: tuple[tuple[bool, Refusal], ...] = (
        (not room.is_open, Refusal.CORDONED),
        (not room.taints <= ask.tolerates, Refusal.TAINTED),
        (room.node in ask.apart_from, Refusal.APART),
        (ask.rack is not None and room.rack != ask.rack, Refusal.RACK),
        (bool(ask.devices and shape.flavors) and room.flavor not in shape.flavors, Refusal.FLAVOR),
        (room.cpu_millis < shape.cpu_millis, Refusal.CPU),
        (room.memory_mib < shape.host_memory_mib, Refusal.HOST_MEMORY),
    )
    broken = next((reason for is_broken, reason in checks if is_broken), None)
    return broken or (_refusal_of_slots(room, ask) if ask.devices else None)


def _refusal_of_slots(room: Room, ask: Ask) -> Refusal | None:
    """Narrow the slots down, one demand after the other; the demand after which too few are left is the reason."""
    tests: tuple[tuple[Refusal, Callable[[Slot], bool]], ...] = (
        (Refusal.HEALTH, lambda slot: slot.is_healthy),
        (Refusal.DOMAIN, lambda slot: _is_admitted(slot, ask)),
        (Refusal.MILLIS, lambda slot: slot.millis >= ask.shape.gpu_millis),
        (Refusal.DEVICE_MEMORY, lambda slot: slot.memory_mib >= ask.shape.memory_mib),
    )
    left = list(room.slots)
    for reason, test in tests:
        left = [slot for slot in left if test(slot)]
        if len(left) < ask.devices:
            return reason
    return None if next(_openings(room, ask), None) is not None else Refusal.ISLAND


def _is_admitted(slot: Slot, ask: Ask) -> bool:
    return ask.domain is None or not slot.is_held or slot.domain == ask.domain


def _is_usable(slot: Slot, ask: Ask) -> bool:
    return (
        slot.is_healthy
        and _is_admitted(slot, ask)
        and slot.millis >= ask.shape.gpu_millis
        and slot.memory_mib >= ask.shape.memory_mib
    )


def openings(room: Room, ask: Ask) -> list[Places]:
    """Return the placements of the replica in the room that differ in what they leave; empty if it does not fit.

    A share of a device: every device that fits. Whole devices: the lowest of each NVLink island, or of the node. Work
    without devices: one empty placement.
    """
    return list(_openings(room, ask)) if refusal(room, ask) is None else []


def _openings(room: Room, ask: Ask) -> Iterator[Places]:
    usable = [index for index, slot in enumerate(room.slots) if _is_usable(slot, ask)]
    if ask.is_part:
        yield from ((index,) for index in usable)
    elif not ask.one_island:
        yield tuple(usable[: ask.devices])
    else:
        for island in dict.fromkeys(room.slots[index].island for index in usable):
            inside = [index for index in usable if room.slots[index].island == island]
            if len(inside) >= ask.devices:
                yield tuple(inside[: ask.devices])


def pick(rooms: Sequence[Room], ask: Ask, name: str, market: Market) -> tuple[Room, Places] | None:
    """Return the best placement by the named score, None if there is none.

    Ties: the first room in the order given, then the first opening. Cost: one score per opening of each room.
    """
    score, devices = SCORES[name], DEVICES.get(name, openings)
    best: tuple[int, Room, Places] | None = None
    for room in rooms:
        for places in devices(room, ask):
            value = score(room, ask, places, market)
            if best is None or value > best[0]:
                best = value, room, places
    return best and (best[1], best[2])


def tightest(room: Room, ask: Ask) -> list[Places]:
    """Return the one opening that takes the fitting device with least left, lowest position on ties."""
    return sorted(openings(room, ask), key=lambda places: [room.slots[index].millis for index in places])[:1]


def left_after(room: Room, ask: Ask, places: Places) -> list[int]:
    """Return the idle millis of each slot once the replica is placed."""
    return [slot.millis - ask.shape.gpu_millis * (index in places) for index, slot in enumerate(room.slots)]


def partage(room: Room, ask: Ask, places: Places, market: Market) -> int:
    """Return by how much the worth of what remains changes: millionths of a GPU, from -10^10 to 10^10, 0 for no loss.

    Worth is what remaining capacity is expected to be filled with; see ``policies.packing.worth``. A change of domain
    counts as a loss, warm weights as a gain.
    """
    if market.prices is None:
        return best_fit(room, ask, places, market)
    after = worth(room, left_after(room, ask, places), room.cpu_millis - ask.shape.cpu_millis, market)
    before = worth(room, [slot.millis for slot in room.slots], room.cpu_millis, market)
    foreign = sum(room.slots[index].domain not in (None, ask.domain) for index in places if ask.domain)
    is_warm = ask.model is not None and ask.model in room.warm
    return after - before - foreign * SCRUB_COST + is_warm * WARM_BONUS


def worth(room: Room, left: Sequence[int], cpu_millis: int, market: Market) -> int:
    """Return what the room is worth with these millis idle and these CPUs free, in millionths of a GPU."""
    prices = market.prices
    if prices is None:
        return 0
    flavor, idle, free = market.flavors.index(room.flavor), sum(left), sum(m == WHOLE_GPU_MILLIS for m in left)
    gpu = min(idle // GPU_CELL, prices.stranded.shape[0] - 1)
    cpu = min(cpu_millis // prices.cpu_cell, prices.stranded.shape[1] - 1)
    together = idle * prices.scarcity[flavor] - prices.stranded[gpu, cpu]
    blocks = prices.blocks[min(free, prices.blocks.shape[0] - 1), cpu]
    return int(sum(int(prices.holes[flavor, m]) for m in left) + together + blocks)


def fgd(room: Room, ask: Ask, places: Places, market: Market) -> int:
    """Return 0..100, 50 when the fragment stays as it is. Source: fragmentation gradient descent (Weng, ATC'23)."""
    before = fragment(room, [slot.millis for slot in room.slots], room.cpu_millis, market)
    after = fragment(room, left_after(room, ask, places), room.cpu_millis - ask.shape.cpu_millis, market)
    return int(100 * (1 / (1 + math.exp(-(before - after) / 1000))))


def fragment(room: Room, left: Sequence[int], cpu_millis: int, market: Market) -> float:
    """Return the idle millis that the expected mix cannot use in the room, 0 up to all idle millis.

    Summed by cause, as the published program does: a score cut to whole points is decided by the last bit of this sum
    whenever a placement changes nothing.
    """
    by_cause, idle = [0.0] * 6, sum(left)
    for one in market.expected:
        shape = one.shape
        has_cpu = cpu_millis >= shape.cpu_millis
        fitting = [millis for millis in left if millis >= shape.gpu_millis]
        if not shape.gpu_millis:
            by_cause[3 if has_cpu else 4] += one.share * idle
        elif shape.flavors and room.flavor not in shape.flavors:
            by_cause[5] += one.share * idle
        elif len(fitting) < shape.devices:
            by_cause[1 if has_cpu else 0] += one.share * idle
        elif has_cpu:
            by_cause[1] += one.share * (idle - sum(fitting))
        else:
            by_cause[2] += one.share * idle
    return sum(by_cause)


def best_fit(room: Room, ask: Ask, _places: Places, _market: Market) -> int:
    """Return 0..100: the less CPU and GPU is left on the node, the higher."""
    cpu = (room.cpu_millis - ask.shape.cpu_millis) / MOST_CPU
    return max(0, int(100 * (1 - 0.5 * cpu - 0.5 * ((room.idle_millis - ask.millis) / MOST_MILLIS))))


def dot_prod(room: Room, ask: Ask, _places: Places, _market: Market) -> int:
    """Return 0..100: the less what is left points the way of what is asked, the higher."""
    cpu = (room.cpu_millis / MOST_CPU) * (ask.shape.cpu_millis / MOST_CPU)
    return max(0, int(100 * (1 - 0.5 * (cpu + (room.idle_millis / MOST_MILLIS) * (ask.millis / MOST_MILLIS)))))


def gpu_packing(room: Room, ask: Ask, places: Places, _market: Market) -> int:
    """Return 0..100: shared devices first, then free devices of busy nodes, then idle nodes; 0 for work without GPU."""
    if not ask.devices:
        return 0
    if room.free_slots == len(room.slots):
        return max(33 - len(room.slots), len(room.slots))
    whole = [index for index in places if room.slots[index].millis == WHOLE_GPU_MILLIS]
    if whole:
        return max(50 - len(whole), 33)
    return max(100 - sum(room.slots[index].millis * 100 // WHOLE_GPU_MILLIS for index in places) // 10, 50)


def gpu_clustering(room: Room, ask: Ask, _places: Places, _market: Market) -> int:
    """Return 0..100: nodes that run only the same kind of GPU work first, then mixed ones, then idle ones."""
    if not ask.devices:
        return 0
    kind = 0 if ask.is_part else ask.devices
    base = 25 if not room.running else 0
    if kind in room.running:
        base = 75 if len(room.running) == 1 else 50
    return base + int(25 * (MOST_MILLIS - room.idle_millis) / MOST_MILLIS)


def random(room: Room, _ask: Ask, places: Places, market: Market) -> int:
    """Return 0..2^31-1, spread evenly and the same for the same ``market.draw``: placement without a thought."""
    x = market.draw
    for letter in f"{room.node}{places}".encode():
        x = (x * 1_000_003 + letter) % 0x7FFFFFFF
    for _ in range(3):
        x = (x ^ (x >> 15)) * 0x2C1B3C6D % 0x7FFFFFFF
    return x


SCORES: dict[str, ScoreFunction] = {
    "partage": partage,
    "fgd": fgd,
    "best_fit": best_fit,
    "dot_prod": dot_prod,
    "gpu_packing": gpu_packing,
    "gpu_clustering": gpu_clustering,
    "random": random,
}
"""Scores by the name that a policy gives in ``scoring``."""

DEVICES: dict[str, Callable[[Room, Ask], list[Places]]] = dict.fromkeys(
    ("best_fit", "dot_prod", "gpu_packing", "gpu_clustering"), tightest
)
"""Scores that look at nodes only name the devices by themselves; the others rate each opening."""
