"""An engine without a model, for load tests: it takes the time that a real one would and says so in every answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from serving.engines.chunks import assemble_chat, assemble_completion
from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind

Document = dict[str, Any]
FINGERPRINT = "synthetic"
SENTENCE = ("This", " answer", " is", " synthetic", ":", " no", " model", " ran", ".")
DEFAULT_TOKENS = 16
_CHARACTERS_PER_TOKEN = 4


class Synthetic:
    """Service times from ``options``: ``first_token_ms`` and ``token_ms``, both 0 unless given."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._first_token_s = spec.options.get("first_token_ms", 0) / 1000
        self._token_s = spec.options.get("token_ms", 0) / 1000
        self._slots = asyncio.Semaphore(spec.concurrency)

    async def start(self) -> None:
        """See ``Engine``; there is nothing to load."""

    async def answer(self, call: Call) -> AsyncIterator[Piece]:
        """See ``Engine``. The answer has exactly ``max_tokens`` tokens, or 16."""
        if call.operation not in ("chat", "completions"):
            yield Piece(
                PieceKind.REFUSED, b'{"status":400,"message":"a synthetic model does chats and completions only"}'
            )
            return
        async with self._slots:
            async for piece in self._answer(call):
                yield piece

    async def close(self) -> None:
        """See ``Engine``."""

    async def _answer(self, call: Call) -> AsyncIterator[Piece]:
        count = call.body.get("max_completion_tokens") or call.body.get("max_tokens") or DEFAULT_TOKENS
        prompt = call.body.get("messages") or call.body.get("prompt") or ""
        usage = _usage(max(1, len(json.dumps(prompt)) // _CHARACTERS_PER_TOKEN), count)
        await _pause(self._first_token_s)
        if not call.is_stream:
            await _pause(self._token_s * (count - 1))
            whole = assemble_chat if call.operation == "chat" else assemble_completion
            chunks = [self._chunk(call, _text(range(count)), None), self._chunk(call, "", "length")]
            yield Piece(PieceKind.DATA, json.dumps(whole(chunks) | {"usage": usage}).encode())
        else:
            async for piece in self._stream(call, count, usage):
                yield piece
        yield Piece(PieceKind.USAGE, json.dumps(usage).encode())

    async def _stream(self, call: Call, count: int, usage: Document) -> AsyncIterator[Piece]:
        for position in range(count):
            if position:
                await _pause(self._token_s)
            last = "length" if position == count - 1 else None
            chunk = self._chunk(call, SENTENCE[position % len(SENTENCE)], last)
            yield Piece(PieceKind.DATA, json.dumps(chunk).encode())
        if call.wants_usage:
            yield Piece(
                PieceKind.DATA, json.dumps(self._chunk(call, "", None) | {"choices": [], "usage": usage}).encode()
            )

    def _chunk(self, call: Call, text: str, finish: str | None) -> Document:
        is_chat = call.operation == "chat"
        part: Document = {"delta": {"content": text}} if is_chat else {"text": text}
        return {
            "id": f"{FINGERPRINT}-0",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": 0,
            "model": self._spec.model,
            "system_fingerprint": f"{FINGERPRINT}:{self._spec.variant}",
            "choices": [{"index": 0, **part, "finish_reason": finish}],
        }


def _text(positions: range) -> str:
    return "".join(SENTENCE[position % len(SENTENCE)] for position in positions)


def _usage(prompt: int, answer: int) -> Document:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


async def _pause(duration_s: float) -> None:
    if duration_s > 0:
        await asyncio.sleep(duration_s)
