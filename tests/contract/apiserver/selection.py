"""Label and field selectors."""

from __future__ import annotations

import re
from typing import Any

from .errors import bad_request

SET_BASED = re.compile(r"^(?P<key>[^\s!=]+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)$")
FIELDS = {
    "pods": {"metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.schedulerName"},
    "events": {"metadata.name", "metadata.namespace", "reason", "type"}
    | {f"involvedObject.{field}" for field in ("apiVersion", "kind", "name", "namespace", "uid")},
    "nodes": {"metadata.name", "spec.unschedulable"},
    "resourceslices": {"metadata.name", "spec.nodeName", "spec.driver"},
}


def matches_labels(labels: dict[str, str], selector: str) -> bool:
    return all(_holds(labels, term.strip()) for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def _holds(labels: dict[str, str], term: str) -> bool:
    if found := SET_BASED.match(term):
        values = {value.strip() for value in found["values"].split(",")}
        inside = labels.get(found["key"]) in values
        return inside if found["op"] == "in" else not inside
    for sign in ("!=", "==", "="):
        if sign in term:
            key, value = (part.strip() for part in term.split(sign, 1))
            return (labels.get(key) == value) != (sign == "!=")
    if term.startswith("!"):
        return term[1:].strip() not in labels
    return term in labels


def check_fields(plural: str, selector: str) -> None:
    """Refuse a field that the kind cannot be selected by, whether or not there is an object."""
    known = FIELDS.get(plural, {"metadata.name", "metadata.namespace"})
    for term in filter(None, selector.split(",")):
        key = re.split(r"!=|==|=", term, maxsplit=1)[0]
        if key not in known:
            raise bad_request(f"field label not supported: {key}")


def matches_fields(plural: str, obj: dict[str, Any], selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        negative = "!=" in term
        key, value = re.split(r"!=|==|=", term, maxsplit=1)
        if (_at(obj, key) == value) == negative:
            return False
    return True


def _at(obj: Any, path: str) -> str:
    for part in path.split("."):
        obj = obj.get(part, {}) if isinstance(obj, dict) else {}
    if isinstance(obj, bool):
        return str(obj).lower()
    return "" if obj == {} else str(obj)
