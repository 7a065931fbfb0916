"""Spans for an OpenTelemetry collector, in OTLP over HTTP with JSON. Off unless an address is set; never in the way.

The protocol's JSON form needs no library: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import logging
import queue
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

log = logging.getLogger(__name__)

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
QUEUE_MAX = 2_048
"""Spans that wait; beyond it the newest are dropped and counted."""
BATCH_MAX = 512
WAIT_S = 2.0
TIMEOUT_S = 5.0
SAMPLED = 0x01
SERVER, INTERNAL = 2, 1
"""Kinds of a span."""
OK, ERROR = 1, 2
"""Codes of a span's status."""
NANOSECONDS = 1_000_000

Value = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One piece of work."""

    name: str
    trace: str
    """32 hexadecimal digits."""
    parent: str = ""
    """16 hexadecimal digits; empty for the first of a trace."""
    begin_ms: int
    end_ms: int
    kind: int = INTERNAL
    failed: bool = False
    attributes: Mapping[str, Value] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(8))


def parent_of(traceparent: str) -> tuple[str, str] | None:
    """Return trace and parent that a caller names; None if it names none, an invalid one, or wants no record."""
    found = TRACEPARENT.fullmatch(traceparent)
    if found is None or not int(found[3], 16) & SAMPLED or not int(found[1], 16) or not int(found[2], 16):
        return None
    return found[1], found[2]


def new_trace() -> str:
    """Return the name of a new trace."""
    return secrets.token_hex(16)


class Tracer:
    """Takes spans at once and sends them later, from a thread of its own."""

    def __init__(self, url: str, service: str = "partage") -> None:
        self._url, self._service = url.rstrip("/") + "/v1/traces", service
        self._waiting: queue.Queue[Span | None] = queue.Queue(QUEUE_MAX)
        self._thread = threading.Thread(target=self._send_all, name="traces", daemon=True)
        self.dropped = 0
        self._thread.start()

    def record(self, *spans: Span) -> None:
        """Take the spans in; never blocks, never raises."""
        for span in spans:
            try:
                self._waiting.put_nowait(span)
            except queue.Full:
                self.dropped += 1

    def close(self) -> None:
        """Send what waits and end."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=WAIT_S)
        self._thread.join(TIMEOUT_S + WAIT_S)

    def _send_all(self) -> None:
        silent, going = False, True
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while going:
                batch, going = self._batch()
                if not batch:
                    continue
                try:
                    client.post(self._url, json=document(batch, self._service)).raise_for_status()
                    silent = False
                except httpx.HTTPError as error:
                    self.dropped += len(batch)
                    if not silent:
                        log.warning("traces are dropped: %s does not take them (%s)", self._url, error)
                    silent = True

    def _batch(self) -> tuple[list[Span], bool]:
        """Return what waits, and whether more may come."""
        first = self._waiting.get()
        batch = [] if first is None else [first]
        while first is not None and len(batch) < BATCH_MAX:
            try:
                following = self._waiting.get(timeout=WAIT_S)
            except queue.Empty:
                break
            if following is None:
                return batch, False
            batch.append(following)
        return batch, first is not None


def document(spans: Sequence[Span], service: str) -> dict[str, object]:
    """Return the body of an export request."""
    resource = {"attributes": _attributes({"service.name": service})}
    scope = {"scope": {"name": "partage"}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, object]:
    return {
        "traceId": span.trace,
        "spanId": span.id,
        **({"parentSpanId": span.parent} if span.parent else {}),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.begin_ms * NANOSECONDS),
        "endTimeUnixNano": str(span.end_ms * NANOSECONDS),
        "attributes": _attributes(span.attributes),
        "status": {"code": ERROR if span.failed else OK},
    }


def _attributes(found: Mapping[str, Value]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in found.items()]


def _value(value: Value) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
