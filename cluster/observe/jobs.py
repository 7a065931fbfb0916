"""Groups of jobs as their processes on this machine show them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.jobs import JobEnd, JobRun, end_of, runs
from cluster.embedded.nodes import Machine
from cluster.embedded.processes import ProcessRecord, is_alive
from policies.model.inventory import Group, GroupState

MOST_FILES = 1_000
"""Entries of a checkpoint folder that are looked at for its age."""


def job_groups(here: Machine) -> tuple[Group, ...]:
    """Return a group for each job that was begun here and not yet put away."""
    return tuple(group_of(Sight(record, run, is_alive(record), end_of(run))) for record, run in runs(here))


@dataclass(frozen=True, slots=True)
class Sight:
    """A job's process as it is now."""

    record: ProcessRecord
    run: JobRun
    alive: bool
    end: JobEnd | None


def group_of(seen: Sight) -> Group:
    """Return the group.

    A job counts as routed while nobody has asked it to leave, and as a request inside from then on until it has gone:
    so it has the time of a drain to save its work. One that succeeded stands as it did until its claim has ended.
    """
    run, asked = seen.run, seen.record.stopping
    has_succeeded = seen.end is not None and seen.end.code == 0
    is_there = seen.alive or (has_succeeded and not asked)
    has_failed = not is_there and not asked
    return Group(
        id=run.group,
        claim=run.claim,
        worker=run.worker,
        rung=run.rung,
        variant=None,
        devices=run.devices,
        replicas=1,
        running=int(is_there),
        state=GroupState.FAILED if has_failed else GroupState.RUNNING,
        routed=is_there and not asked,
        in_flight=int(seen.alive) if asked else None,
        since_ms=seen.record.started_at_ms,
        checkpoint_ms=_saved_ms(run.checkpoint) if run.checkpoint else None,
        message=_words(seen.end) if has_failed else "",
        size=(run.gpu_millis, run.memory_mib),
    )


def _words(end: JobEnd | None) -> str:
    if end is None:
        return "the job was killed, or the machine was restarted, before it could say how it ended"
    took_s = max(0, end.ended_ms - end.began_ms) // 1000
    if end.code < 0:
        return f"the job was ended by signal {-end.code} after {took_s} s; `partage logs` shows what it wrote"
    return f"the job ended with exit code {end.code} after {took_s} s; `partage logs` shows what it wrote"


def _saved_ms(folder: str) -> int | None:
    """Return when something was last saved in the folder, in ms since 1970; None if nothing is there."""
    newest = 0.0
    try:
        with os.scandir(Path(folder)) as entries:
            for _, entry in zip(range(MOST_FILES), entries, strict=False):
                newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        return None
    return int(newest * 1000) or None
