"""Hosts that carry something which may be moved for others, and what a move costs there at the least."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policies.fleet.board import Seat
from policies.granting.displacing import Price, Weak
from policies.granting.reclaim import Tier, anybodys_price
from policies.granting.working import Allocation
from policies.model.units import NodeId

NEVER = 1 << 62
"""More than any place costs."""


def weak_hosts(work: Allocation, tier: Tier) -> Weak:
    """Return the hosts that carry something which somebody with this right may move; made anew when rights change."""
    weak = work.weak.get(tier)
    if weak is None:
        weak = work.weak[tier] = _weak(work, anybodys_price(work.victims, tier))
    return weak


def weak_nodes(work: Allocation, tier: Tier) -> frozenset[NodeId]:
    """Return the same hosts, for whom it does not matter what a move costs there."""
    weak = work.weak.get(tier)
    if weak is not None:
        return weak.nodes
    if work.weak_nodes is None:
        work.weak_nodes = frozenset([seat.node for some in _movable(work) for seat in some])
    return work.weak_nodes


def forget_weak(work: Allocation) -> None:
    """Let these hosts be found anew when they are asked for."""
    work.weak.clear()
    work.weak_nodes = None


def _weak(work: Allocation, price: Price) -> Weak:
    nodes, least = set(), dict[NodeId, dict[int, int]]()
    for some in _movable(work):
        for seat in some:
            node, size, cost = seat.node, len(seat.devices), price(seat)
            nodes.add(node)
            if cost is not None:
                here = least.setdefault(node, {})
                if cost < here.get(size, NEVER):
                    here[size] = cost
    return Weak(frozenset(nodes), least)


def _movable(work: Allocation) -> Iterator[Iterable[Seat]]:
    """Yield the replicas that are not granted, or are leaving, many at a time."""
    for lots in (*work.open.values(), (work.trying,) if work.trying is not None else ()):
        yield [seat for lot in lots if not lot.is_kept for seat in lot.seats]
    for runs in work.layout.queues.runs.values():
        for run in runs.values():
            for one in run.stretches:
                yield run.standing(one)
    yield work.board.leaving
    yield work.given_up
