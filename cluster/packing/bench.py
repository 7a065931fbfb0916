"""Replays arrivals with a placement score and measures what the FGD paper measures (Weng et al., USENIX ATC'23)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import process_time
from typing import Any

import numpy as np

from cluster.packing.trace import Setting
from policies.packing.arrays import WHOLE, Floats, Game, Ints
from policies.packing.engine import fragments, place_all
from policies.packing.moves import place_with_moves

REPORTED = (80, 90, 100, 130)
"""Percent of the fleet's GPU capacity that has been asked for, failed tasks included."""
LAST_PERCENT = 130
TIE_RULE = "highest score; ties to the node of smallest rank in the inputs, then to the lowest device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """By whole percent of capacity asked for, 0 to 130; NaN where nothing was measured."""

    alloc_pct: Floats
    frag_pct_of_total: Floats
    frag_pct_of_idle: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One trace, score and seed."""

    trace: str
    policy: str
    seed: int
    alloc_pct_at: dict[str, float | None]
    frag_pct_of_total_at: dict[str, float | None]
    frag_pct_of_idle_at: dict[str, float | None]
    arrivals: int
    failed_tasks: int
    failed_tasks_at_100: int
    """Failed before as much was asked for as the fleet has."""
    moved_tasks: int
    """Migrations."""
    seconds: float
    """CPU seconds of this thread for all decisions, preparation of the score included."""
    decisions_per_s: float
    curves: Curves

    def as_json(self) -> dict[str, Any]:
        """Return everything but the curves."""
        return {name: value for name, value in asdict(self).items() if name != "curves"}


def warm_up(one: Setting, policy: str) -> None:
    """Have the machine code ready, so that what follows measures decisions."""
    few = one.arrivals[:2]
    fragments(one.fleet, place_all(one.fleet, one.kinds, one.typical, few, policy))


def measure(one: Setting, trace: str, policy: str, seed: int) -> Result:
    """Replay one setting and return what was measured."""
    begun = process_time()
    game = place_all(one.fleet, one.kinds, one.typical, one.arrivals, policy, seed=seed)
    seconds = process_time() - begun
    return result_of(one, game, (trace, policy, seed), seconds)


def measure_moving(one: Setting, trace: str, seed: int, per_mille: int) -> Result:
    """Replay one setting with migrations; fragments are not measured, since a replay of the end is not the history."""
    begun = process_time()
    state = place_with_moves(one.fleet, one.kinds, one.typical, one.arrivals, per_mille)
    seconds = process_time() - begun
    name = f"partage, {per_mille / 10:g} % moved"
    return result_of(one, state.game, (trace, name, seed), seconds, moved=len(state.moved))


def result_of(one: Setting, game: Game, name: tuple[str, str, int], seconds: float, moved: int | None = None) -> Result:
    """Return what a finished game amounts to; ``moved`` counts migrated tasks, None where there is no migration."""
    capacity = int(one.fleet.devices.sum()) * WHOLE
    asked = (one.kinds.devices * one.kinds.millis)[one.arrivals]
    fragment = fragments(one.fleet, game) if moved is None else np.full(len(asked), np.nan)
    curves = curves_of(np.cumsum(asked), np.cumsum(asked * (game.nodes >= 0)), fragment, capacity)
    failed = game.nodes < 0
    trace, policy, seed = name
    return Result(
        trace=trace,
        policy=policy,
        seed=seed,
        alloc_pct_at=_at(curves.alloc_pct),
        frag_pct_of_total_at=_at(curves.frag_pct_of_total),
        frag_pct_of_idle_at=_at(curves.frag_pct_of_idle),
        arrivals=len(one.arrivals),
        failed_tasks=int(failed.sum()),
        failed_tasks_at_100=int(failed[np.cumsum(asked) <= capacity].sum()),
        moved_tasks=moved or 0,
        seconds=round(seconds, 4),
        decisions_per_s=round(len(one.arrivals) / seconds, 1) if seconds else 0.0,
        curves=curves,
    )


def curves_of(arrived: Ints, used: Ints, fragment: Floats, capacity: int) -> Curves:
    """Return the paper's curves: each event rounded to two decimals, then the mean of each bucket of one percent.

    A bucket without events takes those of its two neighbours. Rounding is half to even throughout.
    """
    bucket = np.rint(arrived / (capacity / 100)).astype(np.int64)
    alloc = np.rint(used / capacity * 10_000) / 100
    of_total = np.rint(fragment / capacity * 10_000) / 100
    idle = np.maximum(capacity - used, 1)
    of_idle = np.rint(fragment / idle * 10_000) / 100
    return Curves(
        alloc_pct=_means(bucket, alloc),
        frag_pct_of_total=_means(bucket, of_total),
        frag_pct_of_idle=_means(bucket, of_idle),
    )


def _means(bucket: Ints, values: Floats) -> Floats:
    inside = (bucket >= 0) & (bucket <= LAST_PERCENT)
    count = np.bincount(bucket[inside], minlength=LAST_PERCENT + 1).astype(np.float64)
    total = np.bincount(bucket[inside], weights=values[inside], minlength=LAST_PERCENT + 1)
    around = np.convolve(count, (1, 1, 1), "same"), np.convolve(total, (1, 1, 1), "same")
    count, total = np.where(count > 0, count, around[0]), np.where(count > 0, total, around[1])
    result: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return result


def _at(curve: Floats) -> dict[str, float | None]:
    return {str(percent): None if np.isnan(curve[percent]) else round(float(curve[percent]), 2) for percent in REPORTED}
