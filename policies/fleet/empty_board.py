"""The board on which nothing stands yet: every known device free, by host, flavor, island and rack."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TypeVar

from policies.evidence.survey import Survey
from policies.fleet.board import UNBOUNDED, Board, Score, Spare
from policies.model.inventory import Device
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, NodeId

K = TypeVar("K")


def board(survey: Survey, score: Score) -> Board:
    """Return the empty fleet: every known device free."""
    made, devices = Board(survey=survey, score=score), survey.devices
    made.free_millis = dict.fromkeys(devices, WHOLE_GPU_MILLIS)
    made.free_memory = {name: device.memory_mib for name, device in devices.items()}
    made.seats = {name: [] for name in devices}
    parted = {device.gpu for device in devices.values() if device.gpu != device.id}
    if parted:
        made.siblings = _by(attrgetter("gpu"), [device for device in devices.values() if device.gpu in parted])
    made.on_node = whole = _by(attrgetter("node"), devices.values())
    made.node_free = {node: len(some) * WHOLE_GPU_MILLIS for node, some in whole.items()}
    taking: Iterable[Device] = devices.values()
    if len(survey.open) < len(devices):
        taking = [device for device in taking if device.id in survey.open]
        made.on_node = _by(attrgetter("node"), taking)
    _shelve(made, taking)
    for node in made.node_free:
        known = survey.nodes.get(node)
        made.node_cpu[node] = UNBOUNDED if known is None else known.cpu_millis
        made.node_memory[node] = UNBOUNDED if known is None else known.memory_mib
    worker_of = made.worker_of
    for worker in survey.workers.values():
        for one in worker.devices:
            if one not in worker_of or worker_of[one].id < worker.id:
                worker_of[one] = worker
    _join(made)
    return made


def _shelve(made: Board, taking: Iterable[Device]) -> None:
    """Note by flavor and host which devices take new work, and that all of them are free."""
    for device in taking:
        hosts = made.hosts_of.setdefault(device.flavor, {})
        if device.node in hosts:
            hosts[device.node].append(device.id)
        else:
            hosts[device.node] = [device.id]
    for hosts in made.hosts_of.values():
        for some in hosts.values():
            made.spare.update(dict.fromkeys(some, Spare(idle=len(some) * WHOLE_GPU_MILLIS, whole=len(some))))


def _by(key: Callable[[Device], K], devices: Iterable[Device]) -> dict[K, list[DeviceId]]:
    """Return the devices of each key, in the order in which they come."""
    found: dict[K, list[DeviceId]] = {}
    for device in devices:
        of = key(device)
        if of in found:
            found[of].append(device.id)
        else:
            found[of] = [device.id]
    return found


def _join(made: Board) -> None:
    """Note which devices are on one island and which hosts in one rack."""
    survey, islands = made.survey, dict[tuple[NodeId, str], list[DeviceId]]()
    for device in survey.devices.values():
        if device.island and device.id in survey.open:
            islands.setdefault((device.node, device.island), []).append(device.id)
    for some in islands.values():
        made.islands.update(dict.fromkeys(some, tuple(some)))
    made.linked = frozenset(node for node, _ in islands)
    for name in sorted(survey.nodes):
        if survey.nodes[name].rack:
            made.racks.setdefault(survey.nodes[name].rack, []).append(name)
