"""Commands about the command line itself: contexts and keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Column, Output, say, show

context_app = typer.Typer(help="Named control planes to talk to.", no_args_is_help=True)
key_app = typer.Typer(help="API keys of tenants.", no_args_is_help=True)
operator_app = typer.Typer(help="People who operate the platform on this machine.", no_args_is_help=True)


@context_app.command("list")
def list_contexts(output: OutputKind = Output.TABLE) -> None:
    """List the contexts; the one in use is marked."""
    from cluster.cli.contexts import contexts, current
    from cluster.settings import from_environment

    settings = from_environment()
    used = current(settings)
    rows = [
        {"name": c.name, "url": c.url, "token_file": str(c.token_file), "current": c.name == used}
        for c in contexts(settings).values()
    ]
    titles = (("IN USE", "current"), ("NAME", "name"), ("ADDRESS", "url"), ("TOKEN FILE", "token_file"))
    columns = [Column(title=title, cell=lambda row, field=field: _mark(row[field])) for title, field in titles]  # type: ignore[misc]  # bound per column
    show(rows, columns, output)


@context_app.command("use")
def use_context(name: Annotated[str, typer.Argument(help="Name of the context.")]) -> None:
    """Use this context from now on."""
    from cluster.cli.contexts import use
    from cluster.settings import from_environment

    use(from_environment(), name)
    say(f"context {name} in use")


@context_app.command("add")
def add_context(
    name: Annotated[str, typer.Argument(help="Name of the context.")],
    url: Annotated[str, typer.Option("--url", help="Address of the control API.")],
    token: Annotated[Path, typer.Option("--token-file", help="File that holds the token.")],
) -> None:
    """Add a control plane; the token stays in its file."""
    from cluster.cli.contexts import Context, put
    from cluster.settings import from_environment

    put(from_environment(), Context(name=name, url=url, token_file=token.expanduser().absolute()))
    say(f"context {name} added; `partage context use {name}` uses it")


@key_app.command("create")
def create_key(
    tenant: Annotated[str, typer.Argument(help="Tenant, such as civil/justice.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until it expires.")] = 90,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Make a key for a tenant and print it, the only time that it is shown."""
    from cluster.cli.contexts import connect

    made = connect(context, token_file).call("POST", "/v1/keys", body={"tenant": tenant, "days": days}).body
    say(f"key {made['record']['prefix']}... of {tenant}; it cannot be shown again")
    typer.echo(made["key"])


@operator_app.command("add")
def add_operator(
    name: Annotated[str, typer.Argument(help="Name of the person, as the audit log shall say it.")],
) -> None:
    """Make a token for a person; modes need two of them. Prints the file that holds it."""
    import secrets

    from cluster.settings import from_environment

    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) or name == "operator":
        raise typer.BadParameter("a name is lower-case letters, digits and dashes, and not `operator`")
    folder = from_environment().secrets / "operators"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.token"
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_urlsafe(32))
    say(f"{name} may operate the platform; their token is in this file:")
    typer.echo(path)


def _mark(value: object) -> object:
    return ("*" if value else "") if isinstance(value, bool) else value
