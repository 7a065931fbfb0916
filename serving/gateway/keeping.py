"""Keeps the ledger on disk while the gateway lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from serving.gateway.asgi import Asgi, Receive, Scope, Send
from serving.ledger import Ledger

FLUSH_INTERVAL_S = 0.5
"""A crash loses the records of at most this long."""

_log = logging.getLogger("ray.serve")


class Keeping:
    """An ASGI application around another: the ledger is written from its startup to the end of its shutdown."""

    def __init__(self, app: Asgi, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        self._task = asyncio.get_running_loop().create_task(self._keep())
        try:
            await self._app(scope, receive, send)
        finally:
            self._task.cancel()
            await self._flush()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._flush()

    async def _flush(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._ledger.flush)
            except OSError as fault:
                _log.error("the usage ledger cannot be written (%s); records are held in memory", fault.strerror)
