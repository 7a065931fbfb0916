"""What the routes stand on, and how they get at it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Header, Path, Query, Request

from cluster.api.access import Caller, Gate
from cluster.api.problems import ApiRefusal
from cluster.api.view import View
from cluster.journal.history import History
from cluster.journal.ledger import SqliteLedger
from cluster.journal.registry import SqliteRegistry
from cluster.journal.sqlite import SqliteJournal
from cluster.journal.store import Store
from cluster.metrics import Metrics
from cluster.observe.telemetry.receiver import Receiver
from cluster.observe.telemetry.store import TelemetryStore
from cluster.ports import Clock
from cluster.settings import Settings
from cluster.tracing import Tracer
from cluster.usage import DayUse
from policies.model.catalogue import Model

Item = TypeVar("Item")
NUMBERED = re.compile(r'"(\d{1,18})"')


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that the API reads and writes."""

    settings: Settings
    clock: Clock
    store: Store
    journal: SqliteJournal
    registry: SqliteRegistry
    ledger: SqliteLedger
    history: History
    view: View
    metrics: Metrics
    gate: Gate
    wake: Callable[[], None]
    """Ends the loop's rest early."""
    models: Callable[[], tuple[Model, ...]] = field(default=tuple)
    """The catalogue, best variant of each model first."""
    usage: Callable[[], tuple[DayUse, ...]] = field(default=tuple)
    """What tenants used, by day and model, as the gateways of this machine wrote it down."""
    tracer: Tracer | None = None
    """Where spans go; None: nowhere."""
    readings: TelemetryStore | None = None
    """What is known of devices; None where they are simulated."""
    telemetry: Receiver | None = None
    """Where node agents report; None where none do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a list."""

    items: tuple[Item, ...]
    next: str | None
    """Give it as ``continue`` to get the following items; None at the end."""
    revision: int
    """Sequence number of the last event that the list may reflect: watch from here."""


def parts_of(request: Request) -> Parts:
    """Return the parts that the application was made with."""
    found: Parts = request.app.state.parts
    return found


def caller_of(request: Request, authorization: Annotated[str | None, Header()] = None) -> Caller:
    """Return who calls. Raises ``unauthenticated``."""
    return parts_of(request).gate.admit(authorization)


def operator_of(request: Request, authorization: Annotated[str | None, Header()] = None) -> Caller:
    """Return the operator who calls. Raises ``unauthenticated`` or ``forbidden``."""
    caller = caller_of(request, authorization)
    caller.require_operator()
    return caller


Platform = Annotated[Parts, Depends(parts_of)]
Anyone = Annotated[Caller, Depends(caller_of)]
Operator = Annotated[Caller, Depends(operator_of)]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items to return.")]
Cursor = Annotated[str | None, Query(alias="continue", max_length=400, description="`next` of the page before.")]
LARGEST = 2**53 - 1
"""Largest number that every reader of JSON and the journal hold alike."""
Number = Annotated[int, Path(ge=0, le=LARGEST)]
IfMatch = Annotated[str | None, Header(alias="If-Match")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]


def page_of(
    parts: Parts, found: Sequence[Item], name: Callable[[Item], str], limit: int, cursor: str | None
) -> Page[Item]:
    """Return the items after the cursor. Names order the list, so a page is stable under writes.

    The cursor holds the last name of the page before, not a position. Raises ``expired_cursor`` if it cannot be read.
    """
    after = _decode(cursor) if cursor else ""
    ordered = sorted(found, key=name)
    rest = [item for item in ordered if name(item) > after]
    page = tuple(rest[:limit])
    following = _encode(name(page[-1])) if len(rest) > limit else None
    return Page(items=page, next=following, revision=revision(parts))


def revision(parts: Parts) -> int:
    """Return the sequence number of the newest event."""
    return parts.store.number("SELECT max(seq) FROM audit")


def expected_generation(if_match: str | None, if_none_match: str | None) -> int | None:
    """Return the generation that a change was made from: 0 for a new object, None for ``If-Match: *``.

    Raises ``precondition_required`` if the request says neither.
    """
    if if_none_match == "*":
        return 0
    if if_match == "*":
        return None
    found = NUMBERED.fullmatch(if_match or "")
    if found is None:
        detail = 'send If-Match: "<generation>" for a change, If-None-Match: * for a new object'
        raise ApiRefusal("precondition_required", detail)
    return int(found.group(1))


def etag(generation: int) -> dict[str, str]:
    """Return the header that names an object's generation."""
    return {"ETag": f'"{generation}"'}


def _encode(name: str) -> str:
    return base64.urlsafe_b64encode(f"1:{name}".encode()).decode()


def _decode(cursor: str) -> str:
    try:
        version, _, name = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
    except (binascii.Error, UnicodeError, ValueError):
        version, name = "", ""
    if version != "1":
        raise ApiRefusal("expired_cursor", "the cursor cannot be read any more; list again from the start")
    return name


def plain(value: Any) -> Any:
    """Return the value as JSON would hold it, for responses that are built by hand."""
    from policies.model.codec import to_plain

    return to_plain(value)
