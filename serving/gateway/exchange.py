"""One request from its key to its last byte."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import zlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from policies.model.routing import KeyRecord, RoutingTable, TenantShare
from policies.model.units import TenantId
from serving.engines.protocol import Piece, PieceKind
from serving.gateway.backend import Backend
from serving.gateway.counting import Count, by_rule_for
from serving.gateway.dispatch import Dispatcher, Lease, Line, Order, routed_groups
from serving.gateway.errors import ApiError, EngineBroke, Forbidden, ModelNotFound, Overloaded, Refused
from serving.gateway.identity import Keyring
from serving.gateway.limits import Limits
from serving.gateway.metrics import Metrics
from serving.gateway.request import Request
from serving.gateway.tally import PERMILLE, Tally
from serving.ledger import Ledger, day_of

ATTEMPTS = 3
"""Groups tried for one request before the tenant hears of it."""
DAY_MS = 86_400_000
SALT_CHARACTERS = 32
COPY_LIMIT_S = 120
"""Longest life of a copy to a shadow variant."""
LOWEST = -1_000_000
"""Priority at the engine of what nobody waits for."""
QUEUE_WAIT_MS = 60_000
"""Longest time in the queue; long enough to start a replica for a model that has none."""


class Answer:
    """An answer whose first piece has come: iterate, then ``close`` in any case, which gives the place back."""

    def __init__(
        self, first: Piece, source: AsyncGenerator[Piece, None], lease: Lease, owner: Dispatcher, tally: Tally
    ) -> None:
        self.group = lease.group
        self.variant = tally.variant
        self.model = tally.model
        self.failed = False
        self._next: Piece | None = first
        self._source = source
        self._lease: Lease | None = lease
        self._owner = owner
        self._tally = tally
        self._sent: list[bytes] = []
        """What the client was given, until the engine has counted it."""

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
            self._tally.is_counted = True
            self._sent.clear()
        elif piece.kind == PieceKind.FAILED:
            self.failed = True
        elif self._tally.request.is_stream:
            self._sent.append(piece.payload)
        return piece

    async def close(self) -> None:
        """Stop the engine's work, if any is left, and let the next request in. The second call does nothing."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if not self._tally.is_counted:
            self._tally.estimate(self._sent)
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
    counting: Callable[[str], Count] = by_rule_for
    """Model to the counting of tokens that no engine counted."""


