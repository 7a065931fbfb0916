"""Hosts by what is free on them, those with most first, kept in order while places are taken and left."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Set as AbstractSet

from policies.fleet.board import Board, Room
from policies.model.units import FlavorId, NodeId

FEW = 8
"""If fewer than one host in so many come first, these are sorted instead of looked for in the order of all."""


def roomiest(board: Board, flavor: FlavorId, first: AbstractSet[NodeId], count: int) -> frozenset[NodeId]:
    """Return so many hosts of the flavor: those of ``first`` before all others, then those with most that is free.

    Of equal ones the smaller name. Cost: the hosts that changed since it was last asked for, and a look at those that
    come before the last one returned.
    """
    order, here = _order(board, flavor), board.hosts_of.get(flavor, {})
    if len(first) * FEW < len(order):
        chosen = [node for _, node in heapq.nsmallest(count, [(-board.node_free[n], n) for n in first if n in here])]
    else:
        chosen = _from(order, first, count)
    if len(chosen) < count:
        chosen += _from(order, here.keys() - first, count - len(chosen))
    return frozenset(chosen)


def _from(order: list[tuple[int, NodeId]], some: AbstractSet[NodeId], count: int) -> list[NodeId]:
    """Return the first so many hosts in order that are among these."""
    found: list[NodeId] = []
    for _, node in order if count else ():
        if node in some:
            found.append(node)
            if len(found) == count:
                break
    return found


def with_free(board: Board, flavor: FlavorId, least: int) -> list[NodeId]:
    """Return the hosts of the flavor with so many free millis or more, those with most first.

    Cost: the hosts that changed since it was last asked for, and those returned.
    """
    order = _order(board, flavor)
    return [node for _, node in order[: bisect_left(order, (1 - least, NodeId("")))]]


def _order(board: Board, flavor: FlavorId) -> list[tuple[int, NodeId]]:
    """Return the hosts of the flavor with what is free on each, negative, in order."""
    here, room = board.hosts_of.get(flavor, {}), board.rooms.get(flavor)
    if room is None:
        free = {node: -board.node_free[node] for node in here}
        order = sorted((key, node) for node, key in free.items())
        room = board.rooms[flavor] = Room(order=order, free=free, watch=board.watch())
    for node in board.changed(room.watch) & here.keys():
        before, now = room.free[node], -board.node_free[node]
        if before != now:
            del room.order[bisect_left(room.order, (before, node))]
            insort(room.order, (now, node))
            room.free[node] = now
    return room.order
