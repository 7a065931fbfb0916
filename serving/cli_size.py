"""``partage size``: how many devices a load needs, before they are bought. Joined by an entry point."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

from policies.model.catalogue import Model
from policies.model.codec import to_plain
from serving.catalogue import SHIPPED, entries, find
from serving.errors import ServingError, UnknownModel
from serving.sizing import Need, Workload, busiest, needs, workload

NOT_FOUND = 3
WIDE = 240


def size(
    model: Annotated[str, typer.Option("--model", help="Model of the catalogue; `partage model list` shows them.")],
    profile: Annotated[
        str, typer.Option("--profile", help="admin-assistant, cyber-triage, doc-watch or command-synthesis.")
    ],
    users: Annotated[int, typer.Option("--users", min=1, help="People, for loads that grow with them.")] = 1000,
    requests_per_hour: Annotated[
        int | None, typer.Option("--requests-per-hour", min=1, help="Mean over a year's busy hours, if measured.")
    ] = None,
    slo_ttft_ms: Annotated[
        int | None, typer.Option("--slo-ttft-ms", min=1, help="First token, for 95 of 100 requests.")
    ] = None,
    least: Annotated[
        int, typer.Option("--least", min=1, help="Replicas that there are in any case; 2 outlive a node.")
    ] = 1,
    tokens_per_s: Annotated[
        int | None,
        typer.Option("--tokens-per-s", min=1, help="Written per request, for every variant, if you measured."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the rehearsal.")] = 1,
    home: Annotated[Path, typer.Option(envvar="PARTAGE_HOME", help="State of the platform.")] = Path(
        "~/.local/state/partage"
    ),
    output: Annotated[str, typer.Option("--output", "-o", help="table, json or yaml.")] = "table",
) -> None:
    """Say how many replicas and devices a load needs on each variant of a model, so that its promise holds.

    A queueing formula gives the first answer; a rehearsal of 20 000 requests then adds replicas until it holds.
    Example: partage size --profile admin-assistant --users 5000 --model ministral-3-8b
    """
    try:
        asked = workload(profile)
        entry = find(model, entries(SHIPPED, home.expanduser() / "models"))
    except ServingError as fault:
        typer.echo(f"{fault.code}: {fault}", err=True)
        raise typer.Exit(NOT_FOUND if isinstance(fault, UnknownModel) else 1) from None
    promise = replace(asked.promise, first_token_ms=slo_ttft_ms) if slo_ttft_ms else asked.promise
    load = busiest(asked, users, requests_per_hour)
    found = needs(_with_speed(entry.model, tokens_per_s), load, promise, least=least, seed=seed)
    if output != "table":
        plain = {"load": to_plain(load), "promise": to_plain(promise), "variants": [to_plain(one) for one in found]}
        typer.echo(json.dumps(plain, indent=2) if output == "json" else yaml.safe_dump(plain, sort_keys=False))
        return
    _print(found, f"{asked.title}: {load.requests_per_hour} requests in the busiest hour, first token within "
           f"{promise.first_token_ms} ms for 95 of 100", asked)  # fmt: skip


def _with_speed(model: Model, tokens_per_s: int | None) -> Model:
    if tokens_per_s is None:
        return model
    said = "as given on the command line"
    variants = tuple(replace(one, tokens_per_s=tokens_per_s, provenance=said) for one in model.variants)
    return replace(model, variants=variants)


def _print(found: list[Need], said: str, asked: Workload) -> None:
    screen = Console() if Console().is_terminal else Console(width=WIDE)
    table = Table(
        "VARIANT", "QUALITY", "REPLICAS", "BY FORMULA", "DEVICES", "BUSY", "TTFT P95", "WATTS", "DOLLARS", box=None
    )
    for one in found:
        if one.refusal:
            continue
        low, high = one.dollars
        table.add_row(
            one.variant, str(one.quality), str(one.replicas), str(one.formula_replicas), f"{one.gpu_millis / 1000:g}",
            f"{one.busy_permille / 10:.1f} %", f"{one.first_token_p95_ms} ms", str(one.watts), f"{low} to {high}",
        )  # fmt: skip
    screen.print(said)
    if table.rows:
        screen.print(table)
    for one in found:
        if one.refusal:
            typer.echo(f"{one.variant}: {one.refusal}")
    for line in dict.fromkeys((*asked.provenance, *(text for one in found for text in one.assumptions))):
        typer.echo(f"- {line}", err=True)
