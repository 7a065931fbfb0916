"""``python -m cluster.embedded.job RUN``: runs one job, hands on what it is asked, and writes down how it ended.

The job is a process group of its own in this process's session. Whatever it starts, in a session of its own or not,
comes to this process when its parent ends, and ends with the job.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from cluster.clock import SystemClock
from cluster.embedded.files import write_whole
from cluster.embedded.jobs import JobEnd, JobRun
from policies.model.codec import from_json, to_json

PR_SET_CHILD_SUBREAPER = 36
NOT_FOUND, NOT_ALLOWED = 127, 126
POLL_S = 0.02


class Watch:
    """The job under way, if it has begun, and whether it was asked to leave."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.is_asked = False

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Ask the job to save its work and leave."""
        self.is_asked = True
        if self.child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGTERM)

    def run(self, job: JobRun) -> int:
        """Return the exit status of the job; negative for a signal."""
        try:
            self.child = subprocess.Popen(
                job.command, cwd=job.folder, env=dict(job.environment), stdin=subprocess.DEVNULL, process_group=0
            )
        except FileNotFoundError as error:
            return _unable(error, NOT_FOUND)
        except OSError as error:
            return _unable(error, NOT_ALLOWED)
        if self.is_asked:
            self.ask(signal.SIGTERM, None)
        return self.child.wait()


def main(arguments: list[str]) -> int:
    """Run the job to its end. Returns 0: how the job ended is in its end file."""
    job = from_json(JobRun, arguments[1])
    watch, clock = Watch(), SystemClock()
    signal.signal(signal.SIGTERM, watch.ask)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began_ms = clock.now_ms()
    # Arguments may tell what the log's readers need not know.
    _say(f"begins: {job.command[0]} with {len(job.command) - 1} arguments")
    code = watch.run(job)
    _end_the_rest()
    _say(f"ended with {code}{', after it was asked to leave' if watch.is_asked else ''}")
    end = JobEnd(launch=job.launch, code=code, began_ms=began_ms, ended_ms=clock.now_ms())
    write_whole(Path(job.end_file), to_json(end))
    return 0


def _unable(error: OSError, code: int) -> int:
    _say(f"cannot be begun: {error}")
    return code


def _say(line: str) -> None:
    sys.stderr.write(f"partage: the job {line}\n")
    sys.stderr.flush()


def _end_the_rest() -> None:
    """Return once nothing is left that the job started."""
    while left := _children():
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(POLL_S)  # noqa: TID251  # a process of its own, outside of every simulation


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text(encoding="ascii").split()]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
