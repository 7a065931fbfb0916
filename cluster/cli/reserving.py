"""`partage reservation make|cancel`: capacity kept for a tenant at a later time."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli import completion
from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Output, say, show
from cluster.cli.times import Every, clock_of, milliseconds, moment, occurrences

if TYPE_CHECKING:
    from cluster.client import Client

app = typer.Typer(help="Capacity kept for a tenant at a later time, on top of its quota.", no_args_is_help=True)

WHOLE = 1_000
MOST_TIMES = 60
"""Of one series; a tenant may have 100 reservations."""


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
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="Such as 2026-11-24T08:00.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Such as 2026-11-24T18:00.")],
    zone: Annotated[str, typer.Option(help="Clock of times without an offset, such as Europe/Paris.")] = "UTC",
    every: Annotated[Every, typer.Option(help="When it comes again, by that clock.")] = Every.DAY,
    times: Annotated[int, typer.Option(min=1, max=MOST_TIMES, help="How often; each is a reservation of its own.")] = 1,
    flavor: Annotated[str, typer.Option(help="Kind of device.")] = "H100-80GB",
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Keep devices for a tenant on top of its quota. What is lent of them is taken back once the tenant asks.

    What comes again is a reservation for each day, called NAME-2026-11-24: each can be given up alone, or all of them.

    Example: partage reservation make civil/justice:exams --gpus 1 --from 2026-11-24T08:00 --to 2026-11-24T18:00
    --zone Europe/Paris --every workday --times 5
    """
    from cluster.cli.contexts import connect
    from cluster.client import Problem

    clock = clock_of(zone)
    windows = list(occurrences(moment("--from", begin, clock), moment("--to", end, clock), every, times))
    client, order = connect(context, token_file), {"flavor": flavor, "gpu_millis": round(gpus * WHOLE)}
    for made, (starts, ends) in enumerate(windows):
        one = name if times == 1 else f"{name}-{starts:%Y-%m-%d}"
        try:
            _make(client, one, order, starts, ends)
        except Problem:
            if times > 1:
                say(f"{made} of {times} were made; {one} is refused:")
            raise
    kept = f"{name}" if times == 1 else f"{name}, {times} times"
    more = "" if times == 1 else " --series"
    say(f"{gpus:g} {flavor} kept as {kept}; `partage reservation cancel {name}{more}` gives it up")


def _make(client: Client, name: str, order: dict[str, object], starts: datetime, ends: datetime) -> None:
    body = order | {
        "id": name, "tenant": name.partition(":")[0], "starts_at_ms": milliseconds(starts),
        "ends_at_ms": milliseconds(ends),
    }  # fmt: skip
    client.call("PUT", f"/v1/reservations/{name}", body=body, headers={"If-None-Match": "*"})


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(help="Name of the reservation.", autocompletion=completion.reservations)],
    series: Annotated[bool, typer.Option("--series", help="All that come again under this name.")] = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Give the capacity up."""
    from cluster.cli.contexts import connect

    client, names = connect(context, token_file), [name]
    if series:
        day = re.compile(re.escape(name) + r"-\d{4}-\d\d-\d\d")
        names = sorted(row["id"] for row in client.items("/v1/reservations") if day.fullmatch(row["id"]))
    for one in names:
        client.call("DELETE", f"/v1/reservations/{one}")
        say(f"reservation {one} cancelled")
    if not names:
        say(f"nothing comes again under {name}")
