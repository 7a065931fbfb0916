"""What the loop last saw and decided, for many readers at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from cluster.api.problems import ApiRefusal
from cluster.loop import Turn
from cluster.metrics import Metrics
from cluster.moves import Move, Moves
from cluster.ports import Clock
from cluster.refusals import Refusal
from policies.model.policy import Policy


class View:
    """Written by the loop's thread, read by the API's."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._moves = Moves()
        self._turn: Turn | None = None
        self._turned_at_ms = 0
        self._trouble: Exception | None = None
        self._listeners: dict[int, Callable[[], None]] = {}

    def publish(self, turn: Turn, policy: Policy) -> None:
        """Make the turn, taken under this policy, the latest."""
        with self._lock:
            ended = self._moves.follow(turn)
            self._turn, self._turned_at_ms, self._trouble = turn, self._clock.monotonic_ms(), None
        self._metrics.record(turn, policy, ended)
        self.changed()

    def hold(self, error: Exception) -> None:
        """Note that a turn could not be taken."""
        with self._lock:
            self._trouble = error
        self._metrics.record_failure(error.code if isinstance(error, Refusal) else type(error).__name__)

    def latest(self) -> Turn:
        """Return the latest turn. Raises ``not_ready`` before the first, naming what stands in the way."""
        with self._lock:
            if self._turn is None:
                cause = f": {self._trouble}" if self._trouble else "; it takes its first turn now"
                raise ApiRefusal("not_ready", f"the control loop has decided nothing yet{cause}")
            return self._turn

    def moves(self) -> tuple[Move, ...]:
        """Return the moves between domains that are remembered, oldest first."""
        with self._lock:
            return self._moves.all()

    def trouble(self) -> str:
        """Return why the last turn was not taken; empty if it was."""
        with self._lock:
            return str(self._trouble) if self._trouble else ""

    def age_ms(self) -> int | None:
        """Return how long ago the latest turn ended; None before the first."""
        with self._lock:
            return None if self._turn is None else self._clock.monotonic_ms() - self._turned_at_ms

    def changed(self) -> None:
        """Wake everyone who waits for news."""
        with self._lock:
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def listen(self, limit: int) -> Listener:
        """Return a listener that is woken by every change. Raises ``too_many_requests`` beyond ``limit`` of them."""
        with self._lock:
            if len(self._listeners) >= limit:
                raise ApiRefusal("too_many_requests", f"{limit} event streams are open already (setting watchers)")
            listener = Listener(self)
            self._listeners[id(listener)] = listener.wake
            return listener

    def forget(self, listener: Listener) -> None:
        """Stop waking the listener."""
        with self._lock:
            self._listeners.pop(id(listener), None)


class Listener:
    """One event stream's ear; lives in the event loop that made it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Say that there is news; callable from any thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def news(self, timeout_s: float) -> bool:
        """Return True once there is news, False if there was none in time."""
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def close(self) -> None:
        """Hear no more."""
        self._view.forget(self)
