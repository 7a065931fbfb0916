"""Nouns by the hundred thousand: built open, then closed, in a fifth of the time of the constructor's own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, make_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def builder(noun: type[T]) -> Callable[..., T]:
    """Return a function that takes the noun's fields and returns the noun, equal to one made as usual.

    They are given by name; where it is done for every claim, in the order of the fields, which takes half the time.

    A frozen dataclass sets each field through a check that it then goes round; a twin with the same slots has them set
    directly and becomes the noun at the end. The function is written out field by field, as ``dataclasses`` writes
    constructors: called by itself it needs no dictionary of its arguments. Only for dataclasses with slots, without
    ``__post_init__``, whose names and defaults come from this repository.
    """
    known = fields(noun)  # type: ignore[arg-type]  # a dataclass, as said above
    is_frozen = noun.__dataclass_params__.frozen  # type: ignore[attr-defined]  # the same
    names = [(one.name, object) for one in known]
    twin = make_dataclass(f"Open{noun.__name__}", names, slots=True, eq=False, repr=False) if is_frozen else noun
    given = {f"default_{one.name}": _default(one) for one in known if _default(one) is not MISSING}
    heads = [f"{one.name}=default_{one.name}" if f"default_{one.name}" in given else one.name for one in known]
    first = next((index for index, head in enumerate(heads) if "=" in head), len(heads))
    if any("=" not in head for head in heads[first:]):
        heads.insert(first, "*")
    lines = [f"made.{one.name} = {_value(one)}" for one in known] + (["made.__class__ = noun"] if is_frozen else [])
    text = f"def build({', '.join(heads)}):\n    made = new(twin)\n    " + "\n    ".join([*lines, "return made"])
    names_of: dict[str, Any] = {"new": object.__new__, "twin": twin, "noun": noun, **given}
    exec(text, names_of)  # noqa: S102  # made of the noun's own field names alone
    build: Callable[..., T] = names_of["build"]
    return build


def _default(one: Field[Any]) -> Any:
    return one.default_factory if one.default_factory is not MISSING else one.default


def _value(one: Field[Any]) -> str:
    """Return the text of a field's value; what a factory makes is made anew each time."""
    if one.default_factory is MISSING:
        return one.name
    return f"{one.name}() if {one.name} is default_{one.name} else {one.name}"