class Gateway:
    """The tenants' door of one domain, without its HTTP. Lives in one event loop."""

    def __init__(self, parts: GatewayParts) -> None:
        self.dispatcher = Dispatcher(parts.clock)
        self.clock = parts.clock
        self.metrics = Metrics(parts.domain)
        self.limits = Limits()
        self.queue_wait_ms = QUEUE_WAIT_MS
        self.is_simulated = False
        self._retention_days: int | None = None
        self._parts = parts
        self._keyring = Keyring(parts.pepper, ())
        self._shares: dict[TenantId, TenantShare] = {}
        self._salts: dict[TenantId, bytes] = {}
        self._copies: set[asyncio.Task[None]] = set()

    def apply(self, table: RoutingTable) -> bool:
        """Put the table in force, without a restart; return False if it is older than the one in force."""
        if not self.dispatcher.apply(table):
            return False
        self._keyring = Keyring(self._parts.pepper, table.keys)
        self._shares = {share.tenant: share for share in table.shares}
        self.limits.apply(table.shares, self.clock())
        self.is_simulated = table.simulated
        self._retention_days = table.usage_retention_days
        self._parts.backend.expect(frozenset(routed_groups(table)))
        return True

    def oldest_day(self) -> str:
        """Return the first day whose records are kept, such as ``2026-11-03``; empty if all are."""
        days = self._retention_days
        return "" if days is None else day_of(self.clock() - max(0, days) * DAY_MS)

    def identify(self, authorization: str, scope: str = "inference") -> KeyRecord:
        """Return whose key this is. Raises ``WrongKey``, or ``Forbidden`` if the key lacks the scope."""
        record = self._keyring.identify(authorization, self.clock())
        if scope not in record.scopes:
            raise Forbidden(f"This API key does not have the scope `{scope}`.")
        return record

    def models(self, key: KeyRecord) -> list[str]:
        """Return the names of the models that the key may call, sorted."""
        return [name for name in self.dispatcher.models(key.tenant) if _allows(key, name)]

    def open(self, key: KeyRecord, request: Request, request_id: str, session: str = "") -> Tally:
        """Return the account of a request that begins; ``settle`` must follow."""
        mac = hmac.new(self._parts.pepper, request.raw, hashlib.sha256) if self._parts.hashes_content else None
        return Tally(
            at_ms=self.clock(),
            request_id=request_id,
            key=key,
            request=request,
            class_name=str(self._share(key).priority),
            affinity=f"{key.tenant}\0{session or request.prefix()}",
            content_mac=mac.hexdigest() if mac else "",
            counting=self._parts.counting,
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

    def key(self, prefix: str) -> KeyRecord | None:
        """Return the record of a key that is in force; None if it was revoked or has expired."""
        return self._keyring.in_force(prefix, self.clock())

    def fill(self, tally: Tally, leave: Callable[[], None]) -> Lease | None:
        """Return a lease on a place that nobody wants, None if there is none; ``filled`` must follow.

        ``leave`` is called as soon as somebody wants the place. Raises ``ModelNotFound``, ``RateLimited``,
        ``BudgetSpent``.
        """
        line = self._line(tally.key, tally.request.model)
        self._name(tally, line)
        lease = self.dispatcher.fill(line, leave, tally.request.cost)
        if lease is None:
            return None
        try:
            self.limits.admit(tally.key.tenant, tally.request.cost, self.clock())
        except ApiError:
            self.dispatcher.give_back(lease, used=None)
            raise
        tally.is_admitted = True
        _enter(tally, lease)
        return lease

    async def filled(self, tally: Tally, lease: Lease) -> bytes:
        """Return the whole answer of a request that fills an idle place. Raises ``Refused``, ``EngineBroke``."""
        answer = await self._begin(lease, tally, LOWEST)
        if answer is None:
            raise EngineBroke("The engine of this model failed.")
        try:
            return await only_document(answer)
        finally:
            await answer.close()

    async def _answer(self, tally: Tally) -> Answer:
        key, request = tally.key, tally.request
        line = self._line(key, request.model)
        self._name(tally, line)
        self.limits.admit(key.tenant, request.cost, self.clock())
        tally.is_admitted = True
        try:
            return await self._try(tally, line)
        except Overloaded:
            other = self._fallback(key, line)
            if other is None:
                raise
        self._name(tally, other)
        return await self._try(tally, other)

    async def _try(self, tally: Tally, line: Line) -> Answer:
        order = self._order(tally)
        for _ in range(ATTEMPTS):
            lease = await self.dispatcher.lease(line, order)
            _enter(tally, lease)
            answer = await self._begin(lease, tally, order.priority)
            if answer is not None:
                self._copy(tally, line, order.lot)
                return answer
            order.avoid |= {lease.group}
            line = self.dispatcher.line(tally.key.tenant, tally.model)
        raise EngineBroke("The engines of this model failed; the platform's operators see it. Try again.")

    def _line(self, key: KeyRecord, model: str) -> Line:
        """Return where the request goes: to the fallback at once if the model itself has no group."""
        if not _allows(key, model):
            raise ModelNotFound(model)
        line = self.dispatcher.line(key.tenant, model)
        return line if line.places else self._fallback(key, line) or line

    def _fallback(self, key: KeyRecord, line: Line) -> Line | None:
        other = line.route.fallback
        if other is None or not _allows(key, other):
            return None
        try:
            found = self.dispatcher.line(key.tenant, other)
        except ModelNotFound:
            return None
        return found if found.places else None

    def _name(self, tally: Tally, line: Line) -> None:
        tally.claim, tally.model = str(line.route.claim), str(line.route.model)

    def _copy(self, tally: Tally, line: Line, lot: int) -> None:
        """Send a copy to the shadow variant, if it has an idle place; its answer is read and thrown away."""
        shadow = line.route.shadow
        if shadow is None or lot >= shadow.permille:
            return
        lease = self.dispatcher.copy_to(line, shadow, tally.request.cost)
        if lease is not None:
            task = asyncio.get_running_loop().create_task(self._shadow(lease, tally))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)

    async def _shadow(self, lease: Lease, tally: Tally) -> None:
        body = salted(tally.request.raw, self._salt(tally.key.tenant))
        source = self._parts.backend.answer(lease.group, tally.request.operation, body, LOWEST)
        failed = False
        try:
            async with asyncio.timeout(COPY_LIMIT_S):
                async for piece in source:
                    failed = piece.kind == PieceKind.FAILED
        except TimeoutError:
            failed = True
        finally:
            await self._abandon(source, lease, failed=failed)

    def _salt(self, tenant: TenantId) -> bytes:
        """Return what keeps the tenant's cached prompts apart from those of others; unguessable and stable."""
        if tenant not in self._salts:
            mac = hmac.new(self._parts.pepper, f"cache {tenant}".encode(), hashlib.sha256)
            self._salts[tenant] = mac.hexdigest()[:SALT_CHARACTERS].encode()
        return self._salts[tenant]

    def _share(self, key: KeyRecord) -> TenantShare:
        return self._shares.get(key.tenant) or TenantShare(tenant=key.tenant)

    def _order(self, tally: Tally) -> Order:
        share = self._share(tally.key)
        return Order(
            tenant=tally.key.tenant,
            cost=tally.request.cost,
            wait_ms=self.queue_wait_ms,
            weight=max(1, share.weight),
            priority=share.priority,
            lot=zlib.crc32(tally.request_id.encode()) % PERMILLE,
            affinity=tally.affinity,
        )

    async def _begin(self, lease: Lease, tally: Tally, priority: int) -> Answer | None:
        """Return the answer, or None if the group failed; the lease is given back unless an answer is returned."""
        request = tally.request
        body = salted(request.raw, self._salt(tally.key.tenant))
        source = self._parts.backend.answer(lease.group, request.operation, body, priority, tally.affinity)
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
            if request.is_stream:
                lease.place.score.first_ms.append(max(0, tally.first_at_ms - lease.since_ms))
            return answer
        finally:
            if answer is None:
                await self._abandon(source, lease, failed=failed)

    async def _abandon(self, source: AsyncGenerator[Piece, None], lease: Lease, *, failed: bool) -> None:
        try:
            await source.aclose()
        finally:
            self.dispatcher.give_back(lease, used=None, failed=failed)


