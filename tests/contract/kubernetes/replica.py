"""A control plane of the tests: the real program, told where API server, dashboards and gateways are."""

from __future__ import annotations

import json
import sys

from cluster import main as program
from cluster.kubernetes.adapters import Site, adapters, controller, election
from cluster.kubernetes.api import Connection
from cluster.leadership import LEADERSHIPS, Leadership
from cluster.ports import Clock
from cluster.settings import Settings
from policies.model.units import SecurityDomain


def site(url: str, rays: dict[str, str]) -> Site:
    """Return how this cluster is reached from outside; dashboard and gateway of a domain are behind one address."""

    def of(domain: SecurityDomain, _namespace: str) -> str:
        return rays[domain.value]

    return Site(connection=lambda _: Connection.to(url), dashboard_url=of, gateway_url=of)


def main() -> int:
    """Run until SIGTERM: arguments are the API server's address and the domains' addresses as JSON."""
    here = site(sys.argv[1], json.loads(sys.argv[2]))

    def parts(kept: program.Kept) -> program.Adapters:
        observer, actuator = adapters(kept.settings, kept.clock, kept.journal, kept.ledger, kept.registry, here)
        return program.Adapters(observer=observer, actuator=actuator)

    def leadership(settings: Settings, clock: Clock) -> Leadership:
        return election(settings, clock, here)

    program.PLATFORMS["kubernetes"] = parts
    program.COMPANIONS["kubernetes"] = (lambda parts: controller(parts, here),)
    LEADERSHIPS["kubernetes"] = leadership
    return program.main(["--platform", "kubernetes"])


if __name__ == "__main__":
    sys.exit(main())
