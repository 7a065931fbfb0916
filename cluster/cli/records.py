"""Commands on what was recorded: the live snapshot, the audit log, past decisions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.columns import clock
from cluster.cli.exits import Exit
from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Output, say, show

if TYPE_CHECKING:
    from cluster.client import Client

snapshot_app = typer.Typer(help="The world as the control plane sees it, as a file.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit log: verify it, export it.", no_args_is_help=True)

PAGE = 500


@snapshot_app.command()
def save(
    file: Annotated[Path, typer.Argument(help="File to write; - writes to standard output.", allow_dash=True)],
    number: Annotated[int | None, typer.Option("--decision", help="Of this past decision, not of now.")] = None,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Save the live snapshot, so that its decision can be taken again anywhere: `partage decide --snapshot FILE`."""
    from cluster.cli.contexts import connect

    client = connect(context, token_file)
    found = client.get("/v1/snapshot") if number is None else client.get(f"/v1/decisions/{number}/evidence")["snapshot"]
    text = json.dumps(found, sort_keys=True, ensure_ascii=False) + "\n"
    if str(file) == "-":
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
        say(f"snapshot {found['generation']} saved to {file}")


@audit_app.command()
def verify(
    anchor: Annotated[str | None, typer.Option(help="SEQ:HASH noted earlier, outside of the platform.")] = None,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Verify the whole chain. Exit status 1 if a record was changed, moved, taken out or cut off."""
    from cluster.cli.contexts import connect

    seq, _, sealed = (anchor or "").partition(":")
    query: dict[str, object] = {"anchor_seq": seq, "anchor_hash": sealed} if anchor else {}
    verdict = connect(context, token_file).get("/v1/audit/verify", **query)
    if verdict["first_bad"] is not None:
        say(f"the audit log does not hold: record {verdict['first_bad']}: {verdict['cause']}")
        raise typer.Exit(Exit.ERROR)
    typer.echo(f"{verdict['records']} records hold; note this anchor elsewhere: {verdict['records']}:{verdict['head']}")


@audit_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="File to write, one JSON record a line; - writes to standard output.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Write every record as it is sealed."""
    from cluster.cli.contexts import connect
    from cluster.cli.watching import waiting_line

    count = 0
    target = sys.stdout if str(file) == "-" else file.open("w", encoding="utf-8")
    with target, waiting_line() as tell:
        for record in _records(connect(context, token_file)):
            target.write(json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n")
            count = record["seq"]
            tell(f"{count} records, the last of {clock(record['at_ms'])}")
    say(f"{count} records exported")


@audit_app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="CSV file to write; - writes to standard output.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Write what was asked for, when and for how long, as a trace that `partage simulate` lives through again."""
    from cluster.cli.contexts import connect
    from cluster.sim.recorded import recorded, written

    arrivals = recorded(_records(connect(context, token_file)))
    text = written(arrivals)
    if str(file) == "-":
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
    say(f"{len(arrivals)} claims recorded; try a policy on them: partage simulate --trace {file} --policy FILE")


def _records(client: Client) -> Iterator[dict[str, Any]]:
    """Yield every audit record, oldest first, a page at a time."""
    after = 0
    while records := client.get("/v1/audit", after=after, limit=PAGE):
        yield from records
        after = records[-1]["seq"]


def _outcome(found: Mapping[str, Any]) -> str:
    if found["same"]:
        return "the same, byte for byte"
    if found["foreign"]:
        return "another release of partage took it and recorded it in its own form; today's code decides otherwise"
    return "today's code decides otherwise"


def replay(
    number: Annotated[int, typer.Argument(help="Number of the decision, from `partage get decisions`.")],
    output: OutputKind = Output.TABLE,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Take a past decision again from what it was taken from. Exit status 1 if today's code decides otherwise."""
    from cluster.cli.contexts import connect

    found = connect(context, token_file).get(f"/v1/decisions/{number}/replay")
    if output.is_data:
        show(found, [], output)
    else:
        typer.echo(f"decision {number}: {_outcome(found)}")
    if not found["same"]:
        raise typer.Exit(Exit.ERROR)
