"""`--watch`: a screen drawn again when it changes. On a terminal in place, in a pipe one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.cli.screen import colourful, say
from cluster.settings import is_plain_terminal

PAUSE_MS = 1_000
CLEAR = "\x1b[H\x1b[J"


@contextmanager
def waiting_line() -> Iterator[Callable[[str], None]]:
    """Yield what keeps one line of a terminal up to date while something is waited for; elsewhere nothing is said."""
    if not colourful():
        yield lambda _text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as line:
        yield line.update


def repeat(draw: Callable[[], str], *, watch: bool) -> None:
    """Print what is drawn; with ``watch`` again whenever it is different, until Ctrl-C. A silence is said once."""
    from cluster.client import Problem, Unreachable
    from cluster.clock import SystemClock

    shown = draw()
    if not watch:
        sys.stdout.write(shown)
        return
    clock, in_place = SystemClock(), sys.stdout.isatty() and not is_plain_terminal()
    sys.stdout.write((CLEAR if in_place else "") + shown)
    sys.stdout.flush()
    silent = ""
    while True:
        clock.sleep_ms(PAUSE_MS)
        try:
            drawn, trouble = draw(), ""
        except (Problem, Unreachable) as error:
            drawn, trouble = shown, str(error)
        if trouble and trouble != silent:
            say(f"not seen at present: {trouble}")
        silent = trouble
        if drawn != shown:
            sys.stdout.write((CLEAR if in_place else "\n") + drawn)
            sys.stdout.flush()
            shown = drawn
