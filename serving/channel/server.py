"""The engine's end: answers calls over connections until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from socket import gethostname

from serving.channel.frames import Frames
from serving.channel.handshake import NotTheOther, receive
from serving.engines.protocol import PieceKind

CALL = 80
"""Kind of the frame that asks: operation, priority and body, parted by line feeds."""
SECRET_BYTES = 32
STOPPING = b'{"message":"stopping"}'
_FIELDS = 3

Answering = Callable[[str, bytes, int], AsyncGenerator[tuple[int, bytes], None]]
"""Operation, body, priority: what ``EngineReplica.stream`` is."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a replica listens. Travels by handle calls only and is never logged."""

    host: str
    port: int
    secret: bytes
    machine: str
    """Name of the host, since a loopback address means this only there."""

    def __repr__(self) -> str:
        return f"Endpoint({self.host}:{self.port})"


class ChannelServer:
    """Listens on a free port of ``host``."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._sessions: set[_Session] = set()
        self._listener: asyncio.Server | None = None
        self._is_stopping = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, host: str) -> Endpoint:
        """Listen, and return where."""
        self._listener = await asyncio.get_running_loop().create_server(lambda: _Session(self), host, 0)
        port = self._listener.sockets[0].getsockname()[1]
        return Endpoint(host, port, self._secret, gethostname())

    async def drain(self, limit_s: float) -> None:
        """Refuse further calls, return when those inside have ended or the limit has passed, then hang up."""
        self._is_stopping = True
        if self._listener is not None:
            self._listener.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        for session in tuple(self._sessions):
            session.close()

    async def serve(self, session: _Session) -> None:
        """Answer one connection until it ends; its end cancels the answer in progress."""
        self._sessions.add(session)
        try:
            await receive(session, self._secret)
            while (frame := await session.read()) is not None and frame.kind == CALL:
                if self._is_stopping:
                    session.send(PieceKind.FAILED, STOPPING)
                    continue
                operation, priority, body = frame.payload.split(b"\n", _FIELDS - 1)
                await self._answer(session, operation.decode(), body, int(priority))
        except (NotTheOther, ValueError):
            pass  # not one of ours, or not speaking as ours do: it is told nothing
        finally:
            self._sessions.discard(session)
            session.close()

    async def _answer(self, session: _Session, operation: str, body: bytes, priority: int) -> None:
        self.in_flight += 1
        self._idle.clear()
        pieces = self._answering(operation, body, priority)
        try:
            async for kind, payload in pieces:
                session.send(kind, payload)
                await session.writable()
        finally:
            await pieces.aclose()
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()


class _Session(Frames):
    def __init__(self, server: ChannelServer) -> None:
        super().__init__()
        self._server = server
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(self))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()
