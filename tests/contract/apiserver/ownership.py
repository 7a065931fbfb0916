"""Server-side apply and managedFields: who owns which field."""

from __future__ import annotations

import copy
import json
from typing import Any

from .errors import Refused
from .lists import child, is_atomic_map, is_set, items, list_keys

Path = tuple[str, ...]
UNOWNED = {
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        )
    ),
}
Writer = tuple[str, str, str, str, str]
"""Manager, operation, version of the API, time, subresource."""


def fields(obj: Any, schema: dict[str, Any] | None, path: Path = (), names: tuple[str, ...] = ()) -> dict[Path, Any]:
    """Return each leaf of the object with its value, under the path that managedFields uses."""
    found: dict[Path, Any] = {}
    if isinstance(obj, dict) and obj and not is_atomic_map(names, schema):
        for name, value in obj.items():
            found |= fields(value, child(schema, name), (*path, f"f:{name}"), (*names, name))
    elif isinstance(obj, list) and (keys := list_keys(names, schema)):
        for item in obj:
            key = _item_key(item, keys, schema)
            found[(*path, key, ".")] = None
            found |= fields(item, items(schema), (*path, key), names)
    elif isinstance(obj, list) and is_set(names, schema):
        found |= {(*path, f"v:{json.dumps(item)}"): item for item in obj}
    elif path not in UNOWNED:
        found[path] = obj
    return {leaf: value for leaf, value in found.items() if leaf[:2] not in UNOWNED and leaf[:1] not in UNOWNED}


def _item_key(item: dict[str, Any], keys: tuple[str, ...], schema: dict[str, Any] | None) -> str:
    properties = (items(schema) or {}).get("properties", {})
    values = {key: item.get(key, properties.get(key, {}).get("default")) for key in keys}
    values = {key: value for key, value in values.items() if value is not None}
    return "k:" + json.dumps(values, sort_keys=True, separators=(",", ":"))


def to_v1(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
    return tree


def from_v1(tree: dict[str, Any], path: Path = ()) -> set[Path]:
    if not tree:
        return {path} if path else set()
    return set().union(*(from_v1(value, (*path, part)) for part, value in tree.items()))


def merge(live: Any, applied: Any, schema: dict[str, Any] | None, names: tuple[str, ...] = ()) -> Any:
    """Return the live object with the applied fields in it."""
    if isinstance(applied, dict) and isinstance(live, dict) and not is_atomic_map(names, schema):
        result = copy.deepcopy(live)
        for name, value in applied.items():
            result[name] = merge(result.get(name), value, child(schema, name), (*names, name))
        return result
    if isinstance(applied, list) and isinstance(live, list):
        if keys := list_keys(names, schema):
            merged = {_item_key(item, keys, schema): item for item in live}
            for item in applied:
                key = _item_key(item, keys, schema)
                merged[key] = merge(merged.get(key), item, items(schema), names)
            return list(merged.values())
        if is_set(names, schema):
            return live + [item for item in applied if item not in live]
    return copy.deepcopy(applied)


def remove(obj: Any, path: Path) -> None:
    """Remove what the path names, and maps that it leaves empty."""
    if obj is None:
        return
    head, rest = path[0], path[1:]
    if head.startswith("f:") and isinstance(obj, dict):
        name = head[2:]
        if not rest:
            obj.pop(name, None)
        else:
            remove(obj.get(name), rest)
            if obj.get(name) in ({}, []):
                obj.pop(name, None)
    elif isinstance(obj, list):
        _remove_item(obj, head, rest)


def _remove_item(obj: list[Any], head: str, rest: Path) -> None:
    if head.startswith("v:"):
        value = json.loads(head[2:])
        if value in obj:
            obj.remove(value)
        return
    wanted = json.loads(head[2:])
    for item in list(obj):
        if isinstance(item, dict) and all(item.get(key, value) == value for key, value in wanted.items()):
            if rest == (".",):
                obj.remove(item)
            else:
                remove(item, rest)


def conflicts(
    entries: list[dict[str, Any]], writer: Writer, applied: dict[Path, Any], live: dict[Path, Any]
) -> dict[str, set[Path]]:
    """Return the fields that other managers own and that would change value, by manager."""
    found: dict[str, set[Path]] = {}
    for entry in entries:
        if is_of(entry, writer):
            continue
        theirs = from_v1(entry["fieldsV1"])
        changed = {p for p in applied if p in theirs and p[-1] != "." and live.get(p, _ABSENT) != applied[p]}
        if changed:
            found.setdefault(entry["manager"], set()).update(changed)
    return found


_ABSENT = object()


def refuse(found: dict[str, set[Path]]) -> Refused:
    count = sum(len(paths) for paths in found.values())
    parts = [f'conflict with "{manager}": {_readable(path)}' for manager, paths in found.items() for path in paths]
    causes = [{"reason": "FieldManagerConflict", "message": part} for part in sorted(parts)]
    message = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {', '.join(sorted(parts))}"
    return Refused(409, "Conflict", message, {"causes": causes})


def _readable(path: Path) -> str:
    return "".join(f".{part[2:]}" if part.startswith("f:") else f"[{part[2:]}]" for part in path if part != ".")


def is_of(entry: dict[str, Any], writer: Writer) -> bool:
    """Return whether the entry is this writer's: manager, operation and subresource make it."""
    return (entry["manager"], entry["operation"], entry.get("subresource", "")) == (writer[0], writer[1], writer[4])


def owned_by(entries: list[dict[str, Any]], writer: Writer) -> set[Path]:
    return set().union(*(from_v1(entry["fieldsV1"]) for entry in entries if is_of(entry, writer)), set())


def record_update(
    old: dict[str, Any], new: dict[str, Any], schema: dict[str, Any] | None, writer: Writer
) -> list[dict[str, Any]]:
    """Return managedFields after an update: changed fields now belong to the writer alone, removed ones to nobody."""
    before, after = fields(old, schema), fields(new, schema)
    changed = {path for path, value in after.items() if before.get(path, _ABSENT) != value}
    entries = []
    for entry in old.get("metadata", {}).get("managedFields", []):
        kept = {path for path in from_v1(entry["fieldsV1"]) if path in after and path not in changed}
        if kept:
            entries.append({**entry, "fieldsV1": to_v1(kept)})
    return _with_entry(entries, writer, changed) if changed else entries


def _with_entry(entries: list[dict[str, Any]], writer: Writer, paths: set[Path]) -> list[dict[str, Any]]:
    manager, operation, api_version, time, subresource = writer
    same = next((entry for entry in entries if is_of(entry, writer)), None)
    kept = from_v1(same["fieldsV1"]) if same and operation == "Update" else set()
    others = [entry for entry in entries if entry is not same]
    if not paths | kept:
        return others
    entry = {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": to_v1(paths | kept),
        **({"subresource": subresource} if subresource else {}),
    }
    return [*others, entry]


def record_apply(
    entries: list[dict[str, Any]], writer: Writer, applied: set[Path], taken: dict[str, set[Path]]
) -> list[dict[str, Any]]:
    """Return managedFields after an apply: the manager owns exactly what it applied; what it forced, it took."""
    left = []
    for entry in entries:
        lost = taken.get(entry["manager"], set())
        kept = from_v1(entry["fieldsV1"]) - lost
        if kept:
            left.append({**entry, "fieldsV1": to_v1(kept)})
    left = [entry for entry in left if not is_of(entry, writer)]
    return _with_entry(left, writer, applied)
