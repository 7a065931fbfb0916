"""Where the control plane takes reports in and gives metrics out, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from cluster.observe.telemetry.export import Names, answer
from cluster.observe.telemetry.sender import PATH
from cluster.observe.telemetry.store import TelemetryStore
from cluster.ports import Clock
from policies.model.codec import from_json, to_json
from policies.model.telemetry import NodeReport
from policies.model.units import NodeId

MAX_BODY = 1_048_576
"""A report of eight GPUs with seven instances and a few processes each is under 100 KiB."""
LEAST_INTERVAL_MS = 200
"""A node that reports more often than this is told to wait."""
ANY_NODE: None = None


@dataclass(slots=True)
class Receiver:
    """Checks who reports, how much and how often, before the store sees it."""

    store: TelemetryStore
    clock: Clock
    tokens: Mapping[str, NodeId | None]
    """SHA-256 of each token, hex, to the one node it may report for; ANY_NODE where one secret serves a DaemonSet."""
    names: Names = Names.OWN_AND_DCGM
    _last_ms: dict[NodeId, int] = field(default_factory=dict)

    def take(self, bearer: str, body: bytes) -> Response:
        """Return the acknowledgement, or a problem: 401, 403, 413, 422, 429."""
        allowed, node = self._identify(bearer)
        if not allowed:
            return _problem(401, "token_unknown", "no such token; take it from the agent's secret")
        if len(body) > MAX_BODY:
            return _problem(413, "report_too_large", f"a report has at most {MAX_BODY} bytes")
        try:
            report = from_json(NodeReport, body)
        except ValidationError as error:
            return _problem(422, "report_invalid", f"{error.error_count()} faults, first at {_first_place(error)}")
        if node is not ANY_NODE and report.node != node:
            return _problem(403, "node_foreign", f"this token reports for {node} only")
        if self._too_soon(report.node):
            return _problem(429, "report_too_soon", "wait a second between reports", {"retry-after": "1"})
        answer = self.store.accept(report)
        return Response(to_json(answer), media_type="application/json")

    def metrics(self, accept: str) -> Response:
        """Return everything in the format asked for."""
        body, kind = answer(self.store, self.clock, self.names, accept)
        return Response(body, media_type=kind)

    def _identify(self, bearer: str) -> tuple[bool, NodeId | None]:
        if not bearer:
            return False, None
        digest = digest_of(bearer)
        for known, node in self.tokens.items():
            if hmac.compare_digest(known, digest):
                return True, node
        return False, None

    def _too_soon(self, node: NodeId) -> bool:
        now_ms = self.clock.monotonic_ms()
        last_ms = self._last_ms.get(node)
        if last_ms is not None and now_ms - last_ms < LEAST_INTERVAL_MS:
            return True
        self._last_ms[node] = now_ms
        return False


def routes(receiver: Receiver) -> APIRouter:
    """Return the routes for the control plane's application: reports in, metrics out."""
    router = APIRouter()

    @router.post(PATH)
    async def report(request: Request) -> Response:
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY:
            return _problem(413, "report_too_large", f"a report has at most {MAX_BODY} bytes")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        return receiver.take(bearer, await request.body())

    @router.get("/telemetry/metrics")
    def metrics(request: Request) -> Response:
        return receiver.metrics(request.headers.get("accept", ""))

    return router


def digest_of(token: str) -> str:
    """Return what is kept of a token: never the token itself."""
    return hashlib.sha256(token.encode()).hexdigest()


def _first_place(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.errors()[0]["loc"])[:200]


def _problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = to_json({"type": "about:blank", "status": status, "code": code, "detail": detail})
    return Response(body, status_code=status, media_type="application/problem+json", headers=headers)
