"""The gateway's end: kept connections to one replica, one call at a time on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from serving.channel.frames import Frames
from serving.channel.handshake import greet
from serving.channel.server import CALL, STOPPING, Endpoint
from serving.engines.protocol import Piece, PieceKind

CONNECT_LIMIT_S = 2.0
IDLE_CONNECTIONS = 64
"""Kept for the next calls to a replica; more are closed after use."""
_LAST = (PieceKind.USAGE, PieceKind.REFUSED, PieceKind.FAILED)


class NotBegun(ConnectionError):
    """The replica took nothing of the call: it may be made elsewhere."""


class ChannelClient:
    """Calls to one replica."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.in_flight = 0
        self.is_usable = True
        self._idle: list[Frames] = []

    async def answer(self, operation: str, body: bytes, priority: int) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of the answer; closing the generator hangs up, which stops the engine's work.

        Raises ``NotBegun`` if the replica is gone or stopping; a break after that is a FAILED piece.
        """
        self.in_flight += 1
        frames: Frames | None = None
        is_complete = False
        try:
            frames = await self._connection()
            frames.send(CALL, b"%b\n%d\n%b" % (operation.encode(), priority, body))
            has_begun = False
            while not is_complete:
                piece = await self._piece(frames, has_begun=has_begun)
                has_begun = True
                is_complete = piece.kind in _LAST
                if is_complete:
                    self._keep(frames)
                yield piece
        finally:
            self.in_flight -= 1
            if frames is not None and not is_complete:
                frames.close()

    def close(self) -> None:
        """Take no further calls; connections end when their calls have."""
        self.is_usable = False
        for frames in self._idle:
            frames.close()
        self._idle.clear()

    async def _piece(self, frames: Frames, *, has_begun: bool) -> Piece:
        frame = await frames.read()
        if frame is None and has_begun:
            return Piece(PieceKind.FAILED, b'{"message":"connection lost"}')
        if frame is None or (frame.kind == PieceKind.FAILED and frame.payload == STOPPING):
            self.close()
            raise NotBegun
        return Piece(frame.kind, frame.payload)

    async def _connection(self) -> Frames:
        while self._idle:
            frames = self._idle.pop()
            if frames.is_open:
                return frames
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                return await self._connect()
        except (OSError, TimeoutError) as fault:
            self.close()
            raise NotBegun from fault

    async def _connect(self) -> Frames:
        loop, end = asyncio.get_running_loop(), self.endpoint
        _, frames = await loop.create_connection(Frames, end.host, end.port)
        try:
            await greet(frames, end.secret)
        except BaseException:
            frames.close()
            raise
        return frames

    def _keep(self, frames: Frames) -> None:
        if self.is_usable and len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(frames)
        else:
            frames.close()
