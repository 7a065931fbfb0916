"""Virtual time: it passes when something sleeps, and only then."""

from __future__ import annotations

START_MS = 1_767_225_600_000
"""1 January 2026, 00:00 UTC: any fixed instant does."""


class VirtualClock:
    """Clock whose sleep returns at once, later."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Return virtual milliseconds since the epoch."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Return the same; virtual time never goes back."""
        return self._now_ms

    def sleep_ms(self, duration_ms: int) -> None:
        """Let the duration pass."""
        self._now_ms += max(0, duration_ms)
