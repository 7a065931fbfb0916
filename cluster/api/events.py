"""Events: the audit log as far as the caller may read it, once or as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from cluster.api.access import Caller
from cluster.api.parts import LARGEST, Anyone, Limit, Operator, Parts, Platform, revision
from cluster.journal.audit import AuditRecord, AuditVerdict, read, verify

routes = APIRouter(prefix="/v1", tags=["events"])

BOOKMARK_S = 15.0
PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    seq: int
    at_ms: int
    actor: str
    kind: str
    subject: str
    tenant: str | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """A part of the events, oldest first."""

    items: tuple[Event, ...]
    revision: int
    """Ask again with ``after`` set to this."""


After = Annotated[int, Query(ge=0, le=LARGEST, description="Only events with a higher sequence number.")]


@routes.get("/events", response_model=Events)
def events(
    parts: Platform, caller: Anyone, after: After = 0, limit: Limit = 500, newest: Annotated[bool, Query()] = False
) -> Events:
    """Return events after a sequence number, or the newest ones, oldest first."""
    start = max(after, revision(parts) - limit) if newest else after
    records = read(parts.store, after=start, limit=limit)
    return Events(items=_visible(caller, records), revision=records[-1].seq if records else start)


@routes.get("/events/watch")
async def watch(
    parts: Platform,
    caller: Anyone,
    after: After = 0,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=LARGEST)] = None,
) -> StreamingResponse:
    """Stream events as they happen (server-sent events), each with its sequence number as id, bookmarks in between."""
    start = last_event_id if last_event_id is not None else after
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    listener = parts.view.listen(parts.settings.watchers)
    return StreamingResponse(_stream(parts, caller, start, listener), media_type="text/event-stream", headers=headers)


@routes.get("/audit/verify")
def audit_verify(
    parts: Platform,
    _caller: Operator,
    anchor_seq: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
    anchor_hash: str | None = None,
) -> AuditVerdict:
    """Verify the whole chain; with an anchor noted elsewhere, also that its tail was not cut."""
    anchor = (anchor_seq, anchor_hash) if anchor_seq is not None and anchor_hash is not None else None
    return verify(_chain(parts), anchor)


@routes.get("/audit")
def audit(parts: Platform, _caller: Operator, after: After = 0, limit: Limit = 500) -> tuple[AuditRecord, ...]:
    """Return sealed records as they are kept, for an archive or another verifier."""
    return tuple(read(parts.store, after=after, limit=limit))


def _chain(parts: Parts) -> Any:
    after = 0
    while records := read(parts.store, after=after, limit=PAGE):
        yield from records
        after += len(records)


async def _stream(parts: Parts, caller: Caller, after: int, listener: Any) -> AsyncIterator[str]:
    try:
        while True:
            records = await run_in_threadpool(read, parts.store, after=after, limit=PAGE)
            for event in _visible(caller, records):
                yield f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(asdict(event), ensure_ascii=False)}\n\n"
            if records:
                after = records[-1].seq
            if len(records) < PAGE and not await listener.news(BOOKMARK_S):
                yield f"id: {after}\nevent: bookmark\ndata: {{}}\n\n"
    finally:
        listener.close()


def _visible(caller: Caller, records: list[AuditRecord]) -> tuple[Event, ...]:
    return tuple(
        Event(
            seq=record.seq,
            at_ms=record.at_ms,
            actor=record.actor,
            kind=record.kind,
            subject=record.subject,
            tenant=record.tenant,
            body=json.loads(record.body),
        )
        for record in records
        if caller.tenant is None or (record.tenant is not None and caller.may_see(record.tenant))
    )
