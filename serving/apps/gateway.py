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
from serving.gateway.asgi import Asgi, HttpGateway
from serving.gateway.door import Door
from serving.gateway.exchange import Gateway
from serving.gateway.handles import HandleBackend, search
from serving.gateway.straight import StraightBackend

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


class OtherDomain(ValueError):
    """A routing table of another domain reached this gateway."""

    def __init__(self, own: SecurityDomain, given: SecurityDomain) -> None:
        super().__init__(f"this gateway serves {own}, the routing table is of {given}; it was not applied")


@serve.ingress()
class GatewayReplica:
    """Holds the queues and counts of its domain, hence one replica per domain."""

    def __init__(self, spec: GatewaySpec) -> None:
        self._spec = spec
        backend = StraightBackend(search, HandleBackend())
        self._gateway = Gateway(spec.pepper_file.read_bytes().strip(), backend, _now_ms)

    def __serve_build_asgi_app__(self) -> Asgi:  # the name is Ray Serve's
        """Return the HTTP side; Ray Serve calls this after the constructor."""
        http = HttpGateway(self._gateway, self._spec.control_token_file.read_text(encoding="utf-8").strip())
        return http if self._spec.door is None else Door(http, *self._spec.door)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
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

    ``args``: domain, pepper_file, control_token_file, and optionally door_host (loopback unless given) and door_port.
    See ``GatewaySpec``.
    """
    door = (str(args.get("door_host", LOOPBACK)), int(args["door_port"])) if args.get("door_port") else None
    spec = GatewaySpec(
        domain=SecurityDomain(args["domain"]),
        pepper_file=Path(args["pepper_file"]),
        control_token_file=Path(args["control_token_file"]),
        door=door,
    )
    deployment = serve.deployment(
        name="Gateway", max_ongoing_requests=MAX_ONGOING, graceful_shutdown_timeout_s=DRAIN_LIMIT_S
    )
    application: Application = deployment(GatewayReplica).bind(spec)
    return application


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
