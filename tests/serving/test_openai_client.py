"""The stock OpenAI client at the gateway, in process and through the gateway's own door."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import openai
import pytest

from policies.model.routing import TenantShare
from serving.engines.openai_asgi import answer_of
from serving.engines.protocol import Call, EngineSpec, Piece
from serving.engines.synthetic import Synthetic
from serving.gateway.door import Door
from serving.gateway.forms import form, text_of
from serving.ledger import Ledger, read
from tests.serving.fakes import JUSTICE, MODEL, World, group, key_of, route, table
from tests.serving.test_batches import CHAT, BatchWorld

SAID = [{"role": "user", "content": "hello"}]


class SyntheticBackend:
    """Groups answered by the synthetic engine, in OpenAI's shapes."""

    def __init__(self) -> None:
        self._engine = Synthetic(EngineSpec(group="g1", model=MODEL, variant="v", engine="synthetic", concurrency=8))

    def expect(self, groups: frozenset[str]) -> None: ...

    async def answer(self, group: str, operation: str, body: bytes, priority: int, affinity: str = ""):
        pieces = self._engine.answer(Call(operation=operation, body=json.loads(body)))
        async for kind, payload in pieces:
            yield Piece(kind, payload)


def client_of(world: World, key: str | None = None) -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=world.app))
    return openai.AsyncOpenAI(
        base_url="http://gateway/v1", api_key=key or key_of(JUSTICE), http_client=http, max_retries=0
    )


def run(story: Callable[[World, openai.AsyncOpenAI], Awaitable[None]], *shares: TenantShare) -> None:
    async def tell() -> None:
        world = World(backend=SyntheticBackend())
        world.gateway.apply(table(route(group("g1")), shares=shares))
        async with client_of(world) as client:
            await story(world, client)

    asyncio.run(tell())


