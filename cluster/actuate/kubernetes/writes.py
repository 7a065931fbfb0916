"""Writes that a stale leader or a changed object refuses: read, check, write with a precondition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.actuate.kubernetes.refusals import Contended
from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import FENCING, Kind
from cluster.kubernetes.refusals import Invalid, Stale
from cluster.refusals import StaleGeneration

Object = dict[str, Any]
TRIES = 3


def refuse_stale(obj: Object, fencing: int) -> None:
    """Raise ``StaleGeneration`` if a newer leadership wrote the object."""
    written = (obj["metadata"].get("annotations") or {}).get(FENCING, "0")
    current = int(written) if written.isdecimal() else 0
    if fencing < current:
        raise StaleGeneration(fencing, current)


def change(api: Api, kind: Kind, obj: Object, fencing: int, edit: Callable[[Object], list[Object]]) -> Object:
    """Write what ``edit`` makes of the newest version of the object, and return the object as it is then.

    An empty edit writes nothing. Raises ``StaleGeneration`` if a newer leadership wrote it, ``Contended`` if others
    kept changing it, ``Invalid`` if the edit itself is refused. The API server words a failed precondition like any
    other patch that it cannot apply, so the object is read again to tell.
    """
    namespace, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
    for _ in range(TRIES):
        refuse_stale(obj, fencing)
        edits = edit(obj)
        if not edits:
            return obj
        try:
            return api.patch(
                kind, namespace, name, [*_precondition(obj), *_stamp(obj, {FENCING: str(fencing)}), *edits]
            )
        except (Stale, Invalid) as refused:
            now = api.get(kind, namespace, name)
            if isinstance(refused, Invalid) and _version(now) == _version(obj):
                raise
            obj = now
    raise Contended(f"{kind.name} {namespace}/{name}", TRIES)


def annotate(values: dict[str, str]) -> list[Object]:
    """Return the operations that set the annotations, on an object that ``change`` has stamped."""
    return [{"op": "add", "path": f"/metadata/annotations/{_escape(key)}", "value": v} for key, v in values.items()]


def _precondition(obj: Object) -> list[Object]:
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": _version(obj)}]


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def _stamp(obj: Object, values: dict[str, str]) -> list[Object]:
    if obj["metadata"].get("annotations"):
        return annotate(values)
    return [{"op": "add", "path": "/metadata/annotations", "value": values}]


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
