"""What needs two people, what is asked twice, what could be had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cluster.api.app import create
from policies.model.catalogue import Model
from tests.cluster.api.platform import OPERATOR, Platform

CRISIS = {"mode": "crisis", "hours": 4, "reason": "exercise"}


@pytest.fixture
def people(platform: Platform) -> Platform:
    folder = platform.parts.settings.secrets / "operators"
    folder.mkdir()
    for name in ("anna", "ben"):
        (folder / f"{name}.token").write_text(f"token-of-{name}")
    return platform


def declared(platform: Platform) -> str:
    made = platform.call("POST", "/v1/modes", "token-of-anna", json=CRISIS)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_a_mode_is_in_force_only_once_another_person_approved_it(people: Platform) -> None:
    name = declared(people)
    people.turns(1)
    assert people.call("GET", "/v1/status").json()["mode"] == "normal"
    assert people.call("POST", f"/v1/modes/{name}/approve", "token-of-ben").status_code == 200
    people.turns(1)
    assert people.call("GET", "/v1/status").json()["mode"] == "crisis"
    assert people.call("GET", "/v1/modes").json()["declaration"]["approvers"] == ["anna", "ben"]


def test_nobody_approves_what_they_declared_themselves(people: Platform) -> None:
    name = declared(people)
    refused = people.call("POST", f"/v1/modes/{name}/approve", "token-of-anna")
    assert (refused.status_code, refused.json()["code"]) == (409, "approval_refused")


def test_an_approval_does_not_carry_over_to_a_changed_policy(people: Platform) -> None:
    name = declared(people)
    policy = people.call("GET", "/v1/policy").json() | {"revision": "changed"}
    people.call("PUT", "/v1/policy", json=policy, headers={"If-Match": "*"})
    assert people.call("POST", f"/v1/modes/{name}/approve", "token-of-ben").json()["code"] == "approval_refused"


def test_an_approval_is_used_once(people: Platform) -> None:
    name = declared(people)
    people.call("POST", f"/v1/modes/{name}/approve", "token-of-ben")
    assert people.call("POST", f"/v1/modes/{name}/approve", "token-of-ben").status_code == 404


def test_a_declaration_that_nobody_approves_lapses(people: Platform) -> None:
    name = declared(people)
    people.clock.sleep_ms(3_600_001)
    assert people.call("POST", f"/v1/modes/{name}/approve", "token-of-ben").status_code == 404


def test_a_mode_ends_by_itself(people: Platform) -> None:
    people.call("POST", f"/v1/modes/{declared(people)}/approve", "token-of-ben")
    people.clock.sleep_ms(4 * 3_600_000)
    people.turns(1)
    assert people.call("GET", "/v1/status").json()["mode"] == "normal"


def test_one_person_may_always_go_back_to_normal(people: Platform) -> None:
    people.call("POST", f"/v1/modes/{declared(people)}/approve", "token-of-ben")
    assert people.call("POST", "/v1/modes/end", "token-of-anna").status_code == 200
    people.turns(1)
    assert people.call("GET", "/v1/status").json()["mode"] == "normal"


def test_the_same_order_sent_twice_is_carried_out_once(people: Platform) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = people.call("POST", "/v1/modes", "token-of-anna", json=CRISIS, headers=headers)
    people.clock.sleep_ms(5_000)
    second = people.call("POST", "/v1/modes", "token-of-anna", json=CRISIS, headers=headers)
    assert second.json() == first.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(people.call("GET", "/v1/modes").json()["pending"]) == 1


def test_a_key_used_for_another_order_is_refused(people: Platform) -> None:
    headers = {"Idempotency-Key": "order-1"}
    people.call("POST", "/v1/modes", "token-of-anna", json=CRISIS, headers=headers)
    other = people.call("POST", "/v1/modes", "token-of-anna", json=CRISIS | {"hours": 5}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_change_sent_twice_by_put_or_delete_is_carried_out_once_too(platform: Platform) -> None:
    path = "/v1/claims/civil/justice:assistant"
    stored = platform.call("GET", path).json()["claim"]
    changed = {**stored, "max_replicas": stored["max_replicas"] + 1}
    headers = {"Idempotency-Key": "put-1", "If-Match": f'"{stored["generation"]}"'}
    first = platform.call("PUT", path, json=changed, headers=headers)
    again = platform.call("PUT", path, json=changed, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["ETag"] == first.headers["ETag"]
    other = platform.call("DELETE", path, headers={"Idempotency-Key": "put-1", "If-Match": "*"})
    assert other.json()["code"] == "idempotency_key_reused"


def in_crisis(people: Platform) -> dict[str, Any]:
    assert people.call("POST", f"/v1/modes/{declared(people)}/approve", "token-of-ben").status_code == 200
    people.turns(1)
    return dict(people.call("GET", "/v1/policy").json())


def test_what_a_mode_would_do_is_seen_before_anybody_declares_it(people: Platform) -> None:
    before = people.call("GET", "/v1/policy").json()
    seen = people.call("POST", "/v1/modes/preview", json={"mode": "crisis"}).json()
    assert people.call("GET", "/v1/policy").json() == before
    assert people.call("GET", "/v1/modes").json()["pending"] == []
    in_crisis(people)
    ended = people.call("POST", "/v1/modes/preview", json={"mode": "normal"}).json()
    entitled = {(one["tenant"], one["flavor"]): one["entitled_millis"] for one in seen["after"]}
    now = people.call("GET", "/v1/decision").json()["decision"]["entitlements"]
    assert {(one["tenant"], one["flavor"]): one["entitled_millis"] for one in now} == entitled
    assert ended["digest"] != seen["digest"]


def test_one_person_cannot_bring_a_mode_into_force_inside_a_policy(people: Platform) -> None:
    approved = in_crisis(people)["declaration"]
    people.call("POST", "/v1/modes/end", "token-of-anna")
    forged = people.call("GET", "/v1/policy").json() | {"declaration": approved}
    refused = people.call("PUT", "/v1/policy", "token-of-anna", json=forged, headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/declaration")
    assert people.call("POST", "/v1/policy/preview", "token-of-anna", json=forged).status_code == 422
    people.turns(1)
    assert people.call("GET", "/v1/modes").json()["in_force"] == "normal"


def test_a_policy_that_is_changed_in_a_crisis_does_not_end_the_crisis(people: Platform) -> None:
    policy = in_crisis(people)
    for document in (policy | {"declaration": None}, policy):
        changed = people.call("PUT", "/v1/policy", json=document | {"revision": "new"}, headers={"If-Match": "*"})
        assert changed.status_code == 200
        people.turns(1)
        assert people.call("GET", "/v1/modes").json()["in_force"] == "crisis"


def test_two_callers_may_use_the_same_key(people: Platform) -> None:
    headers = {"Idempotency-Key": "order-1"}
    people.call("POST", "/v1/modes", "token-of-anna", json=CRISIS, headers=headers)
    assert (
        people.call("POST", "/v1/modes", "token-of-ben", json=CRISIS | {"hours": 5}, headers=headers).status_code == 201
    )


def test_a_request_that_broke_off_may_be_tried_again_under_its_key(platform: Platform) -> None:
    broken = [RuntimeError("the catalogue cannot be read")]

    def models() -> tuple[Model, ...]:
        if broken:
            raise broken.pop()
        return platform.parts.models()

    client = TestClient(create(replace(platform.parts, models=models)), raise_server_exceptions=False)
    headers = {"Idempotency-Key": "put-1", "If-None-Match": "*", "Authorization": f"Bearer {OPERATOR}"}
    wish = {"tenant": "civil/justice", "replicas": 1}
    answers = [client.post("/v1/offers", json=wish, headers=headers).status_code for _ in range(2)]
    assert answers == [500, 200]


def test_a_new_key_is_made_once_and_kept_nowhere(platform: Platform) -> None:
    headers = {"Idempotency-Key": "key-1"}
    first = platform.call("POST", "/v1/keys", json={"tenant": "civil/justice"}, headers=headers)
    again = platform.call("POST", "/v1/keys", json={"tenant": "civil/justice"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 409)
    assert len(platform.call("GET", "/v1/keys").json()["items"]) == 1
    assert first.json()["key"].encode() not in platform.parts.settings.journal.read_bytes()


def test_an_offer_says_what_could_be_had_and_reserves_nothing(platform: Platform) -> None:
    key = platform.key("civil/justice")
    found = platform.call("POST", "/v1/offers", key, json={"tenant": "civil/justice", "replicas": 1}).json()
    assert (found["granted_replicas"], found["wanted_replicas"]) == (1, 1)
    assert len(platform.call("GET", "/v1/claims", key).json()["items"]) == 1


def test_an_offer_beyond_what_there_is_says_why(platform: Platform) -> None:
    wish = {"tenant": "civil/justice", "replicas": 1, "devices": 64}
    found = platform.call("POST", "/v1/offers", json=wish).json()
    assert found["granted_replicas"] == 0
    assert found["reason"]["code"]


def test_an_offer_for_another_tenant_is_not_made(platform: Platform) -> None:
    key = platform.key("civil/justice")
    assert platform.call("POST", "/v1/offers", key, json={"tenant": "defence/cyber"}).status_code == 404
