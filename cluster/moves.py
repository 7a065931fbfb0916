"""How long each stage of a device's change of domain took, folded from turns as they pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.loop import Turn
from policies.model.inventory import GroupState, ScrubState, WorkerState
from policies.model.naming import tenant_of
from policies.model.units import DeviceId, SecurityDomain

MOVES_REMEMBERED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A point that a move reached."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One device on its way from one domain to the other."""

    device: DeviceId
    from_domain: SecurityDomain
    to_domain: SecurityDomain
    stages: tuple[Stage, ...]
    """In the order of ``STAGES``; the first is ``decided``, the last of a finished move is ``answering``."""
    tenant: str = ""
    """For whom it moves; empty if nobody is placed on it."""

    @property
    def finished(self) -> bool:
        """Whether a replica of the new domain answers."""
        return self.stages[-1].name == "answering"

    @property
    def duration_ms(self) -> int:
        """From the decision to the last stage reached."""
        return self.stages[-1].at_ms - self.stages[0].at_ms


def _is_drained(turn: Turn, move: Move) -> bool:
    return not any(move.device in group.devices and group.routed for group in turn.snapshot.groups)


def _is_stopped(turn: Turn, move: Move) -> bool:
    return not any(
        move.device in worker.devices and worker.domain is move.from_domain for worker in turn.snapshot.workers
    )


def _is_scrubbed(turn: Turn, move: Move) -> bool:
    return any(
        device.id == move.device and (device.scrub is ScrubState.CLEAN or device.domain is move.to_domain)
        for device in turn.snapshot.devices
    )


def _is_bound(turn: Turn, move: Move) -> bool:
    return any(device.id == move.device and device.domain is move.to_domain for device in turn.snapshot.devices)


def _is_ready(turn: Turn, move: Move) -> bool:
    return any(
        move.device in worker.devices and worker.domain is move.to_domain and worker.state is WorkerState.READY
        for worker in turn.snapshot.workers
    )


def _is_answering(turn: Turn, move: Move) -> bool:
    return any(
        move.device in group.devices and group.state is GroupState.RUNNING and group.routed
        for group in turn.snapshot.groups
    )


STAGES: dict[str, Callable[[Turn, Move], bool]] = {
    "drained": _is_drained,
    "stopped": _is_stopped,
    "scrubbed": _is_scrubbed,
    "bound": _is_bound,
    "worker_ready": _is_ready,
    "answering": _is_answering,
}
"""What is reached after ``decided``, each only after the one before it."""


class Moves:
    """The moves under way and those that ended, newest last."""

    def __init__(self) -> None:
        self._open: dict[DeviceId, Move] = {}
        self._ended: OrderedDict[tuple[DeviceId, int], Move] = OrderedDict()

    def follow(self, turn: Turn) -> list[Move]:
        """Take a turn into account and return the moves that it ended.

        A move that is no longer wanted before the device was given up is forgotten: it never was one.
        """
        wanted = _wanted(turn)
        held = {device.id: device.domain for device in turn.snapshot.devices}
        self._open = {
            name: move
            for name, move in self._open.items()
            if held.get(name) is not move.from_domain or wanted.get(name) is move.to_domain
        }
        for move in begun(turn):
            known = self._open.get(move.device)
            if known is None or known.to_domain is not move.to_domain:
                self._open[move.device] = move
        self._open = {device: advance(move, turn) for device, move in self._open.items()}
        ended = [move for move in self._open.values() if move.finished]
        for move in ended:
            del self._open[move.device]
            self._ended[(move.device, move.stages[0].at_ms)] = move
        while len(self._ended) > MOVES_REMEMBERED:
            self._ended.popitem(last=False)
        return ended

    def all(self) -> tuple[Move, ...]:
        """Return every move remembered, oldest first."""
        known = [*self._ended.values(), *self._open.values()]
        return tuple(sorted(known, key=lambda move: (move.stages[0].at_ms, move.device)))


def begun(turn: Turn) -> list[Move]:
    """Return a move for each device that the decision gives to a domain which does not hold it now."""
    wanted = _wanted(turn)
    placed = {device: placement.claim for placement in turn.decision.placements for device in placement.devices}
    decided = Stage(name="decided", at_ms=turn.decision.decided_at_ms)
    return [
        Move(
            device=device.id,
            from_domain=device.domain,
            to_domain=wanted[device.id],
            stages=(decided,),
            tenant=tenant_of(placed.get(device.id, "")),
        )
        for device in turn.snapshot.devices
        if device.id in wanted and device.domain is not None and device.domain is not wanted[device.id]
    ]


def _wanted(turn: Turn) -> dict[DeviceId, SecurityDomain]:
    """Return the domain that the decision gives each device to."""
    return {device: binding.domain for binding in turn.decision.bindings for device in binding.devices}


def advance(move: Move, turn: Turn) -> Move:
    """Return the move with every stage that the turn shows to be reached.

    What was looked at just before the decision counts from the decision: no stage ends before it began.
    """
    names = list(STAGES)
    done = len(move.stages) - 1
    for name in names[done:]:
        if not STAGES[name](turn, move):
            break
        at_ms = max(turn.snapshot.observed_at_ms, move.stages[-1].at_ms)
        move = replace(move, stages=(*move.stages, Stage(name=name, at_ms=at_ms)))
    return move
