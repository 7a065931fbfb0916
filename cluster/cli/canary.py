"""`partage model canary`: try a variant on part of a claim's requests, look at both, decide."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli import completion
from cluster.cli.reading import ContextName, OutputKind, TokenFile, Watch
from cluster.cli.screen import Column, Output, Row, say, written

app = typer.Typer(help="Try a variant on part of a claim's requests.", no_args_is_help=True)

ClaimName = Annotated[str, typer.Argument(metavar="CLAIM", help="The main claim.", autocompletion=completion.claims)]
Weight = Annotated[int, typer.Option("--weight", min=0, max=100, metavar="PERCENT", help="Part of the requests.")]
ANY = {"If-Match": "*"}


@app.command()
def show(
    claim: ClaimName,
    output: OutputKind = Output.TABLE,
    watch: Watch = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show both variants side by side: replicas, requests, failures, time to the first token.

    Both counts begin with the trial.

    Example: partage model canary show civil/justice:assistant --watch
    """
    from cluster.cli.contexts import connect
    from cluster.cli.watching import repeat

    client = connect(context, token_file)

    def draw() -> str:
        found = client.get(_path(claim))
        return written(found if output.is_data else _rows(found), _columns(), output, name=lambda row: row["claim"])

    repeat(draw, watch=watch)


@app.command()
def start(
    claim: ClaimName,
    variant: Annotated[str, typer.Argument(metavar="VARIANT", help="Another variant of the claim's model.")],
    weight: Weight = 10,
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="Replicas of the variant.")] = 1,
    shadow: Annotated[bool, typer.Option("--shadow", help="Send copies; their answers are thrown away.")] = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Start a trial. Until the variant runs, the main claim answers everything.

    Example: partage model canary start civil/justice:assistant smollm2-135m-q4-0 --weight 5
    """
    from cluster.cli.contexts import connect

    trial = "shadow" if shadow else "answer"
    body = {"variant": variant, "weight_percent": weight, "replicas": replicas, "trial": trial}
    made = connect(context, token_file).call("POST", _path(claim), body=body).body
    part = f"get copies of {weight} %" if shadow else f"answer {weight} %"
    say(f"{made['canary']['claim']['id']} is asked for: {variant} is to {part} of the requests of {claim}")
    say(f"look at both with: partage model canary show {claim} --watch")


@app.command("set")
def set_weight(
    claim: ClaimName,
    weight: Annotated[int, typer.Argument(min=0, max=100, metavar="PERCENT", help="Part of the requests.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Give the canary another part of the requests. At once, without a restart; 0 keeps it running and unasked.

    Example: partage model canary set civil/justice:assistant 25
    """
    from cluster.cli.contexts import connect

    client = connect(context, token_file)
    made = client.call("PATCH", _path(claim), body={"weight_percent": weight}, headers=ANY).body
    is_shadow = made["canary"]["claim"]["canary"]["trial"] == "shadow"
    part = f"gets copies of {weight} %" if is_shadow else f"answers {weight} %"
    say(f"the canary of {claim} {part} of its requests")


@app.command()
def promote(claim: ClaimName, context: ContextName = None, token_file: TokenFile = None) -> None:
    """Make the canary's variant the claim's own. The canary answers meanwhile and ends by itself.

    Example: partage model canary promote civil/justice:assistant
    """
    from cluster.cli.asking import sure
    from cluster.cli.contexts import connect

    client = connect(context, token_file)
    found = client.get(_path(claim))
    sure(f"Give {claim} {_variants(found['canary'])} alone, instead of {_variants(found['main'])}?")
    client.call("POST", f"{_path(claim)}/promote")
    say(f"{claim} gets {_variants(found['canary'])}; its canary ends once the claim runs it alone")
    say(f"watch it with: partage get groups --watch; before, its ladder was: {_variants(found['main'])}")


@app.command()
def end(claim: ClaimName, context: ContextName = None, token_file: TokenFile = None) -> None:
    """End the trial: the main claim answers everything, the canary drains and stops.

    Example: partage model canary end civil/justice:assistant
    """
    from cluster.cli.asking import sure
    from cluster.cli.contexts import connect

    client = connect(context, token_file)
    found = client.get(_path(claim))
    sure(f"End the trial of {_variants(found['canary'])}? Its requests in flight are answered first.")
    client.call("DELETE", _path(claim), headers=ANY)
    say(f"{found['canary']['claim']['id']} drains and stops; {claim} answers everything")


def _path(claim: str) -> str:
    return f"/v1/claims/{claim}/canary"


def _variants(status: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(str(shape["variant"]) for shape in status["claim"]["ladder"]))


def _rows(found: dict[str, Any]) -> list[Row]:
    """Return one row for each variant that answers or is to answer, the main claim's first."""
    weight = int(found["canary"]["claim"]["canary"]["weight_percent"])
    return [
        _row(side, part, load)
        for side, part in ((found["main"], 100 - weight), (found["canary"], weight))
        for load in side["traffic"] or [{"variant": _variants(side), "completed": None, "failed": None}]
    ]


def _row(side: dict[str, Any], part: int, load: dict[str, Any]) -> Row:
    groups = [group for group in side["groups"] if group["variant"] == load["variant"] or not side["traffic"]]
    return load | {
        "claim": side["claim"]["id"],
        "part": part,
        "running": sum(group["running"] for group in groups if group["routed"]),
        "replicas": sum(group["replicas"] for group in groups),
    }


def _columns() -> list[Column]:
    return [
        Column(title="CLAIM", cell=lambda row: row["claim"], spare=1),
        Column(title="VARIANT", cell=lambda row: row["variant"]),
        Column(title="WEIGHT", cell=lambda row: f"{row['part']} %", right=True),
        Column(title="RUNNING", cell=lambda row: f"{row['running']}/{row['replicas']}", right=True),
        Column(title="ANSWERED", cell=lambda row: row["completed"], right=True),
        Column(title="FAILED", cell=lambda row: row["failed"], right=True),
        Column(title="TTFT P50", cell=lambda row: _milliseconds(row.get("first_p50_ms")), right=True),
        Column(title="P95", cell=lambda row: _milliseconds(row.get("first_p95_ms")), right=True),
    ]


def _milliseconds(found: int | None) -> str:
    return "-" if found is None else f"{found} ms"
