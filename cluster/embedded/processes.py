"""Our processes on this machine: started in a session of their own, known by pid and start time, adopted after a crash.

A record is a file. The process holds a lock on a second file for as long as it lives, so that two starts of the same
name make one process, whoever asked and whoever crashed in between.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from cluster.embedded.files import read_or_none, write_whole
from cluster.ports import Clock
from policies.model.codec import from_json, to_json
from policies.model.units import DeviceId, SecurityDomain, WorkerId

POLL_MS = 50
LAUNCHER = "cluster.embedded.child"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What to run under a name."""

    name: str
    """Unique on this platform; also the name of its record and log."""
    module: str
    """Run as ``python -m`` would."""
    arguments: tuple[str, ...] = ()
    launch: str = ""
    """Differs between two starts of the same name; Ray workers carry it as a label."""
    domain: SecurityDomain | None = None
    worker: WorkerId | None = None
    devices: tuple[DeviceId, ...] = ()
    ports: tuple[int, ...] = ()
    """Ports that it was given, so that the next process is given others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """A process that we started."""

    spec: ProcessSpec
    pid: int
    """Also the id of its session: every process that it starts can be found by it."""
    started_ticks: int
    """Start time as the kernel counts it; tells the process from a later one with the same pid."""
    started_at_ms: int
    stopping: bool = False
    """Whether a stop was begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFolder:
    """Where records and logs of our processes are."""

    records: Path
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Given to every process, before its own additions."""

    def record_file(self, name: str) -> Path:
        """Return the file of the process's record."""
        return self.records / f"{name}.json"

    def lock_file(self, name: str) -> Path:
        """Return the file that the living process holds a lock on."""
        return self.records / f"{name}.lock"

    def log_file(self, name: str) -> Path:
        """Return the file of its output."""
        return self.logs / f"{name}.log"


def start(folder: ProcessFolder, spec: ProcessSpec, environment: Mapping[str, str], clock: Clock) -> ProcessRecord:
    """Start the process, detached, and return its record; one that runs under the name already is returned instead."""
    known = find(folder, spec.name)
    if known is not None and is_alive(known):
        return known
    if known is not None:
        end_remains(known, clock)
    folder.records.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    append = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", LAUNCHER, str(folder.records), to_json(spec)],
        {**folder.environment, **environment},
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder.log_file(spec.name)), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
        setsid=True,
    )
    record = ProcessRecord(spec=spec, pid=pid, started_ticks=_ticks(pid) or 0, started_at_ms=clock.now_ms())
    keep(folder, record)
    return record


def keep(folder: ProcessFolder, record: ProcessRecord) -> None:
    """Write the record."""
    write_whole(folder.record_file(record.spec.name), to_json(record))


def find(folder: ProcessFolder, name: str) -> ProcessRecord | None:
    """Return the record of this name, whether its process lives or not; None if there is none that can be read."""
    text = read_or_none(folder.record_file(name))
    if text is None:
        return None
    with suppress(ValidationError):
        return from_json(ProcessRecord, text)
    return None


def records(folder: ProcessFolder) -> tuple[ProcessRecord, ...]:
    """Return every record, sorted by name."""
    found = (find(folder, file.stem) for file in sorted(folder.records.glob("*.json")))
    return tuple(record for record in found if record is not None)


def is_alive(record: ProcessRecord) -> bool:
    """Return whether this very process runs; one that ended and was not yet waited for does not."""
    _reap(record.pid)
    return _ticks(record.pid) == record.started_ticks


def members(record: ProcessRecord) -> tuple[int, ...]:
    """Return the pids of its session that still run, sorted: the process and all that it started."""
    _reap(record.pid)
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            stat = _stat(int(entry.name))
            if stat is not None and stat.session == record.pid and stat.ticks >= record.started_ticks:
                found.append(int(entry.name))
    return tuple(sorted(found))


def mark_stopping(folder: ProcessFolder, record: ProcessRecord) -> None:
    """Record that a stop was begun, so that nobody takes the process for a working one."""
    if _is_recorded(folder, record):
        keep(folder, replace(record, stopping=True))


def stop(folder: ProcessFolder, record: ProcessRecord, grace_ms: int, clock: Clock) -> None:
    """Return once nothing of its session runs and its record is gone: asked first, killed after the grace."""
    mark_stopping(folder, record)
    if is_alive(record):
        _signal(record.pid, signal.SIGTERM)
    give_up_ms = clock.monotonic_ms() + grace_ms
    while members(record) and clock.monotonic_ms() < give_up_ms:
        # Children that lost their parent do not hear of it: they are asked once it is gone.
        if not is_alive(record):
            _signal_all(members(record), signal.SIGTERM)
        clock.sleep_ms(POLL_MS)
    end_remains(record, clock)
    forget(folder, record)


def end_remains(record: ProcessRecord, clock: Clock) -> None:
    """Return once nothing of the session runs; what does is killed."""
    while left := members(record):
        _signal_all(left, signal.SIGKILL)
        clock.sleep_ms(POLL_MS)


def forget(folder: ProcessFolder, record: ProcessRecord) -> None:
    """Remove the record, unless a later process of the name has its own there. The lock file stays for that one."""
    if _is_recorded(folder, record):
        folder.record_file(record.spec.name).unlink(missing_ok=True)


def _is_recorded(folder: ProcessFolder, record: ProcessRecord) -> bool:
    known = find(folder, record.spec.name)
    return known is not None and (known.pid, known.started_ticks) == (record.pid, record.started_ticks)


def memory_mib(record: ProcessRecord) -> int:
    """Return the proportional set size of its whole session, in MiB: pages shared by n processes count 1/n each."""
    return sum(_pss_kib(pid) for pid in members(record)) // 1024


@dataclass(frozen=True, slots=True)
class _Stat:
    session: int
    ticks: int


def _stat(pid: int) -> _Stat | None:
    """Return what the kernel says of the process; None if there is none, or only its exit status is left."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name of the program, in brackets, may itself hold brackets and blanks; the last bracket ends it.
    fields = text.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    return _Stat(session=int(fields[3]), ticks=int(fields[19]))


def _ticks(pid: int) -> int | None:
    stat = _stat(pid)
    return stat.ticks if stat is not None else None


def own_ticks() -> int:
    """Return the start time of the calling process, as records hold it."""
    return _ticks(os.getpid()) or 0


def _pss_kib(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_all(pids: tuple[int, ...], number: signal.Signals) -> None:
    for pid in pids:
        _signal(pid, number)
