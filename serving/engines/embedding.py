"""Texts to vectors with llama.cpp: the same GGUF files, opened for embeddings."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.engines.llama_cpp import REFUSALS, parameters, refusal
from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind


class Embedding:
    """See ``Engine``. Answers ``embeddings`` only; a pooled vector of each input, of length 1."""

    def __init__(self, spec: EngineSpec) -> None:
        from xllamacpp import Server, llama_pooling_type

        wanted = parameters(spec)
        wanted.embedding = True
        wanted.pooling_type = llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        wanted.n_batch = wanted.n_ubatch = spec.context  # an input is read in one piece
        self._spec = spec
        self._server = Server(wanted)
        self._threads = ThreadPoolExecutor(max_workers=spec.concurrency, thread_name_prefix="embedding")

    async def start(self) -> None:
        """See ``Engine``; the constructor has loaded all."""

    async def answer(self, call: Call) -> AsyncIterator[Piece]:
        """See ``Engine``."""
        if call.operation != "embeddings":
            yield refusal({"message": f"model {self._spec.model} does embeddings only", "type": "embeddings_only"})
            return
        if call.body.get("dimensions") is not None:
            said = "This model does not support specifying dimensions."
            yield refusal({"message": said, "type": "unsupported_parameter", "param": "dimensions"})
            return
        asked = {"input": call.body["input"], "encoding_format": "float"}
        try:
            loop = asyncio.get_running_loop()
            told = await loop.run_in_executor(self._threads, self._server.handle_embeddings, asked)
        except REFUSALS as fault:
            yield refusal({"message": str(fault)})
            return
        if "error" in told:
            yield refusal(told["error"])
            return
        usage = {name: told["usage"][name] for name in ("prompt_tokens", "total_tokens")}
        document = {
            "object": "list",
            "model": self._spec.model,
            "data": [_encoded(item, str(call.body.get("encoding_format", "float"))) for item in told["data"]],
            "usage": usage,
        }
        yield Piece(PieceKind.DATA, json.dumps(document).encode())
        yield Piece(PieceKind.USAGE, json.dumps(usage | {"completion_tokens": 0}).encode())

    async def close(self) -> None:
        """See ``Engine``."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def _encoded(item: dict[str, Any], encoding: str) -> dict[str, Any]:
    vector = item["embedding"]
    if encoding == "base64":  # what OpenAI's own client asks for unless told otherwise
        vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return {"object": "embedding", "index": item["index"], "embedding": vector}
