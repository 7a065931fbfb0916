"""Claims that name a program: who may ask for that, what is no program, and where its words are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policies.documents.document import parse_claims
from policies.model.codec import to_json
from policies.model.naming import job_name
from policies.model.units import ClaimId
from tests.cluster.api.platform import Platform

NAME = "civil/justice:train"
PATH = f"/v1/claims/{NAME}"
JOB = {"command": ["/usr/bin/python3", "train.py"], "environment": [["EPOCHS", "3"]], "checkpoint": "/srv/train"}


def claim(**changes: Any) -> dict[str, Any]:
    return {
        "id": NAME, "tenant": "civil/justice", "kind": "job", "ladder": [{"flavors": [], "devices": 1}], "job": JOB,
    } | changes  # fmt: skip


def test_an_operator_asks_for_a_program_and_finds_it_as_it_was_given(platform: Platform) -> None:
    made = platform.call("PUT", PATH, json=claim(), headers={"If-None-Match": "*"})
    assert made.status_code == 200, made.text
    found = platform.call("GET", PATH).json()["claim"]["job"]
    assert found["command"] == JOB["command"]
    assert found["environment"] == JOB["environment"]
    assert found["attempts"] == 3


def test_a_tenant_may_not_say_which_program_runs_here_but_may_see_suspend_and_end_its_job(platform: Platform) -> None:
    key = platform.key("civil/justice")
    refused = platform.call("PUT", PATH, key, json=claim(), headers={"If-None-Match": "*"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    platform.call("PUT", PATH, json=claim(), headers={"If-None-Match": "*"})
    assert platform.call("GET", PATH, key).status_code == 200
    other = claim(job=JOB | {"command": ["/bin/sh"]})
    assert platform.call("PUT", PATH, key, json=other, headers={"If-Match": "*"}).status_code == 403
    held = platform.call("PUT", PATH, key, json=claim(suspended=True), headers={"If-Match": "*"})
    assert held.status_code == 200, held.text
    assert platform.call("DELETE", PATH, key, headers={"If-Match": "*"}).status_code == 204


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "serving", "model": "assistant"}, "/job"),
        ({"max_replicas": 2, "desired_replicas": 2}, "/max_replicas"),
        ({"job": JOB | {"command": []}}, "/job/command"),
        ({"job": JOB | {"command": [""]}}, "/job/command"),
        ({"job": JOB | {"command": ["/bin/echo", "a\0b"]}}, "/job"),
        ({"job": JOB | {"folder": "work"}}, "/job/folder"),
        ({"job": JOB | {"checkpoint": "../x"}}, "/job/checkpoint"),
        ({"job": JOB | {"attempts": 0}}, "/job/attempts"),
        ({"job": JOB | {"environment": [["PARTAGE_DEVICES", "all"]]}}, "/job/environment/0"),
        ({"job": JOB | {"environment": [["A", "1"], ["B=C", "2"]]}}, "/job/environment/1"),
        ({"job": JOB | {"command": ["/bin/echo"] * 300}}, "/job"),
    ],
)
def test_what_is_no_program_is_refused_with_the_place_of_the_fault(
    platform: Platform, changes: dict[str, Any], pointer: str
) -> None:
    response = platform.call("PUT", PATH, json=claim(**changes), headers={"If-None-Match": "*"})
    assert response.status_code == 422, response.text
    assert pointer in [error["pointer"] for error in response.json()["errors"]]


def test_what_a_job_wrote_is_read_by_its_tenant_also_after_its_claim_has_ended(platform: Platform) -> None:
    key, stranger = platform.key("civil/justice"), platform.key("civil/health")
    assert platform.call("GET", f"{PATH}/log", key).status_code == 404
    logs = platform.parts.settings.logs
    logs.mkdir(parents=True, exist_ok=True)
    (logs / f"{job_name(ClaimId(NAME))}.log").write_text("".join(f"step {n}\n" for n in range(300)))
    answer = platform.call("GET", f"{PATH}/log", key, params={"lines": 2})
    assert answer.json() == {"claim": NAME, "lines": ["step 298", "step 299"]}
    assert platform.call("GET", f"{PATH}/log", stranger).status_code == 404
    assert platform.call("GET", f"{PATH}/log", key, params={"lines": 0}).status_code == 422


def test_a_job_that_was_suspended_does_not_call_it_its_owners_doing(platform: Platform) -> None:
    platform.call("PUT", PATH, json=claim(suspended=True), headers={"If-None-Match": "*"})
    platform.turns(2)
    reason = platform.call("GET", f"{PATH}/why").json()
    assert reason["code"] == "SUSPENDED"
    assert "its events say which" in reason["sentence"]


def test_the_example_in_the_documentation_is_a_claim_that_is_accepted(platform: Platform) -> None:
    text = (Path(__file__).parents[3] / "docs" / "jobs.md").read_text()
    (example,) = parse_claims(text.partition("```yaml\n")[2].partition("```")[0])
    made = platform.call("PUT", PATH, json=json.loads(to_json(example)), headers={"If-None-Match": "*"})
    assert made.status_code == 200, made.text
