"""`partage completion`: what a shell needs to complete our commands, options and live names."""

from __future__ import annotations

from typing import Annotated

import typer

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PARTAGE_COMPLETE"


def completion(shell: Annotated[str, typer.Argument(help=f"One of: {', '.join(SHELLS)}.")]) -> None:
    """Print the script that makes a shell complete commands, options and the names of what there is.

    Example: partage completion bash > ~/.local/share/bash-completion/completions/partage
    """
    from typer._completion_shared import get_completion_script  # Typer does not export it

    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(SHELLS)}")
    typer.echo(get_completion_script(prog_name="partage", complete_var=VARIABLE, shell=shell))
