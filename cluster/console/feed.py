"""The latest scene of each viewer, read once for all of the viewer's pages."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cluster.console.port import ConsoleRefused, Source, TokenRefused
from cluster.console.scene import Scene, Viewer
from cluster.ports import Clock

READ_EVERY_MS = 500
"""Least time between two readings; with the rhythm of a page it keeps the lag of a change well under two seconds."""
REST_PER_READING = 2
"""A reading that takes long is followed by a rest this many times as long, so that we never are the load."""
FORGET_AFTER_MS = 60_000


class Feed:
    """Reads scenes on demand. When the control plane is silent, the last scene stays and grows old."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._scenes: dict[str, Scene] = {}
        self._next_ms: dict[str, int] = {}
        self._asked_ms: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def scene(self, token: str, viewer: Viewer) -> Scene:
        """Return the viewer's scene, read again if it is due. Raises ``TokenRefused`` once the token is worthless."""
        self._asked_ms[token] = self._clock.monotonic_ms()
        async with self._locks.setdefault(token, asyncio.Lock()):
            if self._clock.monotonic_ms() >= self._next_ms.get(token, 0):
                await self._read(token, viewer)
        self._forget()
        return replace(self._scenes[token], now_ms=self._clock.now_ms())

    def expire(self, token: str) -> None:
        """Read again at the next chance: something was changed."""
        self._next_ms[token] = 0

    async def _read(self, token: str, viewer: Viewer) -> None:
        started = self._clock.monotonic_ms()
        try:
            self._scenes[token] = await self._source.scene(token)
        except TokenRefused:
            raise
        except ConsoleRefused as refusal:
            empty = Scene(viewer=viewer, now_ms=self._clock.now_ms(), observed_at_ms=0, simulated=False)
            self._scenes[token] = replace(self._scenes.get(token, empty), trouble=str(refusal))
        took = self._clock.monotonic_ms() - started
        self._next_ms[token] = started + took + max(READ_EVERY_MS, REST_PER_READING * took)

    def _forget(self) -> None:
        now = self._clock.monotonic_ms()
        for token in [each for each, asked in self._asked_ms.items() if now - asked > FORGET_AFTER_MS]:
            for table in (self._scenes, self._next_ms, self._asked_ms, self._locks):
                table.pop(token, None)
