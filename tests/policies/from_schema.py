"""Values that a published JSON Schema admits, for Hypothesis: written from the schema alone, as a stranger would."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = ("civil", "defence", "civil/x", "defence/x", "civil/x:a", "defence/x:b", "standard", "A", "B", "n0", "G0", "G1",
         "w0", "g0", "", "ü \u202e")  # fmt: skip
"""Few, so that what is written refers to itself."""
NUMBERS = st.one_of(st.integers(0, 5), st.sampled_from((500, 1000, 2000, 80_000, -1, 2**31, 2**63, 10**18)))
ITEMS = 3


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of values that the schema admits."""
    return _values(schema, schema.get("$defs", {}))


def _values(schema: dict[str, Any], known: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _values(known[schema["$ref"].rsplit("/", 1)[1]], known)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*(_values(one, known) for one in schema["anyOf"]))
    return _of_type(schema, known)


def _of_type(schema: dict[str, Any], known: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = schema["type"]
    if kind == "object":
        fields = {name: _values(field, known) for name, field in schema["properties"].items()}
        must = {name: fields.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(must, optional=fields)
    if kind == "array" and "prefixItems" in schema:
        return st.tuples(*(_values(one, known) for one in schema["prefixItems"])).map(list)
    if kind == "array":
        return st.lists(_values(schema["items"], known), max_size=ITEMS)
    simple = {"integer": NUMBERS, "string": st.sampled_from(NAMES), "boolean": st.booleans(), "null": st.none()}
    found: st.SearchStrategy[Any] = simple[kind]
    return found
