"""The best free place of the whole fleet, kept at hand for each kind of need."""

from __future__ import annotations

import heapq
from dataclasses import replace

from policies.fleet.board import Board, Need, Order, Shelf, Site
from policies.fleet.room import with_free
from policies.granting.places import order, sites_on
from policies.model.units import ClaimId, NodeId

ANYBODY = ClaimId("")
"""Asks for no claim in particular: sees every free place, whosever it is kept for."""


def find(board: Board, need: Need) -> Site | None:
    """Return the best place that is free now, None if there is none.

    A place in the need's rack is taken where it is as good by what must be done first and by the score: room that is
    lost is lost to everybody for as long as the replica runs, and a replica elsewhere only talks over one switch more.

    Cost: the hosts that changed since the last need of the same kind, those at the top that are kept for others, and
    those of the need's rack that are as good.
    """
    best = _anywhere(board, need)
    if best is None:
        return None
    near = _best_of(board, need, _as_good(board, need, best)) if need.rack else None
    return best[1] if near is None or near[0][:2] != best[0][:2] else near[1]


def _anywhere(board: Board, need: Need) -> tuple[Order, Site] | None:
    shelf = _shelf(board, need)
    best = _best_of(board, need, _hosts_kept_for(board, need))
    aside: list[tuple[Order, NodeId]] = []
    while shelf.heap and (best is None or shelf.heap[0][0] < best[0]):
        key, node = heapq.heappop(shelf.heap)
        if shelf.best.get(node) != key:
            continue
        aside.append((key, node))
        mine = _best_of(board, need, [node])
        best = min((one for one in (best, mine) if one is not None), key=lambda one: one[0], default=None)
    for entry in aside:
        heapq.heappush(shelf.heap, entry)
    return best


def _as_good(board: Board, need: Need, best: tuple[Order, Site]) -> list[NodeId]:
    """Return the hosts of the need's rack that may have a place as good as the best; none if that is in the rack."""
    rack, known = board.racks.get(need.rack, ()), board.shelves[need.kind].best
    if best[1].node in rack:
        return []
    return [one for one in rack if one in known and known[one][:2] <= best[0][:2]]


def _for_anybody(need: Need) -> Need:
    return replace(need, claim=ANYBODY, avoid_nodes=frozenset(), avoid_devices=frozenset(), strength=(1, 0))


def _hosts_kept_for(board: Board, need: Need) -> list[NodeId]:
    claim = need.claim
    kept = [device for device, claims in board.holder.items() if claim in claims]
    return sorted({board.survey.devices[one].node for one in kept}) if kept else []


def _best_of(board: Board, need: Need, nodes: list[NodeId]) -> tuple[Order, Site] | None:
    best: tuple[Order, Site] | None = None
    for node in nodes:
        for site in sites_on(board, need, node):
            key = order(board, need, site)
            if best is None or key < best[0]:
                best = key, site
    return best


def _key(board: Board, need: Need, node: NodeId) -> Order | None:
    if board.free_on_node(node) < need.gpu_millis * need.devices:
        return None
    best = _best_of(board, need, [node])
    return None if best is None else best[0]


def _shelf(board: Board, need: Need) -> Shelf:
    """Return the shelf for needs of this kind, brought up to date with the hosts that changed."""
    shelf = board.shelves.get(need.kind)
    nodes = board.hosts_of.get(need.flavor, {})
    if shelf is None:
        shelf = board.shelves[need.kind] = Shelf([], 0, _for_anybody(need))
        changed = set(with_free(board, need.flavor, need.gpu_millis * need.devices))
    else:
        changed = {node for node in board.touched[shelf.read :] if node in nodes}
    shelf.read = len(board.touched)
    for node in changed:
        key = _key(board, shelf.anybody, node)
        if key is None:
            shelf.best.pop(node, None)
        elif shelf.best.get(node) != key:
            shelf.best[node] = key
            heapq.heappush(shelf.heap, (key, node))
    return shelf