async def only_document(answer: Answer) -> bytes:
    """Return the document of an answer that is not streamed. Raises ``EngineBroke`` if the engine broke within it."""
    document = b""
    async for kind, payload in answer:
        if kind == PieceKind.DATA:
            document = payload
        elif kind == PieceKind.FAILED:
            raise EngineBroke("The engine stopped within the answer. Try again.")
    return document


def salted(raw: bytes, salt: bytes) -> bytes:
    """Return the request, a JSON object that is not empty, with ``cache_salt``; clients cannot set it themselves."""
    return b'%b,"cache_salt":"%b"}' % (raw.rstrip()[:-1], salt)


def _enter(tally: Tally, lease: Lease) -> None:
    routed = lease.place.routed
    tally.group, tally.variant = str(routed.group), str(routed.variant or "")
    tally.claim = str(routed.claim or lease.line.route.claim)
    tally.leased_at_ms = lease.since_ms
    tally.slot_gpu_millis = routed.gpu_millis * PERMILLE // max(1, routed.concurrency)


def _allows(key: KeyRecord, model: str) -> bool:
    return not key.models or model in key.models


def _refused(payload: bytes) -> Refused:
    about: dict[str, Any] = json.loads(payload)
    return Refused(int(about.get("status", 400)), str(about.get("message", "")), about.get("code"), about.get("param"))
