"""`partage console`: the console in the browser, beside the control plane that a context names."""

from __future__ import annotations

from typing import Annotated

import typer


def console(
    context: Annotated[
        str | None, typer.Option("--context", help="Control plane to show; the current one if left out.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8703,
    sign_in: Annotated[bool, typer.Option("--sign-in", help="Ask every browser for a token, print no ticket.")] = False,
) -> None:
    """Serve the console and print its address. The address lets one browser in, once, as you.

    Example: partage console --port 8703
    """
    from cluster.cli.contexts import connect as checked
    from cluster.cli.contexts import contexts, current
    from cluster.console.serve import serve
    from cluster.settings import from_environment

    settings = from_environment()
    name = context or current(settings)
    client = checked(name)
    token_file = None if sign_in else contexts(settings)[name].token_file
    serve(client.url, host=host, port=port, token_file=token_file, say=typer.echo)
