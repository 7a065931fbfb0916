"""Groups reached over sockets where they can be, by handles where not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from serving.channel.client import ChannelClient, NotBegun
from serving.channel.server import Endpoint
from serving.engines.protocol import Piece
from serving.gateway.backend import Backend

SEARCH_INTERVAL_S = 2.0
"""Between two looks for replicas; a replica that is not found yet is reached by handle."""

AFFINITY_SLACK = 2
"""A replica keeps its sessions while it has at most this many calls more than the least busy one."""

Search = Callable[[str], Awaitable[list[Endpoint]]]
"""Group to the endpoints of its running replicas."""

_log = logging.getLogger("ray.serve")


class StraightBackend:
    """See ``Backend``. A group's replicas keep their sessions; else the one with the fewest calls inside is asked."""

    def __init__(self, search: Search, otherwise: Backend) -> None:
        self._search = search
        self._otherwise = otherwise
        self._clients: dict[str, list[ChannelClient]] = {}
        self._expected: frozenset[str] = frozenset()
        self._searching: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def expect(self, groups: frozenset[str]) -> None:
        """See ``Backend``."""
        self._otherwise.expect(groups)
        self._expected = groups
        for group in self._clients.keys() - groups:
            self._close(group)
        self._changed.set()
        if self._searching is None:
            with contextlib.suppress(RuntimeError):  # no loop yet: the first request starts the search
                self._searching = asyncio.get_running_loop().create_task(self._keep_searching())

    async def answer(
        self, group: str, operation: str, body: bytes, priority: int, affinity: str = ""
    ) -> AsyncGenerator[Piece, None]:
        """See ``Backend``."""
        while (client := self._chosen(group, affinity)) is not None:
            pieces = client.answer(operation, body, priority)
            try:
                async for piece in pieces:
                    yield piece
            except NotBegun:
                self._changed.set()
                continue
            finally:
                await pieces.aclose()
            return
        self._ensure_search()
        other = self._otherwise.answer(group, operation, body, priority)
        try:
            async for piece in other:
                yield piece
        finally:
            await other.aclose()

    async def close(self) -> None:
        """Stop searching and hang up."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.gather(self._searching, return_exceptions=True)
        for group in tuple(self._clients):
            self._close(group)

    def _chosen(self, group: str, affinity: str) -> ChannelClient | None:
        usable = [client for client in self._clients.get(group, ()) if client.is_usable]
        if not usable:
            return None
        least = min(usable, key=lambda client: client.in_flight)
        if not affinity or len(usable) == 1:
            return least
        home = max(usable, key=lambda client: _score(affinity, client.endpoint))
        return home if home.in_flight <= least.in_flight + AFFINITY_SLACK else least

    def _ensure_search(self) -> None:
        if self._searching is None:
            self._searching = asyncio.get_running_loop().create_task(self._keep_searching())

    async def _keep_searching(self) -> None:
        while True:
            self._changed.clear()
            await asyncio.gather(*(self._look(group) for group in self._expected))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEARCH_INTERVAL_S):  # wait_for can swallow the cancellation of ``close``
                    await self._changed.wait()

    async def _look(self, group: str) -> None:
        try:
            found = set(await self._search(group))
        except Exception as fault:  # noqa: BLE001  # the search must live as long as the gateway; handles still work
            _log.info("no straight way to group %s: %s", group, type(fault).__name__)
            return
        known = self._clients.get(group, [])
        for client in known:
            if client.endpoint not in found:
                client.close()
        kept = [client for client in known if client.is_usable]
        new = found - {client.endpoint for client in kept}
        if group in self._expected:
            self._clients[group] = kept + [ChannelClient(endpoint) for endpoint in sorted(new, key=_place)]

    def _close(self, group: str) -> None:
        for client in self._clients.pop(group, ()):
            client.close()


def _score(affinity: str, endpoint: Endpoint) -> bytes:
    """Rendezvous hashing: when replicas come or go, only their own sessions move."""
    return hashlib.blake2b(f"{affinity}\0{endpoint.host}:{endpoint.port}".encode(), digest_size=8).digest()


def _place(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.host, endpoint.port
