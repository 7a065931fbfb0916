"""The replay of ``policies.packing.engine`` with a budget of migrations: what could be had by moving a few tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from policies.packing import kernels
from policies.packing.arrays import Fleet, Game, Ints, Kinds, Typical
from policies.packing.engine import between_prices, new_game
from policies.packing.worth import outlook, prices


@dataclass(slots=True)
class Moving:
    """A game in which running tasks may move when another one fits nowhere."""

    game: Game
    per_mille: int
    """Moves allowed, in thousandths of the tasks that run."""
    logged: int = 0
    moved: list[int] = field(default_factory=list)
    """Arrivals whose task moved, in order."""
    stamps: int = 0


def place_with_moves(start: Fleet, kinds: Kinds, typical: Typical, arrivals: Ints, per_mille: int) -> Moving:
    """Return the game by worth in which a task that fits nowhere may make one running task move.

    At no time have more than ``per_mille`` thousandths of the running tasks been moved since the start. Only tasks
    with a share of a device, or without one, move; only to where they fit; and only for a task that asks for more.
    """
    state = Moving(new_game(start, kinds, typical, arrivals, logs=4 * len(arrivals)), per_mille)
    view, pace = outlook(typical, start), between_prices(start, typical)
    for begin in range(0, len(arrivals), pace):
        counts = np.bincount(arrivals[:begin], minlength=len(kinds.cpu))
        state.game = state.game._replace(prices=prices(view, state.game.fleet, kinds, counts))
        state.game.board.seen[:] = -1
        end, step = min(begin + pace, len(arrivals)), begin
        while step < end:
            step, state.logged = kernels.play_until_failure(state.game, step, end, state.logged)
            if step < end:
                _rescue(state, step)
            step += 1
    return state


def _rescue(state: Moving, step: int) -> None:
    """Place a task that fits nowhere where one other can make room for it, if the budget allows."""
    game, asked = state.game, int(state.game.arrivals[step])
    running = np.flatnonzero(game.nodes[:step] >= 0)
    if (len(state.moved) + 1) * 1000 > state.per_mille * len(running) or game.kinds.devices[asked] == 0:
        return
    victims = _candidates(game, running, asked)
    refuges = {int(kind): _two_best(state, int(kind)) for kind in np.unique(game.arrivals[victims])}
    for victim in victims:
        node = int(game.nodes[victim])
        other = next((place for place in refuges[int(game.arrivals[victim])] if place[0] != node), None)
        if other is not None:
            _move(state, int(victim), other)
            kernels.refresh(game, asked, state.logged, _fresh_stamp(state), kernels.PARTAGE)
            _put(state, step, (node, int(game.board.device[asked, node])))
            return


def _candidates(game: Game, running: Ints, kind: int) -> Ints:
    """Return the running tasks whose leaving alone makes room for the kind, smallest first."""
    fleet, kinds = game.fleet, game.kinds
    theirs, nodes, devices = game.arrivals[running], game.nodes[running], game.devices[running]
    size, wanted = kinds.devices[theirs] * kinds.millis[theirs], kinds.millis[kind]
    there = fleet.left[nodes, np.maximum(devices, 0)]
    opened = (devices >= 0) & (there < wanted) & (there + kinds.millis[theirs] >= wanted)
    makes_room = (
        ((devices >= 0) | (kinds.devices[theirs] == 0))
        & (fleet.cpu[nodes] + kinds.cpu[theirs] >= kinds.cpu[kind])
        & (fleet.memory[nodes] + kinds.memory[theirs] >= kinds.memory[kind])
        & ((kinds.models[kind] >> fleet.model[nodes]) & 1 == 1)
        & (size < kinds.devices[kind] * wanted)
        & ((fleet.left >= wanted).sum(axis=1)[nodes] + opened >= kinds.devices[kind])
    )
    found: Ints = running[makes_room]
    return found[np.argsort(size[makes_room], kind="stable")]


def _two_best(state: Moving, kind: int) -> list[tuple[int, int]]:
    """Return the best two nodes for the kind, and the devices there; fewer if it fits on fewer."""
    kernels.refresh(state.game, kind, state.logged, _fresh_stamp(state), kernels.PARTAGE)
    scores, devices = state.game.board.score[kind], state.game.board.device[kind]
    best = np.argsort(-scores, kind="stable")[:2]
    return [(int(node), int(devices[node])) for node in best if scores[node] != kernels.NEVER]


def _move(state: Moving, victim: int, place: tuple[int, int]) -> None:
    game, node = state.game, int(state.game.nodes[victim])
    kernels.give_back(game.fleet, node, game.kinds, int(game.arrivals[victim]), int(game.devices[victim]))
    _note(state, node)
    _put(state, victim, place)
    state.moved.append(victim)


def _put(state: Moving, arrival: int, place: tuple[int, int]) -> None:
    game, (node, device) = state.game, place
    kernels.take(game.fleet, node, game.kinds, int(game.arrivals[arrival]), device)
    game.nodes[arrival], game.devices[arrival] = node, device
    _note(state, node)


def _note(state: Moving, node: int) -> None:
    state.game.board.log[state.logged] = node
    state.logged += 1


def _fresh_stamp(state: Moving) -> int:
    """Return a stamp that no step has: the negative side is ours."""
    state.stamps += 1
    return -1 - state.stamps
