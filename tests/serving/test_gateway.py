"""What a tenant and the control plane see of the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from policies.model.codec import from_json
from policies.model.routing import GatewayLoad, TenantShare
from tests.serving.fakes import CONTROL_TOKEN, JUSTICE, MODEL, TAX, World, chat, group, key_of, route, settle, table


def run(story: Callable[[World], Awaitable[None]], *routes: object) -> None:
    async def tell() -> None:
        world = World()
        world.gateway.apply(table(*(routes or (route(group("g1")),))))
        await story(world)
        await settle()
        assert world.backend.inside == 0

    asyncio.run(tell())


async def load_of(world: World) -> GatewayLoad:
    response = await world.call("/-/partage/load", key=CONTROL_TOKEN)
    return from_json(GatewayLoad, response.body)


def test_a_tenant_gets_an_answer_and_learns_which_variant_gave_it() -> None:
    async def story(world: World) -> None:
        response = await world.chat()
        assert response.status == 200
        assert response.json["group"] == "g1"
        assert response.headers["x-partage-variant"] == "variant-0"
        assert response.headers["x-request-id"].startswith("req_")

    run(story)


def test_a_stream_arrives_piece_by_piece_and_ends_with_done() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        client = world.start("/v1/chat/completions", chat(stream=True))
        await settle()
        assert len(client.response.events) == 1, "the first piece is not held back for the second"
        world.backend.gate.set()
        response = await client.done()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.events[-1] == "[DONE]"
        assert [json.loads(event)["number"] for event in response.events[:-1]] == [0, 1, 2]

    run(story)


@pytest.mark.parametrize("key", ["", "wrong", key_of(JUSTICE)[:-1], key_of("defence/cyber")])
def test_any_wrong_key_gives_401_in_openais_shape(key: str) -> None:
    async def story(world: World) -> None:
        response = await world.call("/v1/chat/completions", chat(), key=key or " ")
        assert response.status == 401
        assert response.error["code"] == "invalid_api_key"
        assert set(response.error) == {"message", "type", "param", "code"}
        assert world.backend.asked == []

    run(story)


def test_an_expired_key_is_a_wrong_key() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(route(group("g1")), generation=2, expires_at_ms=world.clock.now_ms))
        assert (await world.chat()).status == 401

    run(story)


def test_a_key_without_the_scope_for_inference_may_not_call_models() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(route(group("g1")), generation=2, scopes=("usage",)))
        assert (await world.chat()).status == 403

    run(story)


def test_models_are_listed_for_the_tenant_of_the_key_only() -> None:
    async def story(world: World) -> None:
        mine = await world.call("/v1/models")
        others = await world.call("/v1/models", key=key_of(TAX))
        assert [model["id"] for model in mine.json["data"]] == ["small"]
        assert others.json["data"] == []
        assert (await world.chat(key=key_of(TAX))).status == 404, "a model of another tenant does not exist"

    run(story, route(group("g1"), shared_with=()))


def test_an_unknown_model_gives_404() -> None:
    async def story(world: World) -> None:
        response = await world.chat(model="huge")
        assert (response.status, response.error["code"]) == (404, "model_not_found")

    run(story)


def test_a_key_for_other_models_does_not_see_this_one() -> None:
    async def story(world: World) -> None:
        world.gateway.apply(table(route(group("g1")), generation=2, models=("other",)))
        assert (await world.chat()).status == 404
        assert (await world.call("/v1/models")).json["data"] == []

    run(story)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        ({"messages": [1]}, "model"),
        ({"model": "small"}, "messages"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_tokens=True), "max_tokens"),
        (chat(id_slot=3), "id_slot"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_naming_the_parameter(body: object, param: str | None) -> None:
    async def story(world: World) -> None:
        response = await world.call("/v1/chat/completions", body)
        assert (response.status, response.error["param"]) == (400, param)
        assert world.backend.asked == []

    run(story)


def test_what_the_engine_refuses_is_told_with_its_status() -> None:
    async def story(world: World) -> None:
        response = await world.chat(seed=-1)
        assert (response.status, response.error["code"]) == (400, "bad_seed")
        assert (await load_of(world)).groups[0].in_flight == 0

    run(story)


def test_the_load_is_told_to_the_control_plane_only() -> None:
    async def story(world: World) -> None:
        assert (await world.call("/-/partage/load")).status == 401
        load = await load_of(world)
        assert (load.generation, load.groups[0].group, load.claims[0].claim) == (1, "g1", "civil/justice:chat")

    run(story)


def test_an_older_table_changes_nothing_and_the_one_in_force_is_reported() -> None:
    async def story(world: World) -> None:
        assert world.gateway.apply(table(route(group("g2")), generation=5))
        assert not world.gateway.apply(table(route(group("g1")), generation=4))
        assert (await load_of(world)).generation == 5
        assert (await world.chat()).json["group"] == "g2"

    run(story)


def test_the_best_rung_with_room_answers_and_the_next_one_takes_the_rest() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        clients = [world.start("/v1/chat/completions", chat()) for _ in range(3)]
        await settle()
        assert [name for name, _ in world.backend.asked] == ["best", "best", "worse"]
        world.backend.gate.set()
        for client in clients:
            assert (await client.done()).status == 200

    run(story, route(group("worse", rung=1), group("best", rung=0)))


def test_of_two_groups_of_a_rung_the_emptier_answers() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        clients = [world.start("/v1/chat/completions", chat()) for _ in range(4)]
        await settle()
        assert sorted(name for name, _ in world.backend.asked) == ["a", "a", "b", "b"]
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in clients))

    run(story, route(group("a"), group("b")))


def test_never_more_requests_are_inside_than_replicas_answer_at_once() -> None:
    async def story(world: World) -> None:
        responses = await asyncio.gather(*(world.chat() for _ in range(50)))
        assert {response.status for response in responses} == {200}
        assert world.backend.most_inside <= 6

    run(story, route(group("g1", replicas=3, concurrency=2)))


def test_a_group_taken_out_of_the_table_finishes_its_requests_and_is_reported_until_then() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        client = world.start("/v1/chat/completions", chat(stream=True))
        await settle()
        world.gateway.apply(table(route(group("g2")), generation=2))
        load = await load_of(world)
        assert {entry.group: entry.in_flight for entry in load.groups} == {"g1": 1, "g2": 0}
        assert load.claims[0].in_flight == 1, "what drains is still demand"
        world.backend.gate.set()
        assert (await client.done()).events[-1] == "[DONE]"
        assert [entry.group for entry in (await load_of(world)).groups] == ["g2"]
        assert (await world.chat()).json["group"] == "g2"

    run(story)


def test_a_group_that_vanishes_before_the_first_byte_is_replaced_unnoticed() -> None:
    async def story(world: World) -> None:
        world.backend.broken = {"a"}
        assert (await world.chat()).json["group"] == "b"
        load = {entry.group: entry for entry in (await load_of(world)).groups}
        assert (load["a"].failed, load["a"].completed, load["b"].completed) == (1, 0, 1)

    run(story, route(group("a"), group("b")))


def test_when_every_group_fails_the_tenant_hears_of_it() -> None:
    async def story(world: World) -> None:
        world.backend.broken = {"g1"}
        response = await world.chat()
        assert (response.status, response.error["code"]) == (502, "engine_failed")

    run(story)


def test_a_break_within_a_stream_is_told_inside_it_and_done_is_not_claimed() -> None:
    async def story(world: World) -> None:
        world.backend.breaking = {"g1"}
        response = await world.chat(stream=True)
        assert json.loads(response.events[-1])["error"]["code"] == "engine_failed"

    run(story)


def test_a_client_that_leaves_stops_the_engine_and_frees_its_place() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        streaming = world.start("/v1/chat/completions", chat(stream=True))
        whole = world.start("/v1/chat/completions", chat())
        await settle()
        await streaming.leave()
        await whole.leave()
        assert world.backend.stopped == 2
        assert (await load_of(world)).groups[0].in_flight == 0

    run(story)


def test_a_client_that_leaves_the_queue_is_never_served() -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        inside = [world.start("/v1/chat/completions", chat()) for _ in range(2)]
        waiting = world.start("/v1/chat/completions", chat())
        await settle()
        assert (await load_of(world)).claims[0].queued == 1
        await waiting.leave()
        assert (await load_of(world)).claims[0].queued == 0
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in inside))
        assert len(world.backend.asked) == 2

    run(story)


def test_a_model_without_a_group_wakes_when_one_comes() -> None:
    async def story(world: World) -> None:
        client = world.start("/v1/chat/completions", chat())
        await settle()
        world.clock.now_ms += 2_000
        load = await load_of(world)
        assert (load.claims[0].queued, load.claims[0].desired_replicas) == (1, 1)
        world.gateway.apply(table(route(group("g1")), generation=2))
        assert (await client.done()).status == 200

    run(story, route())


def test_a_request_that_waits_too_long_gets_503_and_when_to_come_back() -> None:
    async def story(world: World) -> None:
        world.gateway.queue_wait_ms = 10
        response = await world.chat()
        assert (response.status, response.error["code"]) == (503, "server_is_overloaded")
        assert int(response.headers["retry-after"]) >= 1

    run(story, route())


def test_the_tenant_with_more_weight_is_served_more_often_when_both_wait() -> None:
    async def story(world: World) -> None:
        shares = (TenantShare(tenant=JUSTICE, weight=3), TenantShare(tenant=TAX, weight=1))
        world.gateway.apply(table(route(group("g1", concurrency=1)), generation=2, shares=shares))
        world.backend.gate.clear()
        first = world.start("/v1/chat/completions", chat())
        await settle()
        clients = [
            world.start("/v1/chat/completions", chat(user=tenant), key=key_of(tenant))
            for tenant in (JUSTICE, TAX)
            for _ in range(8)
        ]
        await settle()
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in (first, *clients)))
        served = [json.loads(body).get("user") for body in world.backend.order[1:9]]
        assert served.count(JUSTICE) == 6

    run(story)


def test_a_full_queue_sheds_the_lowest_class_first() -> None:
    async def story(world: World) -> None:
        world.gateway.dispatcher.queue_limit = 4
        shares = (TenantShare(tenant=JUSTICE, priority=10), TenantShare(tenant=TAX, priority=0))
        world.gateway.apply(table(route(), generation=2, shares=shares))
        low = [world.start("/v1/chat/completions", chat(), key=key_of(TAX)) for _ in range(4)]
        await settle()
        high = [world.start("/v1/chat/completions", chat()) for _ in range(2)]
        await settle()
        shed = [client for client in low if client.task.done()]
        assert [client.response.status for client in shed] == [503, 503]
        world.gateway.apply(table(route(group("g1")), generation=3, shares=shares))
        responses = await asyncio.gather(*(client.done() for client in high))
        assert [response.status for response in responses] == [200, 200]
        await asyncio.gather(*(client.done() for client in low))

    run(story, route(group("elsewhere"), tenant=TAX))


def test_the_scheme_of_the_key_may_be_written_in_any_case() -> None:
    async def story(world: World) -> None:
        for scheme, status in (("bearer", 200), ("BEARER", 200), ("Basic", 401), ("", 401)):
            given = f"{scheme} {key_of(JUSTICE)}"
            assert (await world.call("/v1/models", authorization=given)).status == status

    run(story)


def test_a_key_that_expires_ends_nothing_that_it_began() -> None:
    async def story(world: World) -> None:
        expires_ms = world.clock.now_ms + 1_000
        world.gateway.apply(table(route(group("g1")), generation=2, expires_at_ms=expires_ms))
        world.backend.gate.clear()
        client = world.start("/v1/chat/completions", chat(stream=True))
        await settle()
        world.clock.now_ms = expires_ms
        world.backend.gate.set()
        response = await client.done()
        assert response.body.endswith(b"data: [DONE]\n\n")
        assert (await world.chat()).status == 401

    run(story)


def test_one_model_can_be_looked_up() -> None:
    async def story(world: World) -> None:
        assert (await world.call(f"/v1/models/{MODEL}")).json["id"] == MODEL
        assert (await world.call("/v1/models/huge")).status == 404

    run(story)


def test_another_method_is_told_from_another_path() -> None:
    async def story(world: World) -> None:
        refused = await world.call("/v1/chat/completions")
        assert (refused.status, refused.error["code"]) == (405, "method_not_allowed")

    run(story)


def test_unknown_paths_answer_in_openais_shape() -> None:
    async def story(world: World) -> None:
        assert (await world.call("/v1/nothing")).error["code"] == "unknown_url"

    run(story)


def test_each_tenant_has_a_cache_salt_of_its_own_that_no_client_chooses() -> None:
    async def story(world: World) -> None:
        for key in (JUSTICE, JUSTICE, TAX):
            assert (await world.chat(key=key_of(key), user='quo"te } ')).status == 200
        first, second, other = (json.loads(body)["cache_salt"] for body in world.backend.order)
        assert first == second != other
        assert (await world.chat(cache_salt="mine")).error["param"] == "cache_salt"

    run(story)
