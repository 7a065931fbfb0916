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
from cluster.api.problems import ApiRefusal
from cluster.journal import audit as log
from cluster.journal.audit import AuditRecord, AuditVerdict, read, verify

routes = APIRouter(prefix="/v1", tags=["events"])

BOOKMARK_S = 15.0
PAGE = 500
ADMITTED_MS = 15_000
"""A stream is ended this long after its key was revoked, at the latest."""


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


Subject = Annotated[str | None, Query(max_length=300, description="Only events about this, such as a claim's name.")]
After = Annotated[int, Query(ge=0, le=LARGEST, description="Only events with a higher sequence number.")]


@routes.get("/events", response_model=Events)
def events(
    parts: Platform,
    caller: Anyone,
    after: After = 0,
    limit: Limit = 500,
    newest: Annotated[bool, Query()] = False,
    subject: Subject = None,
) -> Events:
    """Return events after a sequence number, or the newest ones, oldest first.

    The newest are looked for among the last 20,000 records, everybody's counted.
    """
    if newest:
        end = revision(parts)
        found = log.newest(parts.store, limit, lambda record: record.seq > after and _is_for(caller, subject, record))
        return Events(items=tuple(map(_told, found)), revision=max(end, after))
    records = read(parts.store, after=after, limit=limit)
    chosen = tuple(_told(record) for record in records if _is_for(caller, subject, record))
    return Events(items=chosen, revision=records[-1].seq if records else after)


@routes.get("/events/watch")
async def watch(
    parts: Platform,
    caller: Anyone,
    after: After = 0,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=LARGEST)] = None,
    authorization: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Stream events as they happen (server-sent events), each with its sequence number as id, bookmarks in between.

    Ends soon after the key that it was opened with is revoked or expires.
    """
    start = last_event_id if last_event_id is not None else after
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    listener = parts.view.listen(parts.settings.watchers)
    told = _stream(parts, caller, start, listener, authorization)
    return StreamingResponse(told, media_type="text/event-stream", headers=headers)


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


async def _stream(
    parts: Parts, caller: Caller, after: int, listener: Any, authorization: str | None
) -> AsyncIterator[str]:
    admitted_ms = parts.clock.monotonic_ms()
    try:
        while True:
            if parts.clock.monotonic_ms() - admitted_ms >= ADMITTED_MS:
                if not await run_in_threadpool(_is_still, parts, caller, authorization):
                    return
                admitted_ms = parts.clock.monotonic_ms()
            records = await run_in_threadpool(read, parts.store, after=after, limit=PAGE)
            for event in (_told(record) for record in records if _is_for(caller, None, record)):
                yield f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(asdict(event), ensure_ascii=False)}\n\n"
            if records:
                after = records[-1].seq
            if len(records) < PAGE and not await listener.news(BOOKMARK_S):
                yield f"id: {after}\nevent: bookmark\ndata: {{}}\n\n"
    finally:
        listener.close()


def _is_still(parts: Parts, caller: Caller, authorization: str | None) -> bool:
    try:
        return parts.gate.admit(authorization) == caller
    except ApiRefusal:
        return False


def _is_for(caller: Caller, subject: str | None, record: AuditRecord) -> bool:
    is_sight = caller.tenant is None or (record.tenant is not None and caller.may_see(record.tenant))
    return is_sight and subject in {None, record.subject}


def _told(record: AuditRecord) -> Event:
    return Event(
        seq=record.seq,
        at_ms=record.at_ms,
        actor=record.actor,
        kind=record.kind,
        subject=record.subject,
        tenant=record.tenant,
        body=json.loads(record.body),
    )
