"""The two Ray clusters: heads started side by side, each with its domain's gateway."""

from __future__ import annotations

import os
import stat

from cluster.embedded.adapters import domain_end
from cluster.embedded.errors import NotOurs
from cluster.embedded.files import ensure_token
from cluster.embedded.nodes import HEAD_ROLE, ROLE_LABEL, Machine, head, head_name, launch
from cluster.embedded.processes import ProcessRecord, find, is_alive
from cluster.ports import Clock
from cluster.serve_apps import GATEWAY_APP, gateway_app
from policies.model.routing import RoutingTable
from policies.model.units import SecurityDomain

SECRETS = ("ray", "control", "pepper")
"""Of each domain: token of the Ray cluster, bearer of the gateway's control end, key of the API keys' MACs."""
OWNER_ALONE = 0o700
FIRST_PUT_TIMEOUT_S = 120.0
"""The first PUT starts Serve's controller, and waits for it."""


def ensure_secrets(here: Machine) -> None:
    """Make what is missing of both domains' secrets, readable by their owner alone."""
    here.settings.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    for domain in SecurityDomain:
        for purpose in SECRETS:
            ensure_token(here.settings.secret(domain, purpose))


def start_head(here: Machine, domain: SecurityDomain, clock: Clock) -> ProcessRecord:
    """Start the domain's head unless it runs, and return its record."""
    known = find(here.processes, head_name(domain))
    if known is not None and is_alive(known):
        return known
    for folder in (here.temp(domain).parent, here.temp(domain)):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid() or stat.S_IMODE(folder.lstat().st_mode) != OWNER_ALONE:
            raise NotOurs(folder)
    return launch(here, lambda: head(here, domain), clock)


def start_gateway(here: Machine, domain: SecurityDomain, *, simulated: bool) -> None:
    """Put the domain's gateway, with an empty routing table, unless there is one. Raises ``RayUnreadable``."""
    end = domain_end(here.settings, domain, FIRST_PUT_TIMEOUT_S)
    try:
        if GATEWAY_APP in end.dashboard.applications():
            return
        table = RoutingTable(generation=1, domain=domain, simulated=simulated)
        end.dashboard.put_applications(
            {
                "proxy_location": end.proxy_location,
                "http_options": {"host": end.gateway_host, "port": end.gateway_port},
                "applications": [gateway_app(table, end.gateway_files, {ROLE_LABEL: HEAD_ROLE})],
            }
        )
    finally:
        end.dashboard.close()
