"""Frames over a stream: four bytes of length, one byte of kind, the payload."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import NamedTuple, cast

HEADER = struct.Struct("!IB")
FRAME_LIMIT_BYTES = 64 * 1024 * 1024
"""A longer frame ends the connection."""


class Frame(NamedTuple):
    """One message."""

    kind: int
    payload: bytes


class Frames(asyncio.Protocol):
    """Both ends of a connection: frames in order of arrival, writing with back-pressure."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._arrived: deque[Frame] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether both ends are there."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's classes only look like asyncio's

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """See ``asyncio.Protocol``."""
        self._transport = None
        self._writable.set()
        self._rouse()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        buffer = self._buffer
        buffer += data
        start, size = 0, len(buffer)
        while size - start >= HEADER.size:
            length, kind = HEADER.unpack_from(buffer, start)
            if length > FRAME_LIMIT_BYTES:
                self.close()
                return
            end = start + HEADER.size + length
            if end > size:
                break
            self._arrived.append(Frame(kind, bytes(buffer[start + HEADER.size : end])))
            start = end
        if start:
            del buffer[:start]
            self._rouse()

    async def read(self) -> Frame | None:
        """Return the next frame; None once the other end has gone. One reader at a time."""
        while not self._arrived:
            if self._transport is None:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._arrived.popleft()

    def send(self, kind: int, payload: bytes) -> None:
        """Write a frame; lost without a word if the other end has gone, as ``read`` tells."""
        if self._transport is not None:
            self._transport.write(HEADER.pack(len(payload), kind) + payload)

    async def writable(self) -> None:
        """Return once the other end keeps up."""
        await self._writable.wait()

    def close(self) -> None:
        """End the connection; the other end's ``read`` gives None."""
        if self._transport is not None:
            self._transport.abort()

    def _rouse(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)
