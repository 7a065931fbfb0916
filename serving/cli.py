"""``partage model`` and ``partage usage``: parse, call one function, print. Joined by entry points."""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from rich.console import Console
from rich.table import Table

from policies.model.catalogue import Model, Variant
from policies.model.codec import to_plain
from serving import energy, ledger, report
from serving.catalogue import ABOUT, DEFAULT_MODEL, SHIPPED, Entry, entries, find, find_variant, require_complete
from serving.errors import ServingError, UnknownModel, WeightsUnrecorded
from serving.measure import measure, written_back
from serving.store import bring, place_of
from serving.weights import prepare, recorded, verify

NOT_FOUND, USAGE = 3, 2
_PERIOD = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")
_OUTPUTS = ("table", "json", "yaml", "csv", "html")
WIDE = 240
STATE, CACHE = Path("~/.local/state/partage"), Path("~/.cache/partage")

model = typer.Typer(no_args_is_help=True, help="Models and their variants: what can be shared out.")
usage = typer.Typer(no_args_is_help=True, help="What tenants used, from the gateways' ledgers.")

Home = Annotated[Path, typer.Option(envvar="PARTAGE_HOME", help="State of the platform.")]
Cache = Annotated[Path, typer.Option(envvar="PARTAGE_CACHE", help="Where weights are.")]
Output = Annotated[str, typer.Option("--output", "-o", help="table, json or yaml.")]
ListOutput = Annotated[str, typer.Option("--output", "-o", help="table, wide, json or yaml.")]


@model.command("list")
def list_models(home: Home = STATE, output: ListOutput = "table") -> None:
    """Show every model with its variants, best first; `-o wide` also what their figures and licences rest on."""
    found = _known(home)
    if output not in ("table", "wide"):
        _print([to_plain(entry.model) for entry in found], output)
        return
    columns = VARIANT_COLUMNS | (FURTHER_COLUMNS if output == "wide" else {})
    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, justify="right" if title in NUMBERS else "left")
    for entry in found:
        for variant in entry.model.variants:
            table.add_row(*(cell(entry.model, variant) for cell in columns.values()))
    _screen().print(table)


def _quality(_: Model, variant: Variant) -> str:
    return str(max((shape.quality for shape in variant.shapes), default=0))


VARIANT_COLUMNS: dict[str, Callable[[Model, Variant], str]] = {
    "VARIANT": lambda _, variant: variant.id,
    "ENGINE": lambda _, variant: variant.engine,
    "PRECISION": lambda _, variant: variant.precision,
    "MiB": lambda _, variant: str(variant.weights_mib),
    "QUALITY": _quality,
    "TOK/S": lambda _, variant: str(variant.tokens_per_s or "-"),
}
"""What fits 80 columns."""
FURTHER_COLUMNS: dict[str, Callable[[Model, Variant], str]] = {
    "KV B/TOKEN": lambda _, variant: str(variant.kv_bytes_per_token or "-"),
    "FIGURES": lambda _, variant: variant.provenance.partition(":")[0],
    "MODEL": lambda model, _: model.id,
    "LICENCE": lambda model, _: model.licence.partition(" (")[0],
}
NUMBERS = frozenset({"MiB", "QUALITY", "TOK/S", "KV B/TOKEN"})


@model.command()
def show(
    name: Annotated[str, typer.Argument(metavar="MODEL")],
    home: Home = STATE,
    cache: Cache = CACHE,
    output: Output = "yaml",
) -> None:
    """Show all that is known of one model, where it comes from, and the SHA-256 of the weights that are here."""
    entry = _found(name, home)
    kept = recorded(entry.model, cache.expanduser())
    about = {name: getattr(entry, name) for name in ("family", "licence_source", "tokenizer")}
    about |= {"published": list(entry.published)}
    shape = {"architecture": to_plain(entry.architecture)} if entry.architecture else {}
    _print(to_plain(kept) | about | shape, output)


@model.command()
def add(
    what: Annotated[str, typer.Argument(metavar="FILE|VARIANT", help="A YAML file, or a variant with --from.")],
    *,
    place: Annotated[str, typer.Option("--from", help="Directory, or s3://bucket/prefix.")] = "",
    endpoint: Annotated[str, typer.Option("--store", envvar="PARTAGE_STORE", help="Address of the site's store.")] = "",
    credentials: Annotated[Path | None, typer.Option(help="YAML: access_key_id, secret_access_key.")] = None,
    publisher: Annotated[Path | None, typer.Option(help="PEM: who must have signed SHA256SUMS.")] = None,
    home: Home = STATE,
    cache: Cache = CACHE,
) -> None:
    """Add the models of a YAML file to this site's catalogue, or bring the weights of a variant from the site's store.

    Weights arrive with their list, SHA256SUMS; every file is held to it, and the list itself is recorded.
    """
    if not place:
        _add_file(Path(what), home)
        return
    try:
        variant = find_variant(what, _known(home))
        source = place_of(place, endpoint, credentials)
        digest = bring(variant, source, cache.expanduser(), publisher, _progress)
    except ServingError as fault:
        _refuse(fault)
    typer.echo(f"added {variant.id}: recorded sha256 {digest}{', signed by ' + publisher.name if publisher else ''}")


def _add_file(file: Path, home: Path) -> None:
    if not file.is_file():
        _fail(f"no file {file}; weights of a variant come with --from PLACE", NOT_FOUND)
    target = home.expanduser() / "models" / file.name
    try:
        new = entries(file)
        require_complete(new)
        known = {str(entry.model.id) for entry in _known(home)}
    except ServingError as fault:
        _refuse(fault)
    twice = sorted(known & {str(entry.model.id) for entry in new})
    if twice:
        _fail(f"{', '.join(twice)} is in the catalogue already; delete {target} first or choose another id", 5)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    typer.echo(f"added {', '.join(str(entry.model.id) for entry in new)}")


