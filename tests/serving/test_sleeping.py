"""An engine that sleeps loses no answer, and answers again when it wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from serving.engines.sleeping import FREES_DEVICE, Sleeper
from serving.errors import SleepUnavailable


@dataclass
class FakeClient:
    """vLLM's client: in mode ``wait`` it sleeps once the requests inside have ended, in ``abort`` it cuts them off."""

    inside: int = 1
    aborted: int = 0
    level: int | None = None
    slept: int = 0
    has_memory: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, level: int, mode: str = "abort") -> None:
        if mode == "abort":
            self.aborted, self.inside = self.inside, 0
        while self.inside:
            await self.ended.wait()
        self.level = level
        self.slept += 1

    async def wake_up(self, tags: list[str] | None = None) -> bool:
        self.level = None
        return self.has_memory


def run(story: Callable[[FakeClient, Sleeper], Awaitable[None]]) -> None:
    async def told() -> None:
        client = FakeClient()
        await story(client, Sleeper(client, FREES_DEVICE))

    asyncio.run(told())


def test_answers_in_progress_end_before_the_device_is_given_up() -> None:
    async def story(client: FakeClient, sleeper: Sleeper) -> None:
        sleeping = asyncio.ensure_future(sleeper.sleep())
        await asyncio.sleep(0)
        assert sleeper.is_asleep, "nothing new is taken from the first moment"
        assert client.level is None
        client.inside = 0
        client.ended.set()
        await sleeping
        assert (client.level, client.aborted) == (FREES_DEVICE, 0)

    run(story)


def test_it_wakes_once_it_slept_and_both_may_be_asked_twice() -> None:
    async def story(client: FakeClient, sleeper: Sleeper) -> None:
        client.inside = 0
        for _ in range(2):
            await sleeper.sleep()
        assert client.slept == 1
        for _ in range(2):
            await sleeper.wake()
        assert (client.level, sleeper.is_asleep) == (None, False)

    run(story)


def test_one_that_does_not_get_its_memory_back_stays_asleep_and_says_so() -> None:
    async def story(client: FakeClient, sleeper: Sleeper) -> None:
        client.inside, client.has_memory = 0, False
        await sleeper.sleep()
        with pytest.raises(SleepUnavailable):
            await sleeper.wake()
        assert sleeper.is_asleep

    run(story)


def test_a_platform_that_cannot_sleep_says_so_and_stays_awake() -> None:
    async def story(client: FakeClient, _: Sleeper) -> None:
        sleeper = Sleeper(client, None)
        with pytest.raises(SleepUnavailable):
            await sleeper.sleep()
        assert not sleeper.is_asleep

    run(story)
