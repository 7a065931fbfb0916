"""What remaining capacity is worth to the tasks that are still expected: the value behind the score ``partage``.

Three questions, each answered from the expected mix of tasks alone:

* A device has some millis idle. A number of future tasks will be offered to it, one after the other, each drawn from
  the mix; each may be taken or left. What can be filled at best on average? This is the dynamic stochastic knapsack.
* A node has idle GPUs and free CPUs. The same game in two dimensions, compared with the game in which CPUs are free of
  charge, tells how many idle millis the CPUs will leave stranded.
* Some capacity is needed by tasks that cannot go elsewhere (one GPU model; several whole devices of one node). It earns
  a premium that grows with the square of expected demand over remaining room: scarce room is kept, plentiful room is
  free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from policies.packing.arrays import GPU_CELL, MICROS, WHOLE, Fleet, Ints, Kinds, Prices, Typical

MOST_OFFERS = 60
"""Tasks offered to one partly used device, about: how often a hole is passed over before it is filled."""
EASY, TIGHT = (0.85, 6.0), (1.0, 2.0)
"""CPU load of the fleet, and tasks offered per idle GPU at that load: with CPUs to spare, light tasks are awaited."""
LEAST_CPU_CELL = 500
CPU_CELLS = 260
"""Grid of the two-dimensional game; the last CPU column stands for CPUs without limit."""
PRIOR_PART = 10
"""The expected mix weighs as much as arrivals worth one tenth of the fleet; later arrivals outweigh it."""
MOST_PRESSURE = 1.5
"""Demand over room beyond which a premium grows no further: it cannot all be met anyway."""
SAFETY = 2.0
"""Standard deviations of multi-device demand that room is kept for: what little a small fleet expects may be more."""
UNSEEN = 1.0
"""Tasks that may want a largest node whole although none was ever seen: the rule of succession. It weighs nothing on a
large fleet, and keeps the last whole nodes of a small one."""
BLOCK_PREMIUM = 0.1
"""Premium of room for a multi-device task at pressure one, as part of its devices."""
MOST_BLOCKS = 16
"""Kinds of multi-device task looked at, by demand."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the expected mix alone says; does not change while a fleet fills."""

    typical: Typical
    holes: npt.NDArray[np.float64]
    """Offers by model by idle millis of one device: millis filled on average."""
    levels: npt.NDArray[np.float64]
    """Offers by idle GPU cells by free CPU cells: millis filled on average."""
    cpu_cell: int
    fleet_millis: int
    fleet_cpu: int


def outlook(typical: Typical, fleet: Fleet) -> Outlook:
    """Return what the mix says of an empty fleet. Cost: about a third of a second, once."""
    most_devices, most_cpu = int(fleet.devices.max(initial=0)), int(fleet.cpu.max(initial=0))
    seen = outlook_of(typical, int(fleet.model.max(initial=0)) + 1, most_devices, most_cpu, CPU_CELLS)
    return replace(seen, fleet_millis=int(fleet.devices.sum()) * WHOLE, fleet_cpu=int(fleet.cpu.sum()))


