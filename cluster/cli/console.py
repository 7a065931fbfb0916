"""`partage console`: the console in the browser, beside the control plane that a context names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.settings import Settings


def console(
    context: Annotated[
        str | None, typer.Option("--context", help="Control plane to show; the current one if left out.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8704,
    sign_in: Annotated[bool, typer.Option("--sign-in", help="Ask every browser for a token, print no ticket.")] = False,
) -> None:
    """Serve the console and print its address. The address lets one browser in, once, as you.

    Where `partage up` has started the console already, only a new address is printed.

    Example: partage console --context site-b
    """
    from cluster.cli.contexts import connect as checked
    from cluster.cli.contexts import contexts, current
    from cluster.settings import from_environment

    settings = from_environment()
    name = context or current(settings)
    client = checked(name)
    running = "" if sign_in else _of_this_machine(name, settings, client.token)
    if running:
        typer.echo(running)
        return
    from cluster.console.serve import serve

    token_file = None if sign_in else contexts(settings)[name].token_file
    serve(client.url, host=host, port=port, token_file=token_file, say=typer.echo)


def _of_this_machine(context: str, settings: Settings, token: str) -> str:
    """Return an address of the console that `partage up` started; empty if it was not, or shows another platform."""
    from cluster.cli.contexts import LOCAL
    from cluster.embedded.console import ticket

    return ticket(settings.console_url, token) if context == LOCAL and settings.console_port else ""
