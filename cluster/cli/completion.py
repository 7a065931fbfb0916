"""Live names for shell completion. Silent when nothing answers: completion never gets in the way."""

from __future__ import annotations

from collections.abc import Callable

from cluster.cli.screen import Row

WAIT_S = 2


def claims(incomplete: str) -> list[str]:
    """Return the names of claims that begin so."""
    return _names("/v1/claims", lambda row: str(row["claim"]["id"]), incomplete)


def tenants(incomplete: str) -> list[str]:
    """Return the names of tenants that begin so."""
    return _names("/v1/tenants", lambda row: str(row["id"]), incomplete)


def places(incomplete: str) -> list[str]:
    """Return the names of nodes and devices that begin so."""
    nodes = _names("/v1/nodes", lambda row: str(row["id"]), incomplete)
    return nodes + _names("/v1/devices", lambda row: str(row["id"]), incomplete)


def kinds(incomplete: str) -> list[str]:
    """Return the kinds that can be listed and begin so."""
    from cluster.cli.reading import KINDS, UNPAGED

    return [kind for kind in [*KINDS, *UNPAGED] if kind.startswith(incomplete)]


def _names(path: str, named: Callable[[Row], str], incomplete: str) -> list[str]:
    from dataclasses import replace

    from cluster.cli.contexts import connect

    try:
        rows = replace(connect(), timeout_s=WAIT_S).items(path)
    except Exception:  # noqa: BLE001  # a shell that completes must not see errors
        return []
    return [name for row in rows if (name := named(row)).startswith(incomplete)]
