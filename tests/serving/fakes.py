"""An engine side that the tests hold in their hands, and an ASGI client that can leave in mid-answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from policies.model.keys import key_mac, key_prefix
from policies.model.routing import KeyRecord, Route, RoutedGroup, RoutingTable, TenantShare
from policies.model.units import SecurityDomain
from serving.engines.protocol import Piece, PieceKind
from serving.gateway.asgi import HttpGateway
from serving.gateway.exchange import Gateway, GatewayParts
from serving.ledger import Ledger

PEPPER = b"pepper-of-civil"
CONTROL_TOKEN = "control"
MODEL = "small"
JUSTICE, TAX = "civil/justice", "civil/tax"


def key_of(tenant: str) -> str:
    return f"pk-civil-{tenant.removeprefix('civil/'):x<11}-secret-part-of-{tenant}"


@dataclass
class FakeClock:
    now_ms: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class FakeBackend:
    """Groups answer at once unless ``gate`` holds them; those in ``broken`` fail before the first piece."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    broken: set[str] = field(default_factory=set)
    breaking: set[str] = field(default_factory=set)
    """Groups that fail after their first piece."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    inside: int = 0
    most_inside: int = 0
    stopped: int = 0
    expected: frozenset[str] = frozenset()
    order: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def expect(self, groups: frozenset[str]) -> None:
        self.expected = groups

    async def answer(
        self, group: str, operation: str, body: bytes, priority: int, affinity: str = ""
    ) -> AsyncGenerator[Piece, None]:
        self.asked.append((group, operation))
        self.order.append(body)
        if group in self.broken:
            yield Piece(PieceKind.FAILED, b'{"message":"gone"}')
            return
        request = json.loads(body)
        if request.get("seed") == -1:
            yield Piece(PieceKind.REFUSED, b'{"status":400,"message":"the seed is negative","code":"bad_seed"}')
            return
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        ended = False
        try:
            for number in range(3 if request.get("stream") else 1):
                if number == 1 and group in self.breaking:
                    yield Piece(PieceKind.FAILED, b'{"message":"gone"}')
                    return
                if number or not request.get("stream"):
                    await self.gate.wait()
                yield Piece(PieceKind.DATA, json.dumps({"group": group, "number": number}).encode())
            ended = True
            yield Piece(PieceKind.USAGE, b'{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}')
        finally:
            self.inside -= 1
            self.stopped += not ended


def group(name: str, *, rung: int = 0, replicas: int = 1, concurrency: int = 2) -> RoutedGroup:
    return RoutedGroup(group=name, variant=f"variant-{rung}", rung=rung, replicas=replicas, concurrency=concurrency)


def route(*groups: RoutedGroup, tenant: str = JUSTICE, shared_with: tuple[str, ...] = (TAX,)) -> Route:
    return Route(
        claim=f"{tenant}:chat",
        tenant=tenant,
        model=MODEL,
        groups=groups,
        min_replicas=1,
        max_replicas=4,
        shared_with=shared_with,
    )


def table(*routes: Route, generation: int = 1, shares: tuple[TenantShare, ...] = (), **of_key: object) -> RoutingTable:
    keys = tuple(
        KeyRecord(prefix=key_prefix(key_of(t)), mac=key_mac(PEPPER, key_of(t)), tenant=t, **of_key)
        for t in (JUSTICE, TAX)
    )
    return RoutingTable(generation=generation, domain=SecurityDomain.CIVIL, routes=routes, keys=keys, shares=shares)


@dataclass
class World:
    """A gateway in front of a fake backend."""

    clock: FakeClock = field(default_factory=FakeClock)
    backend: FakeBackend = field(default_factory=FakeBackend)
    ledger: Ledger | None = None
    hashes_content: bool = False

    def __post_init__(self) -> None:
        parts = GatewayParts(
            domain="civil",
            pepper=PEPPER,
            backend=self.backend,
            clock=self.clock,
            ledger=self.ledger,
            hashes_content=self.hashes_content,
        )
        self.gateway = Gateway(parts)
        self.app = HttpGateway(self.gateway, CONTROL_TOKEN)

    async def call(self, path: str, body: object = None, *, key: str | None = None, **headers: str) -> Response:
        client = Client(self, path, body, key or key_of(JUSTICE), headers)
        await client.done()
        return client.response

    def start(self, path: str, body: object = None, *, key: str | None = None, **headers: str) -> Client:
        return Client(self, path, body, key or key_of(JUSTICE), headers)

    async def chat(self, *, key: str | None = None, **parameters: object) -> Response:
        return await self.call("/v1/chat/completions", chat(**parameters), key=key)


def chat(**parameters: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | parameters


@dataclass
class Response:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, object]:
        return self.json["error"]

    @property
    def events(self) -> list[str]:
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]


class Client:
    """One HTTP exchange that runs on its own until it is awaited or left."""

    def __init__(self, world: World, path: str, body: object, key: str, headers: dict[str, str]) -> None:
        self.response = Response()
        self._gone = asyncio.Event()
        self._sent = False
        self._body = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"authorization": f"Bearer {key}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        scope = {
            "type": "http",
            "method": "GET" if body is None else "POST",
            "path": path.partition("?")[0],
            "query_string": path.partition("?")[2].encode(),
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        }
        self.task = asyncio.ensure_future(world.app(scope, self._receive, self._send))

    async def done(self) -> Response:
        await self.task
        return self.response

    async def leave(self) -> None:
        self._gone.set()
        await self.task

    async def _receive(self) -> dict[str, object]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            self.response.status = message["status"]
            self.response.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.response.parts.append(message.get("body", b""))


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)
