"""The job engine of one machine: begins jobs, asks them to leave, ends those that stay, records how they ended."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.actuate.refusals import GroupStopping, NoJobEngine, WorkerNotBound
from cluster.embedded.jobs import (
    JobEnd,
    JobRun,
    bare,
    clear,
    counted,
    end_of,
    inherited,
    keep_tries,
    own_folder,
    put_away,
    runs,
    specification,
)
from cluster.embedded.nodes import Machine
from cluster.embedded.processes import ProcessRecord, is_alive, mark_stopping, start, stop
from cluster.ports import Clock, Ledger, Registry
from cluster.refusals import Refusal
from policies.model.naming import job_name
from policies.model.plan import Action, StartGroup, StopGroup, StopRouting
from policies.model.units import DeviceId, GroupId, WorkerId
from policies.model.workload import Claim, Job

KILL_AFTER_MS = 2_000
"""Between the last word and the kill: the time to save its work a job had before, while it drained."""
LOG_BYTES = 64 << 20
"""A run whose log is longer than this when it begins writes a new one; of the older ones the latest is kept."""
SUCCEEDED, FAILED, GAVE_UP = "job.succeeded", "job.failed", "job.gave_up"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobBook:
    """What becomes of the claims of jobs that ended, on record for their tenants."""

    registry: Registry

    def succeeded(self, claim: Claim, end: JobEnd) -> None:
        """Record the success and end the claim."""
        self.registry.note(SUCCEEDED, claim.id, claim.tenant, **_told(end))
        self.registry.delete_claim(claim.id)

    def failed(self, claim: Claim, end: JobEnd, failures: int, attempts: int) -> None:
        """Record the failure."""
        self.registry.note(FAILED, claim.id, claim.tenant, **_told(end), failures=failures, attempts=attempts)

    def give_up(self, claim: Claim, end: JobEnd, failures: int) -> None:
        """Suspend the claim, so that its devices are free, and record why."""
        self.registry.note(GAVE_UP, claim.id, claim.tenant, **_told(end), failures=failures)
        self.registry.put_claim(replace(claim, suspended=True), expected_generation=claim.generation)


def _told(end: JobEnd) -> dict[str, object]:
    return {"exit_code": end.code, "began_ms": end.began_ms, "ended_ms": end.ended_ms}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJobs:
    """Carries out what concerns groups of jobs. A job that was asked to leave never counts as ended by itself."""

    here: Machine
    ledger: Ledger
    claims: Callable[[], tuple[Claim, ...]]
    book: JobBook
    clock: Clock
    simulated: bool
    kill_after_ms: int = KILL_AFTER_MS
    log_bytes: int = LOG_BYTES
    stops: dict[GroupId, threading.Thread] = field(default_factory=dict)
    """Stops that run in the background."""

    def is_a_jobs(self, action: Action) -> bool:
        """Say whether the action concerns a job: one that is to begin, or one that was begun here."""
        if isinstance(action, StartGroup):
            return action.model is None
        group = getattr(action, "group", None)
        return group is not None and any(run.group == group for _, run in runs(self.here))

    def take(self, action: Action) -> None:
        """Begin the action. Raises a ``Refusal`` if it cannot be done now.

        To stop routing is to ask the job to leave; to stop the group is to end it, if it has not gone by then.
        """
        match action:
            case StartGroup():
                self._begin(action)
            case StopRouting():
                self._ask(action.group)
            case StopGroup():
                self._end(action.group)
            case _:
                return  # nothing is routed to a job, and it has one replica

    def on(self, worker: WorkerId) -> tuple[GroupId, ...]:
        """Return the groups of jobs that stand on the worker, running or not."""
        return tuple(run.group for _, run in runs(self.here) if run.worker == worker)

    def tend(self) -> None:
        """Record the ends of jobs, and put away those that left as they were asked to."""
        known = {claim.id: claim for claim in self.claims()}
        for record, run in runs(self.here):
            if is_alive(record):
                continue
            if record.stopping:
                put_away(self.here, record, run)
                continue
            end, claim = end_of(run), known.get(run.claim)
            if end is not None and claim is not None:
                with suppress(Refusal):  # changed by its owner in this very moment: looked at again in the next turn
                    self._settle(claim, run, end)

    def wait(self) -> None:
        """Return once no stop runs in the background."""
        for thread in list(self.stops.values()):
            thread.join()

    def _begin(self, action: StartGroup) -> None:
        claim = next((one for one in self.claims() if one.id == action.claim), None)
        if claim is None or claim.job is None:
            raise NoJobEngine(action.claim)
        bound = {record.device for record in self.ledger.devices() if record.worker == action.worker}
        if not set(action.devices) <= bound:
            raise WorkerNotBound(action.worker)
        for record, run in runs(self.here):
            if run.claim == action.claim:
                if run.group == action.group and is_alive(record) and not record.stopping:
                    return
                raise GroupStopping(run.group)
        run = self._run(action, claim.job)
        Path(run.folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._turn_over(self.here.processes.log_file(job_name(action.claim)))
        start(bare(self.here), specification(run), {}, self.clock)

    def _run(self, action: StartGroup, job: Job) -> JobRun:
        folder = job.folder or str(own_folder(self.here, action.claim))
        given = {
            **inherited(self.here),
            **dict(job.environment),
            "CUDA_VISIBLE_DEVICES": "" if self.simulated else ",".join(action.devices),
            "PARTAGE_CLAIM": action.claim,
            "PARTAGE_DEVICES": ",".join(action.devices),
            "PARTAGE_CHECKPOINT": job.checkpoint,
            "PARTAGE_SIMULATED": "1" if self.simulated else "0",
        }
        name = job_name(action.claim)
        return JobRun(
            group=action.group,
            claim=action.claim,
            worker=action.worker,
            rung=action.rung,
            devices=_sorted(action.devices),
            gpu_millis=action.gpu_millis,
            memory_mib=action.memory_mib,
            launch=secrets.token_hex(6),
            command=job.command,
            folder=folder,
            environment=tuple(sorted(given.items())),
            checkpoint=job.checkpoint,
            end_file=str(self.here.processes.records / f"{name}.end"),
        )

    def _turn_over(self, log: Path) -> None:
        if log.exists() and log.stat().st_size > self.log_bytes:
            log.replace(log.with_suffix(".log.1"))

    def _ask(self, group: GroupId) -> None:
        for record, _ in self._of(group):
            if not record.stopping:
                mark_stopping(self.here.processes, record)
                if is_alive(record):
                    with suppress(ProcessLookupError):
                        os.kill(record.pid, signal.SIGTERM)

    def _end(self, group: GroupId) -> None:
        for record, run in self._of(group):
            if not is_alive(record):
                put_away(self.here, record, run)
            elif group not in self.stops or not self.stops[group].is_alive():
                thread = threading.Thread(target=self._stop, args=(record, run), name=f"stop-{group}", daemon=True)
                self.stops[group] = thread
                thread.start()

    def _stop(self, record: ProcessRecord, run: JobRun) -> None:
        try:
            stop(self.here.processes, record, self.kill_after_ms, self.clock)
            put_away(self.here, record, run)
        except Exception:
            log.exception("job %s: the stop broke off, it is taken up again", run.claim)

    def _of(self, group: GroupId) -> list[tuple[ProcessRecord, JobRun]]:
        return [(record, run) for record, run in runs(self.here) if run.group == group]

    def _settle(self, claim: Claim, run: JobRun, end: JobEnd) -> None:
        if end.code == 0:
            self.book.succeeded(claim, end)
            clear(self.here, claim.id)
            return
        tries = counted(self.here, claim.id, claim.generation, run.launch)
        if tries is None:
            return
        attempts = claim.job.attempts if claim.job else 1
        self.book.failed(claim, end, tries.failures, attempts)
        keep_tries(self.here, claim.id, tries)
        if tries.failures >= attempts and not claim.suspended:
            self.book.give_up(claim, end, tries.failures)


def _sorted(devices: tuple[DeviceId, ...]) -> tuple[DeviceId, ...]:
    return tuple(sorted(devices))
