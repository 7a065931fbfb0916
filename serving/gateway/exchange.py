"""One request from its key to its last byte."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from policies.model.routing import KeyRecord, RoutingTable, TenantShare
from policies.model.units import TenantId
from serving.engines.protocol import Piece, PieceKind
from serving.gateway.backend import Backend
from serving.gateway.dispatch import Dispatcher, Lease, Line, Order, routed_groups
from serving.gateway.errors import EngineBroke, Forbidden, ModelNotFound, Refused
from serving.gateway.identity import Keyring
from serving.gateway.request import Request

ATTEMPTS = 3
"""Groups tried for one request before the tenant hears of it."""
QUEUE_WAIT_MS = 60_000
"""Longest time in the queue; long enough to start a replica for a model that has none."""


class Answer:
    """An answer whose first piece has come: iterate, then ``close`` in any case, which gives the place back."""

    def __init__(self, first: Piece, source: AsyncGenerator[Piece, None], lease: Lease, owner: Dispatcher) -> None:
        self.group = lease.group
        self.variant = str(lease.place.routed.variant or "")
        self.usage: dict[str, Any] = {}
        """Tokens taken; empty until the answer is complete."""
        self.failed = False
        self._next: Piece | None = first
        self._source = source
        self._lease: Lease | None = lease
        self._owner = owner

    def __aiter__(self) -> Answer:
        """Return itself: DATA pieces and, if the engine did not break, one USAGE piece."""
        return self

    async def __anext__(self) -> Piece:
        """Return the next piece."""
        piece = self._next if self._next is not None else await anext(self._source)
        self._next = None
        if piece.kind == PieceKind.USAGE:
            self.usage = json.loads(piece.payload)
        elif piece.kind == PieceKind.FAILED:
            self.failed = True
        return piece

    async def close(self) -> None:
        """Stop the engine's work, if any is left, and let the next request in. The second call does nothing."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            await self._source.aclose()
        finally:
            self._owner.give_back(lease, used=_total(self.usage), failed=self.failed)


class Gateway:
    """The tenants' door of one domain, without its HTTP. Lives in one event loop."""

    def __init__(self, pepper: bytes, backend: Backend, clock: Callable[[], int]) -> None:
        self.dispatcher = Dispatcher(clock)
        self.clock = clock
        self._pepper = pepper
        self._backend = backend
        self._keyring = Keyring(pepper, ())
        self._shares: dict[TenantId, TenantShare] = {}
        self.is_simulated = False
        self.queue_wait_ms = QUEUE_WAIT_MS

    def apply(self, table: RoutingTable) -> bool:
        """Put the table in force, without a restart; return False if it is older than the one in force."""
        if not self.dispatcher.apply(table):
            return False
        self._keyring = Keyring(self._pepper, table.keys)
        self._shares = {share.tenant: share for share in table.shares}
        self.is_simulated = table.simulated
        self._backend.expect(frozenset(routed_groups(table)))
        return True

    def identify(self, authorization: str) -> KeyRecord:
        """Return whose key this is. Raises ``WrongKey``, ``Forbidden``."""
        record = self._keyring.identify(authorization, self.clock())
        if "inference" not in record.scopes:
            raise Forbidden("This API key may not call models.")
        return record

    def models(self, key: KeyRecord) -> list[str]:
        """Return the names of the models that the key may call, sorted."""
        return [name for name in self.dispatcher.models(key.tenant) if _allows(key, name)]

    async def answer(self, key: KeyRecord, request: Request) -> Answer:
        """Return the answer once its first piece has come; a group that fails before it is replaced by another.

        Raises ``ModelNotFound``, ``Overloaded``, ``Refused``, ``EngineBroke``.
        """
        if not _allows(key, request.model):
            raise ModelNotFound(request.model)
        line = self.dispatcher.line(key.tenant, request.model)
        order = self._order(key, request)
        for _ in range(ATTEMPTS):
            lease = await self.dispatcher.lease(line, order)
            answer = await self._begin(lease, request, order.priority)
            if answer is not None:
                return answer
            order.avoid |= {lease.group}
            line = self.dispatcher.line(key.tenant, request.model)
        raise EngineBroke("The engines of this model failed; the platform's operators see it. Try again.")

    def _order(self, key: KeyRecord, request: Request) -> Order:
        share = self._shares.get(key.tenant) or TenantShare(tenant=key.tenant)
        return Order(
            tenant=key.tenant,
            cost=request.cost,
            wait_ms=self.queue_wait_ms,
            weight=max(1, share.weight),
            priority=share.priority,
        )

    async def _begin(self, lease: Lease, request: Request, priority: int) -> Answer | None:
        """Return the answer, or None if the group failed; the lease is given back unless an answer is returned."""
        source = self._backend.answer(lease.group, request.operation, request.raw, priority)
        answer: Answer | None = None
        failed = False
        try:
            first = await anext(source, None)
            failed = first is None or first.kind == PieceKind.FAILED
            if first is None or failed:
                return None
            if first.kind == PieceKind.REFUSED:
                raise _refused(first.payload)
            answer = Answer(first, source, lease, self.dispatcher)
            return answer
        finally:
            if answer is None:
                await self._abandon(source, lease, failed=failed)

    async def _abandon(self, source: AsyncGenerator[Piece, None], lease: Lease, *, failed: bool) -> None:
        try:
            await source.aclose()
        finally:
            self.dispatcher.give_back(lease, used=None, failed=failed)

    def retry_after_s(self, line: Line) -> int:
        """Return when a request that comes now may expect a place."""
        return self.dispatcher.retry_after_s(line)


def _allows(key: KeyRecord, model: str) -> bool:
    return not key.models or model in key.models


def _refused(payload: bytes) -> Refused:
    about = json.loads(payload)
    return Refused(int(about.get("status", 400)), str(about.get("message", "")), about.get("code"))


def _total(usage: dict[str, Any]) -> int | None:
    return usage["prompt_tokens"] + usage["completion_tokens"] if usage else None
