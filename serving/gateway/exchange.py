"""One request from its key to its last byte."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from policies.model.routing import KeyRecord, RoutingTable, TenantShare
from policies.model.units import TenantId
from serving.engines.protocol import Piece, PieceKind
from serving.gateway.backend import Backend
from serving.gateway.dispatch import Dispatcher, Lease, Order, routed_groups
from serving.gateway.errors import ApiError, EngineBroke, Forbidden, ModelNotFound, Refused
from serving.gateway.identity import Keyring
from serving.gateway.limits import Limits
from serving.gateway.metrics import Metrics
from serving.gateway.request import Request
from serving.gateway.tally import PERMILLE, Tally
from serving.ledger import Ledger

ATTEMPTS = 3
"""Groups tried for one request before the tenant hears of it."""
QUEUE_WAIT_MS = 60_000
"""Longest time in the queue; long enough to start a replica for a model that has none."""


class Answer:
    """An answer whose first piece has come: iterate, then ``close`` in any case, which gives the place back."""

    def __init__(
        self, first: Piece, source: AsyncGenerator[Piece, None], lease: Lease, owner: Dispatcher, tally: Tally
    ) -> None:
        self.group = lease.group
        self.variant = tally.variant
        self.failed = False
        self._next: Piece | None = first
        self._source = source
        self._lease: Lease | None = lease
        self._owner = owner
        self._tally = tally

    def __aiter__(self) -> Answer:
        """Return itself: DATA pieces and, if the engine did not break, one USAGE piece."""
        return self

    async def __anext__(self) -> Piece:
        """Return the next piece."""
        piece = self._next if self._next is not None else await anext(self._source)
        self._next = None
        if piece.kind == PieceKind.USAGE:
            usage = json.loads(piece.payload)
            self._tally.prompt_tokens = usage.get("prompt_tokens", 0)
            self._tally.completion_tokens = usage.get("completion_tokens", 0)
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
            self._owner.give_back(lease, used=self._tally.tokens or None, failed=self.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """What a gateway works with."""

    domain: str
    pepper: bytes
    backend: Backend
    clock: Callable[[], int]
    """Milliseconds since the epoch."""
    ledger: Ledger | None = None
    """None: nothing is kept of requests but the counts."""
    hashes_content: bool = False
    """Whether the ledger gets a keyed hash of each request's body."""


