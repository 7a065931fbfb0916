"""vLLM asleep: the device's memory is given up, the weights wait in the host's, and waking takes seconds, not minutes.

Nothing here lends a device to another domain: that needs a device on which nothing of the old domain is left, and a
sleeper's process stays. It is for a device that another model of the same domain uses for a while.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from serving.errors import SleepUnavailable

PAUSES_ONLY, FREES_DEVICE = 0, 1
"""Levels of vLLM: nothing is scheduled; or the weights go to the host's memory too, and the cache is dropped."""


class Client(Protocol):
    """The part of vLLM's engine client that is needed."""

    async def sleep(self, level: int, mode: Any) -> None:
        """Stop scheduling in the given mode, then free what the level says."""
        ...

    async def wake_up(self, tags: list[str] | None) -> bool:
        """Take memory back and schedule again; return whether all of it is there."""
        ...


class Sleeper:
    """Puts one engine to sleep and wakes it; ``level`` None for a platform that cannot sleep."""

    def __init__(self, client: Client, level: int | None) -> None:
        self._client = client
        self._level = level
        self._turning = asyncio.Lock()
        self.is_asleep = False
        """From the call to sleep until the engine is awake again: it answers nothing new meanwhile."""

    async def sleep(self) -> None:
        """Return once answers in progress have ended and the memory is free. Raises ``SleepUnavailable``."""
        if self._level is None:
            raise SleepUnavailable
        async with self._turning:
            if self.is_asleep:
                return
            self.is_asleep = True
            await self._client.sleep(level=self._level, mode="wait")

    async def wake(self) -> None:
        """Return once the engine answers again; harmless if it was awake. Raises ``SleepUnavailable`` if it cannot."""
        async with self._turning:
            if not self.is_asleep:
                return
            if not await self._client.wake_up(["scheduling"] if self._level == PAUSES_ONLY else None):
                raise SleepUnavailable
            self.is_asleep = False
