"""`partage drill list|run|restart`: train on a simulated platform, with the real tools."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Drills: train for an incident on a simulated platform.", no_args_is_help=True)

FAILED = 1
PASSED = 60
"""Points from which on a drill is passed."""


@app.command("list")
def list_drills() -> None:
    """List the drills."""
    from cluster.drills.scenario import DRILLS

    for drill in DRILLS.values():
        typer.echo(f"{drill.name:<20} {drill.title}")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Name of the drill, from `partage drill list`.")],
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many seconds, mended or not.")] = None,
) -> None:
    """Run a drill: it says what you hear, watches what you do, scores and explains. Exit status 1 below 60 points.

    Example: partage drill run gpu-lost
    """
    import tempfile
    from pathlib import Path

    from cluster.clock import SystemClock
    from cluster.drills.run import run as begin
    from cluster.drills.scenario import DRILLS

    if name not in DRILLS:
        raise typer.BadParameter(f"there is no drill {name!r}; `partage drill list` shows them")
    with tempfile.TemporaryDirectory(prefix="partage-drill-") as folder:
        home = Path(folder) / "home"
        result = begin(DRILLS[name], home, SystemClock(), say=typer.echo, limit_s=limit, linger=_until_enter)
    if result.points < PASSED:
        raise typer.Exit(FAILED)


def _until_enter() -> None:
    """Let a person at a terminal look around once it is over; scripts do not wait."""
    from cluster.cli.asking import pause

    pause("Look around, if you like. Enter ends the drill's platform.")


@app.command()
def restart() -> None:
    """Start the control plane of the drill again: stands for starting its process on a real platform."""
    from cluster.cli.contexts import connect
    from cluster.drills.recorder import RESTART_PATH

    connect().call("POST", RESTART_PATH)
    typer.echo("the control plane is started")
