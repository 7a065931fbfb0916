"""Which runs a benchmark consists of: files, scores and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.packing.bench import Result, measure, measure_moving, warm_up
from cluster.packing.refusals import NothingToRun, UnknownPolicy
from cluster.packing.trace import Arrivals, read_arrivals, read_hosts, read_tasks, setting
from policies.packing.engine import POLICIES

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where nodes, tasks and arrivals are read from."""

    nodes: Path
    tasks: Path
    inputs: Path
    trace: str | None = None
    """Trace in the inputs; None for the one that the name of the task file ends with, or the only one there is."""


def run(files: Files, policy: str, seed: int | None = None, moves: float | None = None) -> list[Result]:
    """Return one result per line of the inputs and score, in that order.

    With ``moves``, one more per line: the score partage, when so many percent of the running tasks may be migrated.

    Raises ``UnknownPolicy``, ``NothingToRun``, ``BadTrace``.
    """
    names = tuple(POLICIES) if policy == ALL else (policy,)
    if policy not in (*POLICIES, ALL):
        raise UnknownPolicy(policy, tuple(POLICIES))
    hosts, tasks = read_hosts(files.nodes), read_tasks(files.tasks)
    results = []
    for order in chosen(files, seed):
        one = setting(hosts, tasks, order)
        for name in names:
            warm_up(one, name)
            results.append(measure(one, order.trace, name, order.seed))
        if moves is not None:
            results.append(measure_moving(one, order.trace, order.seed, round(moves * 10)))
    return results


def ceilings(files: Files, seed: int | None = None) -> dict[int, float]:
    """Return by seed what no rule exceeds at 100 % asked for, even one that knew every task: percent of all GPUs."""
    from cluster.packing.clairvoyant import ceiling

    hosts, tasks = read_hosts(files.nodes), read_tasks(files.tasks)
    return {order.seed: round(ceiling(setting(hosts, tasks, order)), 2) for order in chosen(files, seed)}


def chosen(files: Files, seed: int | None) -> list[Arrivals]:
    """Return the lines of the inputs that belong to the tasks and the seed. Raises ``NothingToRun``."""
    every = read_arrivals(files.inputs)
    name = files.trace or _named(files.tasks, [one.trace for one in every])
    found = [one for one in every if one.trace == name and seed in (None, one.seed)]
    if not found:
        raise NothingToRun(files.inputs, name, seed)
    return found


def _named(tasks: Path, traces: list[str]) -> str:
    stem = tasks.name.split(".")[0]
    fitting = [trace for trace in traces if stem == trace or stem.endswith(f"_{trace}")]
    if fitting:
        return max(fitting, key=len)
    return traces[0] if len(set(traces)) == 1 else stem
