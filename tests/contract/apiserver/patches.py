"""JSON patch, JSON merge patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from .errors import Refused, invalid
from .lists import list_keys


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes a key, lists are replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(target: Any, patch: Any, path: tuple[str, ...] = ()) -> Any:
    """Merge; lists with a merge key item by item; ``$patch: delete`` removes an item or a map."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        here = (*path, key)
        if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        elif isinstance(value, list) and (keys := list_keys(here, None)):
            result[key] = _merge_items(result.get(key) or [], value, keys, here)
        else:
            result[key] = strategic_merge(result.get(key), value, here)
    return result


def _merge_items(live: list[Any], patch: list[Any], keys: tuple[str, ...], path: tuple[str, ...]) -> list[Any]:
    merged = copy.deepcopy(live)
    for item in patch:
        found = next((n for n, old in enumerate(merged) if all(old.get(k) == item.get(k) for k in keys)), None)
        if item.get("$patch") == "delete":
            if found is not None:
                merged.pop(found)
        elif found is None:
            merged.append(copy.deepcopy(item))
        else:
            merged[found] = strategic_merge(merged[found], item, path)
    return merged


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902. A failed test or a missing path refuses the whole patch."""
    result = copy.deepcopy(target)
    for operation in operations:
        result = _apply(result, operation)
    return result


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation["op"], _pointer(operation["path"])
    if name in {"copy", "move"}:
        source = _pointer(operation["from"])
        value = copy.deepcopy(_get(document, source))
        if name == "move":
            document = _remove(document, source)
        return _add(document, path, value)
    if name == "test":
        if _get(document, path, missing=None) != operation.get("value"):
            raise Refused(422, "Invalid", "the server rejected our request due to an error in our request")
        return document
    if name == "remove":
        return _remove(document, path)
    if name == "replace":
        _get(document, path)
        return _add(_remove(document, path), path, operation["value"]) if path else operation["value"]
    if name == "add":
        return _add(document, path, operation["value"])
    raise invalid("patch", name, [f"unexpected operation {name}"])


def _pointer(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


_ABSENT = object()


def _get(document: Any, path: list[str], missing: Any = _ABSENT) -> Any:
    for part in path:
        try:
            document = document[int(part)] if isinstance(document, list) else document[part]
        except (KeyError, IndexError, ValueError, TypeError):
            if missing is not _ABSENT:
                return missing
            raise _no_path(path) from None
    return document


def _no_path(path: list[str]) -> Refused:
    del path  # a real server does not say which
    return Refused(422, "Invalid", "the server rejected our request due to an error in our request")


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), copy.deepcopy(value))
    elif isinstance(parent, dict):
        parent[path[-1]] = copy.deepcopy(value)
    else:
        raise _no_path(path)
    return document


def _remove(document: Any, path: list[str]) -> Any:
    _get(document, path)
    parent = _get(document, path[:-1])
    parent.pop(int(path[-1]) if isinstance(parent, list) else path[-1])
    return document
