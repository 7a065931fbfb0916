"""Groups reached through Ray Serve's handles: authenticated by the cluster, works everywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from socket import gethostname
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serving.channel.server import Endpoint
from serving.engines.protocol import Piece, PieceKind

DEPLOYMENT = "Engine"
SEARCH_LIMIT_S = 2.0


async def search(group: str) -> list[Endpoint]:
    """Return where the running replicas of the group listen, those that can be reached from this host."""
    asked = serve.get_deployment_handle(DEPLOYMENT, app_name=group).broadcast("endpoint")
    async with asyncio.timeout(SEARCH_LIMIT_S):
        found = await asked.results_async()
    return [endpoint for endpoint in found if endpoint is not None and _is_near(endpoint)]


def _is_near(endpoint: Endpoint) -> bool:
    return not endpoint.host.startswith("127.") or endpoint.machine == gethostname()


class HandleBackend:
    """See ``Backend``."""

    def __init__(self) -> None:
        self._methods: dict[str, Any] = {}

    def expect(self, groups: frozenset[str]) -> None:
        """See ``Backend``."""
        for group in self._methods.keys() - groups:
            del self._methods[group]  # answers in progress hold their own reference
        for group in groups:
            self._method(group)

    async def answer(
        self,
        group: str,
        operation: str,
        body: bytes,
        priority: int,
        affinity: str = "",  # noqa: ARG002  # Ray Serve chooses the replica
    ) -> AsyncGenerator[Piece, None]:
        """See ``Backend``."""
        response = None
        try:
            response = self._method(group).remote(operation, body, priority)
            async for kind, payload in response:
                yield Piece(kind, payload)
            response = None
        except (RayError, RayServeException) as fault:
            yield Piece(PieceKind.FAILED, json.dumps({"message": type(fault).__name__}).encode())
        finally:
            if response is not None:
                response.cancel()

    def _method(self, group: str) -> Any:
        if group not in self._methods:
            handle = serve.get_deployment_handle(DEPLOYMENT, app_name=group)
            self._methods[group] = handle.options(stream=True).stream
        return self._methods[group]
