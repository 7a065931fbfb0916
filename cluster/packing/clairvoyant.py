"""What no rule can exceed on a large fleet, even one that knew every task: a linear program over GPU patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.packing.trace import Setting
from policies.packing.arrays import WHOLE

MOST_ROUNDS = 100
"""Rounds of column generation; the trace of 2023 needs about twenty."""
TOLERANCE = 1e-7

Pattern = tuple[int, ...]
"""Sizes in millis that share one GPU."""


@dataclass(slots=True)
class _Program:
    """The program before it is solved: who arrives until as much is asked for as the fleet has."""

    counts: list[int]
    kinds: list[int]
    setting: Setting
    patterns: list[tuple[int, Pattern]]
    """Model, and what shares one of its GPUs."""


def ceiling(one: Setting) -> float:
    """Return the part of the fleet's GPUs (%) that no placement exceeds when as much is asked for as there is.

    Tasks may be refused and split; the CPUs of a model's nodes count as one. Hence a bound, not something that can be
    had. Cost: seconds.
    """
    size = one.kinds.devices * one.kinds.millis
    whole = int(one.fleet.devices.sum()) * WHOLE
    until = int(np.searchsorted(np.cumsum(size[one.arrivals]), whole)) + 1
    counts = np.bincount(one.arrivals[:until], minlength=len(size))
    kinds = [int(kind) for kind in np.flatnonzero((counts > 0) & (size > 0))]
    models = range(int(one.fleet.model.max(initial=0)) + 1)
    shares = sorted({int(one.kinds.millis[kind]) for kind in kinds if one.kinds.millis[kind] < WHOLE})
    program = _Program(
        [int(count) for count in counts], kinds, one, [(m, (s,) * (WHOLE // s)) for m in models for s in shares]
    )
    for _ in range(MOST_ROUNDS):
        value, worth, price = _solved(program, shares, len(models))
        new = [(m, pattern) for m in models if (pattern := _better(shares, worth[m], price[m]))]
        if not new:
            return 100 * value / whole
        program.patterns += new
    return 100.0  # not finished: nothing is claimed


@dataclass(slots=True)
class _Terms:
    """What each limit sums up, by model."""

    places: list[list[list[Any]]]
    """By shared size: replicas of that size, less the places that the patterns give."""
    gpus: list[list[Any]]
    cpus: list[list[Any]]
    placed: list[list[Any]]
    """By kind of task."""
    value: list[Any]


def _solved(program: _Program, shares: list[int], models: int) -> tuple[float, list[list[float]], list[float]]:
    """Return the value, the worth of one place of each size on each model, and the price of one GPU of each model."""
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]  # the package has no types
    solver.setOptionValue("output_flag", False)  # noqa: FBT003  # the solver's own way of setting an option
    terms = _Terms(
        [[[] for _ in shares] for _ in range(models)], [[] for _ in range(models)], [[] for _ in range(models)], [], []
    )
    for kind in program.kinds:
        _add_kind(solver, program, terms, kind, shares)
    for model, pattern in program.patterns:
        used = solver.addVariable(0, int(program.setting.fleet.devices.sum()))
        terms.gpus[model].append(used)
        for share in set(pattern):
            terms.places[model][shares.index(share)].append(-pattern.count(share) * used)
    rows = _limits(solver, program, terms)
    solver.maximize(solver.qsum(terms.value))
    dual = [abs(float(found)) for found in solver.getSolution().row_dual]

    def price(name: str, model: int, index: int = 0) -> float:
        row = rows.get((name, model, index))
        return 0.0 if row is None else dual[row]

    worth = [[price("place", model, index) for index in range(len(shares))] for model in range(models)]
    value = float(solver.getInfo().objective_function_value)
    return value, worth, [price("gpu", model) for model in range(models)]


def _add_kind(solver: Any, program: _Program, terms: _Terms, kind: int, shares: list[int]) -> None:
    kinds = program.setting.kinds
    devices, millis = int(kinds.devices[kind]), int(kinds.millis[kind])
    everywhere = []
    for model in range(len(terms.gpus)):
        if not int(kinds.models[kind]) >> model & 1:
            continue
        number = solver.addVariable(0, program.counts[kind])
        everywhere.append(number)
        terms.value.append(devices * millis * number)
        terms.cpus[model].append(int(kinds.cpu[kind]) * number)
        if millis < WHOLE:
            terms.places[model][shares.index(millis)].append(number)
        else:
            terms.gpus[model].append(devices * number)
    if everywhere:
        terms.placed.append([program.counts[kind], *everywhere])


def _limits(solver: Any, program: _Program, terms: _Terms) -> dict[tuple[str, int, int], int]:
    """Add every limit and return the number of its row."""
    fleet = program.setting.fleet
    found: list[tuple[str, int, int, list[Any], int]] = []
    for model, sizes in enumerate(terms.places):
        is_it = fleet.model == model
        found.append(("gpu", model, 0, terms.gpus[model], int(fleet.devices[is_it].sum())))
        found.append(("cpu", model, 0, terms.cpus[model], int(fleet.cpu[is_it].sum())))
        found += [("place", model, index, some, 0) for index, some in enumerate(sizes)]
    found += [("task", 0, index, some, count) for index, (count, *some) in enumerate(terms.placed)]
    kept = [one for one in found if one[3]]
    for *_, some, most in kept:
        solver.addConstr(solver.qsum(some) <= most)
    return {(name, model, index): row for row, (name, model, index, *_) in enumerate(kept)}


def _better(shares: list[int], worth: list[float], price: float) -> Pattern | None:
    """Return the sizes that together are worth most on one GPU, if that is more than a GPU costs; None if not."""
    best: list[tuple[float, Pattern]] = [(0.0, ())] * (WHOLE + 1)
    for room in range(1, WHOLE + 1):
        best[room] = best[room - 1]
        for share, gain in zip(shares, worth, strict=True):
            if share <= room and best[room - share][0] + gain > best[room][0] + TOLERANCE:
                best[room] = best[room - share][0] + gain, (*best[room - share][1], share)
    value, pattern = best[WHOLE]
    return pattern if value > price + 1e-4 else None
