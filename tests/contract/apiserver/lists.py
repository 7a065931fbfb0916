"""Which lists are maps, which are sets, which are one value: the topology that merging and field ownership need."""

from __future__ import annotations

from typing import Any

BY_PARENT: dict[tuple[str, str], tuple[str, ...]] = {
    ("spec", "ports"): ("port", "protocol"),
    ("containers", "ports"): ("containerPort", "protocol"),
    ("containers", "env"): ("name",),
    ("containers", "volumeMounts"): ("mountPath",),
}
BY_NAME: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "schedulingGates": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "addresses": ("type",),
}
ATOMIC_MAPS = {"nodeSelector", "matchLabels"}
SETS = {"finalizers"}


def list_keys(path: tuple[str, ...], schema: dict[str, Any] | None) -> tuple[str, ...]:
    """Return the keys by which items of the list at this path are told apart; empty if the list is one value."""
    if schema is not None and path[0] != "metadata":
        return tuple(schema.get("x-kubernetes-list-map-keys", ()))
    parent = path[-2] if len(path) > 1 else ""
    return BY_PARENT.get((parent, path[-1])) or BY_NAME.get(path[-1], ())


def is_set(path: tuple[str, ...], schema: dict[str, Any] | None) -> bool:
    if schema is not None and path[0] != "metadata":
        return schema.get("x-kubernetes-list-type") == "set"
    return path[-1] in SETS


def is_atomic_map(path: tuple[str, ...], schema: dict[str, Any] | None) -> bool:
    if schema is not None and path and path[0] != "metadata":
        return schema.get("x-kubernetes-map-type") == "atomic"
    return bool(path) and path[-1] in ATOMIC_MAPS


def child(schema: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Return the schema of a field; an empty one where the schema is open, None for built-in kinds."""
    if schema is None:
        return None
    properties = schema.get("properties", {})
    if name in properties:
        return properties[name]
    extra = schema.get("additionalProperties")
    return extra if isinstance(extra, dict) else {}


def items(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if schema is None else schema.get("items", {})
