"""llama.cpp in the replica's own process: the engine of machines without a GPU and of small GPUs."""

from __future__ import annotations

import asyncio
import json
import mmap
import re
import secrets
import struct
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.engines.chunks import assemble_chat, assemble_completion
from serving.engines.llama_requests import Told, parts, unsupported
from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind

Document = dict[str, Any]
_DIAGNOSTICS = ("timings", "__verbose")
"""What llama.cpp adds to OpenAI's shapes."""
_TEMPLATE_KEY = b"tokenizer.chat_template"
_STRING_HEADER = struct.Struct("<IQ")
"""Of a GGUF value: its type, and for strings the length."""
_METADATA_LIMIT_BYTES = 64 * 1024 * 1024
_FIELD = re.compile(r"Field '(\w+)'")
"""How llama.cpp names the parameter at fault."""
_REFUSED_STATUS = 400
REFUSALS = (TypeError, ValueError, RuntimeError)
"""How llama.cpp says that a request is wrong, or asks for what it lacks."""
_SERVER_FAULT = 500


class LlamaCpp:
    """One loaded GGUF file with as many parallel slots as the shape's concurrency."""

    def __init__(self, spec: EngineSpec) -> None:
        from xllamacpp import Server

        self._spec = spec
        self._server = Server(parameters(spec))
        self._knows_tools = b"tools" in _chat_template(spec.weights)
        self._salts: set[str] = set()
        """Of the tenants that have asked: a prompt kept for one must not speed up, and so betray itself to, another."""
        self._threads = ThreadPoolExecutor(max_workers=spec.concurrency + 1, thread_name_prefix="llama")
        self._is_closing = threading.Event()

    async def start(self) -> None:
        """See ``Engine``; the constructor has loaded all."""

    async def answer(self, call: Call) -> AsyncIterator[Piece]:
        """See ``Engine``. The work is always streamed inside, since only a stream can be stopped."""
        refused = self._refused(call)
        if refused is not None:
            yield refused
            return
        told, chunks = Told(call.body, call.operation), list[Document]()
        for first, body in parts(call.body, call.operation):
            async for piece in self._chunks(replace(call, body=body)):
                if "error" in piece:
                    yield refusal(piece["error"])
                    return
                chunk = told.add(piece, first, body.get("prompt"))
                if chunk is not None and call.is_stream:
                    yield Piece(PieceKind.DATA, json.dumps(chunk).encode())
                elif chunk is not None:
                    chunks.append(chunk)
        if call.is_stream and call.wants_usage:
            yield Piece(PieceKind.DATA, json.dumps(told.last()).encode())
        elif not call.is_stream:
            assemble = assemble_chat if call.operation == "chat" else assemble_completion
            yield Piece(PieceKind.DATA, json.dumps(assemble(chunks) | {"usage": told.usage()}).encode())
        yield Piece(PieceKind.USAGE, json.dumps(told.usage()).encode())

    def _refused(self, call: Call) -> Piece | None:
        asked = next((name for name in ("tools", "functions") if call.body.get(name)), None)
        if asked is not None and not self._knows_tools:
            said = f"model {self._spec.model} was not made to call tools"
            return refusal({"message": said, "type": "no_tools", "param": asked})
        found = unsupported(call.body)
        if found is None:
            return None
        return refusal({"message": found[1], "type": "unsupported_parameter", "param": found[0]})

    async def close(self) -> None:
        """See ``Engine``. Waits for the threads: llama.cpp ended under a call that still tells would wait for ever."""
        self._is_closing.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _chunks(self, call: Call) -> AsyncIterator[Document]:
        loop, arrived, stopped = asyncio.get_running_loop(), asyncio.Queue[Document | None](), threading.Event()

        def on_chunk(chunk: Document) -> bool:
            loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            return stopped.is_set() or self._is_closing.is_set()

        def run() -> None:
            try:
                if not stopped.is_set():
                    self._handler(call)(self._streamed(call.body), on_chunk)
            except REFUSALS as fault:
                error = {"message": str(fault).partition(" - hint")[0]}
                loop.call_soon_threadsafe(arrived.put_nowait, {"error": error})
            finally:
                loop.call_soon_threadsafe(arrived.put_nowait, None)

        loop.run_in_executor(self._threads, run)
        try:
            while (chunk := await arrived.get()) is not None:
                yield self._named(chunk)
        finally:
            stopped.set()

    def _streamed(self, body: Document) -> Document:
        """Return the request as llama.cpp gets it: streamed, and reusing prompts only while one tenant has asked."""
        self._salts.add(str(body.get("cache_salt", "")))
        passed_on = {key: value for key, value in body.items() if key != "cache_salt"}
        return passed_on | {
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_prompt": len(self._salts) == 1,
        }

    def _handler(self, call: Call) -> Callable[[Document, Callable[[Document], bool]], object]:
        if call.operation == "chat":
            return self._server.handle_chat_completions  # type: ignore[no-any-return]  # the package has no types
        if call.operation == "completions":
            return self._server.handle_completions  # type: ignore[no-any-return]  # the package has no types
        raise ValueError(f"model {self._spec.model} does not do {call.operation}")

    def _named(self, chunk: Document) -> Document:
        named = {key: value for key, value in chunk.items() if key not in _DIAGNOSTICS}
        if "error" not in chunk:
            named |= {"model": self._spec.model, "system_fingerprint": self._spec.variant}
        return named


def parameters(spec: EngineSpec) -> Any:
    """Return llama.cpp's settings for the replica."""
    from xllamacpp import CommonParams

    wanted = CommonParams()
    wanted.model.path = str(spec.weights)
    wanted.n_ctx = spec.context * spec.concurrency
    wanted.n_parallel = spec.concurrency
    # Spinning threads of several replicas on the same cores slow each other down tenfold, hence few.
    wanted.cpuparams.n_threads = spec.threads
    wanted.cpuparams_batch.n_threads = spec.threads
    wanted.verbosity = -1
    # The library also listens on a random loopback port. Nothing may reach a model past the gateway, so that port is
    # locked with a key that nobody knows.
    wanted.api_keys = [secrets.token_hex(32)]
    wanted.endpoint_slots = False
    wanted.cache_ram_mib = 0  # answers of one tenant are not kept in host memory for the next
    return wanted


def _chat_template(weights: Path | None) -> bytes:
    """Return the template in a GGUF file; empty if it has none. llama.cpp ignores tools that it has no place for."""
    if weights is None:
        return b""
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        key = content.find(_TEMPLATE_KEY, 0, _METADATA_LIMIT_BYTES)
        if key < 0:
            return b""
        start = key + len(_TEMPLATE_KEY) + _STRING_HEADER.size
        _, length = _STRING_HEADER.unpack_from(content, start - _STRING_HEADER.size)
        return content[start : start + length]


def refusal(error: Document) -> Piece:
    """Return the piece for an error of llama.cpp."""
    status = int(error.get("code") or _REFUSED_STATUS) if str(error.get("code", "")).isdigit() else _REFUSED_STATUS
    about = {"message": error.get("message", ""), "status": status, "code": error.get("type")}
    named = _FIELD.match(str(about["message"]))
    param = error.get("param") or (named[1] if named else None)
    about |= {"param": param} if param else {}
    kind = PieceKind.FAILED if status >= _SERVER_FAULT else PieceKind.REFUSED
    return Piece(kind, json.dumps(about).encode())
