"""Who may see and do what: deny by default, what is foreign does not exist."""

from __future__ import annotations

import re

import pytest

from cluster.api.access import Caller, Role
from policies.model.units import TenantId
from tests.cluster.api.platform import OPERATOR, Platform

STREAM = "/v1/events/watch"
"""Answers for as long as one listens; test_events.py has its own proof."""
OPEN = {"/livez", "/readyz", "/startupz", "/metrics"}
"""Paths that need no token."""
FOREIGN = {
    "claim_id": "defence/cyber:triage",
    "prefix": "pk-000000000",
    "subject": "GPU-node-0",
    "number": "1",
    "name": "0123456789ab",
}


def every_operation(platform: Platform) -> list[tuple[str, str]]:
    paths = platform.client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def filled(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: FOREIGN[found.group(1)], path)


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000, "pk-000000000000000000", "é"])
def test_without_a_valid_token_every_operation_is_refused_alike(platform: Platform, token: str) -> None:
    answers = set()
    for method, path in every_operation(platform):
        if path in OPEN:
            continue
        headers = {"Authorization": f"Bearer {token}".encode()}
        response = platform.client.request(method, filled(path), headers=headers, json={})  # type: ignore[arg-type]  # bytes pass
        answers.add((response.status_code, response.json()["detail"]))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


def test_a_tenant_can_neither_see_nor_change_anything_of_another(platform: Platform) -> None:
    """Every operation of the API with every identifier of the other domain: never a success that tells something."""
    key = platform.key("civil/justice")
    claim = platform.call("GET", "/v1/claims/defence/cyber:triage").json()["claim"]
    for method, path in every_operation(platform):
        if path in OPEN or path == STREAM:
            continue
        headers = {"If-Match": "*"}
        response = platform.call(method, filled(path), key, json=claim, headers=headers)
        told = response.text.replace(FOREIGN["claim_id"], "").replace("'defence/cyber'", "")
        assert "defence" not in told, f"{method} {path} tells more than it was asked"
        if "{" in path:
            assert response.status_code in {403, 404, 422}, f"{method} {path}: {response.status_code}"
    assert platform.call("GET", "/v1/claims/defence/cyber:triage").json()["claim"] == claim


def test_a_foreign_claim_and_one_that_never_was_are_told_apart_by_nothing(platform: Platform) -> None:
    key = platform.key("civil/justice")
    foreign = platform.call("GET", "/v1/claims/defence/cyber:triage", key).json()
    never = platform.call("GET", "/v1/claims/defence/cyber:unknown", key).json()
    different = {name for name in foreign if foreign[name] != never[name]}
    assert different <= {"detail", "instance", "request_id"}
    assert foreign["detail"].replace("triage", "unknown") == never["detail"]


def test_a_tenant_sees_its_own(platform: Platform) -> None:
    key = platform.key("civil/justice")
    assert [c["claim"]["id"] for c in platform.call("GET", "/v1/claims", key).json()["items"]] == [
        "civil/justice:assistant"
    ]
    assert len(platform.call("GET", "/v1/groups", key).json()["items"]) == 1
    assert len(platform.call("GET", "/v1/devices", key).json()["items"]) == 1
    assert {s["entitlement"]["tenant"] for s in platform.call("GET", "/v1/shares", key).json()["items"]} == {
        "civil/justice"
    }
    events = platform.call("GET", "/v1/events", key).json()["items"]
    assert {event["tenant"] for event in events} == {"civil/justice"}


def test_a_tenant_cannot_make_a_key_for_another(platform: Platform) -> None:
    key = platform.key("civil/justice")
    assert platform.call("POST", "/v1/keys", key, json={"tenant": "civil/health"}).status_code == 404


def test_a_revoked_key_is_refused(platform: Platform) -> None:
    key = platform.key("civil/justice")
    assert platform.call("DELETE", f"/v1/keys/{key[:12]}").status_code == 204
    assert platform.call("GET", "/v1/claims", key).status_code == 401


def test_an_expired_key_is_refused(platform: Platform) -> None:
    key = platform.key("civil/justice")
    platform.clock.sleep_ms(91 * 86_400_000)
    assert platform.call("GET", "/v1/claims", key).status_code == 401


def test_a_key_is_never_shown_again(platform: Platform) -> None:
    key = platform.key("civil/justice")
    assert key not in platform.call("GET", "/v1/keys").text
    assert key not in platform.call("GET", "/v1/events").text
    assert "mac" not in platform.call("GET", "/v1/keys").text


def test_changes_are_recorded_under_the_name_of_who_made_them(platform: Platform) -> None:
    key = platform.key("civil/justice")
    platform.call("DELETE", "/v1/claims/civil/justice:assistant", key, headers={"If-Match": "*"})
    events = platform.call("GET", "/v1/events").json()["items"]
    deleted = next(event for event in events if event["kind"] == "claim.deleted")
    assert deleted["actor"].startswith("civil/justice#pk-")


def test_a_tenant_below_another_is_its_own(platform: Platform) -> None:
    caller = Caller(name="x", role=Role.TENANT, tenant=TenantId("civil/justice"))
    assert caller.may_see("civil/justice")
    assert caller.may_see("civil/justice/courts")
    assert not caller.may_see("civil/justice2")
    assert not caller.may_see("civil")


def test_the_operator_sees_everything(platform: Platform) -> None:
    assert platform.call("GET", "/v1/whoami", OPERATOR).json()["role"] == "operator"
    assert len(platform.call("GET", "/v1/devices").json()["items"]) == 4
