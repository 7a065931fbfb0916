"""What commands print: tables for people, JSON and YAML for programs. Data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cluster.settings import is_plain_terminal

Row = dict[str, Any]
SIMULATED = "SIMULATED devices: no GPU is present, nothing here says how fast a real one is"
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60


@dataclass(frozen=True, slots=True)
class Output:
    """How data is printed."""

    kind: str
    path: str = ""
    """Expression of ``jsonpath=``."""

    TABLE: ClassVar[Output]
    WIDE: ClassVar[Output]
    JSON: ClassVar[Output]
    YAML: ClassVar[Output]
    NAME: ClassVar[Output]

    @property
    def is_data(self) -> bool:
        """Whether it is for programs: the whole data, no screen."""
        return self.kind in {"json", "yaml", "jsonpath"}

    def __str__(self) -> str:
        return f"{self.kind}={self.path}" if self.path else self.kind

    @classmethod
    def parse(cls, text: str | Output) -> Output:
        """Return what ``-o`` asks for. Raises ``OutputUnknown``, which names the nearest kind."""
        if isinstance(text, Output):
            return text
        kind, _, path = text.partition("=")
        if kind == "jsonpath" and path:
            return cls(kind, path)
        if text not in KINDS_OF_OUTPUT:
            raise OutputUnknown(text)
        return cls(text)


KINDS_OF_OUTPUT = ("table", "wide", "json", "yaml", "name")
Output.TABLE, Output.WIDE, Output.JSON, Output.YAML, Output.NAME = (Output(kind) for kind in KINDS_OF_OUTPUT)


class OutputUnknown(ValueError):
    """Nothing can be printed that way."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.asked = asked

    def __str__(self) -> str:
        import difflib

        choices = (*KINDS_OF_OUTPUT, "jsonpath=EXPRESSION")
        near = difflib.get_close_matches(self.asked, choices, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{self.asked!r} is none of {', '.join(choices)}{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    cell: Callable[[Row], object]
    right: bool = False
    wide: bool = False
    """Shown by `-o wide` alone."""
    spare: int = 0
    """On a terminal that is too narrow, columns with a number leave, the largest first; 0 stays."""


def show(data: Any, columns: Sequence[Column], output: Output, *, name: Callable[[Row], str] | None = None) -> None:
    """Print a list of rows, or one value, as asked for."""
    sys.stdout.write(written(data, columns, output, name=name))


def written(data: Any, columns: Sequence[Column], output: Output, *, name: Callable[[Row], str] | None = None) -> str:
    """Return a list of rows, or one value, as it is printed; ends with a line feed."""
    if output.kind == "json":
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if output.kind == "jsonpath":
        from cluster.cli.jsonpath import evaluate

        return evaluate(output.path, data).removesuffix("\n") + "\n"
    if output.kind == "yaml":
        import yaml

        return str(yaml.safe_dump(data, sort_keys=True, allow_unicode=True))
    rows = data if isinstance(data, list | tuple) else [data]
    if output.kind == "name":
        return "".join(f"{name(row) if name else columns[0].cell(row)}\n" for row in rows)
    wide = output.kind == "wide"
    return table(rows, [c for c in columns if wide or not c.wide], None if wide else terminal_width())


def terminal_width() -> int | None:
    """Return how many characters fit on a line of the terminal; None where the output goes elsewhere."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(rows: Sequence[Row], columns: Sequence[Column], width: int | None = None) -> str:
    """Return an aligned table in plain text: in a pipe and in a golden file every column, on a terminal what fits."""
    if not rows:
        return "nothing to show\n"
    grid = [[column.title, *(printable(column.cell(row)) for row in rows)] for column in columns]
    widths = [max(map(len, cells)) for cells in grid]
    kept = _fitting(columns, widths, width)
    lines = []
    for line in range(len(rows) + 1):
        padded = [grid[n][line].rjust(widths[n]) if columns[n].right else grid[n][line].ljust(widths[n]) for n in kept]
        lines.append("  ".join(padded).rstrip())
    if len(kept) < len(columns):
        left_out = ", ".join(column.title for n, column in enumerate(columns) if n not in kept)
        lines.append(f"(too narrow for {left_out}; -o wide shows all)")
    return "\n".join(lines) + "\n"


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    """Return the places of the columns that fit, in their order: the most dispensable ones leave first.

    What left before a wide one did comes back if there is room for it now.
    """
    kept = list(range(len(columns)))
    spare = sorted((n for n in kept if columns[n].spare), key=lambda n: -columns[n].spare)
    while width and spare and sum(widths[n] + 2 for n in kept) - 2 > width:
        kept.remove(spare.pop(0))
    for n in sorted((n for n in range(len(columns)) if n not in kept), key=lambda n: columns[n].spare):
        if sum(widths[m] + 2 for m in (*kept, n)) - 2 <= (width or 0):
            kept = sorted((*kept, n))
    return kept


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
