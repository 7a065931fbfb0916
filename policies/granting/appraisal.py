"""What capacity is worth in one decision: the mix is that of all claims, the demand to come follows from the fleet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from policies.fleet.board import UNBOUNDED, Board, Watch
from policies.fleet.market import Market, Tables
from policies.fleet.placement import Expected
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, NodeId
from policies.model.workload import Shape
from policies.packing.arrays import Fleet, Kinds, Typical
from policies.packing.worth import Outlook, outlook_of, prices
from policies.wishes.admission import Ask

LEAST_SHARE = 362
"""Kinds below one part in so many of all replicas are left out of the mix: 256 times the root of two."""
MOST_KINDS = 64
CPU_CELLS = 66
"""Columns of the game in two dimensions; fewer than in the replay, since a mix may be new in every decision."""

Size = tuple[int, int, int, int]
"""CPU, devices, millis of each, and a bit per flavor: the order of ``Typical``."""
Want = tuple[int, int, int, tuple[FlavorId, ...]]
"""CPU, devices, millis of each, and the flavors that will do."""
Mix = tuple[tuple[Size, int], ...]


@dataclass(slots=True)
class Appraiser:
    """Says what capacity of one board is worth, time and again, while claims come and go and the fleet stays."""

    wishes: Iterable[Ask]
    """Of every claim, until they are counted."""
    _wanted: dict[Want, int] | None = None
    """Replicas wanted; found when first asked for, then kept up to date."""
    _rooms: Rooms | None = None

    def add(self, wish: Ask, sign: int) -> None:
        """Let the claim count from now on (+1), or no longer (-1)."""
        _add(self._counted(), wish, sign)

    def __call__(self, board: Board) -> Market:
        """Return what the scores may know: every claim counts with the replicas that it wants, waiting ones as well.

        Cost: the first time a look at each device and claim, then at the devices of the hosts that changed; when the
        mix has changed, up to a third of a second more.
        """
        if self._rooms is None:
            self._rooms = _rooms_of(board)
        return _appraised(board, self._counted(), self._rooms)

    def _counted(self) -> dict[Want, int]:
        if self._wanted is None:
            self._wanted = {}
            for wish in self.wishes:
                _add(self._wanted, wish, 1)
            self.wishes = ()
        return self._wanted


def _appraised(board: Board, wanted: Mapping[Want, int], rooms: Rooms) -> Market:
    flavors = rooms.flavors
    counts = _counts(wanted, flavors)
    mix = _rounded(counts)
    fleet = _fleet(board, rooms)
    seen = _outlook(mix, len(flavors), int(fleet.devices.max(initial=0)), int(fleet.cpu.max(initial=0)))
    here = Outlook(
        typical=seen.typical, holes=seen.holes, levels=seen.levels, cpu_cell=seen.cpu_cell,
        fleet_millis=int(fleet.devices.sum()) * WHOLE_GPU_MILLIS, fleet_cpu=rooms.whole_cpu,
    )  # fmt: skip
    sizes = list(counts)
    now = prices(here, fleet, _kinds(sizes), np.array([counts[size] for size in sizes], np.int64))
    return Market(
        expected=_expected(mix, flavors),
        tables=Tables(
            holes={flavor: now.holes[index].tolist() for index, flavor in enumerate(flavors)},
            scarcity={flavor: int(now.scarcity[index]) for index, flavor in enumerate(flavors)},
            stranded=now.stranded.tolist(), blocks=now.blocks.tolist(), cpu_cell=now.cpu_cell,
        ),
    )  # fmt: skip


def _add(wanted: dict[Want, int], wish: Ask, sign: int) -> None:
    """Count the replicas that the claim wants; what is wanted no more is left out."""
    if wish.wanted and wish.options:
        shape = wish.claim.ladder[wish.options[0].rung]
        want = shape.cpu_millis, shape.devices, shape.gpu_millis, shape.flavors
        count = wanted.get(want, 0) + sign * wish.wanted
        if count:
            wanted[want] = count
        else:
            del wanted[want]


def _counts(wanted: Mapping[Want, int], flavors: tuple[FlavorId, ...]) -> dict[Size, int]:
    """Return the replicas wanted by size; what fits no flavor of the fleet is left out. Sorted by size."""
    found: dict[Size, int] = {}
    for (cpu, devices, millis, accepted), count in wanted.items():
        mask = sum(1 << bit for bit, flavor in enumerate(flavors) if not accepted or flavor in accepted)
        if mask:
            size = cpu, devices, millis, mask
            found[size] = found.get(size, 0) + count
    return dict(sorted(found.items()))


def _rounded(counts: dict[Size, int]) -> Mix:
    """Return the mix with every share rounded to a power of two, the commonest kind first.

    A claim more or less seldom changes it. What is too rare is left out, but never all of it.
    """
    total = sum(counts.values())
    steps = ((size, (1 << (count * LEAST_SHARE // total).bit_length()) // 2) for size, count in counts.items())
    kept = sorted(((size, step) for size, step in steps if step), key=lambda one: (-one[1], one[0]))
    return tuple(kept[:MOST_KINDS]) or tuple((size, 1) for size in counts)[:MOST_KINDS]


@lru_cache(maxsize=4)
def _outlook(mix: Mix, flavors: int, most_devices: int, most_cpu: int) -> Outlook:
    return outlook_of(_typical(mix), flavors, most_devices, most_cpu, CPU_CELLS)


def _typical(mix: Mix) -> Typical:
    cpu, devices, millis, models = np.array([size for size, _ in mix], np.int64).reshape(len(mix), 4).T.copy()
    share = np.array([step for _, step in mix], np.float64)
    return Typical(cpu=cpu, devices=devices, millis=millis, models=models, share=share / max(1.0, float(share.sum())))


def _expected(mix: Mix, flavors: tuple[FlavorId, ...]) -> tuple[Expected, ...]:
    total = sum(step for _, step in mix)
    return tuple(
        Expected(
            Shape(
                flavors=tuple(flavor for bit, flavor in enumerate(flavors) if mask >> bit & 1), devices=devices,
                gpu_millis=millis, cpu_millis=cpu,
            ),
            step / total,
        )
        for (cpu, devices, millis, mask), step in mix
    )  # fmt: skip


def _kinds(sizes: Sequence[Size]) -> Kinds:
    cpu, devices, millis, models = np.array(sizes, np.int64).reshape(len(sizes), 4).T.copy()
    nothing = np.zeros(len(sizes), np.int64)
    return Kinds(cpu=cpu, memory=nothing, devices=devices, millis=millis, models=models, domain=nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Where the devices are that take new work: what of a board's fleet stays while replicas come and go."""

    flavors: tuple[FlavorId, ...]
    nodes: list[NodeId]
    """The host of each row: one row for each flavor that it has."""
    devices: list[DeviceId]
    """By row."""
    rows: npt.NDArray[np.int64]
    """Of each device."""
    columns: npt.NDArray[np.int64]
    model: npt.NDArray[np.int64]
    """Index of each row's flavor."""
    sizes: npt.NDArray[np.int64]
    """Devices in each row."""
    whole_cpu: int
    left: npt.NDArray[np.int64]
    """Idle millis by row and column, as they were when last looked at."""
    cpu: npt.NDArray[np.int64]
    """Free CPU millis by row, likewise."""
    places: dict[NodeId, list[int]]
    """Of each host, where its devices stand in ``devices``."""
    watch: Watch


