"""Jobs as processes of this machine: what is to run, what runs, how it ended. One process per claim."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from cluster.embedded.files import read_or_none, write_whole
from cluster.embedded.nodes import Machine
from cluster.embedded.processes import ProcessFolder, ProcessRecord, ProcessSpec, forget, records
from policies.model.codec import from_json, to_json
from policies.model.naming import job_name
from policies.model.units import ClaimId, DeviceId, GroupId, WorkerId

MODULE = "cluster.embedded.job"
INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
"""What a job finds of the platform's own environment: names that say where things are and nothing that opens a door."""
LIBRARIES = "PYTHONPATH"
"""Given to the process that watches over the job, and not to the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One run of a job: everything that its process must be given, and what its group is known by."""

    group: GroupId
    claim: ClaimId
    worker: WorkerId
    rung: int
    devices: tuple[DeviceId, ...]
    gpu_millis: int
    memory_mib: int
    launch: str
    """Tells this run from the claim's other runs."""
    command: tuple[str, ...]
    folder: str
    environment: tuple[tuple[str, str], ...]
    """All of it: the job inherits nothing."""
    checkpoint: str
    end_file: str
    """Where its end is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a run ended."""

    launch: str
    code: int
    """Exit status; the negative number of a signal; 127 where the command was not found, 126 where it may not run."""
    began_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How often a job failed in a row, under one generation of its claim."""

    generation: int
    failures: int = 0
    launch: str = ""
    """Latest run that was counted."""


def specification(run: JobRun) -> ProcessSpec:
    """Return the process that runs it. It names no worker, as it is none: the ledger's custody is the worker's."""
    return ProcessSpec(name=job_name(run.claim), module=MODULE, arguments=(to_json(run),), launch=run.launch)


def runs(here: Machine) -> tuple[tuple[ProcessRecord, JobRun], ...]:
    """Return the jobs that were begun here and not yet put away, sorted by name."""
    found = []
    for record in records(here.processes):
        if record.spec.module == MODULE:
            with suppress(ValidationError, IndexError):
                found.append((record, from_json(JobRun, record.spec.arguments[0])))
    return tuple(found)


def end_of(run: JobRun) -> JobEnd | None:
    """Return how the run ended; None while it has not, or if it was killed before it could say so."""
    text = read_or_none(Path(run.end_file))
    if text is None:
        return None
    with suppress(ValidationError):
        end = from_json(JobEnd, text)
        return end if end.launch == run.launch else None
    return None


def put_away(here: Machine, record: ProcessRecord, run: JobRun) -> None:
    """Forget a run that has ended; its log and its folder stay."""
    forget(here.processes, record)
    Path(run.end_file).unlink(missing_ok=True)


def own_folder(here: Machine, claim: ClaimId) -> Path:
    """Return the folder that the platform keeps for the claim's job."""
    return here.settings.home / "jobs" / job_name(claim)


def bare(here: Machine) -> ProcessFolder:
    """Return the folder of processes with an environment that holds no secret."""
    known = here.processes.environment
    kept = {name: known[name] for name in (*INHERITED, LIBRARIES) if name in known}
    return replace(here.processes, environment=kept)


def inherited(here: Machine) -> Mapping[str, str]:
    """Return what a job finds of the platform's environment."""
    known = here.processes.environment
    return {name: known[name] for name in INHERITED if name in known}


def counted(here: Machine, claim: ClaimId, generation: int, launch: str) -> Tries | None:
    """Return the count with this failed run in it, None if it is in it already. A changed claim is counted anew."""
    text, before = read_or_none(_tries_file(here, claim)), Tries(generation=generation)
    with suppress(ValidationError):
        before = before if text is None else from_json(Tries, text)
    if before.launch == launch:
        return None
    failures = before.failures if before.generation == generation else 0
    return Tries(generation=generation, failures=failures + 1, launch=launch)


def keep_tries(here: Machine, claim: ClaimId, tries: Tries) -> None:
    """Write how often it failed."""
    write_whole(_tries_file(here, claim), to_json(tries))


def clear(here: Machine, claim: ClaimId) -> None:
    """Remove what was kept of a job that has succeeded: its count, and its own folder if it left nothing there."""
    _tries_file(here, claim).unlink(missing_ok=True)
    folder = own_folder(here, claim)
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _tries_file(here: Machine, claim: ClaimId) -> Path:
    return here.settings.home / "jobs" / f"{job_name(claim)}.tries.json"
