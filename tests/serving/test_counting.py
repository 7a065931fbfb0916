"""What a client read is owed, also if it hangs up before the engine has told the count."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from policies.model.routing import TenantShare
from serving.catalogue import entries
from serving.gateway.counting import answer_tokens, by_mistral, by_rule, counting, prompt_tokens
from serving.gateway.request import parse
from serving.ledger import Ledger, UsageRecord, read
from tests.serving.fakes import JUSTICE, FakeBackend, World, chat, group, route, settle, table

SENTENCE = "The council met on Monday and agreed to repair the bridge before winter."


class SpeakingBackend(FakeBackend):
    """Says a sentence of 20 chunks, then waits at the gate."""

    async def answer(self, group: str, operation: str, body: bytes, priority: int, affinity: str = ""):
        from serving.engines.protocol import Piece, PieceKind

        for _ in range(20):
            said = {"choices": [{"index": 0, "delta": {"content": "word "}}]}
            yield Piece(PieceKind.DATA, json.dumps(said).encode())
        await self.gate.wait()
        yield Piece(PieceKind.USAGE, b'{"prompt_tokens":3,"completion_tokens":20}')


def left_in_mid_answer(folder: Path) -> UsageRecord:
    async def story() -> World:
        backend = SpeakingBackend()
        world = World(backend=backend, ledger=Ledger(folder))
        share = TenantShare(tenant=JUSTICE, tokens_per_minute=1_000)
        world.gateway.apply(table(route(group("g1")), shares=(share,)))
        backend.gate.clear()
        client = world.start("/v1/chat/completions", chat(stream=True, max_tokens=200))
        await settle()
        await client.leave()
        left = dict(world.gateway.limits.headers(JUSTICE, world.clock()))
        assert int(left[b"x-ratelimit-remaining-tokens"]) < 980, "hanging up early is not free"
        world.ledger.flush()
        return world

    asyncio.run(story())
    (found,) = read(folder)
    return found


@pytest.mark.parametrize("model", ["codestral-22b", "e5-mistral-7b-instruct"])
def test_older_models_of_mistral_are_counted_by_their_own_tokenizers(model: str) -> None:
    count = counting({str(entry.model.id): entry.tokenizer for entry in entries()})(model)
    code = "def area(radius):\n    return 3.14 * radius ** 2\n"
    assert count(SENTENCE) != by_rule(SENTENCE)
    assert len(SENTENCE.split()) <= count(SENTENCE) < 2 * len(SENTENCE.split())
    assert count(code) > by_rule(code)


def test_who_hangs_up_in_mid_answer_owes_what_was_read(tmp_path: Path) -> None:
    record = left_in_mid_answer(tmp_path)
    assert record.status == 499
    assert record.is_estimated
    assert record.completion_tokens == 25, "20 words of 5 characters"
    assert record.prompt_tokens > 0


def test_mistral_models_are_counted_by_their_own_tokenizers() -> None:
    tokenizers = {str(entry.model.id): entry.tokenizer for entry in entries()}
    named = {name for name in tokenizers.values() if name}
    assert named
    for name in named:
        count = by_mistral(name)
        assert count is not by_rule, name
        assert 12 <= count(SENTENCE) <= 18, name
    of = counting(tokenizers)
    assert of("smollm2-135m-instruct") is by_rule
    assert of("ministral-3-8b")("bridge") == 1
    assert by_mistral("a tokenizer that nobody ships") is by_rule


@pytest.mark.parametrize("prompt", ["hello there", ["hello ", "there"], None])
def test_prompts_are_counted_in_every_shape(prompt: object) -> None:
    operation = "completions" if prompt else "chat"
    parts = [{"type": "text", "text": "hello there"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    asked = {"prompt": prompt} if prompt else {"messages": [{"role": "user", "content": parts}]}
    request = parse(operation, json.dumps({"model": "m"} | asked).encode())
    assert prompt_tokens(request, lambda text: len(text.split())) == 2 + (0 if prompt else 4)


def test_tools_called_are_part_of_the_answer() -> None:
    chunk = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": '{"a":1}'}}]}}]}
    assert answer_tokens([json.dumps(chunk).encode()], len) == 7
