"""What we ship is what Grafana's own schema accepts, and is laid out for a reader."""

import gzip
import json
from itertools import combinations
from pathlib import Path

import pytest

from cluster.dashboards.catalogue import BOARDS
from cluster.dashboards.render import REFERENCES, render

SPECS = Path(__file__).parents[4] / "shared/data/api_specs/grafana"
SCHEMA = SPECS / "dashboard.jsonschema.json.gz"
BY_UID = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def cells(panel):
    at = panel["gridPos"]
    return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}


@pytest.mark.elsewhere
@BY_UID
def test_the_schema_of_grafana_accepts_every_dashboard(board):
    jsonschema = pytest.importorskip("jsonschema")
    if not SCHEMA.exists():
        pytest.skip("Grafana's JSON Schema is not beside this checkout")
    schema = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    faults = [fault.json_path for fault in jsonschema.Draft7Validator(schema).iter_errors(render(board))]
    assert faults == []


def specification(name):
    return json.loads(gzip.decompress((SPECS / f"{name}.openapi.json.gz").read_bytes()))


def unknown(value, schema, schemas, place=""):
    """Yield where the value has a field, a type or a word that the schema does not know."""
    schema = schemas[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    kinds = {"boolean": bool, "string": str, "array": list, "object": dict, "number": int | float, "integer": int}
    if schema.get("type") in kinds and not isinstance(value, kinds[schema["type"]]):
        yield f"{place}: {value!r} is no {schema['type']}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for key, inner in value.items():
            if key in known:
                yield from unknown(inner, known[key], schemas, f"{place}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{place}.{key} is not known"
    for number, inner in enumerate(value if isinstance(value, list) and "items" in schema else ()):
        yield from unknown(inner, schema["items"], schemas, f"{place}[{number}]")


@pytest.mark.elsewhere
@BY_UID
def test_grafana_knows_every_option_of_every_panel_and_query(board):
    if not SPECS.exists():
        pytest.skip("Grafana's schemas are not beside this checkout")
    faults, checked = [], 0
    for panel in render(board)["panels"]:
        if not (SPECS / f"{panel['type']}.openapi.json.gz").exists():
            continue
        schemas = specification(panel["type"])["components"]["schemas"]
        faults += unknown(panel.get("options", {}), schemas["Options"], schemas, panel["title"])
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {})
        faults += unknown(custom, schemas["FieldConfig"], schemas, panel["title"]) if "FieldConfig" in schemas else ()
        queries = specification("prometheus")["components"]["schemas"]
        for target in panel.get("targets", []):
            faults += unknown(target, queries["Dataquery"], queries, f"{panel['title']}, query")
        checked += 1
    assert faults == []
    assert checked


@BY_UID
def test_no_two_panels_overlap_and_none_leaves_the_grid(board):
    placed = [cells(panel) for panel in render(board)["panels"]]
    assert all(not first & second for first, second in combinations(placed, 2))
    assert max(x for panel in placed for x, _ in panel) <= 23


@BY_UID
def test_panels_are_numbered_once_and_say_what_they_ask(board):
    panels = render(board)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")


@BY_UID
def test_every_query_of_a_panel_is_drawn(board):
    drawn = [target["expr"] for panel in render(board)["panels"] for target in panel.get("targets", [])]
    assert tuple(drawn) == board.expressions()
    assert max(len(panel.queries) for panel in board.panels()) <= len(REFERENCES)


@BY_UID
def test_nobody_edits_by_hand_what_the_next_push_would_undo(board):
    assert render(board)["editable"] is False


def test_the_same_board_gives_the_same_json():
    assert [render(board) for board in BOARDS.values()] == [render(board) for board in BOARDS.values()]
