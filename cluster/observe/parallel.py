"""Several looks at the world at once, each with a deadline of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

Seen = TypeVar("Seen")
MAX_CAUSE = 120


@dataclass(frozen=True, slots=True)
class Unseen:
    """A look that gave nothing."""

    cause: str


class Looker(Generic[Seen]):
    """Takes named looks in parallel. One that hangs occupies its own thread and nobody else's."""

    def __init__(self, looks: Mapping[str, Callable[[], Seen]], deadline_s: float) -> None:
        self._looks = dict(looks)
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(max_workers=max(len(self._looks), 1), thread_name_prefix="look")
        self._pending: dict[str, Future[Seen]] = {}

    def look(self) -> dict[str, Seen | Unseen]:
        """Return what each look gave, or why it gave nothing; takes no longer than the deadline."""
        for name, take in self._looks.items():
            if (running := self._pending.get(name)) is None or running.done():
                self._pending[name] = self._pool.submit(take)
        wait(self._pending.values(), timeout=self._deadline_s)
        results: dict[str, Seen | Unseen] = {}
        for name, future in self._pending.items():
            seen: Seen | Unseen = _result(future)
            results[name] = seen
        return results

    def close(self) -> None:
        """End the threads; one that hangs is left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Seen]) -> Seen | Unseen:
    if not future.done():
        return Unseen("timeout")
    error = future.exception()
    if error is None:
        return future.result()
    # Whatever a part of the world does wrong, it is a gap; our own errors name a stable cause.
    return Unseen(str(getattr(error, "cause", None) or type(error).__name__)[:MAX_CAUSE])
