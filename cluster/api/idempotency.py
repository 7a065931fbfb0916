"""The same request twice has the effect of one: answers are kept under the caller's Idempotency-Key."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.api.bodies import again
from cluster.api.problems import problem
from cluster.journal.store import Store
from cluster.ports import Clock
from cluster.settings import Settings

KEY = re.compile(r"[\x21-\x7e]{1,128}")
HOUR_MS = 3_600_000
UNSTORED = 500
"""Answers from this status on are not kept: the request may be tried again."""
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""Methods that change something; a key on any other is of no use and is ignored."""


class Once:
    """ASGI middleware for changes that carry an Idempotency-Key."""

    def __init__(self, app: ASGIApp, store: Store, settings: Settings, clock: Clock) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from what is kept, or carry the request out and keep its answer."""
        key = Request(scope).headers.get("idempotency-key") if scope["type"] == "http" else None
        if key is None or scope["method"] not in CHANGES:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        caller = hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()
        named = hashlib.sha256(
            f"{scope['method']} {scope['path']}?{scope['query_string']!r}".encode() + body
        ).hexdigest()
        if not KEY.fullmatch(key):
            await problem(request, "malformed", "an Idempotency-Key is 1 to 128 visible characters")(
                scope, receive, send
            )
            return
        kept = await run_in_threadpool(self._begin, caller, key, named)
        if kept is None:
            await self._carry_out(scope, again(body, receive), send, (caller, key))
        elif kept[0] != named:
            detail = "this Idempotency-Key was used for another request; use a new one"
            await problem(request, "idempotency_key_reused", detail)(scope, receive, send)
        elif kept[1] is None:
            detail = "the first request with this Idempotency-Key is still under way, or its answer held a secret"
            await problem(request, "in_progress", detail)(scope, receive, send)
        else:
            await _answer(json.loads(kept[1]), send)

    def _begin(self, caller: str, key: str, named: str) -> tuple[str, str | None] | None:
        """Return what is kept under the key, or None once the request is noted as under way."""
        now = self._clock.now_ms()
        with self._store.write("answer") as connection:
            oldest = now - self._settings.idempotency_hours * HOUR_MS
            connection.execute("DELETE FROM answer WHERE at_ms < ?", (oldest,))
            row = connection.execute(
                "SELECT request, body FROM answer WHERE caller = ? AND key = ?", (caller, key)
            ).fetchone()
            if row is not None:
                return str(row[0]), row[1]
            connection.execute("INSERT INTO answer VALUES (?, ?, ?, ?, NULL)", (caller, key, named, now))
        return None

    async def _carry_out(self, scope: Scope, receive: Receive, send: Send, name: tuple[str, str]) -> None:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)
            await send(message)

        try:
            await self._app(scope, receive, keep)
        except Exception:
            await run_in_threadpool(self._forget, name)
            raise
        await run_in_threadpool(self._end, name, messages)

    def _forget(self, name: tuple[str, str]) -> None:
        """Let a request that failed without an answer be tried again."""
        with self._store.write("answer") as connection:
            connection.execute("DELETE FROM answer WHERE caller = ? AND key = ?", name)

    def _end(self, name: tuple[str, str], messages: list[Message]) -> None:
        start = messages[0]
        with self._store.write("answer") as connection:
            if start["status"] >= UNSTORED:
                connection.execute("DELETE FROM answer WHERE caller = ? AND key = ?", name)
            elif not _is_secret(start):
                connection.execute("UPDATE answer SET body = ? WHERE caller = ? AND key = ?", (_text(messages), *name))


def _is_secret(start: Message) -> bool:
    return (b"cache-control", b"no-store") in [(name.lower(), value) for name, value in start["headers"]]


def _text(messages: list[Message]) -> str:
    start = messages[0]
    body = b"".join(message.get("body", b"") for message in messages[1:])
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in start["headers"]]
    return json.dumps({"status": start["status"], "headers": headers, "body": base64.b64encode(body).decode()})


async def _answer(kept: dict[str, Any], send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"]]
    headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": kept["status"], "headers": headers})
    await send({"type": "http.response.body", "body": base64.b64decode(str(kept["body"]))})