class Gateway:
    """The tenants' door of one domain, without its HTTP. Lives in one event loop."""

    def __init__(self, parts: GatewayParts) -> None:
        self.dispatcher = Dispatcher(parts.clock)
        self.clock = parts.clock
        self.metrics = Metrics(parts.domain)
        self.limits = Limits()
        self.queue_wait_ms = QUEUE_WAIT_MS
        self.is_simulated = False
        self._parts = parts
        self._keyring = Keyring(parts.pepper, ())
        self._shares: dict[TenantId, TenantShare] = {}

    def apply(self, table: RoutingTable) -> bool:
        """Put the table in force, without a restart; return False if it is older than the one in force."""
        if not self.dispatcher.apply(table):
            return False
        self._keyring = Keyring(self._parts.pepper, table.keys)
        self._shares = {share.tenant: share for share in table.shares}
        self.limits.apply(table.shares, self.clock())
        self.is_simulated = table.simulated
        self._parts.backend.expect(frozenset(routed_groups(table)))
        return True

    def identify(self, authorization: str, scope: str = "inference") -> KeyRecord:
        """Return whose key this is. Raises ``WrongKey``, or ``Forbidden`` if the key lacks the scope."""
        record = self._keyring.identify(authorization, self.clock())
        if scope not in record.scopes:
            raise Forbidden(f"This API key does not have the scope `{scope}`.")
        return record

    def models(self, key: KeyRecord) -> list[str]:
        """Return the names of the models that the key may call, sorted."""
        return [name for name in self.dispatcher.models(key.tenant) if _allows(key, name)]

    def open(self, key: KeyRecord, request: Request, request_id: str) -> Tally:
        """Return the account of a request that begins; ``settle`` must follow."""
        mac = hmac.new(self._parts.pepper, request.raw, hashlib.sha256) if self._parts.hashes_content else None
        return Tally(
            at_ms=self.clock(),
            request_id=request_id,
            key=key,
            request=request,
            class_name=str(self._share(key).priority),
            content_mac=mac.hexdigest() if mac else "",
        )

    def settle(self, tally: Tally) -> None:
        """Write the account of a request that has ended into the ledger and the metrics."""
        now_ms = self.clock()
        record = tally.record(now_ms)
        if tally.is_admitted:
            self.limits.settle(record.tenant, tally.request.cost, tally.tokens, now_ms)
        self.metrics.observe(record, is_stream=tally.request.is_stream, class_name=tally.class_name)
        if self._parts.ledger is not None:
            self._parts.ledger.append(record)

    async def answer(self, tally: Tally) -> Answer:
        """Return the answer once its first piece has come; a group that fails before it is replaced by another.

        Raises ``ModelNotFound``, ``RateLimited``, ``BudgetSpent``, ``Overloaded``, ``Refused``, ``EngineBroke``.
        """
        try:
            return await self._answer(tally)
        except ApiError as error:
            tally.fail(error)
            raise

    async def _answer(self, tally: Tally) -> Answer:
        key, request = tally.key, tally.request
        if not _allows(key, request.model):
            raise ModelNotFound(request.model)
        line = self.dispatcher.line(key.tenant, request.model)
        tally.claim = str(line.route.claim)
        self.limits.admit(key.tenant, request.cost, self.clock())
        tally.is_admitted = True
        order = self._order(key, request)
        for _ in range(ATTEMPTS):
            lease = await self.dispatcher.lease(line, order)
            _enter(tally, lease)
            answer = await self._begin(lease, tally, order.priority)
            if answer is not None:
                return answer
            order.avoid |= {lease.group}
            line = self.dispatcher.line(key.tenant, request.model)
        raise EngineBroke("The engines of this model failed; the platform's operators see it. Try again.")

    def _share(self, key: KeyRecord) -> TenantShare:
        return self._shares.get(key.tenant) or TenantShare(tenant=key.tenant)

    def _order(self, key: KeyRecord, request: Request) -> Order:
        share = self._share(key)
        return Order(
            tenant=key.tenant,
            cost=request.cost,
            wait_ms=self.queue_wait_ms,
            weight=max(1, share.weight),
            priority=share.priority,
        )

    async def _begin(self, lease: Lease, tally: Tally, priority: int) -> Answer | None:
        """Return the answer, or None if the group failed; the lease is given back unless an answer is returned."""
        request = tally.request
        source = self._parts.backend.answer(lease.group, request.operation, request.raw, priority)
        answer: Answer | None = None
        failed = False
        try:
            first = await anext(source, None)
            failed = first is None or first.kind == PieceKind.FAILED
            if first is None or failed:
                return None
            tally.first_at_ms = self.clock()
            if first.kind == PieceKind.REFUSED:
                raise _refused(first.payload)
            answer = Answer(first, source, lease, self.dispatcher, tally)
            return answer
        finally:
            if answer is None:
                await self._abandon(source, lease, failed=failed)

    async def _abandon(self, source: AsyncGenerator[Piece, None], lease: Lease, *, failed: bool) -> None:
        try:
            await source.aclose()
        finally:
            self.dispatcher.give_back(lease, used=None, failed=failed)


def _enter(tally: Tally, lease: Lease) -> None:
    routed = lease.place.routed
    tally.group, tally.variant = str(routed.group), str(routed.variant or "")
    tally.leased_at_ms = lease.since_ms
    tally.slot_gpu_millis = routed.gpu_millis * PERMILLE // max(1, routed.concurrency)


def _allows(key: KeyRecord, model: str) -> bool:
    return not key.models or model in key.models


def _refused(payload: bytes) -> Refused:
    about: dict[str, Any] = json.loads(payload)
    return Refused(int(about.get("status", 400)), str(about.get("message", "")), about.get("code"))
