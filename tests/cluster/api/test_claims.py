"""Claims over HTTP: asked for, changed, explained, taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policies.model.plan import ActionOutcome, Outcome, OutcomeStatus, StartGroup
from policies.model.units import SecurityDomain
from tests.cluster.api.platform import Platform

CHAT = "/v1/claims/civil/justice:assistant"


def body(platform: Platform, **changes: Any) -> dict[str, Any]:
    claim: dict[str, Any] = platform.call("GET", CHAT).json()["claim"]
    return claim | changes


def test_a_served_claim_shows_its_groups_and_no_reason_to_wait(platform: Platform) -> None:
    found = platform.call("GET", CHAT).json()
    assert found["reason"]["state"] == "served"
    assert found["reason"]["code"] is None
    assert [group["running"] for group in found["groups"]] == [1]


def test_a_claim_that_was_just_asked_for_says_that_it_was_not_yet_decided_on_until_it_was(platform: Platform) -> None:
    asked = body(platform, id="civil/justice:late", generation=0)
    platform.call("PUT", "/v1/claims/civil/justice:late", json=asked, headers={"If-None-Match": "*"})
    said = platform.call("GET", "/v1/claims/civil/justice:late/why").json()
    assert (said["state"], said["code"]) == ("waiting", "PENDING_EVALUATION")
    assert said["sentence"] == "0 of 1 replicas: no decision was taken on it yet; the next one is seconds away"
    platform.turns(1)
    assert platform.call("GET", "/v1/claims/civil/justice:late/why").json()["code"] != "PENDING_EVALUATION"


def test_a_claim_with_an_end_leaves_when_that_has_come(platform: Platform) -> None:
    ends_ms = platform.clock.now_ms() + 60_000
    changed = body(platform, expires_at_ms=ends_ms)
    assert platform.call("PUT", CHAT, json=changed, headers={"If-Match": '"1"'}).status_code == 200
    platform.turns()
    assert platform.call("GET", CHAT).json()["reason"]["state"] == "served"
    platform.clock.sleep_ms(60_000)
    platform.turns()
    found = platform.call("GET", CHAT).json()
    assert (found["reason"]["state"], found["reason"]["code"], found["groups"]) == ("held", "DEACTIVATED", [])


def test_a_change_needs_to_say_what_it_was_made_from(platform: Platform) -> None:
    response = platform.call("PUT", CHAT, json=body(platform))
    assert (response.status_code, response.json()["code"]) == (428, "precondition_required")


def test_a_change_made_from_the_current_generation_is_stored(platform: Platform) -> None:
    response = platform.call("PUT", CHAT, json=body(platform, max_replicas=3), headers={"If-Match": '"1"'})
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    assert platform.call("GET", CHAT).json()["claim"]["max_replicas"] == 3


def test_a_change_made_from_an_older_generation_is_refused(platform: Platform) -> None:
    platform.call("PUT", CHAT, json=body(platform, max_replicas=3), headers={"If-Match": '"1"'})
    response = platform.call("PUT", CHAT, json=body(platform, max_replicas=4), headers={"If-Match": '"1"'})
    assert (response.status_code, response.json()["code"]) == (412, "conflict")


def test_a_dry_run_checks_and_stores_nothing(platform: Platform) -> None:
    changed = body(platform, max_replicas=3)
    response = platform.call("PUT", CHAT, json=changed, params={"dry_run": "true"}, headers={"If-Match": "*"})
    assert response.json()["max_replicas"] == 3
    assert platform.call("GET", CHAT).json()["claim"]["max_replicas"] == 2


def test_a_deleted_claim_drains_and_is_gone(platform: Platform) -> None:
    assert platform.call("DELETE", CHAT, headers={"If-Match": '"1"'}).status_code == 204
    platform.turns()
    assert platform.call("GET", CHAT).status_code == 404
    assert "civil/justice:assistant" not in [
        group["claim"] for group in platform.call("GET", "/v1/groups").json()["items"]
    ]


def test_why_gives_the_one_reason_with_what_would_change_it(platform: Platform) -> None:
    whole = body(platform)["ladder"][:1]
    big = body(platform, id="civil/justice:big", desired_replicas=9, min_replicas=9, max_replicas=9, ladder=whole)
    made = platform.call("PUT", "/v1/claims/civil/justice:big", json=big, headers={"If-None-Match": "*"})
    assert made.status_code == 200, made.text
    platform.turns(2)
    reason = platform.call("GET", "/v1/claims/civil/justice:big/why").json()
    assert reason["state"] == "waiting"
    assert reason["code"]
    assert reason["sentence"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"tenant": "civil/nobody", "id": "civil/nobody:assistant"}, "/id"),
        ({"priority_class": "royal"}, "/priority_class"),
        ({"min_replicas": 3}, "/min_replicas"),
        ({"max_replicas": 0, "desired_replicas": 0, "min_replicas": 0}, "/max_replicas"),
        ({"ladder": []}, "/ladder"),
        ({"model": None}, "/model"),
        ({"duration_s": 2**70}, "/duration_s"),
        ({"expires_at_ms": 0}, "/expires_at_ms"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused_with_the_place_of_the_fault(
    platform: Platform, changes: dict[str, Any], pointer: str
) -> None:
    response = platform.call("PUT", CHAT, json=body(platform, **changes), headers={"If-Match": "*"})
    assert response.status_code == 422, response.text
    assert pointer in [error["pointer"] for error in response.json()["errors"]]


def test_pages_follow_each_other_and_end(platform: Platform) -> None:
    names, cursor = [], None
    while True:
        more = {"continue": cursor} if cursor else {}
        page = platform.call("GET", "/v1/claims", params={"limit": 1, **more}).json()
        names += [item["claim"]["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert names == sorted(names)
    assert len(names) == 3


def test_a_page_is_stable_when_claims_come_and_go_between(platform: Platform) -> None:
    first = platform.call("GET", "/v1/claims", params={"limit": 2}).json()
    platform.call("DELETE", "/v1/claims/civil/health:summaries", headers={"If-Match": "*"})
    second = platform.call("GET", "/v1/claims", params={"limit": 2, "continue": first["next"]}).json()
    assert [item["claim"]["id"] for item in second["items"]] == ["defence/cyber:triage"]


def test_a_cursor_that_cannot_be_read_says_list_again(platform: Platform) -> None:
    response = platform.call("GET", "/v1/claims", params={"continue": "%%%"})
    assert (response.status_code, response.json()["code"]) == (410, "expired_cursor")


def test_why_says_what_the_platform_answered_when_a_start_was_refused(platform: Platform) -> None:
    turn = platform.parts.view.latest()
    start = StartGroup(
        domain=SecurityDomain.CIVIL, group="g", claim="civil/justice:assistant", worker="w", devices=("d",), model=None,
        variant=None, gpu_millis=1000, memory_mib=0, replicas=1, concurrency=1, reason="wanted",
    )  # fmt: skip
    result = ActionOutcome(action=start, status=OutcomeStatus.REFUSED, detail="no_job_engine: it is a job")
    outcome = Outcome(plan="p", results=(result,), finished_at_ms=1)
    platform.parts.view.publish(replace(turn, outcome=outcome), platform.parts.journal.policy())
    reason = platform.call("GET", f"{CHAT}/why").json()
    assert reason["sentence"].endswith("it does not start: no_job_engine: it is a job")


def told(platform: Platform, path: str, token: str) -> dict[str, Any]:
    """Return why the claim waits, the time that it has waited left out."""
    reason: dict[str, Any] = platform.call("GET", f"{path}/why", token).json()
    return reason | {"score_terms": [term for term in reason["score_terms"] if term[0] != "waited_s"]}


def test_p32_what_a_tenant_reads_does_not_change_with_what_others_ask_for(platform: Platform) -> None:
    key = platform.key("civil/justice")
    whole = body(platform)["ladder"][0] | {"devices": 4, "gpu_millis": 1000, "variant": None}
    wide = body(platform, id="civil/justice:wide", kind="job", model=None, ladder=[whole], max_replicas=1, generation=0)
    path = "/v1/claims/civil/justice:wide"
    assert platform.call("PUT", path, json=wide, headers={"If-None-Match": "*"}).status_code == 200
    platform.turns(3)
    before = told(platform, path, key)
    cyber = platform.call("GET", "/v1/claims/defence/cyber:triage").json()["claim"]
    secret = cyber | {"id": "defence/cyber:secret", "generation": 0}
    platform.call("PUT", "/v1/claims/defence/cyber:secret", json=secret, headers={"If-None-Match": "*"})
    platform.turns(3)
    assert told(platform, path, key) == before
    whole_truth = platform.call("GET", f"{path}/why").json()
    assert any(claim.startswith("defence/") for claim in whole_truth["blockers"])
    assert "defence" not in platform.call("GET", "/v1/reasons", key).text


def test_what_would_admit_a_claim_that_waits_is_looked_for_and_told_to_its_tenant_by_its_own_claims_alone(
    platform: Platform,
) -> None:
    key = platform.key("civil/justice")
    whole = body(platform)["ladder"][0] | {"devices": 9, "gpu_millis": 1000, "variant": None}
    wide = body(platform, id="civil/justice:huge", kind="job", model=None, ladder=[whole], max_replicas=1, generation=0)
    path = "/v1/claims/civil/justice:huge"
    assert platform.call("PUT", path, json=wide, headers={"If-None-Match": "*"}).status_code == 200
    platform.turns(3)
    found = platform.call("GET", f"{path}/why").json()
    assert found["granted_replicas"] == 0
    assert found["unblocking"]["sentence"]
    assert found["search"] is None
    assert platform.call("GET", f"{path}/why?change=never").json()["unblocking"] is None
    own = platform.call("GET", f"{path}/why", key).json()
    assert own["unblocking"]["kind"] == "rung"
    assert "defence" not in str(own)
    platform.call("DELETE", path, headers={"If-Match": "*"})
    platform.turns(2)


@pytest.mark.parametrize(
    ("access", "pointer"),
    [
        ({"aliases": ["two words"]}, "/access/aliases/0"),
        ({"shared_with": ["defence/cyber"]}, "/access/shared_with/0"),
        ({"shared_with": ["civil/nobody"]}, "/access/shared_with/0"),
        ({"fallback": "smollm2-135m-instruct"}, "/access/fallback"),
    ],
)
def test_a_model_is_shared_within_its_domain_under_names_that_clients_can_send(
    platform: Platform, access: dict[str, Any], pointer: str
) -> None:
    refused = platform.call("PUT", CHAT, json=body(platform, access=access), headers={"If-Match": "*"})
    assert (refused.status_code, [error["pointer"] for error in refused.json()["errors"]]) == (422, [pointer])
