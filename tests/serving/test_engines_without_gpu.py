"""What can be held of the GPU engines without a GPU: their flags, and how an OpenAI application is asked."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.engines import open_engine
from serving.engines.openai_asgi import answer_of
from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind
from serving.engines.vllm import flags, memory_share
from serving.errors import EngineUnavailable
from serving.gateway.request import parse


def spec(**options: Any) -> EngineSpec:
    return EngineSpec(
        group="g1",
        model="mistral-small",
        variant="mistral-small-fp8",
        engine="vllm",
        weights=Path("/weights/mistral-small"),
        context=32_768,
        concurrency=32,
        options=options,
    )


def test_vllms_flags_follow_from_the_shape() -> None:
    derived = flags(spec(devices=2, precision="fp8"))
    assert derived["tensor_parallel_size"] == 2
    assert derived["max_model_len"] == 32_768
    assert derived["max_num_seqs"] == 32
    assert derived["kv_cache_dtype"] == "fp8"
    assert derived["model"] == "/weights/mistral-small"


def test_a_part_of_a_device_bounds_the_memory_of_the_engine() -> None:
    assert memory_share({"gpu_millis": 500}) == 0.5
    assert memory_share({"gpu_millis": 500, "memory_mib": 20_000, "device_memory_mib": 80_000}) == 0.25
    assert memory_share({}) == 0.92, "a whole device, less what the driver keeps"
    assert memory_share({"gpu_millis": 999}) == 0.92


def test_nothing_of_a_prompt_is_logged_and_no_code_of_a_model_runs() -> None:
    derived = flags(spec())
    assert derived["enable_log_requests"] is False
    assert derived["trust_remote_code"] is False
    assert derived["load_format"] == "safetensors"


@pytest.mark.elsewhere
@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_an_engine_whose_package_is_missing_says_so_when_the_replica_starts() -> None:
    bare = EngineSpec(group="g", model="m", variant="v", engine="vllm")
    with pytest.raises(EngineUnavailable, match="vllm"):
        open_engine(bare)


class FakeOpenAi:
    """An application in OpenAI's shapes, as vLLM's is; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.was_left = self.was_told = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        self.asked.append((scope["path"], body))
        if body.get("seed") == -1:
            await self._whole(send, 400, {"error": {"message": "bad seed", "type": "BadRequestError", "code": 400}})
        elif body.get("seed") == -3:
            self.was_told = (await receive())["type"] == "http.disconnect"
        elif body.get("seed") == -2:
            raise RuntimeError("the engine died")
        elif body.get("stream"):
            await self._stream(send)
        else:
            usage = {"prompt_tokens": 2, "completion_tokens": 1}
            await self._whole(send, 200, {"model": "path", "choices": [{"index": 0}], "usage": usage})

    async def _whole(self, send: Any, status: int, document: dict[str, Any]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})

    async def _stream(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        lines = [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [], "usage": {"prompt_tokens": 2}}]
        events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        try:
            for at in range(0, len(events), 7):  # chunks of a network do not end where events do
                await asyncio.sleep(0)
                await send({"type": "http.response.body", "body": events[at : at + 7].encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            self.was_left = True
            raise


async def pieces_of(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


def ask(app: FakeOpenAi, operation: str = "chat", priority: int = 0, **body: Any) -> list[Piece]:
    call = Call(operation=operation, body={"messages": [], **body}, priority=priority)
    return asyncio.run(pieces_of(answer_of(app, spec(), call)))


def test_a_whole_answer_keeps_its_usage_and_gets_our_names() -> None:
    data, usage = ask(FakeOpenAi())
    document = json.loads(data.payload)
    assert (document["model"], document["system_fingerprint"]) == ("mistral-small", "mistral-small-fp8")
    assert (usage.kind, json.loads(usage.payload)["prompt_tokens"]) == (PieceKind.USAGE, 2)


def test_a_stream_is_cut_into_documents_wherever_the_network_cut_it() -> None:
    data, usage = ask(FakeOpenAi(), stream=True)
    assert json.loads(data.payload)["choices"][0]["delta"] == {"content": "a"}
    assert json.loads(usage.payload) == {"prompt_tokens": 2}


def test_refusals_and_breaks_are_told_apart() -> None:
    (refused,) = ask(FakeOpenAi(), seed=-1)
    (failed,) = ask(FakeOpenAi(), seed=-2)
    assert (refused.kind, failed.kind) == (PieceKind.REFUSED, PieceKind.FAILED)
    assert json.loads(refused.payload)["message"] == "bad seed"


def test_the_tenants_class_becomes_the_engines_priority_and_who_asks_is_not_passed_on() -> None:
    app = FakeOpenAi()
    ask(app, priority=7, user="somebody")
    path, body = app.asked[0]
    assert path == "/v1/chat/completions"
    assert body["priority"] == -7
    assert "user" not in body


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ],
)
def test_sounds_and_images_reach_the_application_as_the_client_sent_them(part: dict[str, Any]) -> None:
    app = FakeOpenAi()
    said = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    body = json.dumps({"model": "mistral-small", "messages": said}).encode()
    asyncio.run(pieces_of(answer_of(app, spec(), Call(operation="chat", body=json.loads(parse("chat", body).raw)))))
    assert app.asked[0][1]["messages"] == said


def test_a_client_that_leaves_ends_the_applications_work() -> None:
    app = FakeOpenAi()

    async def leave() -> None:
        pieces = answer_of(app, spec(), Call(operation="chat", body={"stream": True}))
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(leave())
    assert app.was_left


def test_a_client_that_leaves_before_the_answer_begins_is_told_of_not_cut_off() -> None:
    app = FakeOpenAi()

    async def leave() -> None:
        pieces = answer_of(app, spec(), Call(operation="chat", body={"seed": -3}))
        reading = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await pieces.aclose()

    asyncio.run(leave())
    assert app.was_told
