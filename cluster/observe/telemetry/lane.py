"""A thread per device, so that a driver call that never returns stops nothing else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from policies.model.telemetry import Missing, MissingCause

T = TypeVar("T")


class Lane(Generic[T]):
    """Does one piece of work at a time. While a piece hangs, the lane is busy and takes no other.

    The thread is a daemon: a hung driver call cannot be ended, so it must not hold up the end of the process. At most
    one thread per device is ever stuck.
    """

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], T] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()
        self._busy = False
        self._ended: tuple[T | Exception] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def begin(self, work: Callable[[], T]) -> None:
        """Start the work, unless earlier work is still stuck."""
        if not self._busy:
            self._busy = True
            self._work.put(work)

    def done_within(self, wait_s: float) -> bool:
        """Return whether the work has ended by then, well or not; what it came to is for ``result`` to say."""
        if self._ended is None:
            try:
                self._ended = (self._results.get(timeout=max(wait_s, 0.0)),)
            except queue.Empty:
                return False
        return True

    def result(self, wait_s: float) -> T | Missing:
        """Return what the work came to, or Missing(HUNG) if it has not ended by then; ask again in the next round.

        Raises what the work raised.
        """
        if not self.done_within(wait_s) or self._ended is None:
            return Missing(MissingCause.HUNG)
        (result,), self._ended = self._ended, None
        self._busy = False
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Let the thread end once it is idle."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                self._results.put(work())
            except Exception as error:  # noqa: BLE001 - handed over to whoever waits
                self._results.put(error)


def within(wait_s: float, name: str, work: Callable[[], T]) -> T | Missing:
    """Return what the work came to, or Missing(HUNG) after ``wait_s`` seconds; its thread is then left behind.

    Raises what the work raised.
    """
    lane: Lane[T] = Lane(name)
    lane.begin(work)
    try:
        return lane.result(wait_s)
    finally:
        lane.close()
