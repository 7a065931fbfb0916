"""Moving a few replicas so that a waiting one fits: bounded in number, in cost, and in the search for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from policies.model.units import WHOLE_GPU_MILLIS, GroupId, NodeId
from policies.placement import Ask, Market, Places, Room, pick, refusal

MOST_SETS = 2_000
"""Sets of victims tried per room: with the smallest sets first, what lies beyond costs more than it frees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """A replica at its place."""

    group: GroupId
    node: NodeId
    ask: Ask
    places: Places
    """Slots that it uses in the room of its node and flavor."""
    cost: int
    """Cost of moving it, in request-milliseconds, >= 0."""
    is_movable: bool = True
    """False while it is protected: minimum runtime, gap in its telemetry, a MIG layout that may not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much may be moved for one waiting replica."""

    moves: int
    """Evictions left in the window."""
    cost: int
    """Request-milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One replica that changes its place."""

    group: GroupId
    source: NodeId
    target: NodeId
    places: Places
    """Slots at the target."""
    cost: int


@dataclass(frozen=True, slots=True)
class _Work:
    rooms: tuple[Room, ...]
    ask: Ask
    budget: Budget
    score: str
    market: Market


def consolidate(
    rooms: Sequence[Room], running: Sequence[Tenancy], ask: Ask, budget: Budget, market: Market
) -> tuple[Move, ...] | None:
    """Return the cheapest moves found after which the waiting replica fits, in the order in which they are safe.

    Every moved replica fits at its target before it leaves its source. Empty if the replica fits as things are; None
    if nothing within the budget was found, which is not a proof that there is nothing.

    Args:
        rooms: what is left, with the running replicas in place.
        running: replicas that may be looked at; those not given stay.
        ask: the waiting replica.
        budget: both bounds hold for the moves together.
        market: what the score ``partage`` may know.

    Cost: at most ``MOST_SETS`` sets of victims per room, one placement search each.
    """
    if any(refusal(room, ask) is None for room in rooms):
        return ()
    work = _Work(tuple(rooms), ask, budget, "partage", market)
    plans = (plan for index in range(len(rooms)) for plan in _plans(work, index, running))
    return min(plans, key=lambda plan: (sum(move.cost for move in plan), len(plan)), default=None)


def _plans(work: _Work, index: int, running: Sequence[Tenancy]) -> Iterator[tuple[Move, ...]]:
    """Yield the first workable plan for one room: its victims are the fewest, and among those the cheapest."""
    room = work.rooms[index]
    here = [one for one in running if one.node == room.node and one.is_movable and _is_inside(one, room)]
    if refusal(_without(room, here), work.ask) is not None:
        return
    for victims in islice(_sets(here, work.budget), MOST_SETS):
        freed = _without(room, victims)
        if refusal(freed, work.ask) is None:
            plan = _relocated(work, index, victims)
            if plan is not None:
                yield plan
                return


def _is_inside(one: Tenancy, room: Room) -> bool:
    return not one.ask.devices or not one.ask.shape.flavors or room.flavor in one.ask.shape.flavors


def _sets(here: Sequence[Tenancy], budget: Budget) -> Iterator[tuple[Tenancy, ...]]:
    by_cost = sorted(here, key=lambda one: (one.cost, one.group))
    for size in range(1, min(budget.moves, len(by_cost)) + 1):
        for victims in combinations(by_cost, size):
            if sum(one.cost for one in victims) <= budget.cost:
                yield victims


def _relocated(work: _Work, index: int, victims: Sequence[Tenancy]) -> tuple[Move, ...] | None:
    """Return where the victims go, the largest first; None if one of them fits nowhere else."""
    rooms, moves = list(work.rooms), []
    others = [position for position in range(len(rooms)) if position != index]
    for victim in sorted(victims, key=lambda one: (-one.ask.millis, -one.ask.shape.cpu_millis, one.group)):
        found = pick([rooms[position] for position in others], victim.ask, work.score, work.market)
        if found is None:
            return None
        target, places = found
        position = rooms.index(target)
        rooms[position] = with_replica(target, victim.ask, places)
        moves.append(
            Move(group=victim.group, source=victim.node, target=target.node, places=places, cost=victim.cost)
        )  # fmt: skip
    return tuple(moves)


def _without(room: Room, leaving: Sequence[Tenancy]) -> Room:
    for one in leaving:
        room = _changed(room, one.ask, one.places, sign=1)
    return room


def with_replica(room: Room, ask: Ask, places: Places) -> Room:
    """Return the room with the replica at these slots. The caller has seen that it fits."""
    return _changed(room, ask, places, sign=-1)


def _changed(room: Room, ask: Ask, places: Places, *, sign: int) -> Room:
    slots = list(room.slots)
    for index in places:
        slot = slots[index]
        millis = slot.millis + sign * ask.shape.gpu_millis
        slots[index] = replace(
            slot,
            millis=millis,
            memory_mib=slot.memory_mib + sign * ask.shape.memory_mib,
            domain=slot.domain if sign > 0 else (ask.domain or slot.domain),
            is_held=sign < 0 or millis < WHOLE_GPU_MILLIS,
        )
    return replace(
        room,
        slots=tuple(slots),
        cpu_millis=room.cpu_millis + sign * ask.shape.cpu_millis,
        memory_mib=room.memory_mib + sign * ask.shape.host_memory_mib,
    )
