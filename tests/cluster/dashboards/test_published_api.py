"""Our Grafana and our client against Grafana's published API: known fields, right types, nothing required left out."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from cluster.dashboards.client import connect
from cluster.dashboards.port import Annotation
from tests.cluster.dashboards.fake_grafana import EDITOR, VIEWER, running

NOUNS = json.loads((Path(__file__).parent / "grafana_api.json").read_text())["nouns"]
KINDS = {"string": str, "integer": int, "boolean": bool, "object": dict, "strings": list, "objects": list}
UNPUBLISHED = {"Error": {"messageId", "statusCode"}}
"""Fields that Grafana sends with some refusals and does not list."""
HEADERS = {"Authorization": f"Bearer {EDITOR}"}
BOARD = {"uid": "shares", "title": "Shares", "panels": []}
MARK = Annotation(at_ms=1_000, until_ms=2_000, text="a move", tags=("partage", "move"))


def faults(noun, value):
    """Return what is wrong with the value beside the published noun."""
    fields = NOUNS[noun]
    found = [f"{noun}.{name} is missing" for name, kind in fields.items() if kind.endswith("!") and name not in value]
    for name, held in value.items():
        kind = fields.get(name, "").rstrip("!")
        is_unset = held is None and not fields.get(name, "!").endswith("!")
        if is_unset or name in UNPUBLISHED.get(noun, ()):
            continue
        if not kind:
            found.append(f"{noun}.{name} is not published")
        elif not isinstance(held, KINDS[kind]):
            found.append(f"{noun}.{name} is no {kind}: {held!r}")
    return found


def filled(state, address, folder):
    """Use every call of the client once."""
    (folder / "token").write_text(EDITOR)
    grafana = connect(address, folder / "token")
    grafana.make_folder("partage", "partage")
    grafana.put_dashboard(dict(BOARD), "partage", "first")
    grafana.annotate(MARK)
    assert grafana.folder_title("partage") == "partage"
    assert grafana.dashboard("shares").folder_uid == "partage"
    assert grafana.datasource_uid("Prometheus") == "prom-1"
    assert grafana.annotations(MARK.tags, 0, 3_000) == (MARK,)
    return state


READS = {
    "folders/partage": "Folder",
    "datasources/name/Prometheus": "DataSource",
    "dashboards/uid/shares": "DashboardFull",
    "health": "Health",
}
WRITES = {
    "folders": ("CreateFolder", "Folder", {"uid": "other", "title": "other"}),
    "dashboards/db": ("SaveDashboard", "SavedDashboard", {"dashboard": BOARD | {"uid": "b"}, "overwrite": True}),
    "annotations": ("CreateAnnotation", "CreatedAnnotation", {"text": "x", "tags": [], "time": 1, "timeEnd": 2}),
}


@pytest.mark.parametrize(("path", "noun"), READS.items())
def test_what_our_grafana_gives_has_the_published_form(path, noun, tmp_path):
    with running() as (state, address):
        filled(state, address, tmp_path)
        answer = httpx.get(f"{address}/api/{path}", headers=HEADERS).json()
    assert faults(noun, answer) == []
    if noun == "DashboardFull":
        assert faults("DashboardMeta", answer["meta"]) == []


@pytest.mark.parametrize("path", WRITES)
def test_what_our_grafana_answers_to_a_write_has_the_published_form(path):
    _, noun, body = WRITES[path]
    with running() as (_, address):
        assert faults(noun, httpx.post(f"{address}/api/{path}", headers=HEADERS, json=body).json()) == []


def test_annotations_are_given_in_the_published_form(tmp_path):
    with running() as (state, address):
        filled(state, address, tmp_path)
        found = httpx.get(f"{address}/api/annotations", headers=HEADERS, params={"tags": "move"}).json()
    assert [faults("Annotation", each) for each in found] == [[]]


def test_what_our_client_sends_has_the_published_form(tmp_path):
    with running() as (state, address):
        sent = filled(state, address, tmp_path).bodies
    assert sorted(path for path, _ in sent) == sorted(WRITES)
    for path, body in sent:
        assert faults(WRITES[path][0], body) == []


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "folders/none", EDITOR, 404),
        ("GET", "dashboards/uid/none", EDITOR, 404),
        ("GET", "folders", "wrong", 401),
        ("POST", "folders", VIEWER, 403),
        ("POST", "dashboards/db", EDITOR, 400),
    ],
)
def test_a_refusal_of_our_grafana_has_the_published_form(method, path, token, status):
    with running() as (_, address):
        bearer = {"Authorization": f"Bearer {token}"}
        answer = httpx.request(method, f"{address}/api/{path}", headers=bearer, json={"dashboard": {}})
    assert answer.status_code == status
    assert faults("Error", answer.json()) == []