@model.command("verify")
def verify_model(
    name: Annotated[str, typer.Argument(metavar="MODEL")] = DEFAULT_MODEL, home: Home = STATE, cache: Cache = CACHE
) -> None:
    """Check the kind and the SHA-256 of each variant's weights, reading every byte."""
    entry = _found(name, home)
    faults = 0
    for variant in prepare(entry, cache.expanduser(), _progress).variants:
        try:
            if not variant.sha256:
                raise WeightsUnrecorded(str(variant.id))
            verify(cache.expanduser() / variant.weights, variant.sha256)
            typer.echo(f"{variant.id}: as recorded, {variant.sha256}")
        except ServingError as fault:
            faults += 1
            typer.echo(f"{variant.id}: {fault}", err=True)
    raise typer.Exit(1 if faults else 0)


@model.command()
def bench(
    name: Annotated[str, typer.Argument(metavar="MODEL")] = DEFAULT_MODEL,
    home: Home = STATE,
    cache: Cache = CACHE,
    output: Output = "table",
) -> None:
    """Measure each variant on this machine and write the figures into this site's catalogue, marked as measured."""
    entry = _found(name, home)
    try:
        ready = prepare(entry, cache.expanduser(), _progress)
        figures = measure(ready, cache.expanduser(), time.monotonic_ns)
    except ServingError as fault:
        _refuse(fault)
    kept = written_back(entry.model, figures, f"measured: {_today()}, {platform.machine()}, one thread")
    target = home.expanduser() / "models" / f"{name}.measured.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_document(entry, kept), encoding="utf-8")
    if output != "table":
        _print([to_plain(each) for each in figures], output)
        return
    table = Table("VARIANT", "COLD START ms", "FIRST TOKEN ms", "TOK/S", "TOK/S TOGETHER", "SAME AS BEST ‰", box=None)
    for each in figures:
        table.add_row(*(str(value) for value in to_plain(each).values()))
    _screen().print(table)
    typer.echo(f"written to {target}", err=True)


@usage.command("show")
def show_usage(
    home: Home = STATE,
    month: Annotated[str, typer.Option(help="Such as 2026-11, or a day; this month unless given.")] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="table, json, yaml, csv or html.")] = "table",
) -> None:
    """Show requests, tokens, GPU time and energy by tenant, model and variant."""
    period = month or _today()[: len("2026-11")]
    if not _PERIOD.fullmatch(period):
        _fail(f"--month is a month such as 2026-11 or a day such as 2026-11-03, not {period}", USAGE)
    if output not in _OUTPUTS:
        _fail(f"--output is one of {', '.join(_OUTPUTS)}, not {output}", USAGE)
    folders = sorted((home.expanduser() / "ledger").glob("*"))
    records = (r for folder in folders for r in ledger.read(folder, since=period, until=period))
    used = energy.metered(home.expanduser() / "energy", since=period, until=period)
    shared = energy.shared_out(records, used)
    rows = report.summarise(record for record in shared if not tenant or record.tenant == tenant)
    if output == "csv":
        sys.stdout.write(report.as_csv(rows))
    elif output == "html":
        sys.stdout.write(report.as_html(rows, f"Usage in {period}"))
    elif output == "table":
        table = Table(*(name.upper().replace("_", " ") for name in report.COLUMNS), box=None)
        for row in rows:
            table.add_row(*("not known" if value is None else str(value) for value in to_plain(row).values()))
        _screen().print(table)
    else:
        _print([to_plain(row) for row in rows], output)


@usage.command("verify")
def verify_usage(home: Home = STATE) -> None:
    """Check that no line of the ledgers was changed, lost or inserted."""
    folders = sorted((home.expanduser() / "ledger").glob("*"))
    breaks = [found for folder in folders for found in ledger.verify(folder)]
    for found in breaks:
        typer.echo(f"{found.file}:{found.line}: {found.cause}", err=True)
    typer.echo(f"{len(breaks)} breaks in {sum(len(list(folder.glob('*.jsonl'))) for folder in folders)} files")
    raise typer.Exit(1 if breaks else 0)


def _screen() -> Console:
    """Return the terminal, or a width that cuts nothing where output goes to a file or a pipe."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def _known(home: Path) -> tuple[Entry, ...]:
    try:
        return entries(SHIPPED, home.expanduser() / "models")
    except ServingError as fault:
        _refuse(fault)


def _found(name: str, home: Path) -> Entry:
    try:
        return find(name, _known(home))
    except UnknownModel as fault:
        _fail(str(fault), NOT_FOUND)


def _document(entry: Entry, kept: Model) -> str:
    plain: dict[str, Any] = {name: to_plain(getattr(entry, name)) for name in ABOUT if getattr(entry, name)}
    document = [to_plain(kept) | {key: value for key, value in plain.items() if value}]
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _print(value: object, output: str) -> None:
    text = json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False)
    sys.stdout.write(text.rstrip("\n") + "\n")


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _refuse(fault: ServingError) -> NoReturn:
    _fail(f"{fault.code}: {fault}", 1)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)


def _today() -> str:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC).strftime("%Y-%m-%d")


app = typer.Typer(no_args_is_help=True)
app.add_typer(model, name="model")
app.add_typer(usage, name="usage")

if __name__ == "__main__":
    app()
