"""The part of kubectl's JSONPath that people use: fields, indexes, `[*]`, `..`, filters, text around braces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

STEP = re.compile(
    r"""\.\.(?P<deep>[\w-]+|\*)
      | \.(?P<field>[\w-]+|\*)
      | \[(?P<index>-?\d+)\]
      | \[(?P<all>\*)\]
      | \[(?P<quote>['"])(?P<name>.*?)(?P=quote)\]
      | \[\?\(@(?P<path>(?:\.[\w-]+)+)\s*(?P<how>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[\w.-]+)\)\]""",
    re.VERBOSE,
)
ESCAPES = {"\\n": "\n", "\\t": "\t"}


class PathInvalid(Exception):
    """The expression is not JSONPath as we read it."""

    code = "invalid_path"

    def __init__(self, expression: str, rest: str) -> None:
        super().__init__(expression, rest)
        self.expression, self.rest = expression, rest

    def __str__(self) -> str:
        return f"cannot read {self.rest!r} in jsonpath {self.expression!r}; an example is {{.claim.id}} or {{[*].id}}"


def evaluate(expression: str, data: Any) -> str:
    """Return the template with each ``{path}`` replaced by the values found, blanks between them.

    Without braces the whole expression is one path. A path that leads nowhere is empty. Raises ``PathInvalid``.
    """
    template = expression if "{" in expression else f"{{{expression}}}"
    written = []
    for text, path, quoted in re.findall(r"([^{]+)|\{([^\"}][^}]*)\}|\{(\"[^\"]*\")\}", template):
        if path:
            written.append(" ".join(_text(value) for value in find(path.strip(), data)))
        else:
            written.append(_plain(quoted.strip('"') if quoted else text))
    return "".join(written)


def find(path: str, data: Any) -> list[Any]:
    """Return the values that the path leads to, in the order of the data. Raises ``PathInvalid``."""
    rest = path.removeprefix("$").removeprefix("@")
    rest = rest if rest.startswith((".", "[")) or not rest else f".{rest}"
    found = [data]
    while rest and rest != ".":
        step = STEP.match(rest)
        if step is None:
            raise PathInvalid(path, rest)
        take = _taker(step)
        found = [value for one in found for value in take(one)]
        rest = rest[step.end() :]
    return found


def _taker(step: re.Match[str]) -> Callable[[Any], Iterator[Any]]:
    part = step.groupdict()
    if part["deep"]:
        return lambda one: (value for each in _everything(one) for value in _field(each, part["deep"]))
    if part["index"]:
        return lambda one: _index(one, int(part["index"]))
    if part["path"]:
        return lambda one: (each for each in _field(one, "*") if _holds(each, part))
    return lambda one: _field(one, part["field"] or part["name"] or "*")


def _field(one: Any, name: str) -> Iterator[Any]:
    if name == "*":
        yield from one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    elif isinstance(one, dict) and name in one:
        yield one[name]


def _index(one: Any, number: int) -> Iterator[Any]:
    if isinstance(one, list) and -len(one) <= number < len(one):
        yield one[number]


def _everything(one: Any) -> Iterator[Any]:
    yield one
    for each in _field(one, "*"):
        yield from _everything(each)


def _holds(one: Any, part: dict[str, str]) -> bool:
    found = find(part["path"], one)
    same = bool(found) and _text(found[0]) == part["value"].strip("\"'")
    return same if part["how"] == "==" else not same


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    for written, meant in ESCAPES.items():
        text = text.replace(written, meant)
    return text
