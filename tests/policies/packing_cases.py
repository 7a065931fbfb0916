"""Small fleets and streams of tasks for tests of placement, as arrays and as nouns of ``policies.fleet.placement``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from policies.fleet.placement import Ask, Expected, Places, Room, Slot
from policies.model.units import DeviceId, FlavorId, NodeId
from policies.model.workload import Shape
from policies.packing.arrays import Fleet, Ints, Kinds, Typical

FLAVORS = (FlavorId("a"), FlavorId("b"), FlavorId("c"))
SIZES = ((3_000, 1, 810), (11_000, 1, 1000), (8_000, 1, 470), (4_000, 1, 320), (2_000, 1, 160), (24_000, 2, 1000),
         (48_000, 4, 1000), (12_000, 0, 0), (1_000, 1, 1000))  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One fleet, one expected mix, one stream of arrivals."""

    fleet: Fleet
    kinds: Kinds
    typical: Typical
    arrivals: Ints


def case(seed: int, nodes: int = 9, arrivals: int = 120) -> Case:
    """Return a case drawn with the seed."""
    draw = np.random.default_rng(seed)
    sizes = [(*size, int(draw.choice((7, 7, 7, 1, 2, 6))) if size[1] else 7) for size in SIZES]
    shares = [draw.random() + 0.05 for _ in sizes]
    return Case(
        fleet=_fleet(draw, nodes),
        kinds=Kinds(_column(sizes, 0), _full(sizes, 4_000), *(_column(sizes, i) for i in (1, 2, 3)), _full(sizes, 0)),
        typical=Typical(*(_column(sizes, i) for i in range(4)), np.array(shares) / sum(shares)),
        arrivals=draw.choice(len(sizes), size=arrivals, p=np.array(shares) / sum(shares)).astype(np.int64),
    )


def _column(sizes: list[tuple[int, ...]], index: int) -> Ints:
    return np.array([size[index] for size in sizes], np.int64)


def _full(sizes: list[tuple[int, ...]], value: int) -> Ints:
    return np.full(len(sizes), value, np.int64)


def _fleet(draw: np.random.Generator, nodes: int) -> Fleet:
    devices = np.array([draw.choice((1, 2, 4, 8)) for _ in range(nodes)], np.int64)
    left = (np.arange(8)[None, :] < devices[:, None]) * 1000
    return Fleet(
        cpu=np.array([int(count) * draw.choice((6_000, 12_000, 30_000)) for count in devices], np.int64),
        memory=np.array([int(count) * 16_000 for count in devices], np.int64),
        model=np.array([draw.integers(3) for _ in range(nodes)], np.int64),
        devices=devices,
        left=left.astype(np.int64),
        owner=np.full((nodes, 8), -1, np.int64),
        tags=np.zeros((nodes, 9), np.int64),
    )


def rooms_of(fleet: Fleet) -> list[Room]:
    """Return the fleet as rooms, in its order."""
    return [
        Room(
            node=NodeId(f"n{row}"), flavor=FLAVORS[fleet.model[row]], cpu_millis=int(fleet.cpu[row]),
            memory_mib=int(fleet.memory[row]),
            slots=tuple(
                Slot(device=DeviceId(f"n{row}-{one}"), millis=int(fleet.left[row, one]), memory_mib=80_000)
                for one in range(fleet.devices[row])
            ),
        )
        for row in range(len(fleet.cpu))
    ]  # fmt: skip


def shape_of(sizes: Kinds | Typical, index: int) -> Shape:
    """Return one kind of task as a shape."""
    flavors = tuple(flavor for bit, flavor in enumerate(FLAVORS) if int(sizes.models[index]) >> bit & 1)
    return Shape(
        flavors=() if len(flavors) == len(FLAVORS) else flavors, devices=int(sizes.devices[index]),
        gpu_millis=int(sizes.millis[index]), cpu_millis=int(sizes.cpu[index]),
        host_memory_mib=int(sizes.memory[index]) if isinstance(sizes, Kinds) else 0,
    )  # fmt: skip


def expected_of(typical: Typical) -> tuple[Expected, ...]:
    """Return the mix as values."""
    return tuple(Expected(shape_of(typical, m), float(typical.share[m])) for m in range(len(typical.cpu)))


def placed(room: Room, ask: Ask, places: Places) -> Room:
    """Return the room with the replica in it."""
    slots = tuple(
        replace(slot, millis=slot.millis - ask.shape.gpu_millis) if index in places else slot
        for index, slot in enumerate(room.slots)
    )
    kind = frozenset({0 if ask.is_part else ask.devices}) if ask.devices else frozenset()
    return replace(
        room, slots=slots, cpu_millis=room.cpu_millis - ask.shape.cpu_millis,
        memory_mib=room.memory_mib - ask.shape.host_memory_mib, running=room.running | kind,
    )  # fmt: skip
