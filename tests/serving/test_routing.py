"""Aliases, canaries, shadows, fallbacks, affinity and the filling of idle places."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policies.model.routing import Portion, Route, RoutedGroup
from serving.gateway.choice import Place, Wish, choose
from tests.serving.fakes import JUSTICE, World, chat, group, key_of, route, settle, table

Story = Callable[[World], Awaitable[None]]


def run(story: Story, *routes: Route) -> None:
    async def tell() -> None:
        world = World()
        world.gateway.apply(table(*routes))
        await story(world)
        await settle()
        assert world.backend.inside == 0

    asyncio.run(tell())


def variant(name: str, *, rung: int = 0, concurrency: int = 100) -> RoutedGroup:
    return replace(group(name, rung=rung, concurrency=concurrency), variant=name)


def test_an_alias_reaches_the_model_and_the_answer_names_the_model() -> None:
    async def story(world: World) -> None:
        response = await world.chat(model="assistant")
        assert response.status == 200
        assert response.headers["x-partage-model"] == "small"

    run(story, replace(route(group("g1")), aliases=("assistant",)))


def test_a_canary_gets_its_part_of_the_requests() -> None:
    async def story(world: World) -> None:
        responses = [await world.chat() for _ in range(400)]
        got = Counter(response.json["group"] for response in responses)
        assert 15 < got["new"] < 70

    run(story, replace(route(variant("old"), variant("new", rung=1)), canary=Portion(variant="new", permille=100)))


def test_a_canary_takes_over_when_nothing_else_has_room() -> None:
    async def story(world: World) -> None:
        assert (await world.chat()).json["group"] == "new"

    run(story, replace(route(variant("new")), canary=Portion(variant="new", permille=0)))


def test_a_shadow_gets_copies_and_nobody_sees_or_pays_them() -> None:
    async def story(world: World) -> None:
        response = await world.chat()
        await settle()
        assert response.json["group"] == "live"
        assert sorted(name for name, _ in world.backend.asked) == ["live", "mirror"]
        load = world.gateway.dispatcher.load()
        assert load is not None
        assert {entry.group: entry.completed for entry in load.groups} == {"live": 1, "mirror": 1}

    run(story, replace(route(variant("live"), variant("mirror")), shadow=Portion(variant="mirror", permille=1000)))


def test_a_copy_never_waits_and_never_takes_a_place_from_a_request() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        clients = [world.start("/v1/chat/completions", chat()) for _ in range(3)]
        await settle()
        assert Counter(name for name, _ in world.backend.asked) == {"live": 1}, "the first copy comes with an answer"
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in clients))

    live, mirror = variant("live", concurrency=1), variant("mirror", concurrency=1)
    run(story, replace(route(live, mirror), shadow=Portion(variant="mirror", permille=1000)))


def test_a_fallback_answers_while_the_model_has_no_group_and_says_so() -> None:
    async def story(world: World) -> None:
        response = await world.chat()
        assert (response.status, response.headers["x-partage-model"]) == (200, "tiny")

    other = replace(route(group("g2")), claim="civil/justice:tiny", model="tiny")
    run(story, replace(route(), fallback="tiny"), other)


def test_a_fallback_that_the_key_does_not_allow_is_not_used() -> None:
    async def story(world: World) -> None:
        other = replace(route(group("g2")), claim="civil/justice:tiny", model="tiny")
        world.gateway.apply(table(replace(route(), fallback="tiny"), other, generation=2, models=("small",)))
        world.gateway.queue_wait_ms = 10
        assert (await world.chat()).status == 503

    run(story, route())


def test_a_session_stays_with_its_group_while_there_is_room() -> None:
    async def story(world: World) -> None:
        for session in ("a", "b", "c", "d", "e", "f"):
            answers = [
                await world.call("/v1/chat/completions", chat(), x_session_id=session, key=key_of(JUSTICE))
                for _ in range(4)
            ]
            assert len({answer.json["group"] for answer in answers}) == 1
        assert len({name for name, _ in world.backend.asked}) > 1, "sessions are spread over the groups"

    run(story, route(*(group(f"g{n}", concurrency=4) for n in range(3))))


def test_what_fills_idle_places_leaves_as_soon_as_somebody_waits() -> None:
    async def story(world: World) -> None:
        dispatcher = world.gateway.dispatcher
        line = dispatcher.line(JUSTICE, "small")
        asked_to_leave: list[int] = []
        leases = [dispatcher.fill(line, lambda n=n: asked_to_leave.append(n)) for n in range(3)]
        assert leases[2] is None, "only idle places are filled"
        load = dispatcher.load()
        assert load is not None
        assert load.claims[0].desired_replicas == 0, "filling idle places asks for no replica"
        world.backend.gate.clear()
        client = world.start("/v1/chat/completions", chat())
        await settle()
        assert len(asked_to_leave) == 1
        dispatcher.give_back(leases[asked_to_leave[0]], used=None)
        await settle()
        assert len(world.backend.asked) == 1
        world.backend.gate.set()
        assert (await client.done()).status == 200
        dispatcher.give_back(leases[1 - asked_to_leave[0]], used=None)

    run(story, route(group("g1")))


places = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(1, 4), st.sampled_from("xyz")), min_size=1, max_size=8
)


@given(places, st.integers(0, 999), st.sampled_from(["", "s1", "s2"]), st.booleans(), st.booleans())
def test_a_place_is_found_whenever_there_is_room_and_only_then(
    given_places: list[tuple[int, int, int, str]], lot: int, affinity: str, splits: bool, shadows: bool
) -> None:
    made = [
        Place(
            routed=RoutedGroup(group=f"g{n}", variant=name, rung=rung, replicas=1, concurrency=slots),
            in_flight=min(inside, slots),
        )
        for n, (rung, inside, slots, name) in enumerate(sorted(given_places))
    ]
    own = replace(
        route(),
        canary=Portion(variant="x", permille=300) if splits else None,
        shadow=Portion(variant="z", permille=1) if shadows else None,
    )
    found = choose(own, made, Wish(lot=lot, affinity=affinity))
    has_room = [p for p in made if p.in_flight < p.slots and not (shadows and p.routed.variant == "z")]
    assert (found is None) == (not has_room)
    assert found is None or found in has_room
    if found is not None and not splits:
        assert found.routed.rung == min(p.routed.rung for p in has_room)


def test_a_request_names_its_account_by_the_model_that_answered() -> None:
    async def story(world: World) -> None:
        await world.chat(model="assistant")
        text = world.gateway.metrics.exposition((), ()).decode()
        assert 'model="small"' in text
        assert "assistant" not in text
        assert json.loads(world.backend.order[0])["model"] == "assistant"

    run(story, replace(route(group("g1")), aliases=("assistant",)))


def test_the_group_with_the_fewest_tokens_outstanding_is_asked_not_the_one_with_the_fewest_requests() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        clients = [world.start("/v1/chat/completions", chat(max_tokens=4_000), x_session_id="long")]
        await settle()
        (long,) = {name for name, _ in world.backend.asked}
        clients += [world.start("/v1/chat/completions", chat(max_tokens=10)) for _ in range(3)]
        await settle()
        asked = Counter(name for name, _ in world.backend.asked)
        assert asked[long] == 1, "three short answers weigh less than one long"
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in clients))
        assert all(place.outstanding == 0 for place in world.gateway.dispatcher._places.values())

    run(story, route(*(group(f"g{n}", concurrency=4) for n in range(2))))
