"""What an earlier process, perhaps of another release, recorded: read, or refused by what it is."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import ValidationError

from cluster.refusals import RecordUnreadable
from policies.model.codec import from_json

Noun = TypeVar("Noun")


def recorded(noun: type[Noun], body: str | bytes, name: str = "") -> Noun:
    """Return the noun that was recorded. A field that is not known any more is passed over, a new one has its default.

    Raises ``RecordUnreadable`` with the first fault, and ``name`` or else the kind of what cannot be read.
    """
    try:
        return from_json(noun, body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"])) or "the whole of it"
        raise RecordUnreadable(name or _named(noun, body), f"{path}: {first['msg']}") from error


def _named(noun: type[Noun], body: str | bytes) -> str:
    """Return what it is, with its own name where it says one."""
    try:
        plain = json.loads(body)
    except ValueError:
        plain = None
    said = (
        (str(plain[key]) for key in ("id", "device", "subject", "prefix") if key in plain)
        if isinstance(plain, dict)
        else ()
    )
    return " ".join((noun.__name__, *said))
