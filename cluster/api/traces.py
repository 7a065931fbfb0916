"""A span for every request, a child of the caller's where it sends ``traceparent``."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.ports import Clock
from cluster.tracing import SERVER, Span, Tracer, new_trace, parent_of

FAILED = 500
QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Probes: asked all day, of no interest to anybody."""


class Traced:
    """ASGI middleware inside of the door: it knows the request's name and the route that answered."""

    def __init__(self, app: ASGIApp, tracer: Tracer, clock: Clock) -> None:
        self._app, self._tracer, self._clock = app, tracer, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request out and record how long it took and how it ended."""
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        begin, statuses = self._clock.now_ms(), [FAILED]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            trace, parent = parent_of(Request(scope).headers.get("traceparent", "")) or (new_trace(), "")
            route = getattr(scope.get("route"), "path", "").replace(":path}", "}")
            attributes = {
                "http.request.method": scope["method"],
                "http.route": route,
                "url.path": scope["path"],
                "http.response.status_code": statuses[-1],
                "partage.request_id": str(scope.get("request_id", "")),
            }
            self._tracer.record(
                Span(
                    name=f"{scope['method']} {route}".strip(),
                    trace=trace,
                    parent=parent,
                    begin_ms=begin,
                    end_ms=self._clock.now_ms(),
                    kind=SERVER,
                    failed=statuses[-1] >= FAILED,
                    attributes=attributes,
                )
            )
