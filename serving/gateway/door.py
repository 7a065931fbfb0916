"""A listener of the gateway's own. Ray Serve's proxies pay for each request more than all of the gateway's work."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from serving.gateway.asgi import AT_DOOR, Asgi, Receive, Scope, Send

KEEP_ALIVE_S = 75
CONNECTION_BACKLOG = 2048


class Door:
    """The gateway's application, opened at its own port for as long as Ray Serve keeps the application alive.

    Several processes of one host may hold the port: while one replica replaces another, both answer.
    """

    def __init__(self, app: Asgi, host: str, port: int) -> None:
        self._app = app
        self._address = (host, port)
        self._server: _Server | None = None
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point for Ray Serve's proxy; its lifespan opens and closes the door."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._open()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _open(self) -> None:
        config = uvicorn.Config(
            self._straight,
            interface="asgi3",
            proxy_headers=False,
            http="httptools",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=CONNECTION_BACKLOG,
        )
        self._server = _Server(config)
        self._running = asyncio.get_running_loop().create_task(self._server.serve([_listener(*self._address)]))

    async def _straight(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[AT_DOOR] = True
        await self._app(scope, receive, send)

    async def _close(self) -> None:
        """Take no new connections and return when the requests inside have ended."""
        if self._server is not None and self._running is not None:
            self._server.should_exit = True
            await self._running


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to Ray: they stop the replica in order, which closes the door."""
        yield


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener
