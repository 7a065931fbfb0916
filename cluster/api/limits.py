"""Limits at the door: size, nesting and readability of bodies, requests per minute, a name for every request."""

from __future__ import annotations

import json
import re
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.api import bodies
from cluster.api.problems import problem
from cluster.ports import Clock
from cluster.settings import Settings

READABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
CALLERS_REMEMBERED = 10_000
MINUTE_MS = 60_000
NAME = "control"


class Unreadable(Exception):
    """A JSON body that no two programs would read alike."""


@dataclass(slots=True)
class Window:
    """Requests of one caller in the current minute."""

    began_ms: int
    used: int = 0


class Door:
    """ASGI middleware around the whole API."""

    def __init__(self, app: ASGIApp, settings: Settings, clock: Clock) -> None:
        self._app = app
        self._settings = settings
        self._clock = clock
        self._windows: OrderedDict[str, Window] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        scope["request_id"] = _request_id(request)
        window = self._count(_caller(request))
        answer = _stamped(send, scope["request_id"], self._rate_headers(window))
        if window.used > self._settings.requests_per_minute:
            again = (window.began_ms + MINUTE_MS - self._clock.monotonic_ms()) // 1000 + 1
            detail = f"more than {self._settings.requests_per_minute} requests in a minute; wait {again} s"
            await problem(request, "too_many_requests", detail, retry_after=again)(scope, receive, answer)
            return
        body = await self._body(request)
        if isinstance(body, tuple):
            await problem(request, *body)(scope, receive, answer)
            return
        await self._app(scope, bodies.again(body, receive), answer)

    async def _body(self, request: Request) -> bytes | tuple[str, str]:
        """Return the body, or the code and detail of what is wrong with it."""
        limit, body = self._settings.body_bytes, b""
        if request.headers.get("content-encoding", "identity") != "identity":
            return "unsupported_media_type", "send the body without content-encoding"
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return "body_too_large", f"the body is larger than {limit} bytes (setting body_bytes)"
        if body and "json" in request.headers.get("content-type", ""):
            try:
                refuse_unreadable(body, self._settings.json_depth)
            except Unreadable as fault:
                return "malformed", str(fault)
        return body

    def _count(self, caller: str) -> Window:
        now = self._clock.monotonic_ms()
        window = self._windows.pop(caller, Window(now))
        if now - window.began_ms >= MINUTE_MS:
            window = Window(now)
        window.used += 1
        self._windows[caller] = window
        if len(self._windows) > CALLERS_REMEMBERED:
            self._windows.popitem(last=False)
        return window

    def _rate_headers(self, window: Window) -> list[tuple[bytes, bytes]]:
        quota = self._settings.requests_per_minute
        reset_s = max(0, window.began_ms + MINUTE_MS - self._clock.monotonic_ms()) // 1000
        return [
            (b"ratelimit-policy", f'"{NAME}";q={quota};w=60'.encode()),
            (b"ratelimit", f'"{NAME}";r={max(0, quota - window.used)};t={reset_s}'.encode()),
        ]


def refuse_unreadable(body: bytes, depth: int) -> None:
    """Raise ``Unreadable`` unless the body is JSON that every program reads alike.

    Refused: wrong UTF-8, nesting beyond ``depth``, NaN and infinities, a key twice in one object, half surrogates.
    """
    if nesting(body) > depth:
        raise Unreadable(f"the JSON is nested deeper than {depth}")
    try:
        value = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as fault:
        raise Unreadable("the JSON is not valid UTF-8 or holds half a surrogate pair") from fault
    except ValueError as fault:
        raise Unreadable(f"the body is not JSON: {fault}") from fault


def nesting(body: bytes) -> int:
    """Return how deep arrays and objects are nested, brackets inside strings left out; linear in the length."""
    deepest = level = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', body, re.DOTALL):
        first = token.group()[:1]
        if first in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif first in b"]}":
            level -= 1
    return deepest


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _caller(request: Request) -> str:
    token = request.headers.get("authorization", "")
    return token[:40] if token else f"host:{request.client.host if request.client else ''}"


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    if READABLE_ID.fullmatch(given):
        return given
    trace = request.headers.get("traceparent", "")
    return trace.split("-")[1] if TRACEPARENT.fullmatch(trace) else uuid.uuid4().hex


def _stamped(send: Send, request_id: str, headers: list[tuple[bytes, bytes]]) -> Send:
    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers, (b"x-request-id", request_id.encode())]
        await send(message)

    return stamped
