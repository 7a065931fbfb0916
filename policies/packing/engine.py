"""A fleet that is filled task by task with any of the scores, fast enough to replay months of arrivals in a second."""

from __future__ import annotations

import numpy as np

from policies.packing import kernels
from policies.packing.arrays import Board, Fleet, Floats, Game, Ints, Kinds, Prices, Typical
from policies.packing.worth import outlook, prices

POLICIES = {
    "partage": kernels.PARTAGE,
    "fgd": kernels.FGD,
    "best_fit": kernels.BEST_FIT,
    "dot_prod": kernels.DOT_PROD,
    "gpu_packing": kernels.GPU_PACKING,
    "gpu_clustering": kernels.GPU_CLUSTERING,
    "random": kernels.RANDOM,
}
"""Placement scores by name; each is defined, slowly and readably, in ``policies.fleet.placement``."""

PRICES_PER_FILL = 27
"""How often prices are made again while as much is asked for as the fleet has."""


def place_all(start: Fleet, kinds: Kinds, typical: Typical, arrivals: Ints, policy: str, *, seed: int = 0) -> Game:
    """Return the game after the arrivals were placed in order on a copy of the fleet; what fits nowhere is passed over.

    Ties go to the first node of the fleet. Deterministic; ``seed`` only matters to ``random``. Cost: each arrival looks
    at every node once and computes scores only for those that changed since the last arrival of its kind.
    """
    game = new_game(start, kinds, typical, arrivals, logs=len(arrivals))
    if policy != "partage":
        kernels.play(game, 0, len(arrivals), 0, POLICIES[policy], seed)
        return game
    view, pace, logged = outlook(typical, start), between_prices(start, typical), 0
    for begin in range(0, len(arrivals), pace):
        counts = np.bincount(arrivals[:begin], minlength=len(kinds.cpu))
        game = game._replace(prices=prices(view, game.fleet, kinds, counts))
        game.board.seen[:] = -1
        logged = kernels.play(game, begin, min(begin + pace, len(arrivals)), logged, kernels.PARTAGE, seed)
    return game


def between_prices(fleet: Fleet, typical: Typical) -> int:
    """Return the number of arrivals after which prices are made again, at least one."""
    each = float((typical.share * typical.devices * typical.millis).sum())
    return max(1, int(fleet.left.sum() / each / PRICES_PER_FILL)) if each else 1


def fragments(start: Fleet, game: Game) -> Floats:
    """Return the fleet's fragment in millis after each arrival of a finished game that began with ``start``."""
    return kernels.fragments(game._replace(fleet=copy_of(start)))


def copy_of(fleet: Fleet) -> Fleet:
    """Return a fleet that may be played on while the original stays as it is."""
    return Fleet(*(array.copy() for array in fleet))


def new_game(start: Fleet, kinds: Kinds, typical: Typical, arrivals: Ints, *, logs: int) -> Game:
    """Return the game before its first arrival, on a copy of the fleet; at most ``logs`` changes can be noted."""
    grid, nowhere = np.zeros((1, 1), np.int64), np.full(len(arrivals), -1, np.int64)
    return Game(
        fleet=copy_of(start),
        kinds=kinds,
        typical=typical,
        prices=Prices(holes=grid, stranded=grid, blocks=grid, scarcity=np.zeros(0, np.int64), cpu_cell=1),
        board=_unknown(len(kinds.cpu), len(start.cpu), logs),
        arrivals=arrivals,
        nodes=nowhere,
        devices=nowhere.copy(),
    )


def _unknown(kinds: int, nodes: int, logs: int) -> Board:
    return Board(
        score=np.full((kinds, nodes), kernels.NEVER, np.int64),
        device=np.full((kinds, nodes), -1, np.int8),
        seen=np.full(kinds, -1, np.int64),
        log=np.zeros(logs, np.int64),
        stamp=np.full(nodes, -1, np.int64),
        todo=np.zeros(nodes, np.int64),
        room=np.zeros(nodes, np.int64),
    )
