"""Lists, and the tables that kubectl prints."""

from __future__ import annotations

import re
from typing import Any

from .kinds import Resource

FILTER = re.compile(r'^(?P<list>\w+)\[\?\(@\.(?P<key>\w+)\s*==\s*["\'](?P<value>[^"\']+)["\']\)\]$')


def _wants_table(headers: Any) -> bool:
    return "as=Table" in (headers.get("Accept") or "")


def plain(resource: Resource, found: list[dict[str, Any]], meta: dict[str, Any]) -> dict[str, Any]:
    return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta, "items": found}


def maybe(
    resource: Resource,
    headers: Any,
    found: list[dict[str, Any]],
    *,
    single: bool = False,
    meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a Table where one is asked for and the resource has columns; the objects otherwise."""
    if _wants_table(headers) and resource.custom:
        return _table(resource, found, meta or {})
    return found[0] if single else plain(resource, found, meta or {})


def row(resource: Resource, headers: Any, obj: dict[str, Any]) -> dict[str, Any]:
    return _table(resource, [obj], {}) if _wants_table(headers) and resource.custom else obj


def _table(resource: Resource, found: list[dict[str, Any]], meta: dict[str, Any]) -> dict[str, Any]:
    columns = resource.columns or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},)
    definitions = [{"name": "Name", "type": "string", "format": "name", "priority": 0}] + [
        {"name": column["name"], "type": column["type"], "priority": column.get("priority", 0)} for column in columns
    ]
    rows = []
    for obj in found:
        cells = [obj["metadata"]["name"]] + [_cell(obj, column) for column in columns]
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
        rows.append({"cells": cells, "object": partial})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _cell(obj: dict[str, Any], column: dict[str, Any]) -> Any:
    value: Any = obj
    for part in re.findall(r"\w+\[\?\([^)]*\)\]|[\w-]+", column["jsonPath"]):
        if found := FILTER.match(part):
            options = value.get(found["list"]) or [] if isinstance(value, dict) else []
            value = next((item for item in options if item.get(found["key"]) == found["value"]), None)
        else:
            value = value.get(part) if isinstance(value, dict) else None
    if column["type"] == "date" and value:
        return "1s"
    return value
