"""From a host PID to what it says about whom it works for: control group, Serve application, user, ancestors."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.observe.telemetry.readings import mebibytes, plausible
from policies.model.telemetry import Missing, MissingCause, ProcessUse, Reading
from policies.model.units import DeviceId

MAX_ANCESTORS = 16
MAX_COMMAND = 48
READ_AGAIN = 10
LONGEST_TEXT = 65_536
"""What is read of one file of a process; a command line may be longer and says nothing more."""
MAX_PROCESSES = 256
"""Per device; more than this is no picture that a person could read."""

_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")
_CONTAINER = re.compile(r"([0-9a-f]{64})(?:\.scope)?$")
_REPLICA = re.compile(r"ray::ServeReplica:([^:]+):")
_UNSEEN = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """What the host says of a process."""

    started: str
    """Start time in clock ticks: with the PID it names the process for good."""
    user: str
    command: str
    pod: str = ""
    container: str = ""
    application: str = ""
    ancestors: tuple[int, ...] = ()


class ProcessTable:
    """Looks processes up in /proc and remembers them while they live.

    Titles change while a process lives (a Ray worker becomes a replica), so what names no application is read again
    after ``READ_AGAIN`` rounds. A round ends with ``forget_all_but``; within one, a process that works on several
    devices is looked up for each.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[int, tuple[ProcessFacts, int]] = {}

    def look_up(self, pid: int) -> ProcessFacts | None:
        """Return the facts of the process, or None if it is gone or hidden (another PID namespace)."""
        stat = self._stat(pid)
        if stat is None:
            self._known.pop(pid, None)
            return None
        facts, looked = self._known.get(pid, (None, 0))
        if facts is None or facts.started != stat[1] or (not facts.application and looked >= READ_AGAIN):
            facts, looked = self._read(pid, stat[1]), 0
        self._known[pid] = (facts, looked)
        return facts

    def forget_all_but(self, pids: Iterable[int]) -> None:
        """Drop what is known of every other process."""
        kept = set(pids)
        self._known = {pid: (facts, looked + 1) for pid, (facts, looked) in self._known.items() if pid in kept}

    def _read(self, pid: int, started: str) -> ProcessFacts:
        group = self._text(pid, "cgroup")
        pod = _POD.search(group)
        ancestors = self._ancestors(pid)
        titles = [self._title(one) for one in (pid, *ancestors)]
        replica = next((found for title in titles if (found := _REPLICA.search(title))), None)
        return ProcessFacts(
            started=started,
            user=self._user(pid),
            command=clean(titles[0]),
            pod=pod.group(1).replace("_", "-") if pod else "",
            container=_container(group),
            application=clean(replica.group(1)) if replica else "",
            ancestors=ancestors,
        )

    def _ancestors(self, pid: int) -> tuple[int, ...]:
        found: list[int] = []
        while len(found) < MAX_ANCESTORS:
            stat = self._stat(pid)
            if stat is None or stat[0] <= 1 or stat[0] in found:
                break
            pid = stat[0]
            found.append(pid)
        return tuple(found)

    def _stat(self, pid: int) -> tuple[int, str] | None:
        """Return parent PID and start time. The program's name may hold blanks and brackets: fields count after it."""
        fields = self._text(pid, "stat").rpartition(")")[2].split()
        return (int(fields[1]), fields[19]) if len(fields) > 19 else None  # noqa: PLR2004 - proc(5), field 22

    def _title(self, pid: int) -> str:
        return self._text(pid, "cmdline").replace("\0", " ").strip() or self._text(pid, "comm").strip()

    def _user(self, pid: int) -> str:
        uid = next((line.split()[1] for line in self._text(pid, "status").splitlines() if line.startswith("Uid:")), "")
        if not uid:
            return ""
        try:
            return pwd.getpwuid(int(uid)).pw_name
        except KeyError:
            return uid

    def _text(self, pid: int, name: str) -> str:
        try:
            file = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY)
        except OSError:
            return ""
        try:
            text = os.read(file, LONGEST_TEXT)
            # The kernel gives a page at a time, whatever it is asked for.
            while len(text) < LONGEST_TEXT and (more := os.read(file, LONGEST_TEXT - len(text))):
                text += more
        except OSError:
            return ""
        finally:
            os.close(file)
        return text.decode(errors="replace")


def clean(text: str) -> str:
    """Return the text in one short line of printable characters: it comes from the process itself."""
    return _UNSEEN.sub("?", text)[:MAX_COMMAND]


def _container(group: str) -> str:
    for line in group.splitlines():
        found = _CONTAINER.search(line.strip())
        if found:
            return found.group(1)
    return ""


def uses(
    device: DeviceId, running: list[Any], shares: dict[int, int] | Missing, table: ProcessTable
) -> tuple[ProcessUse, ...]:
    """Return the processes on the device, sorted by PID, with what the host says of each."""
    found = []
    for one in sorted(running, key=lambda process: int(process.pid))[:MAX_PROCESSES]:
        pid = int(one.pid)
        facts = table.look_up(pid)
        found.append(
            ProcessUse(
                pid=pid,
                device=device,
                memory_mib=_memory(one.usedGpuMemory),
                sm_percent=shares if isinstance(shares, Missing) else plausible("sm_percent", shares.get(pid, 0)),
                user=facts.user if facts else "",
                command=facts.command if facts else "",
                pod=facts.pod if facts else "",
                container=facts.container if facts else "",
                application=facts.application if facts else "",
                ancestors=facts.ancestors if facts else (),
            )
        )
    return tuple(found)


def _memory(amount: int | None) -> Reading:
    if amount is None:
        return Missing(MissingCause.NO_DATA, "usedGpuMemory")
    return plausible("memory_used_mib", mebibytes(int(amount)))
