"""Whom a process on a device works for. What no worker of ours started is foreign, whatever it calls itself."""

from __future__ import annotations

from collections.abc import Iterable

from policies.model.telemetry import DeviceSample, GroupShare, Missing, Owner, ProcessUse, WorkerHolding
from policies.model.units import DeviceId

Attributed = tuple[tuple[ProcessUse, Owner | None], ...]


def attribute(sample: DeviceSample, holdings: Iterable[WorkerHolding]) -> Attributed:
    """Return the sample's processes with their owners; None is a foreign process. Empty where none could be seen."""
    if isinstance(sample.processes, Missing):
        return ()
    known = tuple(holdings)
    return tuple((process, owner_of(process, known)) for process in sample.processes)


def owner_of(process: ProcessUse, holdings: tuple[WorkerHolding, ...]) -> Owner | None:
    """Return whom the process works for, or None if no worker on this device started it.

    The worker is known by what a tenant cannot choose: the pod in the control group, or descent from the worker's
    root process. The title that a replica gives itself only chooses among the groups of that worker on that device.
    """
    worker = next((one for one in holdings if process.device in one.devices and _started(process, one)), None)
    if worker is None:
        return None
    group = _group(process, worker)
    if group is None:
        return Owner(worker=worker.worker, domain=worker.domain)
    return Owner(worker=worker.worker, domain=worker.domain, group=group.group, claim=group.claim, tenant=group.tenant)


def holders(device: DeviceId, holdings: Iterable[WorkerHolding]) -> tuple[GroupShare, ...]:
    """Return the groups that hold a part of the device, in the workers' order."""
    return tuple(group for worker in holdings for group in worker.groups if device in group.devices)


def foreign(processes: Attributed) -> tuple[ProcessUse, ...]:
    """Return the processes that no worker started."""
    return tuple(process for process, owner in processes if owner is None)


def _started(process: ProcessUse, worker: WorkerHolding) -> bool:
    if worker.pod:
        return process.pod == worker.pod
    roots = {worker.root_pid, *worker.job_pids} - {None}
    return not roots.isdisjoint((process.pid, *process.ancestors))


def _group(process: ProcessUse, worker: WorkerHolding) -> GroupShare | None:
    on_device = [group for group in worker.groups if process.device in group.devices]
    named = [group for group in on_device if group.group == process.application]
    if named:
        return named[0]
    return on_device[0] if len(on_device) == 1 else None
