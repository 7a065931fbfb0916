"""`partage reservation make|cancel`: capacity kept for a tenant at a later time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cluster.cli import completion
from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Output, say, show

app = typer.Typer(help="Capacity kept for a tenant at a later time, on top of its quota.", no_args_is_help=True)

WHOLE = 1_000


@app.command("list")
def list_reservations(
    output: OutputKind = Output.TABLE, context: ContextName = None, token_file: TokenFile = None
) -> None:
    """List what is kept. The same as `partage get reservations`."""
    from cluster.cli.columns import reservation_columns
    from cluster.cli.contexts import connect
    from cluster.clock import SystemClock

    rows = connect(context, token_file).items("/v1/reservations")
    show(rows, reservation_columns(SystemClock().now_ms()), output, name=lambda row: row["id"])


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="TENANT:NAME, such as civil/justice:exam-week.")],
    gpus: Annotated[float, typer.Option(min=0.001, help="Devices to keep; 0.5 is half of one.")],
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="Such as 2026-11-24T08:00, in UTC.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Such as 2026-11-24T18:00, in UTC.")],
    flavor: Annotated[str, typer.Option(help="Kind of device.")] = "H100-80GB",
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Keep devices for a tenant on top of its quota. What is lent of them is taken back once the tenant asks.

    Example: partage reservation make civil/justice:exam-week --gpus 1 --from 2026-11-24T08:00 --to 2026-11-24T18:00
    """
    from cluster.cli.contexts import connect

    body = {
        "id": name,
        "tenant": name.partition(":")[0],
        "flavor": flavor,
        "gpu_millis": round(gpus * WHOLE),
        "starts_at_ms": _moment("--from", begin),
        "ends_at_ms": _moment("--to", end),
    }
    path = f"/v1/reservations/{name}"
    connect(context, token_file).call("PUT", path, body=body, headers={"If-None-Match": "*"})
    say(f"{gpus:g} {flavor} kept as {name}; `partage reservation cancel {name}` gives it up")


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(help="Name of the reservation.", autocompletion=completion.reservations)],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Give the capacity up."""
    from cluster.cli.contexts import connect

    connect(context, token_file).call("DELETE", f"/v1/reservations/{name}")
    say(f"reservation {name} cancelled")


def _moment(option: str, text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text} is no time; write it as 2026-11-24T08:00") from error
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
