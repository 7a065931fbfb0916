"""Live names for shell completion. Silent when nothing answers: completion never gets in the way."""

from __future__ import annotations

from collections.abc import Callable

import typer

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


def outputs(incomplete: str) -> list[str]:
    """Return the ways to print that begin so."""
    from cluster.cli.screen import KINDS_OF_OUTPUT

    return [kind for kind in (*KINDS_OF_OUTPUT, "jsonpath=") if kind.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Return the models that begin so."""
    return _names("/v1/models", lambda row: str(row["id"]), incomplete)


def reservations(incomplete: str) -> list[str]:
    """Return the names of reservations that begin so."""
    return _names("/v1/reservations", lambda row: str(row["id"]), incomplete)


def keys(incomplete: str) -> list[str]:
    """Return the prefixes of keys that begin so."""
    return _names("/v1/keys", lambda row: str(row["prefix"]), incomplete)


def contexts(incomplete: str) -> list[str]:
    """Return the contexts that begin so."""
    from cluster.cli.contexts import contexts as known
    from cluster.settings import from_environment

    return [name for name in known(from_environment()) if name.startswith(incomplete)]


def named(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the kind that the words before name, as far as they begin so."""
    from cluster.cli.reading import KINDS

    kind = str(ctx.params.get("kind") or "")
    plural = kind if kind in KINDS else f"{kind}s"
    if plural not in KINDS:
        return []
    path, _, name = KINDS[plural]
    return _names(path, name, incomplete)


def _names(path: str, named: Callable[[Row], str], incomplete: str) -> list[str]:
    from dataclasses import replace

    from cluster.cli.contexts import connect

    try:
        rows = replace(connect(), timeout_s=WAIT_S).items(path)
    except Exception:  # noqa: BLE001  # a shell that completes must not see errors
        return []
    return [name for row in rows if (name := named(row)).startswith(incomplete)]
