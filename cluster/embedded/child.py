"""First instructions of each of our processes: take the name's lock, write the record, become the program.

A parent that crashes right after starting it loses nothing: the process records itself. A second start of the name ends
here.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from cluster.clock import SystemClock
from cluster.embedded.processes import ProcessFolder, ProcessRecord, ProcessSpec, keep, own_ticks
from policies.model.codec import from_json, to_json

ALREADY_RUNS = 3
_EXPECTED_ARGUMENTS = 3


def main(arguments: list[str]) -> int:
    """Run the program; returns ``ALREADY_RUNS`` if a process of this name lives."""
    if len(arguments) != _EXPECTED_ARGUMENTS:
        sys.stderr.write("usage: python -m cluster.embedded.child RECORDS SPEC\n")
        return os.EX_USAGE
    # What the starting command had open, a lock or a pipe that somebody waits on, must not live as long as we do.
    _close_inherited()
    folder = ProcessFolder(records=Path(arguments[1]), logs=Path(arguments[1]))
    spec = from_json(ProcessSpec, arguments[2])
    # Never closed: the lock is this process's life. Children do not inherit it.
    lock = os.open(folder.lock_file(spec.name), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _give_way(folder, spec)
    now_ms = SystemClock().now_ms()
    record = ProcessRecord(spec=spec, pid=os.getpid(), started_ticks=own_ticks(), started_at_ms=now_ms)
    os.truncate(lock, 0)
    os.write(lock, to_json(record).encode())
    keep(folder, record)
    os.chdir(folder.records)
    sys.argv = [spec.module, *spec.arguments]
    runpy.run_module(spec.module, run_name="__main__", alter_sys=True)
    return 0


def _give_way(folder: ProcessFolder, spec: ProcessSpec) -> int:
    """Put back the record of the process that lives, which stands in the file that it has locked."""
    sys.stderr.write(f"{spec.name} runs already\n")
    with suppress(OSError, ValidationError):
        keep(folder, from_json(ProcessRecord, folder.lock_file(spec.name).read_text(encoding="utf-8")))
    return ALREADY_RUNS


def _close_inherited() -> None:
    for descriptor in [int(entry.name) for entry in os.scandir("/proc/self/fd")]:
        if descriptor > sys.stderr.fileno():
            with suppress(OSError):
                os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
