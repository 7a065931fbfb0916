"""Custom resources: defaults, pruning of unknown fields, structural validation and CEL rules."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema

from .errors import bad_request, invalid

try:
    import cel
except ImportError:  # pragma: no cover - the development environment has it
    cel = None

CELLESS = "a custom resource with CEL rules needs the package common-expression-language"


def default_fields(value: Any, schema: dict[str, Any]) -> Any:
    """Return the value with the schema's defaults filled in, at every depth."""
    if isinstance(value, dict):
        result = dict(value)
        for name, sub in schema.get("properties", {}).items():
            if name not in result and "default" in sub:
                result[name] = copy.deepcopy(sub["default"])
            if name in result:
                result[name] = default_fields(result[name], sub)
        return result
    if isinstance(value, list):
        return [default_fields(item, schema.get("items", {})) for item in value]
    return value


def prune(value: Any, schema: dict[str, Any], path: str = "", *, root: bool = False) -> tuple[Any, list[str]]:
    """Return the value without unknown fields, and their paths."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or not schema:
        return value, []
    unknown: list[str] = []
    if isinstance(value, list):
        pairs = [prune(item, schema.get("items", {}), f"{path}[{n}]") for n, item in enumerate(value)]
        return [item for item, _ in pairs], [name for _, names in pairs for name in names]
    if not isinstance(value, dict):
        return value, []
    result = {}
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        if root and name in {"apiVersion", "kind", "metadata"}:
            result[name] = item
        elif name in properties or isinstance(extra, dict):
            result[name], names = prune(item, properties.get(name, extra), here)
            unknown += names
        elif extra is True:
            result[name] = item
        else:
            unknown.append(here)
    return result, unknown


def _for_jsonschema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_for_jsonschema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _for_jsonschema(value) for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        plain.pop("type", None)
        plain["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    if plain.get("format") != "date-time":
        plain.pop("format", None)
    return plain


_VALIDATORS: dict[int, tuple[Any, jsonschema.Draft7Validator]] = {}


def _validator(schema: dict[str, Any]) -> jsonschema.Draft7Validator:
    if id(schema) not in _VALIDATORS:
        own = {k: v for k, v in schema.get("properties", {}).items() if k not in {"apiVersion", "kind", "metadata"}}
        plain = _for_jsonschema({k: v for k, v in schema.items() if k != "properties"} | {"properties": own})
        _VALIDATORS[id(schema)] = (schema, jsonschema.Draft7Validator(plain))
    return _VALIDATORS[id(schema)][1]


def check(kind: str, name: str, new: dict[str, Any], old: dict[str, Any] | None, schema: dict[str, Any]) -> None:
    """Refuse with 422 what the schema or one of its CEL rules does not allow."""
    validator = _validator(schema)
    causes = [
        f"{'.'.join(map(str, error.absolute_path)) or '<root>'}: {error.message}"
        for error in validator.iter_errors(new)
    ]
    if not causes:
        causes = list(_broken_rules(new, old, schema, "", root=True))
    if causes:
        raise invalid(kind, name, causes)


def check_definition(name: str, crd: dict[str, Any]) -> None:
    """Refuse a definition whose defaults break its own rules. A default is judged as it stands, unfilled."""
    for version in crd["spec"]["versions"]:
        whole = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        for path, part in _parts(whole, "openAPIV3Schema"):
            if "default" not in part:
                continue
            try:
                causes = [error.message for error in _validator(part).iter_errors(part["default"])]
                causes = causes or list(_broken_rules(part["default"], None, part, ""))
            except (KeyError, ValueError) as error:
                causes = [f"{error} evaluating a rule"]
            if causes:
                raise invalid("CustomResourceDefinition", name, [f"spec.validation.{path}.default: {causes[0]}"])


def _parts(schema: Any, path: str) -> Any:
    yield path, schema
    for name, part in (schema.get("properties") or {}).items():
        yield from _parts(part, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from _parts(schema[name], f"{path}.{name}")


def _broken_rules(new: Any, old: Any, schema: dict[str, Any], path: str, *, root: bool = False) -> Any:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], new, old):
            yield f"{path or '<root>'}: Invalid value: {rule.get('message', rule['rule'])}"
    if isinstance(new, dict):
        for name, value in new.items():
            if root and name == "metadata":
                continue
            sub = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(sub, dict):
                before = old.get(name) if isinstance(old, dict) else None
                yield from _broken_rules(value, before, sub, f"{path}.{name}".lstrip("."))
    elif isinstance(new, list):
        for number, item in enumerate(new):
            yield from _broken_rules(item, None, schema.get("items", {}), f"{path}[{number}]")


def _holds(rule: str, new: Any, old: Any) -> bool:
    if cel is None:
        raise RuntimeError(CELLESS)
    if "oldSelf" in rule and old is None:
        return True
    return bool(cel.evaluate(rule, {"self": new, "oldSelf": old}))


def admit(resource: Any, obj: dict[str, Any], old: dict[str, Any] | None, strict: bool) -> dict[str, Any]:
    """Return the object as the server stores it. Refuses what the definition does not allow."""
    kept, unknown = prune(obj, resource.schema, root=True)
    if unknown and strict:
        fields = ", ".join(f'unknown field "{name}"' for name in unknown)
        raise bad_request(f"strict decoding error: {fields}")
    filled: dict[str, Any] = default_fields(kept, resource.schema)
    check(resource.kind, obj["metadata"].get("name", ""), filled, old, resource.schema)
    return filled
