"""What commands print: tables for people, JSON and YAML for programs. Data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster.settings import is_plain_terminal

Row = dict[str, Any]
SIMULATED = "SIMULATED devices: no GPU is present, nothing here says how fast a real one is"
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    cell: Callable[[Row], object]
    right: bool = False
    wide: bool = False
    """Shown by `-o wide` alone."""


def show(data: Any, columns: Sequence[Column], output: Output, *, name: Callable[[Row], str] | None = None) -> None:
    """Print a list of rows, or one value, as asked for."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    elif output is Output.YAML:
        import yaml

        sys.stdout.write(yaml.safe_dump(data, sort_keys=True, allow_unicode=True))
    elif output is Output.NAME:
        for row in data:
            sys.stdout.write(f"{name(row) if name else columns[0].cell(row)}\n")
    else:
        sys.stdout.write(table(data, [c for c in columns if output is Output.WIDE or not c.wide]))


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return an aligned table in plain text: the same on a terminal, in a pipe and in a golden file."""
    if not rows:
        return "nothing to show\n"
    cells = [[column.title for column in columns]]
    cells += [[printable(column.cell(row)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = []
    for line in cells:
        padded = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def printable(value: object) -> str:
    """Return the value as one line without control characters; a dash for nothing."""
    if value is None or value == "":
        return "-"
    return "".join(c if c.isprintable() else "?" for c in str(value))


def say(text: str) -> None:
    """Print words for a person, on stderr."""
    sys.stderr.write(text + "\n")


def warn_if_simulated(*, simulated: bool) -> None:
    """Say so, loudly, when devices are simulated."""
    if simulated:
        say(f"\x1b[33m{SIMULATED}\x1b[0m" if colourful() else SIMULATED)


def colourful() -> bool:
    """Return whether stderr is a terminal that wants colour."""
    return sys.stderr.isatty() and not is_plain_terminal()


def millis(amount: int | str | None) -> str:
    """Return thousandths of devices as devices: ``1500`` is ``1.5``."""
    if amount is None:
        return "-"
    if isinstance(amount, str):
        return "all" if amount == "unlimited" else amount
    whole, rest = divmod(amount, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")


def span(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    for size, unit, below, smaller in (
        (DAY_S, "d", HOUR_S, "h"),
        (HOUR_S, "h", MINUTE_S, "m"),
        (MINUTE_S, "m", 1, "s"),
    ):
        if left >= size:
            return f"{left // size}{unit}{left % size // below}{smaller}"
    return f"{left}s"