def test_chats_whole_and_streamed() -> None:
    async def story(world: World, client: openai.AsyncOpenAI) -> None:
        whole = await client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=5)
        assert whole.choices[0].message.content
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 5
        said, usage = "", None
        stream = await client.chat.completions.create(
            model=MODEL, messages=SAID, max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            said += chunk.choices[0].delta.content or "" if chunk.choices else ""
            usage = chunk.usage or usage
        assert said == whole.choices[0].message.content
        assert usage is not None
        assert usage.completion_tokens == 5

    run(story)


class Transcribing:
    """vLLM's way with sounds: a form in, text and seconds out."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes, str]] = []

    async def __call__(self, scope, receive, send) -> None:
        given = form(dict(scope["headers"])[b"content-type"].decode(), (await receive())["body"])
        sound = given["file"]
        self.heard.append((text_of(given["model"]), sound.get_payload(decode=True), sound.get_filename()))
        told = {"text": "The bridge is closed.", "usage": {"type": "duration", "seconds": 2}}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    def expect(self, groups: frozenset[str]) -> None: ...

    async def answer(self, group: str, operation: str, body: bytes, priority: int, affinity: str = ""):
        spec = EngineSpec(group=group, model=MODEL, variant="v", engine="vllm")
        async for piece in answer_of(self, spec, Call(operation=operation, body=json.loads(body))):
            yield piece


def test_sounds_become_texts_and_are_metered_by_their_length(tmp_path: Path) -> None:
    async def tell() -> None:
        app = Transcribing()
        world = World(backend=app, ledger=Ledger(tmp_path))
        world.gateway.apply(table(route(group("g1"))))
        sound = b"RIFF\x00\r\n--x\r\n\xff" * 10
        async with client_of(world) as client:
            told = await client.audio.transcriptions.create(model=MODEL, file=("speech one.wav", sound), language="en")
            assert told.text == "The bridge is closed."
            with pytest.raises(openai.BadRequestError, match=r"as .json. only"):
                await client.audio.transcriptions.create(model=MODEL, file=("a.wav", sound), response_format="srt")
            with pytest.raises(openai.BadRequestError, match="file"):
                await client.audio.transcriptions.create(model=MODEL, file=("a.wav", b""))
        assert app.heard == [(MODEL, sound, "speech_one.wav")]
        world.ledger.flush()
        (record,) = read(tmp_path)
        assert (record.operation, record.prompt_tokens) == ("transcriptions", 25)

    asyncio.run(tell())


def test_completions_and_the_list_of_models() -> None:
    async def story(world: World, client: openai.AsyncOpenAI) -> None:
        done = await client.completions.create(model=MODEL, prompt="hello", max_tokens=3)
        assert done.choices[0].text
        assert [model.id async for model in client.models.list()] == [MODEL]

    run(story)


def test_errors_become_the_clients_own() -> None:
    async def story(world: World, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="huge"):
            await client.chat.completions.create(model="huge", messages=SAID)
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            await client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=-1)
        async with client_of(world, "wrong") as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.chat.completions.create(model=MODEL, messages=SAID)
        await client.chat.completions.create(model=MODEL, messages=SAID)
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model=MODEL, messages=SAID)
        assert int(limited.value.response.headers["retry-after"]) >= 1

    run(story, TenantShare(tenant=JUSTICE, requests_per_minute=1))


def test_a_batch_from_upload_to_results(tmp_path: Path) -> None:
    async def tell() -> None:
        world = BatchWorld(backend=SyntheticBackend(), folder=tmp_path)
        world.gateway.apply(table(route(group("g1"))))
        lines = [
            {"custom_id": str(n), "method": "POST", "url": CHAT, "body": {"model": MODEL, "messages": SAID}}
            for n in range(3)
        ]
        content = "\n".join(json.dumps(line) for line in lines).encode()
        async with client_of(world) as client:
            file = await client.files.create(file=("in.jsonl", content), purpose="batch")
            batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            await world.run_until(batch.id, "completed")
            ended = await client.batches.retrieve(batch.id)
            assert ended.request_counts is not None
            assert ended.request_counts.completed == 3
            assert ended.output_file_id is not None
            results = await client.files.content(ended.output_file_id)
            assert len(results.text.splitlines()) == 3
            assert (await client.files.delete(file.id)).deleted

    asyncio.run(tell())


def test_the_door_answers_on_loopback_and_its_last_requests_are_answered_while_it_closes() -> None:
    async def tell() -> None:
        world = World()
        world.gateway.apply(table(route(group("g1"))))
        world.backend.gate.clear()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        door, told = Door(world.app, "127.0.0.1", port), asyncio.Queue()
        messages = iter(["lifespan.startup", "lifespan.shutdown"])
        closing = asyncio.Event()

        async def receive() -> dict[str, str]:
            kind = next(messages)
            if kind == "lifespan.shutdown":
                await closing.wait()
            return {"type": kind}

        life = asyncio.ensure_future(door({"type": "lifespan"}, receive, told.put))
        assert (await told.get())["type"] == "lifespan.startup.complete"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            headers = {"authorization": f"Bearer {key_of(JUSTICE)}"}
            asked = {"model": MODEL, "messages": SAID}
            async with asyncio.timeout(20):
                while not (await _health(http)):  # noqa: ASYNC110  # as a person does
                    await asyncio.sleep(0.02)
                for given, repeated in (("req_mine-1", True), ("no; <log>", False)):
                    told_id = (await http.get("/v1/models", headers=headers | {"x-request-id": given})).headers
                    assert (told_id["x-request-id"] == given) is repeated, "the response names what the ledger names"
                asking = asyncio.ensure_future(http.post("/v1/chat/completions", json=asked, headers=headers))
                while not world.backend.inside:  # noqa: ASYNC110  # the fake has no event for it
                    await asyncio.sleep(0.02)
                closing.set()
                await asyncio.sleep(0.2)
                assert not life.done(), "the door waits for its last request"
                world.backend.gate.set()
                assert (await asking).status_code == 200
                await life

    asyncio.run(tell())


async def _health(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/-/healthz")).status_code == 200
    except httpx.HTTPError:
        return False
