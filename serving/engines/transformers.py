"""PyTorch and transformers: the fallback on GPUs without vLLM, and for models that llama.cpp cannot read.

Needs the packages ``torch`` and ``transformers``; tested where they are installed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.engines.chunks import assemble_chat, assemble_completion
from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind

DEFAULT_TOKENS = 256


class Transformers:
    """See ``Engine``. One request at a time per thread; ``concurrency`` threads share the device."""

    def __init__(self, spec: EngineSpec) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._spec = spec
        device = "cuda" if torch.cuda.is_available() else "cpu"
        safe = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(str(spec.weights), **safe)
        kind = torch.bfloat16 if device == "cuda" else torch.float32
        loaded = AutoModelForCausalLM.from_pretrained(str(spec.weights), use_safetensors=True, dtype=kind, **safe)
        self._model = loaded.to(device).eval()
        self._device = device
        self._threads = ThreadPoolExecutor(max_workers=spec.concurrency, thread_name_prefix="transformers")

    async def start(self) -> None:
        """See ``Engine``; the constructor has loaded all."""

    async def answer(self, call: Call) -> AsyncIterator[Piece]:
        """See ``Engine``."""
        if call.operation not in ("chat", "completions") or call.body.get("tools"):
            told = {"status": 400, "message": f"model {self._spec.model} does not do this on engine transformers"}
            yield Piece(PieceKind.REFUSED, json.dumps(told).encode())
            return
        tokens = self._tokens(call)
        limit = call.body.get("max_completion_tokens") or call.body.get("max_tokens") or DEFAULT_TOKENS
        room = self._spec.context - tokens.shape[-1]
        if room < 1:
            told = {"status": 400, "message": f"the prompt exceeds the context of {self._spec.context} tokens"}
            yield Piece(PieceKind.REFUSED, json.dumps(told).encode())
            return
        chunks: list[dict[str, Any]] = []
        count = 0
        async for text, made in self._generate(tokens, min(limit, room), call):
            count = made
            if not text:
                continue
            chunks.append(self._chunk(call, text, None))
            if call.is_stream:
                yield Piece(PieceKind.DATA, json.dumps(chunks.pop()).encode())
        usage = _usage(tokens.shape[-1], count)
        chunks.append(self._chunk(call, "", "length" if count >= limit else "stop"))
        if call.is_stream:
            yield Piece(PieceKind.DATA, json.dumps(chunks.pop()).encode())
            if call.wants_usage:
                last = self._chunk(call, "", None) | {"choices": [], "usage": usage}
                yield Piece(PieceKind.DATA, json.dumps(last).encode())
        else:
            assemble = assemble_chat if call.operation == "chat" else assemble_completion
            yield Piece(PieceKind.DATA, json.dumps(assemble(chunks) | {"usage": usage}).encode())
        yield Piece(PieceKind.USAGE, json.dumps(usage).encode())

    async def close(self) -> None:
        """See ``Engine``."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tokens(self, call: Call) -> Any:
        if call.operation == "chat":
            given = self._tokenizer.apply_chat_template(
                call.body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
        else:
            given = self._tokenizer(call.body["prompt"], return_tensors="pt").input_ids
        return given.to(self._device)

    async def _generate(self, tokens: Any, limit: int, call: Call) -> AsyncIterator[tuple[str, int]]:
        """Yield each piece of text with the tokens made so far; the last one may be empty."""
        loop, arrived, stopped = asyncio.get_running_loop(), asyncio.Queue[tuple[str, int] | None](), threading.Event()
        streamer = self._streamer(lambda text, made: loop.call_soon_threadsafe(arrived.put_nowait, (text, made)))
        heat = call.body.get("temperature", 1.0)
        drawn = {"do_sample": True, "temperature": heat, "top_p": call.body.get("top_p", 1.0)} if heat else {}

        def run() -> None:
            try:
                self._model.generate(
                    tokens,
                    max_new_tokens=limit,
                    streamer=streamer,
                    stopping_criteria=[lambda *_: stopped.is_set()],
                    **(drawn or {"do_sample": False}),
                )
            finally:
                loop.call_soon_threadsafe(arrived.put_nowait, None)

        running = loop.run_in_executor(self._threads, run)
        try:
            while (piece := await arrived.get()) is not None:
                yield piece
            await running
        finally:
            stopped.set()

    def _streamer(self, on_text: Any) -> Any:
        from transformers import TextStreamer

        class Streamer(TextStreamer):  # type: ignore[misc]  # the package has no types here
            made = -1  # the first call brings the prompt
            """Tokens made so far."""

            def put(self, value: Any) -> None:
                self.made += 1
                super().put(value)

            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the signature of the base
                on_text(text, self.made)

        return Streamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)

    def _chunk(self, call: Call, text: str, finish: str | None) -> dict[str, Any]:
        is_chat = call.operation == "chat"
        part: dict[str, Any] = {"delta": {"content": text}} if is_chat else {"text": text}
        return {
            "id": f"{self._spec.group}-transformers",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": 0,
            "model": self._spec.model,
            "system_fingerprint": self._spec.variant,
            "choices": [{"index": 0, **part, "finish_reason": finish}],
        }


def _usage(prompt: int, answer: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