def _rooms_of(board: Board) -> Rooms:
    flavors = tuple(sorted(board.hosts_of))
    rooms = [(index, node, devices) for index, flavor in enumerate(flavors)
             for node, devices in board.hosts_of[flavor].items()]  # fmt: skip
    sizes = _column([len(devices) for _, _, devices in rooms])
    places: dict[NodeId, list[int]] = {}
    for place, node in enumerate(node for _, node, devices in rooms for _ in devices):
        places.setdefault(node, []).append(place)
    made = Rooms(
        flavors=flavors, nodes=[node for _, node, _ in rooms],
        devices=[one for _, _, devices in rooms for one in devices],
        rows=np.repeat(np.arange(len(rooms)), sizes),
        columns=_column([column for _, _, devices in rooms for column in range(len(devices))]),
        model=_column([index for index, _, _ in rooms]), sizes=sizes, whole_cpu=_whole_cpu(board),
        left=np.zeros((len(rooms), int(sizes.max(initial=0))), np.int64), cpu=np.zeros(len(rooms), np.int64),
        places=places, watch=board.watch(),
    )  # fmt: skip
    _look(board, made, range(len(made.devices)))
    return made


def _look(board: Board, rooms: Rooms, places: Sequence[int]) -> None:
    """Bring what is left on these devices, and on their hosts, up to date."""
    here = _column(places)
    rows = rooms.rows[here]
    free = np.fromiter((board.free_millis[rooms.devices[one]] for one in places), np.int64, len(places))
    rooms.left[rows, rooms.columns[here]] = np.maximum(free, 0)
    touched = np.unique(rows)
    rooms.cpu[touched] = np.fromiter((board.node_cpu[rooms.nodes[row]] for row in touched), np.int64, len(touched))


def _fleet(board: Board, rooms: Rooms) -> Fleet:
    """Return what is left of each flavor on each host that takes new work."""
    _look(board, rooms, [place for node in board.changed(rooms.watch) for place in rooms.places.get(node, ())])
    return Fleet(
        cpu=_known(rooms.cpu), memory=np.zeros(len(rooms.nodes), np.int64), model=rooms.model, devices=rooms.sizes,
        left=rooms.left, owner=np.zeros((0, 0), np.int64), tags=np.zeros((0, 0), np.int64),
    )  # fmt: skip


def _column(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def _known(cpu_millis: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return free CPU as a figure to plan with: none where the host was not seen, or is overfull."""
    return np.where(cpu_millis >= UNBOUNDED // 2, 0, np.maximum(cpu_millis, 0))


def _whole_cpu(board: Board) -> int:
    return sum(board.survey.nodes[node].cpu_millis for node in board.on_node if node in board.survey.nodes)
