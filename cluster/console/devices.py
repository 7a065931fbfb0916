"""What each device is doing, in one word: the word on the map, in the legend and for screen readers."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.console.scene import Reading, Scene
from policies.model.inventory import Device, DeviceHealth, Group, GroupState, ScrubState, Worker, WorkerState
from policies.model.snapshot import GapKind

STATES: dict[str, str] = {
    "bound": "dot",
    "free": "ring",
    "starting": "up",
    "draining": "down",
    "scrubbing": "turn",
    "dirty": "drop",
    "failed": "cross",
    "suspect": "warning",
    "quarantined": "stop",
    "retired": "cross",
    "unseen": "question",
}
"""Every state with its drawing, in the order of the legend."""
MOVING = frozenset({"starting", "draining", "scrubbing", "dirty"})
AILING = frozenset({"failed", "suspect", "quarantined", "retired", "unseen"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One device on the map."""

    device: Device
    state: str
    worker: Worker | None
    groups: tuple[Group, ...]
    reading: Reading | None

    @property
    def domain(self) -> str:
        """Domain that holds it, or ``none``."""
        return self.device.domain.value if self.device.domain else "none"


def spots(scene: Scene) -> dict[str, list[Spot]]:
    """Return the devices by node, both in the order of their names."""
    unseen = {gap.subject for gap in scene.gaps if gap.kind in (GapKind.DEVICE, GapKind.NODE)}
    workers = {held: worker for worker in scene.workers for held in worker.devices}
    readings = {reading.device: reading for reading in scene.readings}
    groups: dict[str, list[Group]] = {}
    for group in scene.groups:
        for held in group.devices:
            groups.setdefault(held, []).append(group)
    found: dict[str, list[Spot]] = {}
    for device in sorted(scene.devices, key=lambda each: (each.node, each.id)):
        worker, carried = workers.get(device.id), tuple(groups.get(device.id, ()))
        lost = device.id in unseen or device.node in unseen
        state = "unseen" if lost else _state(device, worker, carried)
        spot = Spot(
            device=device, state=state, worker=worker, groups=carried, reading=None if lost else readings.get(device.id)
        )
        found.setdefault(device.node, []).append(spot)
    return found


def _state(device: Device, worker: Worker | None, groups: tuple[Group, ...]) -> str:
    if device.health is not DeviceHealth.HEALTHY:
        return device.health.value
    if device.scrub in (ScrubState.FAILED, ScrubState.SCRUBBING):
        return device.scrub.value
    if worker is None:
        return "dirty" if device.scrub is ScrubState.DIRTY else "free"
    if worker.state is WorkerState.STOPPING or any(_leaves(group) for group in groups):
        return "draining"
    if worker.state is WorkerState.STARTING or any(group.state is GroupState.STARTING for group in groups):
        return "starting"
    return "bound" if worker.state is WorkerState.READY else "suspect"


def _leaves(group: Group) -> bool:
    return group.state is GroupState.STOPPING or (group.state is GroupState.RUNNING and not group.routed)
