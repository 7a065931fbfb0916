"""Placement scores over the board of a decision: the values of ``policies.fleet.placement``, from what is at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from policies.fleet import placement
from policies.fleet.board import LEFT, Board, Need, Score, Site
from policies.fleet.market import Market
from policies.fleet.placement import SCRUB_COST, WARM_BONUS, Ask, Room, Slot
from policies.model.units import WHOLE_GPU_MILLIS, ModelId, NodeId
from policies.model.workload import Shape

DEVICE_STEPS = 16 * WHOLE_GPU_MILLIS
"""More than the idle millis of one place: where a score looks at hosts only, the host's fullest device goes first."""


def partage(need: Need, site: Site, board: Board) -> int:
    """Return by how much the worth of what remains falls: millionths of a GPU, negative for a gain.

    The definition is ``policies.fleet.placement.partage``. Cost: a few look-ups.
    """
    tables, millis, many = _market(board).tables, need.gpu_millis, need.devices
    spare, holes = board.spare[site.devices[0]], tables.holes[need.flavor]
    cpu = board.node_cpu[site.node]
    loss = whole = 0
    for device in site.devices:
        left = board.free_millis[device]
        loss += holes[left] - holes[left - millis]
        whole += left == WHOLE_GPU_MILLIS
    loss += tables.together(need.flavor, spare.idle, spare.whole, cpu)
    loss -= tables.together(need.flavor, spare.idle - many * millis, spare.whole - whole, cpu - need.cpu_millis)
    if site.reach >= LEFT:
        loss += len(site.devices) * SCRUB_COST
    return loss - WARM_BONUS if need.model is not None and is_warm(board, site, need.model) else loss


def is_warm(board: Board, site: Site, model: ModelId) -> bool:
    """Say whether the weights are in the host's cache."""
    return model in board.survey.devices[site.devices[0]].warm_models


def by_definition(name: str, need: Need, site: Site, board: Board) -> int:
    """Return the score of that name as ``policies.fleet.placement`` defines it, so that less is better.

    Slower than ``partage``: the host is described anew for each place. For comparison, not for large fleets.
    """
    room, known = room_of(board, need, site.node), _market(board)
    here = {slot.device: index for index, slot in enumerate(room.slots)}
    places = tuple(here[one] for one in site.devices)
    value = placement.SCORES[name](room, ask_of(need), places, placement.Market(expected=known.expected))
    return -value * DEVICE_STEPS + (site.free_millis if name in placement.DEVICES else 0)


def _market(board: Board) -> Market:
    if board.market is None:
        if board.appraise is None:
            raise ValueError("a board that is scored needs an appraisal")
        board.market = board.appraise(board)
    return board.market


def room_of(board: Board, need: Need, node: NodeId) -> Room:
    """Return what is left for the need's flavor on one host, as the definitions see it."""
    devices = board.hosts_of[need.flavor][node]
    seats = {id(seat): seat for one in devices for seat in board.seats[one]}.values()
    return Room(
        node=node, flavor=need.flavor, cpu_millis=board.node_cpu[node], memory_mib=board.node_memory[node],
        slots=tuple(
            Slot(
                device=one, millis=board.free_millis[one], memory_mib=board.free_memory[one],
                domain=board.survey.devices[one].domain, is_held=bool(board.seats[one]),
            )
            for one in devices
        ),
        running=frozenset(0 if one.gpu_millis < WHOLE_GPU_MILLIS else len(one.devices) for one in seats),
        warm=frozenset(board.survey.devices[devices[0]].warm_models),
    )  # fmt: skip


def ask_of(need: Need) -> Ask:
    """Return the need as the definitions see it."""
    shape = Shape(
        flavors=(need.flavor,), devices=need.devices, gpu_millis=need.gpu_millis, memory_mib=need.memory_mib,
        cpu_millis=need.cpu_millis, host_memory_mib=need.host_memory_mib,
    )  # fmt: skip
    return Ask(shape=shape, domain=need.domain, model=need.model)


def _named(name: str) -> Score:
    score: Callable[[Need, Site, Board], int] = partial(by_definition, name)
    return score


SCORES: dict[str, Score] = {
    "partage": partage,
    **{name: _named(name) for name in placement.SCORES if name != "partage"},
}
"""Placement scores by the name that a policy gives in ``scoring``."""
