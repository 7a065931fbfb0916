"""Where the program begins: the first screen needs nothing of what a command needs, so nothing is loaded for it."""

from __future__ import annotations

import sys

from cluster.cli.commands import SECTIONS

HELP: tuple[list[str], ...] = ([], ["-h"], ["--help"])
NAME_WIDTH = 12
ABOUT = ("Shares the GPUs of one cloud between security domains:", "decides, explains, moves and proves.")
OPTIONS = {
    "--no-input": "Never ask back: do what the command says.",
    "--version": "Show the version and leave.",
    "-h, --help": "Show this message and exit.",
}


def run() -> None:
    """Run one command and leave with its exit status."""
    arguments = sys.argv[1:]
    if arguments in HELP:
        sys.stdout.write(overview())
        sys.exit(0)
    from cluster.cli.main import outcome

    sys.exit(outcome(arguments))


def overview(brought: tuple[str, ...] = ()) -> str:
    """Return the first screen; ``brought`` names commands of other packages that are not listed here."""
    lines = ["Usage: partage [OPTIONS] COMMAND [ARGS]...", "", *(f"  {line}" for line in ABOUT)]
    lines += ["", "Options:", *(f"  {name:<{NAME_WIDTH}}  {text}" for name, text in OPTIONS.items())]
    for heading, listed in SECTIONS.items():
        lines += ["", f"{heading}:", *(f"  {name:<{NAME_WIDTH}}  {one.text}" for name, one in listed.items())]
    if brought:
        lines += ["", "From other packages:"]
        lines += [f"  {name:<{NAME_WIDTH}}  see: partage {name} --help" for name in brought]
    return "\n".join([*lines, "", "`partage COMMAND --help` says more, with an example.", ""])


if __name__ == "__main__":
    run()
