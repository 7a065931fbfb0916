"""Commands that start and stop the platform on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.screen import colourful, say

if TYPE_CHECKING:
    from cluster.embedded.progress import Progress


def up() -> None:
    """Start two domains, their gateways and the control plane on this machine; apply the shipped policy and claims.

    A second time it says what already runs. The first time it returns once workers are kept ready for moves as well;
    to interrupt that wait ends nothing else.
    """
    from importlib import import_module

    from cluster.settings import from_environment

    with _progress() as progress:
        ready = import_module("cluster.embedded.platform").bring_up(from_environment(), say, progress)
    import_module("cluster.embedded.platform").say_ready(ready, say)
    if ready.from_nothing:
        with suppress(KeyboardInterrupt), _progress() as progress:
            import_module("cluster.embedded.kept_ready").until_kept_ready(from_environment(), say, progress)


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also remove journal, secrets and logs.")] = False,
) -> None:
    """Stop everything that `up` started, and only that. With `--purge` a person at a terminal is asked first."""
    from importlib import import_module

    from cluster.cli.asking import sure
    from cluster.settings import from_environment

    settings = from_environment()
    if purge:
        sure(f"Stop the platform and remove {settings.home}: journal, keys, secrets, logs?")
    with _progress() as progress:
        import_module("cluster.embedded.platform").take_down(settings, say, progress)
    if purge:
        import shutil

        shutil.rmtree(settings.home, ignore_errors=True)
        say(f"{settings.home} removed")


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Yield what draws the steps: seconds that run on a terminal, None (a line per step) elsewhere."""
    if not colourful():
        yield None
        return
    from rich.console import Console

    from cluster.embedded.bars import bars

    with bars(Console(stderr=True)) as drawn:
        yield drawn


def demo() -> None:
    """Let capacity move between the domains under live traffic, and check every promise on the way."""
    from importlib import import_module

    from cluster.settings import from_environment

    raise typer.Exit(import_module("cluster.demo.story").tell(from_environment()))
