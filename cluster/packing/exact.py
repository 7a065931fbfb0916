"""The most that a small fleet can hold of a given set of tasks, by integer programming (HiGHS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.packing.trace import Setting
from policies.packing.arrays import WHOLE, Ints

LIMIT_S = 30.0
"""Seconds after which the best bound so far is taken: it is valid, if not tight."""


@dataclass(frozen=True, slots=True)
class Bound:
    """No placement, not even one that knows the future, allocates more than ``at_most_millis``."""

    at_most_millis: int
    found_millis: int
    """Allocated by the best placement that the solver found."""
    is_exact: bool


def bound(one: Setting, limit_s: float = LIMIT_S) -> Bound:
    """Return what the fleet can hold at most of the arrivals, in any order, refusing whichever it likes.

    Exact for small fleets (about ten nodes); beyond, the bound is valid but may be loose. Cost: up to ``limit_s``.
    """
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]  # the package has no types
    solver.setOptionValue("output_flag", False)  # noqa: FBT003  # the solver's own way of setting an option
    solver.setOptionValue("time_limit", limit_s)
    solver.setOptionValue("threads", 1)
    counts = np.bincount(one.arrivals, minlength=len(one.kinds.cpu))
    placed, value = _placements(solver, one, counts)
    for kind, terms in placed.items():
        solver.addConstr(solver.qsum(terms) <= int(counts[kind]))
    solver.maximize(solver.qsum(value))
    info = solver.getInfo()
    best = min(float(info.mip_dual_bound), float(one.fleet.left.sum()))
    found = max(0.0, float(info.objective_function_value))
    return Bound(int(best + 1e-6), int(found + 0.5), is_exact=abs(best - found) < 1)


def _placements(solver: Any, one: Setting, counts: Ints) -> tuple[dict[int, list[Any]], list[Any]]:
    """Add the variables and the limits of every node; return the variables by kind, and the millis that they bring."""
    placed: dict[int, list[Any]] = {int(kind): [] for kind in np.flatnonzero(counts)}
    value: list[Any] = []
    for node in range(len(one.fleet.cpu)):
        shared = [solver.addBinary() for _ in range(int(one.fleet.devices[node]))]
        on_slot: list[list[Any]] = [[] for _ in shared]
        whole, cpu, memory = list(shared), [], []
        for kind, numbers in placed.items():
            for slot in _slots(one, node, kind):
                number = solver.addIntegral(0, int(counts[kind]))
                numbers.append(number)
                cpu.append(int(one.kinds.cpu[kind]) * number)
                memory.append(int(one.kinds.memory[kind]) * number)
                value.append(int(one.kinds.devices[kind] * one.kinds.millis[kind]) * number)
                if slot is not None:
                    on_slot[slot].append(int(one.kinds.millis[kind]) * number)
                elif one.kinds.devices[kind]:
                    whole.append(int(one.kinds.devices[kind]) * number)
        solver.addConstr(solver.qsum(cpu) <= int(one.fleet.cpu[node]))
        solver.addConstr(solver.qsum(memory) <= int(one.fleet.memory[node]))
        solver.addConstr(solver.qsum(whole) <= len(shared))
        for is_shared, load in zip(shared, on_slot, strict=True):
            solver.addConstr(solver.qsum(load) <= WHOLE * is_shared)
    return placed, value


def _slots(one: Setting, node: int, kind: int) -> list[int | None]:
    """Return the slots on which the kind may share, ``None`` standing for whole devices or none."""
    devices = int(one.kinds.devices[kind])
    if devices == 0:
        return [None]
    if not int(one.kinds.models[kind]) >> int(one.fleet.model[node]) & 1:
        return []
    return [None] if one.kinds.millis[kind] == WHOLE else list(range(int(one.fleet.devices[node])))


def small_settings(one: Setting, nodes: int, percent: int, number: int) -> list[Setting]:
    """Return ``number`` small fleets cut from a large one, each with consecutive arrivals worth ``percent`` of it.

    Every ``len // nodes``-th node is taken, so that small fleets are made like the large one.
    """
    stride = max(1, len(one.fleet.cpu) // nodes)
    asked = one.kinds.devices * one.kinds.millis
    result = []
    for offset in range(number):
        rows = np.arange(nodes) * stride + offset
        fleet = one.fleet._replace(**{name: getattr(one.fleet, name)[rows].copy() for name in one.fleet._fields})
        start = offset * len(one.arrivals) // number
        stream = np.roll(one.arrivals, -start)
        enough = int(np.searchsorted(np.cumsum(asked[stream]), fleet.left.sum() * percent // 100)) + 1
        result.append(
            Setting(fleet, one.kinds, one.typical, stream[:enough].copy(), tuple(one.hosts[row] for row in rows))
        )
    return result
