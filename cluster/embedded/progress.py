"""What is told of the platform's start and stop while it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from cluster.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A finished step."""

    name: str
    took_ms: int
    memory_mib: int
    """Proportional set size of all our processes at its end."""
    note: str = ""


class Progress(Protocol):
    """Hears of steps. Several may run at once."""

    def started(self, name: str) -> None:
        """Hear that a step began."""
        ...

    def finished(self, step: Step) -> None:
        """Hear that a step ended well."""
        ...

    def failed(self, name: str, why: str) -> None:
        """Hear that a step failed; the start ends with it."""
        ...


class Lines:
    """One line per finished step: for pipes, logs and plain terminals."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def started(self, name: str) -> None:
        """Say nothing: the step's end is the news."""

    def finished(self, step: Step) -> None:
        """Say how long it took and what all of ours weighs now."""
        note = f"  {step.note}" if step.note else ""
        self._say(f"  {step.name:<34}{step.took_ms / 1000:>7.1f} s {step.memory_mib:>6} MiB{note}")

    def failed(self, name: str, why: str) -> None:
        """Say why."""
        self._say(f"  {name:<34} failed: {why}")


class Stopwatch:
    """Measures steps and tells of them; from several threads, one word at a time."""

    def __init__(self, progress: Progress, clock: Clock, memory_mib: Callable[[], int]) -> None:
        self._progress, self._clock, self._memory_mib = progress, clock, memory_mib
        self._lock = threading.Lock()
        self._began_ms = clock.monotonic_ms()

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Run a block as a step; what is put into the list becomes its note."""
        began_ms, notes = self._clock.monotonic_ms(), list[str]()
        with self._lock:
            self._progress.started(name)
        try:
            yield notes
        except Exception as error:
            with self._lock:
                self._progress.failed(name, str(error))
            raise
        took_ms = self._clock.monotonic_ms() - began_ms
        with self._lock:
            memory_mib = self._memory_mib()
            self._progress.finished(Step(name=name, took_ms=took_ms, memory_mib=memory_mib, note=", ".join(notes)))

    def total_ms(self) -> int:
        """Return the time since the watch was made."""
        return self._clock.monotonic_ms() - self._began_ms
