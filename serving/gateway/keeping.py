"""What runs beside the requests while a gateway lives: the ledger is written and cut, batches fill idle places."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from serving.gateway.asgi import Asgi, Receive, Scope, Send
from serving.gateway.batch import BatchRunner
from serving.ledger import Ledger

FLUSH_INTERVAL_S = 0.5
"""A crash loses the records of at most this long."""

_log = logging.getLogger("ray.serve")


class Keeping:
    """An ASGI application around another: from its startup to the end of its shutdown the background work runs.

    ``oldest`` gives the first day that the ledger keeps, by the policy in force; empty keeps all.
    """

    def __init__(self, app: Asgi, ledger: Ledger | None, runner: BatchRunner | None, oldest: Callable[[], str]) -> None:
        self._app = app
        self._ledger = ledger
        self._runner = runner
        self._oldest = oldest
        self._forgotten = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._keep())]
        if self._runner is not None:
            tasks.append(loop.create_task(self._runner.run()))
        try:
            await self._app(scope, receive, send)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._flush()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._flush()

    async def _flush(self) -> None:
        if self._ledger is None:
            return
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self._ledger.flush)
            oldest = self._oldest()
            if oldest != self._forgotten:
                gone = await loop.run_in_executor(None, self._ledger.forget, oldest) if oldest else 0
                self._forgotten = oldest
                _log.info("usage ledger: kept from %s on, %s files deleted", oldest or "the beginning", gone)
        except OSError as fault:
            _log.error("the usage ledger cannot be written (%s); records are held in memory", fault.strerror)
