"""Reads a published trace: nodes, tasks, and the order in which the tasks arrive."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.packing.refusals import BadTrace
from policies.packing.arrays import WHOLE, Fleet, Ints, Kinds, Typical

TYPICAL_PERCENT = 95
"""The expected mix is cut when it covers this part of the tasks (Weng et al., ATC'23)."""
TAGS = 9
MOST_ROWS = 1_000_000
"""Rows of one file: a month of a large cloud is below it, a wrong file usually is not."""
MOST_MODELS = 62
"""GPU models: one bit each in a machine word."""


@dataclass(frozen=True, slots=True)
class Host:
    """One row of the node file."""

    name: str
    cpu_millis: int
    memory_mib: int
    devices: int
    model: str


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """What a task asks for. Tasks of one size are one kind."""

    cpu_millis: int
    memory_mib: int
    devices: int
    gpu_millis: int
    """Of each device; 0 without devices."""
    models: str
    """Models on which it may run, as ``A|B``; empty for any."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One line of the inputs: who arrives when, and the rank of each node on ties."""

    trace: str
    seed: int
    rows: tuple[int, ...]
    """Row numbers of the task file, in order of arrival."""
    rank: tuple[int, ...]
    """By row of the node file; the smallest wins a tie."""


@dataclass(frozen=True, slots=True)
class Setting:
    """All that one run needs, as arrays; the fleet is in order of rank."""

    fleet: Fleet
    kinds: Kinds
    typical: Typical
    arrivals: Ints
    hosts: tuple[int, ...]
    """By row of the fleet: row of the node file."""


def read_hosts(path: Path) -> list[Host]:
    """Return the nodes of a CSV with columns sn, cpu_milli, memory_mib, gpu, model. Raises ``BadTrace``."""
    columns = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
    return [_host(path, row) for row in _rows(path, columns)]


def _host(path: Path, row: dict[str, str]) -> Host:
    cpu, memory, devices = (_number(path, row, column) for column in ("cpu_milli", "memory_mib", "gpu"))
    return Host(row["sn"], cpu, memory, devices, row["model"])


def read_tasks(path: Path) -> list[Size]:
    """Return the tasks of a CSV with columns cpu_milli, memory_mib, num_gpu, gpu_milli and perhaps gpu_spec.

    Other columns are not looked at. Raises ``BadTrace``.
    """
    columns = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
    return [_size(path, row) for row in _rows(path, columns)]


def _size(path: Path, row: dict[str, str]) -> Size:
    devices, millis = _number(path, row, "num_gpu"), _number(path, row, "gpu_milli")
    if (devices and not 0 < millis <= WHOLE) or (devices > 1 and millis != WHOLE):
        raise BadTrace(
            path, f"a task asks for {devices} devices with {millis} millis each; shares are of one device only"
        )
    cpu, memory = _number(path, row, "cpu_milli"), _number(path, row, "memory_mib")
    return Size(cpu, memory, devices, millis if devices else 0, (row.get("gpu_spec") or "") if devices else "")


def read_arrivals(path: Path) -> list[Arrivals]:
    """Return the lines of a JSONL file: trace, seed, arrival_rows, node_rank. Raises ``BadTrace``."""
    found = []
    for number, line in enumerate(_lines(path), 1):
        try:
            one = json.loads(line)
            found.append(_arrivals(one))
        except (ValueError, KeyError, TypeError) as error:
            raise BadTrace(path, f"line {number} is not an input of the benchmark ({error!r})") from error
    return found


def _arrivals(one: dict[str, Any]) -> Arrivals:
    rows, rank = tuple(map(int, one["arrival_rows"])), tuple(map(int, one["node_rank"]))
    return Arrivals(trace=str(one["trace"]), seed=int(one["seed"]), rows=rows, rank=rank)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(_lines(path))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise BadTrace(path, f"has no column {', '.join(missing)}")
    for number, row in enumerate(reader):
        if number >= MOST_ROWS:
            raise BadTrace(path, f"has more than {MOST_ROWS} rows")
        yield row


def _lines(path: Path) -> Iterator[str]:
    openers = {".gz": gzip.open, ".xz": lzma.open}
    opener: Any = openers.get(path.suffix, open)
    with opener(path, "rt", encoding="utf-8") as stream:
        yield from stream


def _number(path: Path, row: dict[str, str], column: str) -> int:
    try:
        value = int(row[column])
    except (TypeError, ValueError) as error:
        raise BadTrace(path, f"{column} is {row[column]!r}, not a whole number") from error
    if value < 0:
        raise BadTrace(path, f"{column} is {value}, below zero")
    return value


def setting(hosts: Sequence[Host], tasks: Sequence[Size], order: Arrivals, times: int = 1) -> Setting:
    """Return one run as arrays, with node list and arrivals repeated ``times`` over. Raises ``BadTrace``."""
    _require_consistent(hosts, tasks, order)
    models = _models(hosts)
    sizes = {size: kind for kind, size in enumerate(dict.fromkeys(tasks[row] for row in order.rows))}
    rows = sorted(range(len(hosts)), key=order.rank.__getitem__) * times
    return Setting(
        fleet=_fleet([hosts[row] for row in rows], models),
        kinds=_kinds(list(sizes), models),
        typical=typical(tasks, models),
        arrivals=np.array([sizes[tasks[row]] for row in order.rows] * times, np.int64),
        hosts=tuple(rows),
    )


def _require_consistent(hosts: Sequence[Host], tasks: Sequence[Size], order: Arrivals) -> None:
    if sorted(order.rank) != list(range(len(hosts))):
        raise BadTrace(Path(order.trace), f"seed {order.seed} does not rank each of the {len(hosts)} nodes once")
    if order.rows and not 0 <= min(order.rows) <= max(order.rows) < len(tasks):
        raise BadTrace(Path(order.trace), f"seed {order.seed} names tasks beyond the {len(tasks)} of the file")
    if len(_models(hosts)) > MOST_MODELS:
        raise BadTrace(Path(order.trace), f"the nodes have more than {MOST_MODELS} GPU models")


def _models(hosts: Sequence[Host]) -> dict[str, int]:
    return {model: bit for bit, model in enumerate(sorted({host.model for host in hosts}))}


def _mask(models: dict[str, int], wanted: str) -> int:
    if not wanted:
        return (1 << len(models)) - 1
    return sum({1 << models[one] for one in wanted.split("|") if one in models})


def _fleet(hosts: Sequence[Host], models: dict[str, int]) -> Fleet:
    devices = np.array([host.devices for host in hosts], np.int64)
    width = int(devices.max(initial=1))
    return Fleet(
        cpu=np.array([host.cpu_millis for host in hosts], np.int64),
        memory=np.array([host.memory_mib for host in hosts], np.int64),
        model=np.array([models[host.model] for host in hosts], np.int64),
        devices=devices,
        left=((np.arange(width)[None, :] < devices[:, None]) * WHOLE).astype(np.int64),
        owner=np.full((len(hosts), width), -1, np.int64),
        tags=np.zeros((len(hosts), max(TAGS, width + 1)), np.int64),
    )


def _kinds(sizes: Sequence[Size], models: dict[str, int]) -> Kinds:
    return Kinds(
        cpu=np.array([size.cpu_millis for size in sizes], np.int64),
        memory=np.array([size.memory_mib for size in sizes], np.int64),
        devices=np.array([size.devices for size in sizes], np.int64),
        millis=np.array([size.gpu_millis for size in sizes], np.int64),
        models=np.array([_mask(models, size.models) for size in sizes], np.int64),
        domain=np.zeros(len(sizes), np.int64),
    )


def typical(tasks: Sequence[Size], models: dict[str, int]) -> Typical:
    """Return the expected mix of a trace: its commonest kinds until they cover 95 % of the tasks, memory left out.

    The shares are divided twice, as in the published program: their last bits decide ties of ``fgd``.
    """
    counts = Counter((size.cpu_millis, size.gpu_millis, size.devices, size.models) for size in tasks)
    largest = sorted(counts.items(), key=lambda item: (item[1], *item[0]), reverse=True)
    kept, covered, every = [], 0, max(1, len(tasks))
    for size, count in largest:
        if covered * 100 >= TYPICAL_PERCENT * len(tasks):
            break
        kept.append((size, count))
        covered += count
    return Typical(
        cpu=np.array([size[0] for size, _ in kept], np.int64),
        devices=np.array([size[2] for size, _ in kept], np.int64),
        millis=np.array([size[1] for size, _ in kept], np.int64),
        models=np.array([_mask(models, size[3]) for size, _ in kept], np.int64),
        share=np.array([count for _, count in kept]) / every / (max(1, covered) / every),
    )
