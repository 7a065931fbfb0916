"""Nouns to JSON and back, their JSON Schema and their digest. Same value, same bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Iterator
from dataclasses import is_dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from policies.model.meanings import meanings

T = TypeVar("T")


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Building an adapter costs tens of milliseconds, so each noun's is built once."""
_STRICT: dict[type[Any], type[BaseModel]] = {}


def _adapter(noun: type[Any]) -> TypeAdapter[Any]:
    if noun not in _ADAPTERS:
        _ADAPTERS[noun] = TypeAdapter(noun)
    return _ADAPTERS[noun]


def _strict_model(noun: type[Any]) -> type[BaseModel]:
    if noun not in _STRICT:
        _STRICT[noun] = create_model("Document", spec=(noun, ...), __config__=ConfigDict(extra="forbid", strict=True))
    return _STRICT[noun]


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return canonical JSON: keys sorted, no spaces unless ``indent`` is given, tuples as arrays."""
    plain = _adapter(type(value)).dump_python(value, mode="json")
    separators = (",", ":") if indent is None else None
    return json.dumps(plain, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False)


def to_plain(value: object) -> Any:
    """Return the value as dicts, lists, strings and integers, as JSON would hold it."""
    return _adapter(type(value)).dump_python(value, mode="json")


def from_json(noun: type[T], text: str | bytes) -> T:
    """Return the noun that the JSON describes. Raises ``pydantic.ValidationError`` with the path of each fault."""
    result: T = _adapter(noun).validate_json(text)
    return result


def from_plain_strict(noun: type[T], plain: object) -> T:
    """Return the noun that a person wrote down: unknown fields and values of another type are faults.

    As in JSON Schema a number without a fraction is whole however it is written, such as 1.0. Raises
    ``pydantic.ValidationError`` with each fault's path, which begins with ``spec``.
    """
    return _read_strict(noun, json.dumps({"spec": plain}))


def from_json_strict(noun: type[T], text: str) -> T:
    """Return the noun that the JSON describes, as ``from_plain_strict`` does."""
    return _read_strict(noun, '{"spec":' + text + "}")


def _read_strict(noun: type[T], text: str) -> T:
    model = _strict_model(noun)
    try:
        read = model.model_validate_json(text)
    except ValidationError:
        without_points = _whole_numbers_as_such(text)
        if without_points is None:
            raise
        read = model.model_validate_json(without_points)
    result: T = read.spec  # type: ignore[attr-defined]  # the model is made above, with this one field
    return result


def _whole_numbers_as_such(text: str) -> str | None:
    """Return the JSON with 1.0 and 2e3 written as 1 and 2000; None where there are none, or it is no JSON."""
    found: list[int] = []

    def number(written: str) -> int | float:
        value = Decimal(written)
        if value.adjusted() >= MOST_DIGITS or value != value.to_integral_value():
            return float(written)
        found.append(int(value))
        return found[-1]

    try:
        plain = json.loads(text, parse_float=number)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return json.dumps(plain) if found else None


MOST_DIGITS = 400
"""Of a whole number that is written with a point or an exponent: more than any amount has."""


def from_plain(noun: type[T], plain: object) -> T:
    """Return the noun that dicts and lists describe. Raises ``pydantic.ValidationError`` with each fault's path."""
    result: T = _adapter(noun).validate_python(plain)
    return result


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def schema(noun: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of the noun, each field with the docstring that stands below it as its description.

    In the words of JSON: ``None`` is null there, and what names a moment says how it is counted. An enumeration's
    description ends with the meaning of each value.
    """
    config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    described = create_model("Described", value=(noun, ...), __config__=config).model_json_schema()
    definitions = described["$defs"]
    top = definitions.pop(noun.__name__)
    if definitions:
        top["$defs"] = definitions
    _in_words_of_json(top)
    _tell_values(definitions, noun)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top}


MOMENTS = ("_at_ms", "since_ms", "deadline_ms", "eta_ms", "checkpoint_ms")
MOMENT = "In milliseconds since 1970, UTC."


def _in_words_of_json(described: dict[str, Any]) -> None:
    for part in (described, *described.get("$defs", {}).values()):
        for name, field in part.get("properties", {}).items():
            text = field.get("description", "").replace("``", "`")
            field["description"] = NONE.sub("null", text) + (f" {MOMENT}" if name.endswith(MOMENTS) and text else "")


def _tell_values(definitions: dict[str, Any], noun: type[Any]) -> None:
    kinds = {kind.__name__: kind for kind in _enumerations(noun, set())}
    for name in definitions.keys() & kinds.keys():
        told = (f"- `{value}`: {text.replace('``', '`')}" for value, text in meanings(kinds[name]).items())
        definitions[name]["description"] = "\n".join((definitions[name].get("description", ""), *told))


def _enumerations(kind: Any, seen: set[Any]) -> Iterator[type[StrEnum]]:
    """Yield the enumerations that the type refers to, at any depth."""
    if kind in seen:
        return
    seen.add(kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        yield kind
    inside = get_type_hints(kind).values() if is_dataclass(kind) else get_args(kind)
    for one in inside:
        if isinstance(one, Hashable):
            yield from _enumerations(one, seen)


NONE = re.compile(r"\bNone\b")
