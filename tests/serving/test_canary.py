"""A canary at the gateway: requests are split by weight, changed in place, counted side by side, and none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from policies.canary import with_canary
from policies.model.routing import Route, RoutedGroup, VariantLoad
from policies.model.workload import Canary
from serving import ledger
from serving.ledger import Ledger
from tests.serving.fakes import JUSTICE, World, chat, group, route, settle, table

MAIN, TRIAL = f"{JUSTICE}:chat", f"{JUSTICE}:chat-canary"


def tell(story: Callable[[World], Awaitable[None]], world: World | None = None) -> None:
    async def told() -> None:
        await story(world or World())
        await settle()

    asyncio.run(told())


def variant(name: str) -> RoutedGroup:
    return replace(group(name, concurrency=100), variant=name)


def split(weight: int, *, main: tuple[str, ...] = ("old",), lent: tuple[str, ...] = ("new",)) -> Route:
    own = replace(route(*(variant(name) for name in lent)), claim=TRIAL)
    return with_canary(route(*(variant(name) for name in main)), own, Canary(of=MAIN, weight_percent=weight))


async def ask(world: World, count: int) -> Counter[str]:
    responses = [await world.chat(stream=True) for _ in range(count)]
    assert {response.status for response in responses} == {200}
    asked = Counter(name for name, _ in world.backend.asked)
    world.backend.asked.clear()
    return asked


def loads(world: World) -> dict[str, VariantLoad]:
    load = world.gateway.dispatcher.load()
    assert load is not None
    return {str(each.claim): each for each in load.variants}


def test_requests_follow_each_change_of_the_weight_at_once() -> None:
    async def story(world: World) -> None:
        for generation, (weight, least, most) in enumerate(
            ((20, 50, 110), (60, 190, 290), (0, 0, 0), (100, 400, 400)), 1
        ):
            world.gateway.apply(table(split(weight), generation=generation))
            assert least <= (await ask(world, 400))["new"] <= most, weight

    tell(story)


def test_a_change_of_the_weight_loses_no_request_that_is_inside_or_waits() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(split(50)))
        world.backend.gate.clear()
        clients = [world.start("/v1/chat/completions", chat()) for _ in range(300)]
        await settle()
        world.gateway.apply(table(split(0), generation=2))
        clients += [world.start("/v1/chat/completions", chat()) for _ in range(50)]
        world.gateway.apply(table(split(0, lent=()), generation=3))
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in clients))
        assert {client.response.status for client in clients} == {200}

    tell(story)


def test_a_request_that_the_canary_breaks_is_answered_by_the_main_claim_and_held_against_the_canary() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(split(30)))
        world.backend.broken.add("new")
        await ask(world, 100)
        counted = loads(world)
        assert counted[MAIN].completed == 100
        assert counted[MAIN].failed == 0
        assert 15 < counted[TRIAL].failed < 50
        assert counted[TRIAL].completed == 0

    tell(story)


def test_both_variants_are_counted_from_the_moment_that_the_trial_begins() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(route(variant("old"))))
        await ask(world, 40)
        assert loads(world)[MAIN].completed == 40
        world.gateway.apply(table(split(50), generation=2))
        await ask(world, 100)
        counted = loads(world)
        assert counted[MAIN].completed + counted[TRIAL].completed == 100
        world.gateway.apply(table(split(10), generation=3))
        assert loads(world) == counted, "another weight begins no other trial"
        world.gateway.apply(table(route(variant("old")), generation=4))
        assert TRIAL not in loads(world)

    tell(story)


def test_the_times_of_streams_are_told_as_percentiles_and_only_of_streams() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(split(0)))
        await world.chat()
        assert loads(world)[MAIN].first_p50_ms is None
        places = world.gateway.dispatcher.line(JUSTICE, "small").places
        main = next(place for place in places if place.routed.group == "old")
        main.score.first_ms.extend(range(1, 101))
        counted = loads(world)[MAIN]
        assert (counted.first_p50_ms, counted.first_p95_ms) == (50, 95)

    tell(story)


def test_what_the_canary_answers_is_written_down_for_the_canary(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(split(100)))
        await ask(world, 5)
        assert world.ledger is not None
        world.ledger.flush()
        found = {(record.claim, record.variant) for record in ledger.read(tmp_path)}
        assert found == {(TRIAL, "new")}

    tell(story, World(ledger=Ledger(tmp_path)))
