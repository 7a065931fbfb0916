"""Capacity kept for a later time: by its tenant, out of its own quota, and really there when it begins."""

from __future__ import annotations

from typing import Any

import pytest

from policies.model.units import ClaimId, SecurityDomain
from tests.cluster.api.platform import Platform

NAME = "defence/command:briefing"
PATH = f"/v1/reservations/{NAME}"
NEW = {"If-None-Match": "*"}
MINUTE_MS = 60_000


def wish(platform: Platform, **changes: Any) -> dict[str, Any]:
    now_ms = platform.clock.now_ms()
    known = {
        "id": NAME,
        "tenant": "defence/command",
        "flavor": "H100-80GB",
        "gpu_millis": 1000,
        "starts_at_ms": now_ms + 30 * MINUTE_MS,
        "ends_at_ms": now_ms + 90 * MINUTE_MS,
    }
    return known | changes


def test_a_reservation_is_made_read_changed_and_cancelled_by_who_has_read_it(platform: Platform) -> None:
    asked = wish(platform)
    assert platform.call("PUT", PATH, json=asked).status_code == 428
    made = platform.call("PUT", PATH, json=asked, headers=NEW)
    assert made.status_code == 200, made.text
    assert platform.call("PUT", PATH, json=asked, headers=NEW).status_code == 412
    assert platform.call("GET", PATH).headers["ETag"] == made.headers["ETag"]
    changed = asked | {"gpu_millis": 500}
    assert platform.call("PUT", PATH, json=changed, headers={"If-Match": '"other"'}).status_code == 412
    assert platform.call("PUT", PATH, json=changed, headers={"If-Match": made.headers["ETag"]}).status_code == 200
    assert [one["gpu_millis"] for one in platform.call("GET", "/v1/reservations").json()["items"]] == [500]
    assert platform.call("DELETE", PATH).status_code == 204
    assert platform.call("GET", PATH).status_code == 404


def test_operators_reserve_and_a_tenant_sees_its_own_alone(platform: Platform) -> None:
    own, other = platform.key("defence/command"), platform.key("civil/justice")
    assert platform.call("PUT", PATH, own, json=wish(platform), headers=NEW).status_code == 403
    assert platform.call("PUT", PATH, json=wish(platform), headers=NEW).status_code == 200
    assert platform.call("GET", PATH, own).status_code == 200
    assert platform.call("DELETE", PATH, own).status_code == 403
    assert platform.call("GET", PATH, other).status_code == 404
    assert platform.call("GET", "/v1/reservations", other).json()["items"] == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"gpu_millis": 4001}, "/gpu_millis"),
        ({"gpu_millis": 0}, "/gpu_millis"),
        ({"flavor": "H200"}, "/flavor"),
        ({"tenant": "civil/nobody", "id": "civil/nobody:x"}, "/tenant"),
        ({"tenant": "civil/justice"}, "/id"),
        ({"id": "defence/command:Not A Name"}, "/id"),
        ({"ends_at_ms": 1}, "/ends_at_ms"),
        ({"starts_at_ms": 0, "ends_at_ms": 1}, "/ends_at_ms"),
        ({"starts_at_ms": 0}, "/ends_at_ms"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_place(platform: Platform, changes: dict[str, Any], where: str) -> None:
    refused = platform.call("PUT", PATH, json=wish(platform, **changes), headers=NEW)
    assert refused.status_code == 422, refused.text
    assert where in [fault["pointer"] for fault in refused.json()["errors"]]


def test_what_is_lent_comes_back_when_the_reserving_tenant_asks_and_nobody_else_of_its_domain_pays(
    platform: Platform,
) -> None:
    assistant = platform.call("GET", "/v1/claims/civil/justice:assistant").json()["claim"]
    triage = platform.call("GET", "/v1/claims/defence/cyber:triage").json()["claim"]
    put(platform, assistant | {"desired_replicas": 3, "max_replicas": 3})
    platform.turns(120)
    assert borrowed(platform) > 0
    soon = platform.clock.now_ms() + 2 * MINUTE_MS
    asked = wish(platform, starts_at_ms=soon, ends_at_ms=soon + 60 * MINUTE_MS)
    assert platform.call("PUT", PATH, json=asked, headers=NEW).status_code == 200
    put(platform, triage | {"id": "defence/command:brief", "tenant": "defence/command", "generation": 0})
    while platform.clock.now_ms() < soon + MINUTE_MS:
        platform.turns(10)
    reasons = {one.claim: one for one in platform.parts.view.latest().decision.reasons}
    assert reasons[ClaimId("defence/command:brief")].granted_replicas == 1
    assert (
        reasons[ClaimId("defence/cyber:triage")].granted_replicas,
        reasons[ClaimId("defence/cyber:triage")].rung,
    ) == (
        1,
        0,
    )
    assert borrowed(platform) == 0


def put(platform: Platform, claim: dict[str, Any]) -> None:
    condition = {"If-Match": "*"} if claim["generation"] else NEW
    answer = platform.call("PUT", f"/v1/claims/{claim['id']}", json=claim, headers=condition)
    assert answer.status_code == 200, answer.text


def borrowed(platform: Platform) -> int:
    entries = platform.parts.view.latest().decision.entitlements
    return sum(entry.borrowed_millis for entry in entries if entry.tenant == SecurityDomain.CIVIL)


def test_no_reservation_is_made_of_what_the_floors_of_others_need(platform: Platform) -> None:
    refused = platform.call("PUT", PATH, json=wish(platform, gpu_millis=4000), headers=NEW)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"] == [
        {
            "pointer": "/gpu_millis",
            "detail": "the floors of others and earlier reservations leave 3000 thousandths when it begins",
        }
    ]
    assert platform.call("PUT", PATH, json=wish(platform, gpu_millis=3000), headers=NEW).status_code == 200
