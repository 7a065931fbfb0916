"""The gateway's HTTP: a plain ASGI application, since every layer above it would be paid for by each request."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from policies.model.codec import to_json
from policies.model.routing import KeyRecord
from serving.engines.protocol import PieceKind
from serving.gateway.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    EngineBroke,
    ModelNotFound,
    NoSuchPath,
    RateLimited,
    WrongKey,
    WrongMethod,
)
from serving.gateway.exchange import Answer, Gateway, only_document
from serving.gateway.files_http import FilesHttp
from serving.gateway.metrics import CONTENT_TYPE
from serving.gateway.request import OPERATIONS, RESPONSES, Request, parse, parse_response
from serving.gateway.speech import ChatSpeech, ResponseSpeech, Speech
from serving.gateway.tally import ANSWERED
from serving.gateway.transcription import SOUND_LIMIT_BYTES, parse_transcription

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_LIMIT_BYTES = 8 * 1024 * 1024
MODELS = "/v1/models"
SOUNDS = "/v1/audio/transcriptions"
ASKING = {*OPERATIONS, RESPONSES, SOUNDS}
"""Paths that ask a model."""
PATH_SHOWN = 100
"""Characters of a path or a name that an error repeats."""
_JSON = b"application/json"
AT_DOOR = "partage.door"
"""Mark in the scope of requests that no proxy stands before."""
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_UNBUFFERED = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_log = logging.getLogger("ray.serve")


class HttpGateway:
    """Answers HTTP for a ``Gateway``. Writes no prompt, answer or key to any log."""

    def __init__(self, gateway: Gateway, control_token: str, files: FilesHttp | None = None) -> None:
        self._gateway = gateway
        self._files = files
        self._control_token = control_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point; also answers the lifespan protocol."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._route(exchange)
        except ApiError as error:
            if isinstance(error, WrongKey):
                self._gateway.metrics.refused(error.status)
            await exchange.error(error)
        except Exception as fault:  # noqa: BLE001  # the last catch: a tenant gets a JSON error, the log gets the kind
            _log.error("gateway fault: %s", type(fault).__name__)  # a trace may quote the prompt
            await exchange.error(EngineBroke("The gateway failed. Quote the request id to the operators."))

    async def _route(self, exchange: _Exchange) -> None:
        if exchange.path in ASKING and exchange.method == "POST":
            await self._asked(exchange)
        elif exchange.path == MODELS and exchange.method == "GET":
            await self._models(exchange)
        elif exchange.path.startswith(MODELS + "/") and exchange.method == "GET":
            await self._one_model(exchange, unquote(exchange.path.removeprefix(MODELS + "/")))
        elif self._files is not None and exchange.path.startswith(("/v1/files", "/v1/batches")):
            key = self._gateway.identify(exchange.header(b"authorization"))
            await self._files.answer(exchange, key, self._gateway.clock() // 1000)
        elif exchange.path == "/-/partage/load":
            await self._load(exchange)
        elif exchange.path == "/-/partage/metrics":
            await self._metrics(exchange)
        elif exchange.path == "/-/healthz":
            await exchange.json(200, b'{"status":"ok"}')
        elif exchange.path in ASKING or exchange.path == MODELS:
            wanted = "GET" if exchange.path == MODELS else "POST"
            raise WrongMethod(f"Not allowed to {exchange.method} on {exchange.path}. (Hint: use {wanted}.)")
        else:
            raise NoSuchPath(f"Invalid URL ({exchange.method} {exchange.path[:PATH_SHOWN]})")

    async def _asked(self, exchange: _Exchange) -> None:
        key = self._gateway.identify(exchange.header(b"authorization"))
        speech: Speech = ChatSpeech()
        if exchange.path == RESPONSES:
            request = parse_response(await exchange.body())
            speech = ResponseSpeech(exchange.request_id, self._gateway.clock() // 1000)
        elif exchange.path == SOUNDS:
            sound = await exchange.body(SOUND_LIMIT_BYTES)
            request = parse_transcription(exchange.header(b"content-type"), sound)
        else:
            request = parse(OPERATIONS[exchange.path], await exchange.body())
        await self._infer(exchange, key, request, speech)

    async def _infer(self, exchange: _Exchange, key: KeyRecord, request: Request, speech: Speech) -> None:
        tally = self._gateway.open(key, request, exchange.request_id, exchange.header(b"x-session-id"))
        try:
            async with exchange.until_disconnect():
                answer = await self._gateway.answer(tally)
                exchange.extra = self._gateway.limits.headers(key.tenant, self._gateway.clock())
                await (exchange.stream if request.is_stream else exchange.whole)(answer, speech)
                tally.status = EngineBroke.status if answer.failed else ANSWERED
        except RateLimited:
            exchange.extra = self._gateway.limits.headers(key.tenant, self._gateway.clock())
            raise
        except EngineBroke as error:
            tally.fail(error)
            raise
        finally:
            self._gateway.settle(tally)

    async def _models(self, exchange: _Exchange) -> None:
        key = self._gateway.identify(exchange.header(b"authorization"))
        data = [_model(name) for name in self._gateway.models(key)]
        await exchange.json(200, json.dumps({"object": "list", "data": data}).encode())

    async def _one_model(self, exchange: _Exchange, name: str) -> None:
        key = self._gateway.identify(exchange.header(b"authorization"))
        if name not in self._gateway.models(key):
            raise ModelNotFound(name[:PATH_SHOWN])
        await exchange.json(200, json.dumps(_model(name)).encode())

    async def _metrics(self, exchange: _Exchange) -> None:
        self._require_control(exchange)
        load = self._gateway.dispatcher.load()
        queued = [(str(priority), count) for priority, count in self._gateway.dispatcher.queued().items()]
        inside = [(str(claim.claim), claim.in_flight) for claim in (load.claims if load else ())]
        text = self._gateway.metrics.exposition(queued, inside)
        await exchange.respond(200, CONTENT_TYPE.encode(), text)

    def _require_control(self, exchange: _Exchange) -> None:
        given = exchange.header(b"authorization").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._control_token.encode()):
            raise WrongKey

    async def _load(self, exchange: _Exchange) -> None:
        self._require_control(exchange)
        load = self._gateway.dispatcher.load()
        await exchange.json(200, b"null" if load is None else to_json(load).encode())


class _Exchange:
    """One HTTP request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._headers: Headers = scope["headers"]
        self.query: bytes = scope.get("query_string", b"")
        given = self.header(b"x-request-id")
        self.request_id = given if _SAFE_ID.fullmatch(given) else "req_" + secrets.token_hex(12)
        """The client's choice, unless it may not enter a log."""
        # Ray Serve's proxies choose an id, or take the client's, and repeat it in the response themselves.
        is_repeated = bool(given) and AT_DOOR not in scope
        self._own_headers: Headers = [] if is_repeated else [(b"x-request-id", self.request_id.encode())]
        self.extra: Headers = []
        """Headers for the response, whatever it will be."""
        self._receive = receive
        self._send = send
        self._has_begun = False

    def header(self, name: bytes) -> str:
        """Return the header's value; empty if it is not there."""
        return next((value.decode("latin-1") for key, value in self._headers if key == name), "")

    async def body(self, limit: int = BODY_LIMIT_BYTES) -> bytes:
        """Return the whole body. Raises ``BodyTooLarge``, and ``BadRequest`` if the client goes before its end."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise BadRequest("The body of your request ended early.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise BodyTooLarge(f"The request is larger than {limit} bytes.")
            if not message.get("more_body"):
                return b"".join(parts)

    def until_disconnect(self) -> _UntilDisconnect:
        """Return a context in which a client that goes away ends the work for it."""
        return _UntilDisconnect(self._receive)

    async def whole(self, answer: Answer, speech: Speech) -> None:
        """Send the answer as one JSON document."""
        try:
            document = speech.whole(await only_document(answer))
        finally:
            await answer.close()
        await self.json(200, document, _about(answer))

    async def stream(self, answer: Answer, speech: Speech) -> None:
        """Send each piece as it comes, as server-sent events. A break is told inside the stream, and not its end."""
        try:
            await self._begin(200, [_EVENTS, *_UNBUFFERED, *_about(answer)])
            async for kind, payload in answer:
                if kind == PieceKind.DATA:
                    await self._part(speech.piece(payload))
                elif kind == PieceKind.FAILED:
                    await self._end(speech.broken())
                    return
            await self._end(speech.end())
        finally:
            await answer.close()

    async def json(self, status: int, document: bytes, extra: Headers | None = None) -> None:
        """Send a whole response."""
        await self.respond(status, _JSON, document, extra)

    async def respond(self, status: int, content_type: bytes, body: bytes, extra: Headers | None = None) -> None:
        """Send a whole response of any type."""
        length = (b"content-length", b"%d" % len(body))
        await self._begin(status, [(b"content-type", content_type), length, *(extra or ())])
        await self._end(body)

    async def error(self, error: ApiError) -> None:
        """Send the error, or end what has begun."""
        if self._has_begun:
            await self._end(b"data: %b\n\n" % error.document())
        else:
            await self.json(error.status, error.document(), error.headers())

    async def _begin(self, status: int, headers: Headers) -> None:
        self._has_begun = True
        everything = self._own_headers + self.extra + headers
        await self._send({"type": "http.response.start", "status": status, "headers": everything})

    async def _part(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})


class _UntilDisconnect:
    """Cancels the work inside once the client has gone, and ends quietly then."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_gone = False

    async def __aenter__(self) -> None:
        self._watch = asyncio.create_task(self._wait(asyncio.current_task()))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._watch.cancel()
        return self._has_gone and kind is asyncio.CancelledError

    async def _wait(self, work: asyncio.Task[Any] | None) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_gone = True
        if work is not None:
            work.cancel()


def _about(answer: Answer) -> Headers:
    return [
        (b"x-partage-model", answer.model.encode()),
        (b"x-partage-group", answer.group.encode()),
        (b"x-partage-variant", answer.variant.encode()),
    ]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "partage"}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
