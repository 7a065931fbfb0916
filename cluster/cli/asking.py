"""Questions before something cannot be undone: asked of a person at a terminal, never of a script."""

from __future__ import annotations

import sys

import typer

_ASKS = [True]


def never_ask(wanted: bool) -> None:
    """Ask nothing in this run if that is wanted."""
    _ASKS[0] = not wanted


def pause(text: str) -> None:
    """Return once a person at a terminal has pressed Enter, or at once if nobody can be asked."""
    if _ASKS[0] and sys.stdin.isatty() and sys.stderr.isatty():
        typer.prompt(text, default="", show_default=False, err=True)


def sure(question: str) -> None:
    """Return if a person says yes, or nobody can be asked: no terminal, or `--no-input`. Raises ``typer.Abort``."""
    if _ASKS[0] and sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(question, abort=True, err=True)
