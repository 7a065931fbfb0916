"""The straight way between gateway and engine: authenticated both ways, cancellable, and left when a replica stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

import pytest
import uvloop

from serving.channel.client import ChannelClient, NotBegun
from serving.channel.server import ChannelServer, Endpoint
from serving.engines.protocol import Piece, PieceKind
from serving.gateway.straight import StraightBackend
from tests.serving.fakes import FakeBackend, settle

LOOPBACK = "127.0.0.1"


class FakeEngine:
    """Repeats the body as two pieces; ``gate`` holds the second."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.stopped = asyncio.Event()

    async def stream(self, operation: str, body: bytes, priority: int) -> AsyncGenerator[tuple[int, bytes], None]:
        try:
            yield PieceKind.DATA, json.dumps([operation, priority]).encode()
            await self.gate.wait()
            yield PieceKind.DATA, body
            yield PieceKind.USAGE, b"{}"
        finally:
            self.stopped.set()


Story = Callable[[FakeEngine, ChannelServer, Endpoint], Awaitable[None]]


def run(story: Story) -> None:
    """Tell the story twice: replicas run on uvloop, whose transports are not asyncio's."""
    _run(story, asyncio.new_event_loop)
    _run(story, uvloop.new_event_loop)


def _run(story: Story, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def tell() -> None:
        engine = FakeEngine()
        server = ChannelServer(engine.stream)
        try:
            await asyncio.wait_for(story(engine, server, await server.start(LOOPBACK)), 20)
        finally:
            await server.drain(0.1)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(tell())


async def ask(client: ChannelClient, body: bytes = b"hello") -> list[Piece]:
    return [piece async for piece in client.answer("chat", body, 3)]


def test_a_call_arrives_whole_and_its_pieces_come_back_in_order() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        body = b"line\n" * 100_000
        pieces = await ask(ChannelClient(endpoint), body)
        assert [piece.kind for piece in pieces] == [PieceKind.DATA, PieceKind.DATA, PieceKind.USAGE]
        assert pieces[0].payload == b'["chat", 3]'
        assert pieces[1].payload == body

    run(story)


def test_a_connection_serves_one_call_after_another() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        client = ChannelClient(endpoint)
        for _ in range(5):
            await ask(client)
        assert len(client._idle) == 1

    run(story)


def test_who_does_not_know_the_secret_is_told_nothing() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        with pytest.raises(NotBegun):
            await ask(ChannelClient(replace(endpoint, secret=b"guess")))
        assert not engine.stopped.is_set(), "the engine was never asked"

    run(story)


def test_a_stranger_that_sends_rubbish_is_hung_up_on() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x00\x00\x00\x01\x50x"):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(rubbish)
            assert await reader.read() == b""
            writer.close()

    run(story)


def test_a_caller_that_goes_stops_the_engine() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        engine.gate.clear()
        pieces = ChannelClient(endpoint).answer("chat", b"", 0)
        await anext(pieces)
        await pieces.aclose()
        await engine.stopped.wait()
        assert server.in_flight == 0

    run(story)


def test_a_stopping_replica_finishes_what_is_inside_and_takes_nothing_more() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        engine.gate.clear()
        client = ChannelClient(endpoint)
        first = client.answer("chat", b"kept", 0)
        await anext(first)
        draining = asyncio.ensure_future(server.drain(10))
        await settle()
        with pytest.raises(NotBegun):
            await ask(client)
        engine.gate.set()
        assert [piece.payload async for piece in first] == [b"kept", b"{}"]
        await draining

    run(story)


def test_a_replica_that_dies_in_mid_answer_is_a_failure_the_gateway_hears_of() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        engine.gate.clear()
        pieces = ChannelClient(endpoint).answer("chat", b"", 0)
        await anext(pieces)
        await server.drain(0.01)
        assert (await anext(pieces)).kind == PieceKind.FAILED

    run(story)


def test_until_a_straight_way_is_found_and_after_it_is_lost_handles_answer() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        found: list[Endpoint] = []
        handles = FakeBackend()

        async def search(group: str) -> list[Endpoint]:
            return list(found)

        async def answer() -> bytes:
            return b"".join([p.payload async for p in backend.answer("g1", "chat", b'{"seed":1}', 0)])

        backend = StraightBackend(search, handles)
        backend.expect(frozenset({"g1"}))
        assert b"g1" in await answer()
        found.append(endpoint)
        backend.expect(frozenset({"g1"}))
        await settle()
        assert b'["chat", 0]' in await answer()
        assert len(handles.asked) == 1
        found.clear()
        await server.drain(0.1)
        assert b"g1" in await answer(), "a replica that stopped costs no request"
        await backend.close()

    run(story)


def test_a_session_meets_the_same_replica_until_that_is_much_busier() -> None:
    async def story(engine: FakeEngine, server: ChannelServer, endpoint: Endpoint) -> None:
        other = ChannelServer(engine.stream)
        ends = [endpoint, await other.start("127.0.0.1")]

        async def search(group: str) -> list[Endpoint]:
            return ends

        backend = StraightBackend(search, FakeBackend())
        backend.expect(frozenset({"g1"}))
        await settle()
        homes = {session: backend._chosen("g1", session) for session in (*"ab", *(str(number) for number in range(62)))}
        assert len(set(homes.values())) == 2, "sessions are spread over the replicas"
        home = homes["a"]
        assert home is not None
        for calls, stays in ((0, True), (2, True), (3, False)):
            home.in_flight = calls
            assert (backend._chosen("g1", "a") is home) is stays
        home.in_flight = 0
        await backend.close()
        await other.drain(0.1)

    run(story)
