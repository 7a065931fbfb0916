"""What each value of an enumeration means: the text that stands below it in the source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from itertools import pairwise
from textwrap import dedent


@cache
def meanings(kind: type[StrEnum]) -> dict[str, str]:
    """Return the meaning of each value, in the order of the source; a value without a text has none."""
    return {kind[name].value: text for name, text in _described(dedent(inspect.getsource(kind)))}


def _described(source: str) -> Iterator[tuple[str, str]]:
    whole = ast.parse(source).body[0]
    for member, text in pairwise(whole.body if isinstance(whole, ast.ClassDef) else ()):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield from ((one.id, str(text.value.value)) for one in member.targets if isinstance(one, ast.Name))
