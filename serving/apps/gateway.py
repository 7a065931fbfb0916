"""The Serve ingress application of one domain: the only way from a tenant to a model."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import serve

from policies.model.codec import from_plain
from policies.model.routing import RoutingTable
from policies.model.units import SecurityDomain
from serving.catalogue import entries
from serving.gateway.asgi import Asgi, HttpGateway
from serving.gateway.batch import BatchRunner
from serving.gateway.counting import counting
from serving.gateway.door import Door
from serving.gateway.exchange import Gateway, GatewayParts
from serving.gateway.files_http import FilesHttp
from serving.gateway.handles import HandleBackend, search
from serving.gateway.keeping import Keeping
from serving.gateway.shelf import Shelf
from serving.gateway.straight import StraightBackend
from serving.ledger import Ledger, day_of, read

if TYPE_CHECKING:
    from ray.serve import Application

DRAIN_LIMIT_S = 600
LOOPBACK = "127.0.0.1"
MAX_ONGOING = 4096
"""Requests inside the gateway, waiting ones included; its own queues are shorter and say so in OpenAI's words."""

_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySpec:
    """What the gateway is told by the arguments of its application."""

    domain: SecurityDomain
    pepper_file: Path
    """Key of the domain's API keys; its bytes, without white space at the ends."""
    control_token_file: Path
    """Bearer of ``/-/partage/load``."""
    door: tuple[str, int] | None = None
    """Address and port of a listener of the gateway's own, beside Ray Serve's proxy and several times as fast."""

    ledger_dir: Path | None = None
    """Where usage and audit records go; None keeps none."""
    batch_dir: Path | None = None
    """Where files and batches of tenants are kept; None offers neither."""
    hashes_content: bool = False


class OtherDomain(ValueError):
    """A routing table of another domain reached this gateway."""

    def __init__(self, own: SecurityDomain, given: SecurityDomain) -> None:
        super().__init__(f"this gateway serves {own}, the routing table is of {given}; it was not applied")


@serve.ingress()
class GatewayReplica:
    """Holds the queues and counts of its domain, hence one replica per domain."""

    def __init__(self, spec: GatewaySpec) -> None:
        self._spec = spec
        self._ledger = Ledger(spec.ledger_dir) if spec.ledger_dir else None
        self._gateway = Gateway(
            GatewayParts(
                domain=spec.domain.value,
                pepper=spec.pepper_file.read_bytes().strip(),
                backend=StraightBackend(search, HandleBackend()),
                clock=_now_ms,
                ledger=self._ledger,
                hashes_content=spec.hashes_content,
                counting=counting({str(entry.model.id): entry.tokenizer for entry in entries()}),
            )
        )
        if spec.ledger_dir:
            this_month = day_of(_now_ms())[: len("2026-11")]
            self._gateway.limits.remember(read(spec.ledger_dir, since=this_month))

    def __serve_build_asgi_app__(self) -> Asgi:  # the name is Ray Serve's
        """Return the HTTP side; Ray Serve calls this after the constructor."""
        token = self._spec.control_token_file.read_text(encoding="utf-8").strip()
        runner, files = None, None
        if self._spec.batch_dir:
            shelf = Shelf(self._spec.batch_dir)
            runner = BatchRunner(self._gateway, shelf)
            files = FilesHttp(shelf, runner)
        http = HttpGateway(self._gateway, token, files)
        return Keeping(
            http if self._spec.door is None else Door(http, *self._spec.door),
            self._ledger,
            runner,
            self._gateway.oldest_day,
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Put a routing table in force, in place. An older one is refused; one of another domain is an error."""
        table = from_plain(RoutingTable, user_config)
        if table.domain != self._spec.domain:
            raise OtherDomain(self._spec.domain, table.domain)
        if not self._gateway.apply(table):
            _log.warning(
                "routing table %s is older than %s in force", table.generation, self._gateway.dispatcher.generation
            )


def build(args: dict[str, Any]) -> Application:
    """Return the gateway application.

    ``args``: domain, pepper_file, control_token_file, and optionally door_host (loopback unless given), door_port,
    ledger_dir, batch_dir, hashes_content. See ``GatewaySpec``.
    """
    door = (str(args.get("door_host", LOOPBACK)), int(args["door_port"])) if args.get("door_port") else None
    spec = GatewaySpec(
        domain=SecurityDomain(args["domain"]),
        pepper_file=Path(args["pepper_file"]),
        control_token_file=Path(args["control_token_file"]),
        door=door,
        ledger_dir=Path(args["ledger_dir"]) if args.get("ledger_dir") else None,
        batch_dir=Path(args["batch_dir"]) if args.get("batch_dir") else None,
        hashes_content=bool(args.get("hashes_content", False)),
    )
    deployment = serve.deployment(
        name="Gateway", max_ongoing_requests=MAX_ONGOING, graceful_shutdown_timeout_s=DRAIN_LIMIT_S
    )
    application: Application = deployment(GatewayReplica).bind(spec)
    return application


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
