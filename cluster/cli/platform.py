"""Commands that start and stop the platform on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.screen import say


def up() -> None:
    """Start two domains, their gateways and the control plane on this machine; apply the shipped policy and claims.

    A second time it says what already runs.
    """
    from importlib import import_module

    from cluster.settings import from_environment

    import_module("cluster.embedded.platform").bring_up(from_environment(), say)


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also remove journal, secrets and logs.")] = False,
) -> None:
    """Stop everything that `up` started, and only that."""
    from importlib import import_module

    from cluster.settings import from_environment

    settings = from_environment()
    import_module("cluster.embedded.platform").take_down(settings, say)
    if purge:
        import shutil

        shutil.rmtree(settings.home, ignore_errors=True)
        say(f"{settings.home} removed")


def demo() -> None:
    """Let capacity move between the domains under live traffic, and check every promise on the way."""
    from importlib import import_module

    from cluster.settings import from_environment

    raise typer.Exit(import_module("cluster.demo.story").tell(from_environment()))
