"""Workers: bound by the ledger, alive as processes, joined in Ray. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.embedded.nodes import LAUNCH_LABEL
from cluster.observe.sights import DomainSight
from policies.model.inventory import Device, Worker, WorkerState
from policies.model.proof import DeviceRecord
from policies.model.units import DeviceId, NodeId, SecurityDomain, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """The process of a worker as this machine shows it."""

    worker: WorkerId
    launch: str
    alive: bool
    stopping: bool


def workers(
    records: tuple[DeviceRecord, ...],
    processes: tuple[WorkerProcess, ...],
    sights: Mapping[SecurityDomain, DomainSight],
    node: NodeId,
) -> tuple[Worker, ...]:
    """Return the workers that hold devices, sorted by id. A process that holds none is no worker."""
    bound: dict[WorkerId, list[DeviceRecord]] = {}
    for record in records:
        if record.worker is not None and record.domain is not None:
            bound.setdefault(record.worker, []).append(record)
    by_name = {process.worker: process for process in processes}
    return tuple(_worker(name, held, by_name.get(name), sights, node) for name, held in sorted(bound.items()))


def with_custody(device: Device, records: Mapping[DeviceId, DeviceRecord]) -> Device:
    """Return the device with the ledger's word on who holds it and how clean it is."""
    from dataclasses import replace

    record = records.get(device.id)
    return device if record is None else replace(device, domain=record.domain, scrub=record.scrub)


def _worker(
    name: WorkerId,
    held: list[DeviceRecord],
    process: WorkerProcess | None,
    sights: Mapping[SecurityDomain, DomainSight],
    node: NodeId,
) -> Worker:
    domain = held[0].domain
    if domain is None:
        raise ValueError(name)  # the ledger binds no device without its domain
    ray_id = _ray_id(sights[domain], process)
    return Worker(
        id=name,
        domain=domain,
        node=node,
        devices=tuple(sorted(record.device for record in held)),
        state=_state(process, ray_id),
        ray_node_id=ray_id,
        since_ms=max(record.changed_at_ms for record in held),
    )


def _state(process: WorkerProcess | None, ray_id: str | None) -> WorkerState:
    if process is None:
        return WorkerState.STARTING  # its process is about to be started
    if process.stopping:
        return WorkerState.STOPPING
    if not process.alive:
        return WorkerState.LOST
    return WorkerState.READY if ray_id else WorkerState.STARTING


def _ray_id(sight: DomainSight, process: WorkerProcess | None) -> str | None:
    if process is None:
        return None
    listed = sight.nodes.picture or ()
    return next((node.id for node in listed if node.labels.get(LAUNCH_LABEL) == process.launch), None)
