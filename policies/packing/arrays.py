"""The arrays in which a fleet, its tasks and its prices are held."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]

WHOLE = 1000
"""Millis of one GPU."""
GPU_CELL = 50
"""Idle millis of a node in one cell of a price table."""
MICROS = 1000
"""Millionths of a GPU in one milli: the unit of prices."""


class Fleet(NamedTuple):
    """What is left on each node; nodes are in order of rank, smallest first."""

    cpu: Ints
    memory: Ints
    model: Ints
    devices: Ints
    left: Ints
    """Node by device: idle millis."""
    owner: Ints
    """Node by device: domain that holds it, -1 for none."""
    tags: Ints
    """Node by tag: running tasks."""


class Kinds(NamedTuple):
    """The kinds of task that arrive."""

    cpu: Ints
    memory: Ints
    devices: Ints
    millis: Ints
    models: Ints
    """Bit per GPU model on which it may run."""
    domain: Ints


class Typical(NamedTuple):
    """The expected mix of tasks."""

    cpu: Ints
    devices: Ints
    millis: Ints
    models: Ints
    share: Floats


class Prices(NamedTuple):
    """What remaining capacity is worth, in millionths of a GPU; see ``policies.packing.worth``."""

    holes: Ints
    """Model by idle millis of one device."""
    stranded: Ints
    """Idle GPU cells of a node by free CPU cells: what the CPUs cannot serve."""
    blocks: Ints
    """Fully free devices of a node by free CPU cells: premium of the room for multi-device tasks."""
    scarcity: Ints
    """Model: premium of one idle milli."""
    cpu_cell: int
    """Millis of CPU in one cell."""


class Board(NamedTuple):
    """Scores already known, and which of them a placement has made stale."""

    score: Ints
    """Kind by node."""
    device: Bytes
    """Kind by node: device chosen by the score, -1 for whole devices or none."""
    seen: Ints
    """Kind: length of ``log`` when its scores were last brought up to date, -1 for never."""
    log: Ints
    """Nodes that changed, oldest first."""
    stamp: Ints
    """Node: last step in which it was looked at."""
    todo: Ints
    """Scratch: nodes whose score is being computed."""
    room: Ints
    """Scratch, beside ``todo``: devices with room, -1 where the task does not fit."""


class Game(NamedTuple):
    """A fleet, what arrives, and where each arrival went."""

    fleet: Fleet
    kinds: Kinds
    typical: Typical
    prices: Prices
    board: Board
    arrivals: Ints
    """Kind of each arrival, in order."""
    nodes: Ints
    """By arrival: row of the fleet, -1 if the task fitted nowhere."""
    devices: Ints
    """By arrival: device of a shared task, -1 for whole devices or none."""