def outlook_of(typical: Typical, models: int, most_devices: int, most_cpu: int, cpu_cells: int) -> Outlook:
    """Return what the mix says of nodes of at most this size; the size of the fleet is 0, to be filled in.

    Cost: grows with the kinds in the mix and with ``cpu_cells``, the columns of the two-dimensional game.
    """
    cpu_cell = max(LEAST_CPU_CELL, -(-most_cpu // (cpu_cells - 2)))
    return Outlook(
        typical=typical,
        holes=hole_worth(typical, models),
        levels=_levels(typical, (most_devices * WHOLE // GPU_CELL + 1, cpu_cells), cpu_cell),
        cpu_cell=cpu_cell,
        fleet_millis=0,
        fleet_cpu=0,
    )


def hole_worth(typical: Typical, models: int) -> npt.NDArray[np.float64]:
    """Return the millis that one device fills on average, by number of offers, model and idle millis.

    Rises with offers and with idle millis; 0 for none. Only tasks that may run on the model count.
    """
    result = np.zeros((MOST_OFFERS + 1, models, WHOLE + 1))
    wanted = typical.devices > 0
    total = float(typical.share[wanted].sum()) or 1.0
    for model in range(models):
        able = wanted & ((typical.models >> model) & 1 == 1)
        sizes = np.unique(typical.millis[able])
        chances = [float(typical.share[able & (typical.millis == size)].sum()) / total for size in sizes]
        for offers in range(1, MOST_OFFERS + 1):
            before, now = result[offers - 1, model], result[offers, model]
            now[:] = before
            for size, chance in zip(sizes, chances, strict=True):
                now[size:] += chance * np.maximum(size + before[: WHOLE + 1 - size] - before[size:], 0.0)
    return result


def _levels(typical: Typical, cells: tuple[int, int], cpu_cell: int) -> npt.NDArray[np.float64]:
    """Return the millis that a node fills on average, by number of offers, idle GPU cells and free CPU cells."""
    single = typical.devices == 1
    total = typical.share[single].sum() or 1.0
    steps: dict[tuple[int, int, int], float] = {}
    for cpu, millis, share in zip(typical.cpu[single], typical.millis[single], typical.share[single], strict=True):
        size = (int(millis), (int(millis) + GPU_CELL // 2) // GPU_CELL, -(-int(cpu) // cpu_cell))
        steps[size] = steps.get(size, 0.0) + float(share) / float(total)
    gpu_cells, cpu_cells = cells
    result = np.zeros((MOST_OFFERS + 1, gpu_cells, cpu_cells))
    if not typical.cpu.any():
        return result  # no CPU is asked for, so none can leave anything stranded
    for offers in range(1, MOST_OFFERS + 1):
        before, now = result[offers - 1], result[offers]
        now[:] = before
        for (millis, gpu, cpu), chance in steps.items():
            if gpu < gpu_cells and cpu < cpu_cells - 1:
                taken = millis + before[: gpu_cells - gpu, : cpu_cells - 1 - cpu] - before[gpu:, cpu:-1]
                now[gpu:, cpu:-1] += chance * np.maximum(taken, 0.0)
            if gpu < gpu_cells:
                unlimited = millis + before[: gpu_cells - gpu, -1] - before[gpu:, -1]
                now[gpu:, -1] += chance * np.maximum(unlimited, 0.0)
    return result


def prices(seen: Outlook, fleet: Fleet, kinds: Kinds, counts: Ints) -> Prices:
    """Return what capacity is worth now, given the tasks that have arrived so far (``counts`` by kind).

    Known: the mix, the fleet as it stands, the past. Not known: what comes next, or how much of it.
    """
    idle = np.bincount(fleet.model, fleet.left.sum(axis=1), minlength=seen.holes.shape[1]).astype(np.float64)
    offers = _offers_left(seen, fleet, kinds, counts)
    return Prices(
        holes=np.rint(seen.holes[offers] * MICROS).astype(np.int64),
        stranded=_stranded(seen, _cpu_load(seen, kinds, counts), offers),
        blocks=_blocks(seen, fleet, _multiples(seen, fleet, kinds, counts), _still_to_come(seen, fleet, kinds, counts)),
        scarcity=_scarcity(_demand_by_models(seen, kinds, counts), idle),
        cpu_cell=seen.cpu_cell,
    )


def _prior(seen: Outlook) -> float:
    """Return how many typical tasks ask for one tenth of the fleet."""
    each = float((seen.typical.share * seen.typical.devices * seen.typical.millis).sum())
    return seen.fleet_millis / PRIOR_PART / each if each else 0.0


def _offers_left(seen: Outlook, fleet: Fleet, kinds: Kinds, counts: Ints) -> int:
    """Return how many tasks may still be offered to one device: no more than are still expected to come."""
    tasks = float(counts.sum()) + _prior(seen)
    return int(np.clip(np.ceil(tasks * _still_to_come(seen, fleet, kinds, counts)), 1, MOST_OFFERS))


def _cpu_load(seen: Outlook, kinds: Kinds, counts: Ints) -> float:
    """Return the part of the fleet's CPUs asked for by tasks that ask for all of its GPUs."""
    prior = _prior(seen) * seen.typical.share
    cpu = float((counts * kinds.cpu).sum() + (prior * seen.typical.cpu).sum())
    gpu = float(
        (counts * kinds.devices * kinds.millis).sum() + (prior * seen.typical.devices * seen.typical.millis).sum()
    )
    return cpu / gpu * seen.fleet_millis / seen.fleet_cpu if gpu and seen.fleet_cpu else 0.0


def _stranded(seen: Outlook, load: float, most: int) -> Ints:
    """Return the idle millis that the CPUs leave stranded, by GPU and CPU cells, in millionths of a GPU."""
    (easy, many), (tight, few) = EASY, TIGHT
    part = min(1.0, max(0.0, (load - easy) / (tight - easy)))
    per_gpu = many + (few - many) * part
    cells = np.arange(seen.levels.shape[1])
    offers = np.minimum(most, np.ceil(per_gpu * cells * GPU_CELL / WHOLE)).astype(np.int64)
    filled = seen.levels[offers, cells]
    stranded: Ints = np.rint((filled[:, -1:] - filled) * MICROS).astype(np.int64)
    return stranded


def _demand_by_models(seen: Outlook, kinds: Kinds, counts: Ints) -> dict[int, float]:
    """Return the millis asked for so far, prior included, by the set of models on which they may run."""
    demand: dict[int, float] = {}
    prior = _prior(seen) * seen.typical.share * seen.typical.devices * seen.typical.millis
    for models, millis in zip(seen.typical.models, prior, strict=True):
        demand[int(models)] = demand.get(int(models), 0.0) + float(millis)
    for models, millis in zip(kinds.models, counts * kinds.devices * kinds.millis, strict=True):
        demand[int(models)] = demand.get(int(models), 0.0) + float(millis)
    return demand


def _scarcity(demand: dict[int, float], idle: npt.NDArray[np.float64]) -> Ints:
    """Return the premium of one idle milli, by model: the square of expected pinned demand over idle capacity."""
    total_idle, total = float(idle.sum()), sum(demand.values())
    pinned = np.zeros(len(idle))
    for models, millis in demand.items():
        able = (models >> np.arange(len(idle))) & 1 == 1
        room = float(idle[able].sum())
        is_flexible = able.sum() > 1 and room >= total_idle / 2
        if room > 0 and not is_flexible:
            pinned[able] += millis * idle[able] / room
    pressure = pinned / max(total, 1.0) * total_idle / np.maximum(idle, 1.0)
    premium: Ints = np.rint(MICROS * np.minimum(MOST_PRESSURE, pressure) ** 2).astype(np.int64)
    return premium


def _multiples(seen: Outlook, fleet: Fleet, kinds: Kinds, counts: Ints) -> dict[tuple[int, int], float]:
    """Return the multi-device tasks asked for so far, prior included, by devices and CPU: those that ask for most.

    Those that want a whole node of the largest kind, with the mix's usual CPU, are among them even if none was seen.
    """
    number: dict[tuple[int, int], float] = {}
    prior = _prior(seen)
    for devices, cpu, share in zip(seen.typical.devices, seen.typical.cpu, seen.typical.share, strict=True):
        if devices > 1:
            number[int(devices), int(cpu)] = number.get((int(devices), int(cpu)), 0.0) + float(share) * prior
    for devices, cpu, count in zip(kinds.devices, kinds.cpu, counts, strict=True):
        if devices > 1 and count:
            number[int(devices), int(cpu)] = number.get((int(devices), int(cpu)), 0.0) + float(count)
    largest = sorted(number, key=lambda size: (-number[size] * size[0], size))[:MOST_BLOCKS]
    kept = {size: number[size] for size in largest}
    widest = int(fleet.devices.max(initial=0))
    if widest > 1:
        whole = widest, int(widest * WHOLE * _cpu_per_milli(seen))
        kept[whole] = kept.get(whole, 0.0) + UNSEEN
    return kept


def _cpu_per_milli(seen: Outlook) -> float:
    """Return the CPU millis that the expected mix asks for beside one GPU milli; CPU-only tasks are left out."""
    mix = seen.typical
    millis = float((mix.share * mix.devices * mix.millis).sum())
    return float((mix.share * mix.cpu)[mix.devices > 0].sum()) / millis if millis else 0.0


def _still_to_come(seen: Outlook, fleet: Fleet, kinds: Kinds, counts: Ints) -> float:
    """Return demand to come over demand so far, prior included, if demand ends when it equals the fleet."""
    asked = float((counts * kinds.devices * kinds.millis).sum()) + seen.fleet_millis / PRIOR_PART
    return float(fleet.left.sum()) / asked if asked else 0.0


def _blocks(seen: Outlook, fleet: Fleet, number: dict[tuple[int, int], float], to_come: float) -> Ints:
    """Return the premium of room for multi-device tasks, by fully free devices and CPU cells of a node."""
    free = (fleet.left == WHOLE).sum(axis=1)
    many = np.arange(int(fleet.devices.max(initial=0)) + 1)[:, None]
    cells = np.arange(seen.levels.shape[2])[None, :] * seen.cpu_cell
    result = np.zeros((len(many), seen.levels.shape[2]), np.int64)
    for (devices, cpu), count in number.items():
        room = np.minimum(free // devices, fleet.cpu // max(1, cpu)).sum()
        expected = count * to_come
        pressure = min(MOST_PRESSURE, (expected + SAFETY * expected**0.5) / max(1.0, float(room)))
        premium = round(BLOCK_PREMIUM * devices * WHOLE * MICROS * pressure**2)
        result += premium * np.minimum(many // devices, cells // max(1, cpu))
    return result
