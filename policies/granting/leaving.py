"""Who leaves so that there is enough: the cheapest set where all can be tried, and never one who is needless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from policies.fleet.board import Board, Need, Seat
from policies.model.units import NodeId

TRIED_AS_SETS = 6
"""Replicas of which every set is tried; with more, the first of them leave and the needless return."""


def enough(
    is_enough: Callable[[list[Seat]], bool],
    needed: list[Seat],
    movable: Sequence[Seat],
    price: Callable[[Seat], int | None],
) -> list[Seat] | None:
    """Return who leaves so that it is enough: those who must, and a minimal set of those who may.

    Args:
        is_enough: says whether what these leave is enough; more that leave never make it less.
        needed: who leaves in any case.
        movable: who may leave, none of ``needed``, in the order in which they are asked to.
        price: what it costs to move each.

    Returns:
        The cheapest set, of equal ones the smallest, then the first, where there are few to choose from; else the first
        that are enough, without those whom later ones make needless, the dearest looked at first. None if all together
        are not enough. Cost: two to the power of ``TRIED_AS_SETS`` sets at most, else a set for each that may leave.
    """
    if is_enough(needed):
        return needed
    if not is_enough([*needed, *movable]):
        return None
    if len(movable) <= TRIED_AS_SETS:
        sets = [list(some) for size in range(1, len(movable) + 1) for some in combinations(movable, size)]
        sets.sort(key=lambda some: sum(price(seat) or 0 for seat in some))
        return next([*needed, *some] for some in sets if is_enough([*needed, *some]))
    leaving = next(some for count in range(len(movable)) if is_enough(some := [*needed, *movable[: count + 1]]))
    for seat in sorted(leaving[len(needed) :], key=lambda one: price(one) or 0, reverse=True):
        fewer = [one for one in leaving if one is not seat]
        if is_enough(fewer):
            leaving = fewer
    return leaving


def is_room_on(board: Board, need: Need, node: NodeId, gone: Sequence[Seat]) -> bool:
    """Say whether the host has the CPU and memory that the need asks for, once these leave."""
    return all(short <= 0 for short in lacking(board, need, node, gone))


def lacking(board: Board, need: Need, node: NodeId, gone: Sequence[Seat]) -> tuple[int, int]:
    """Return the CPU, in thousandths of a core, and memory, in MiB, that the host lacks for the need once these leave.

    Zero or less where it has enough.
    """
    cpu = need.cpu_millis - board.node_cpu[node] - sum(one.cpu_millis for one in gone)
    return cpu, need.host_memory_mib - board.node_memory[node] - sum(one.host_memory_mib for one in gone)
