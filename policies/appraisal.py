"""What capacity is worth in one decision: the mix is that of all claims, the demand to come follows from the fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from policies.admission import Ask
from policies.board import UNBOUNDED, Board
from policies.market import Market, Tables
from policies.model.units import WHOLE_GPU_MILLIS, FlavorId
from policies.model.workload import Shape
from policies.packing.arrays import Fleet, Kinds, Typical
from policies.packing.worth import Outlook, outlook_of, prices
from policies.placement import Expected

LEAST_SHARE = 362
"""Kinds below one part in so many of all replicas are left out of the mix: 256 times the root of two."""
MOST_KINDS = 64
CPU_CELLS = 66
"""Columns of the game in two dimensions; fewer than in the replay, since a mix may be new in every decision."""

Size = tuple[int, int, int, int]
"""CPU, devices, millis of each, and a bit per flavor: the order of ``Typical``."""
Mix = tuple[tuple[Size, int], ...]


def appraise(board: Board, wishes: Iterable[Ask]) -> Market:
    """Return what the scores may know: every claim counts with the replicas that it wants, waiting ones as well.

    Cost: a look at each claim and each device; when the mix has changed, up to a third of a second more.
    """
    flavors = tuple(sorted(board.hosts_of))
    counts = _counts(wishes, flavors)
    mix = _rounded(counts)
    fleet = _fleet(board, flavors)
    seen = _outlook(mix, len(flavors), int(fleet.devices.max(initial=0)), int(fleet.cpu.max(initial=0)))
    here = Outlook(
        typical=seen.typical, holes=seen.holes, levels=seen.levels, cpu_cell=seen.cpu_cell,
        fleet_millis=int(fleet.devices.sum()) * WHOLE_GPU_MILLIS, fleet_cpu=_whole_cpu(board),
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


def _counts(wishes: Iterable[Ask], flavors: tuple[FlavorId, ...]) -> dict[Size, int]:
    """Return the replicas wanted by size; what fits no flavor of the fleet is left out. Sorted by size."""
    by_shape: Counter[tuple[int, int, int, tuple[FlavorId, ...]]] = Counter()
    for wish in wishes:
        if wish.wanted and wish.options:
            shape = wish.claim.ladder[wish.options[0].rung]
            by_shape[shape.cpu_millis, shape.devices, shape.gpu_millis, shape.flavors] += wish.wanted
    found: dict[Size, int] = {}
    for (cpu, devices, millis, accepted), count in by_shape.items():
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


def _fleet(board: Board, flavors: tuple[FlavorId, ...]) -> Fleet:
    """Return what is left of each flavor on each host that takes new work."""
    rooms = [(index, node, devices) for index, flavor in enumerate(flavors)
             for node, devices in board.hosts_of[flavor].items()]  # fmt: skip
    width = max((len(devices) for _, _, devices in rooms), default=0)
    left = np.zeros((len(rooms), width), np.int64)
    for row, (_, _, devices) in enumerate(rooms):
        left[row, : len(devices)] = [max(0, board.free_millis[one]) for one in devices]
    return Fleet(
        cpu=_column([_known(board.node_cpu[node]) for _, node, _ in rooms]),
        memory=np.zeros(len(rooms), np.int64),
        model=_column([index for index, _, _ in rooms]),
        devices=_column([len(devices) for _, _, devices in rooms]),
        left=left, owner=np.zeros((0, 0), np.int64), tags=np.zeros((0, 0), np.int64),
    )  # fmt: skip


def _column(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def _known(cpu_millis: int) -> int:
    """Return free CPU as a figure to plan with: none where the host was not seen, or is overfull."""
    return 0 if cpu_millis >= UNBOUNDED // 2 else max(0, cpu_millis)


def _whole_cpu(board: Board) -> int:
    return sum(board.survey.nodes[node].cpu_millis for node in board.on_node if node in board.survey.nodes)
