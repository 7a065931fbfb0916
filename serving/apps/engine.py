"""The Serve application of one group: replicas of one engine. Nothing reaches it but the gateway of its domain."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import serve

from serving.channel.server import ChannelServer, Endpoint
from serving.engines import open_engine
from serving.engines.protocol import Call, EngineSpec, PieceKind
from serving.errors import WeightsUnrecorded

if TYPE_CHECKING:
    from ray.serve import Application

DRAIN_LIMIT_S = 600
"""A stopping replica lives this long for its last requests; the planned drain of a move ends long before."""
STOP_POLL_S = 0.2
LOOPBACK = "127.0.0.1"
_FIELDS = (
    "group",
    "model",
    "variant",
    "engine",
    "sha256",
    "publisher_key",
    "context",
    "concurrency",
    "threads",
    "options",
)
QUEUE_ALLOWANCE = 4
"""Requests beyond ``concurrency`` that a replica takes in, so that a late count at the gateway never bounces one."""

_log = logging.getLogger("ray.serve")


class EngineReplica:
    """One loaded model. Prompts and answers pass through it and are never written anywhere."""

    async def __init__(self, spec: EngineSpec, channel_host: str | None) -> None:  # type: ignore[misc]  # Serve awaits it
        self._engine = open_engine(spec)
        await self._engine.start()
        self._channel_host = channel_host
        self._channel = ChannelServer(self.stream)
        self._endpoint: Endpoint | None = None

    async def endpoint(self) -> Endpoint | None:
        """Return where gateways of the domain may call this replica straight; None if only handles are wanted."""
        if self._endpoint is None and self._channel_host is not None:
            self._endpoint = await self._channel.start(self._channel_host)
        return self._endpoint

    async def stream(self, operation: str, body: bytes, priority: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield the pieces of the answer; the caller closes the iterator to stop the work."""
        pieces = self._engine.answer(Call(operation=operation, body=json.loads(body), priority=priority))
        try:
            async for piece in pieces:
                yield piece.kind, piece.payload
        except Exception as fault:  # noqa: BLE001  # whatever broke in an engine, the gateway must hear of it
            _log.warning("engine failed: %s", type(fault).__name__)  # its message may quote the prompt
            yield PieceKind.FAILED, json.dumps({"message": type(fault).__name__}).encode()
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]  # engines are async generators

    async def __del__(self) -> None:
        """Free the model. Serve calls this once the last request by handle has ended; those by channel end here."""
        if hasattr(self, "_channel"):
            await self._channel.drain(DRAIN_LIMIT_S)
            await self._engine.close()


def build(args: dict[str, Any]) -> Application:
    """Return the application of a group.

    ``args``: group, model, variant, engine, weights (absolute path, or relative to ``cache_dir``), and optionally
    sha256, publisher_key, context, concurrency, threads, options (see ``EngineSpec``), and ``channel_host``: the
    address on which gateways may call a replica straight, loopback unless given, empty for never.
    """
    if args.get("weights") and not args.get("sha256"):
        raise WeightsUnrecorded(str(args["variant"]))
    given = {name: args[name] for name in _FIELDS if name in args}
    spec = EngineSpec(weights=_weights(args), **given)
    deployment = serve.deployment(
        name="Engine",
        max_ongoing_requests=spec.concurrency + QUEUE_ALLOWANCE,
        graceful_shutdown_timeout_s=DRAIN_LIMIT_S,
        graceful_shutdown_wait_loop_s=STOP_POLL_S,
    )
    application: Application = deployment(EngineReplica).bind(spec, args.get("channel_host", LOOPBACK) or None)
    return application


def _weights(args: dict[str, Any]) -> Path | None:
    if not args.get("weights"):
        return None
    return Path(args.get("cache_dir", "/")) / str(args["weights"])
