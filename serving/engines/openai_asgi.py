"""Any OpenAI-compatible ASGI application as an engine: asked in this process, without a socket."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "transcriptions": "/v1/audio/transcriptions",
}
FORM_FIELDS = ("model", "language", "prompt", "response_format", "temperature")
_SOUND_TOKEN_MS = 80
"""Time of a sound that one token stands for, in the models of the catalogue."""
_CHARACTERS_PER_TOKEN = 4
_OK, _REFUSED, _NO_SUCH_PATH, _SERVER_FAULT = 200, 400, 404, 500
LEAVE_LIMIT_S = 1.0
"""Longest wait for an application to stop by itself once its client has gone."""
_UNSAFE = re.compile(r"[^\w.-]")
_EVENT_END, _DATA, _DONE = b"\n\n", b"data: ", b"[DONE]"


async def answer_of(app: App, spec: EngineSpec, call: Call) -> AsyncIterator[Piece]:
    """Yield the application's answer as pieces; closing the iterator is a client that goes away."""
    if call.operation == "transcriptions":
        exchange = _Exchange(app, PATHS[call.operation], *_form(call.body))
    else:
        exchange = _Exchange(app, PATHS[call.operation], json.dumps(_body(call)).encode(), b"application/json")
    usage: dict[str, Any] = {}
    try:
        status = await exchange.status()
        if status != _OK:
            yield _refusal(status, await exchange.whole())
            return
        documents = exchange.events() if call.is_stream else _one(exchange)
        async for document in documents:
            usage = document.get("usage") or usage
            if call.operation == "transcriptions":
                yield Piece(PieceKind.DATA, json.dumps(document).encode())
                usage = _of_sound(document)
                continue
            if not call.is_stream or document.get("choices") or call.wants_usage:
                yield Piece(PieceKind.DATA, json.dumps(document | _names(spec)).encode())
        yield Piece(PieceKind.USAGE, json.dumps(usage).encode())
    finally:
        await exchange.leave()


def _body(call: Call) -> dict[str, Any]:
    """Return the request with what the gateway decides: usage is always counted, priority is the tenant's class."""
    dropped = ("user", "store", "service_tier", *(("cache_salt",) if call.operation == "embeddings" else ()))
    body = {key: value for key, value in call.body.items() if key not in dropped}
    if call.is_stream:
        body["stream_options"] = {"include_usage": True}
    if call.priority:
        body["priority"] = -call.priority  # lower runs first there
    return body


def _form(body: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return a transcription as the form that the application reads, and its content type."""
    boundary = secrets.token_hex(16).encode()
    parts = [
        b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), str(body[name]).encode())
        for name in FORM_FIELDS
        if name in body
    ]
    name = _UNSAFE.sub("_", str(body.get("filename", "sound"))).encode()
    head = b'Content-Disposition: form-data; name="file"; filename="%b"\r\n' % name
    parts.append(head + b"Content-Type: application/octet-stream\r\n\r\n" + base64.b64decode(body["file"]))
    whole = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary
    return whole, b"multipart/form-data; boundary=" + boundary


def _of_sound(document: dict[str, Any]) -> dict[str, int]:
    """Return tokens for a transcription, which tells its seconds only."""
    seconds = int((document.get("usage") or {}).get("seconds", 0))
    read, told = seconds * 1_000 // _SOUND_TOKEN_MS, -(-len(str(document.get("text", ""))) // _CHARACTERS_PER_TOKEN)
    return {"prompt_tokens": read, "completion_tokens": told, "total_tokens": read + told}


def _names(spec: EngineSpec) -> dict[str, str]:
    return {"model": spec.model, "system_fingerprint": spec.variant}


def _refusal(status: int, raw: bytes) -> Piece:
    try:
        told = json.loads(raw)
    except ValueError:
        told = {}
    error = told.get("error", told) if isinstance(told, dict) else {}
    if status == _NO_SUCH_PATH:  # to the client it is this model that does not do it, not the gateway's path
        status, error = _REFUSED, {"message": "this model does not do what was asked", "type": "not_supported"}
    about = {"status": status, "message": str(error.get("message", "refused")), "code": error.get("type")}
    return Piece(PieceKind.FAILED if status >= _SERVER_FAULT else PieceKind.REFUSED, json.dumps(about).encode())


async def _one(exchange: _Exchange) -> AsyncIterator[dict[str, Any]]:
    yield json.loads(await exchange.whole())


class _Exchange:
    """One request to the application, which runs in a task of its own."""

    def __init__(self, app: App, path: str, body: bytes, content_type: bytes) -> None:
        self._arrived: asyncio.Queue[Message | None] = asyncio.Queue()
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._gone = asyncio.Event()
        self._has_begun = False
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body))],
            "client": None,
            "server": None,
        }
        self._task = asyncio.get_running_loop().create_task(self._run(app, scope))

    async def status(self) -> int:
        """Return the status of the response; 500 if the application broke before it had one."""
        begun = await self._arrived.get()
        self._has_begun = True
        return int(begun["status"]) if begun is not None else _SERVER_FAULT

    async def whole(self) -> bytes:
        """Return the whole body."""
        return b"".join([part async for part in self._parts()])

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the documents of a stream of server-sent events."""
        waiting = b""
        async for part in self._parts():
            *events, waiting = (waiting + part).split(_EVENT_END)
            for event in events:
                data = event.removeprefix(_DATA).strip()
                if event.startswith(_DATA) and data != _DONE:
                    yield json.loads(data)

    async def leave(self) -> None:
        """Tell the application that its client went, and return when it has stopped.

        While no answer has begun it is given a moment: cancelled, vLLM leaves the work for a whole answer running.
        """
        self._gone.set()
        if not self._has_begun:
            await asyncio.wait({self._task}, timeout=LEAVE_LIMIT_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _parts(self) -> AsyncIterator[bytes]:
        while (message := await self._arrived.get()) is not None:
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    async def _run(self, app: App, scope: Message) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            for _ in range(2):  # one for who waits for the status, one for who waits for the body
                self._arrived.put_nowait(None)

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self._arrived.put_nowait(message)
