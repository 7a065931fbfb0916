"""`partage dashboards push|diff|export`: what we ship, what Grafana holds, and how they become the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
app = typer.Typer(help="Grafana dashboards: push, compare, export.", no_args_is_help=True)

Address = Annotated[
    str, typer.Option("--grafana", metavar="URL", help="Address of Grafana, such as http://grafana:3000")
]
TokenFile = Annotated[Path, typer.Option("--token-file", help="File with a service account's token (role Editor).")]
DataSource = Annotated[str, typer.Option("--datasource", help="Name of the Prometheus data source in Grafana.")]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="Certificates to trust, for an own authority.")]

ANNOTATE_EVERY_MS = 15_000
DIFFERENT = 1
FAULT = 2
UNREACHABLE = 7
UNAUTHORISED = 4


@app.command()
def push(
    grafana: Address, token_file: TokenFile, datasource: DataSource = "Prometheus", ca_file: CaFile = None
) -> None:
    """Make Grafana hold our dashboards, in the folder `partage`. Again changes nothing.

    Example: partage dashboards push --grafana http://127.0.0.1:3000 --token-file grafana.token
    """
    from cluster.dashboards.client import connect
    from cluster.dashboards.push import push as make_same

    differences = _guarded(lambda: make_same(connect(grafana, token_file, ca_file=ca_file), datasource=datasource))
    for difference in differences:
        typer.echo(f"{DONE[difference.change]:<10} {difference.uid:<20} {difference.title}")


@app.command()
def diff(
    grafana: Address, token_file: TokenFile, datasource: DataSource = "Prometheus", ca_file: CaFile = None
) -> None:
    """Show what push would change. Exit status: 0 nothing, 1 differences, above 1 a fault."""
    from cluster.dashboards.client import connect
    from cluster.dashboards.push import Change, compare

    differences = _guarded(lambda: compare(connect(grafana, token_file, ca_file=ca_file), datasource=datasource))
    for difference in differences:
        if difference.change is Change.MOVE:
            typer.echo(f"{difference.uid}: is in another folder")
        for line in difference.lines():
            typer.echo(line)
    if any(difference.change is not Change.SAME for difference in differences):
        raise typer.Exit(DIFFERENT)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write one JSON file per dashboard into.")],
    datasource: DataSource = "Prometheus",
) -> None:
    """Write the dashboards as files, for provisioning from disk or a ConfigMap."""
    from cluster.dashboards.push import export as write

    for path in write(folder, datasource=datasource):
        typer.echo(str(path))


@app.command()
def annotate(
    grafana: Address,
    token_file: TokenFile,
    ca_file: CaFile = None,
    context: Annotated[str | None, typer.Option("--context", help="Control plane whose record is read.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what happens, until Ctrl-C.")] = False,
) -> None:
    """Mark decisions that move something, and modes, on every dashboard. Each once, however often it is run."""
    from cluster.cli.contexts import connect as control_plane
    from cluster.clock import SystemClock
    from cluster.dashboards.annotate import publish
    from cluster.dashboards.client import connect
    from cluster.dashboards.history import marks

    client, clock, newest = control_plane(context), SystemClock(), 0
    target = _guarded(lambda: connect(grafana, token_file, ca_file=ca_file))
    while True:
        found, newest = marks(client, after=newest)
        typer.echo(f"{_guarded(partial(publish, target, found))} marks added")
        if not watch:
            return
        clock.sleep_ms(ANNOTATE_EVERY_MS)


@app.command("export-alerts")
def export_alerts(
    file: Annotated[Path, typer.Argument(help="File to write the Prometheus rules into.")],
    runbooks: Annotated[str, typer.Option(help="Address below which the runbook pages are served.")] = "",
) -> None:
    """Write the alerts as Prometheus rules, every one with the address of its runbook page."""
    from cluster.dashboards.alerts.rules import RUNBOOK_BASE, write

    write(file, runbooks.rstrip("/") or RUNBOOK_BASE)
    typer.echo(str(file))


DONE = {"create": "created", "update": "updated", "move": "moved", "same": "unchanged"}


def _guarded(call: Callable[[], Result]) -> Result:
    from cluster.dashboards.refusals import GrafanaUnauthorised, GrafanaUnreachable
    from cluster.refusals import Refusal

    try:
        return call()
    except Refusal as refusal:
        typer.echo(f"error ({refusal.code}): {refusal}", err=True)
        if isinstance(refusal, GrafanaUnreachable):
            raise typer.Exit(UNREACHABLE) from refusal
        raise typer.Exit(UNAUTHORISED if isinstance(refusal, GrafanaUnauthorised) else FAULT) from refusal
