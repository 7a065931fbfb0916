"""Workers of this machine: started, stopped in the background, and kept ready in advance for the other domain."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.actuate.refusals import WorkerStopping
from cluster.embedded.nodes import Machine, launch, worker, worker_records
from cluster.embedded.processes import ProcessRecord, find, is_alive, stop
from cluster.ports import Clock, Ledger
from cluster.refusals import Refusal
from policies.model.naming import worker_id
from policies.model.plan import StartWorker, StopWorker
from policies.model.proof import DeviceRecord
from policies.model.units import DeviceId, SecurityDomain, WorkerId

CALM_MS = 3_000
"""How long nothing must have moved before a standby is started beside the work."""
STARTS_AT_ONCE = 2
"""Workers that start side by side. Ray gives a starting node 15 s; more at once can miss that on two cores."""
JOIN_LIMIT_MS = 60_000
"""A worker that has not joined by then no longer keeps the next one waiting."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LocalWorkers:
    """Binds, starts and stops the processes of workers. Binding is the ledger's word; a process alone binds nothing."""

    here: Machine
    ledger: Ledger
    clock: Clock
    stops: dict[WorkerId, threading.Thread] = field(default_factory=dict)
    """Stops that run in the background."""
    joined: set[str] = field(default_factory=set)
    """Launches that were seen in their Ray cluster."""

    def begin_start(self, action: StartWorker, fencing: int) -> None:
        """Bind the devices and see to it that the process runs; a standby is used as it is.

        Raises ``WorkerStopping`` and the ledger's refusals.
        """
        known = find(self.here.processes, action.worker)
        if self._is_stopping(action.worker) or (known is not None and known.stopping):
            raise WorkerStopping(action.worker)
        self.ledger.bind(action.worker, action.domain, action.devices, fencing)
        self.keep_running()

    def begin_stop(self, action: StopWorker, fencing: int) -> None:
        """Stop the process in the background; once nothing of it runs, the ledger hears that its devices are free."""
        self._stop_in_background(action.worker, fencing)

    def keep_running(self) -> None:
        """Start the process of each worker that holds devices and has none, few at a time."""
        for worker_name, records in sorted(_bound(self.ledger.devices()).items()):
            if self._runs(worker_name) or self._is_stopping(worker_name):
                continue
            if len(self.joining()) >= STARTS_AT_ONCE:
                return
            domain = records[0].domain
            if domain is not None:
                self.launch(domain, tuple(record.device for record in records))

    def resume_stops(self, fencing: int) -> None:
        """Go on with the stops that a crash cut short."""
        for record in worker_records(self.here):
            if record.stopping:
                self._stop_in_background(WorkerId(record.spec.name), fencing)

    def joining(self) -> tuple[ProcessRecord, ...]:
        """Return the processes that live and have not joined their cluster yet."""
        young = self.clock.now_ms() - JOIN_LIMIT_MS
        return tuple(
            record
            for record in worker_records(self.here)
            if record.spec.launch not in self.joined
            and record.started_at_ms > young
            and not record.stopping
            and is_alive(record)
        )

    def launch(self, domain: SecurityDomain, devices: tuple[DeviceId, ...]) -> None:
        """Start the worker's process unless it runs or is being stopped."""
        if self._is_stopping(worker_id(domain, devices)):
            return
        launch(self.here, lambda: worker(self.here, domain, devices), self.clock)

    def discard(self, record: ProcessRecord, fencing: int) -> None:
        """Stop, in the background, a process that is bound to nothing."""
        self._stop_in_background(WorkerId(record.spec.name), fencing)

    def wait(self) -> None:
        """Return once no stop runs in the background."""
        for thread in list(self.stops.values()):
            thread.join()

    def _runs(self, name: WorkerId) -> bool:
        record = find(self.here.processes, name)
        return record is not None and (record.stopping or is_alive(record))

    def _is_stopping(self, name: WorkerId) -> bool:
        thread = self.stops.get(name)
        return thread is not None and thread.is_alive()

    def _stop_in_background(self, name: WorkerId, fencing: int) -> None:
        if not self._is_stopping(name):
            thread = threading.Thread(target=self._stop, args=(name, fencing), name=f"stop-{name}", daemon=True)
            self.stops[name] = thread
            thread.start()

    def _stop(self, name: WorkerId, fencing: int) -> None:
        record = find(self.here.processes, name)
        try:
            if record is not None:
                stop(self.here.processes, record, self.here.settings.stop_timeout_ms, self.clock)
            self.ledger.release(name, fencing)
        except Refusal as refusal:
            log.warning("worker %s ended, not recorded: %s", name, refusal)
        except Exception:
            log.exception("worker %s: the stop broke off, it is taken up again", name)


@dataclass(slots=True)
class Standbys:
    """Keeps, for each device, a worker of each domain that does not hold it running unbound.

    An unbound worker opens no context on the device and carries no group: it is a started process, nothing more. It
    takes the seconds of a process start out of every move.
    """

    workers: LocalWorkers
    devices: tuple[DeviceId, ...]
    """Those of this machine; each has at most one standby per domain."""
    clock: Clock
    last_busy_ms: int = 0

    def tend(self, fencing: int, *, busy: bool) -> None:
        """Start at most one missing standby if nothing has moved for a while; stop those that can no longer be used."""
        now = self.clock.monotonic_ms()
        if busy or not self.last_busy_ms:
            self.last_busy_ms = now
        held = {record.device: record for record in self.workers.ledger.devices() if record.worker is not None}
        known = {record.spec.name: record for record in worker_records(self.workers.here)}
        for record in _unusable(known, held):
            self.workers.discard(record, fencing)
        if now - self.last_busy_ms >= CALM_MS and not self.workers.joining():
            for domain, device in _missing(self.devices, known, held)[:1]:
                self.workers.launch(domain, (device,))


def _bound(records: tuple[DeviceRecord, ...]) -> dict[WorkerId, list[DeviceRecord]]:
    """Return what each worker holds."""
    held: dict[WorkerId, list[DeviceRecord]] = {}
    for record in records:
        if record.worker is not None:
            held.setdefault(record.worker, []).append(record)
    return held


def _missing(
    devices: tuple[DeviceId, ...], known: Mapping[str, ProcessRecord], held: Mapping[DeviceId, DeviceRecord]
) -> list[tuple[SecurityDomain, DeviceId]]:
    """Return where a standby is wanted and not there: on free devices first, as those are taken first."""
    wanted = [
        (domain, device)
        for device in sorted(devices, key=lambda device: (device in held, device))
        for domain in SecurityDomain
        if device not in held or held[device].domain is not domain
    ]
    return [
        (domain, device)
        for domain, device in wanted
        if (record := known.get(worker_id(domain, (device,)))) is None or not (is_alive(record) or record.stopping)
    ]


def _unusable(known: Mapping[str, ProcessRecord], held: Mapping[DeviceId, DeviceRecord]) -> list[ProcessRecord]:
    """Return the unbound processes on devices that a worker of their own domain holds, and those that ended."""
    bound = {record.worker for record in held.values()}
    unbound = [record for record in known.values() if record.spec.worker not in bound]
    return [
        record
        for record in unbound
        if not is_alive(record)
        or any(held[device].domain is record.spec.domain for device in record.spec.devices if device in held)
    ]
