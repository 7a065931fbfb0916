"""The rest of the API: policy, decisions, events, health, metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from cluster.api.app import create
from cluster.usage import DayUse
from policies.documents.document import parse_policy
from policies.model.catalogue import Model
from policies.model.units import ModelId
from tests.cluster.api.platform import OPERATOR, PROFILES, Platform, empty


def test_before_there_is_a_policy_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    platform = empty(tmp_path)
    assert platform.call("GET", "/livez").status_code == 200
    ready = platform.call("GET", "/readyz")
    assert ready.status_code == 503
    assert {check["name"]: check["ok"] for check in ready.json()["checks"]} == {
        "journal": True,
        "policy": False,
        "loop": False,
    }
    status = platform.call("GET", "/v1/status")
    assert (status.status_code, status.json()["code"]) == (503, "not_ready")
    assert status.headers["Retry-After"]


def test_once_decided_it_is_ready_and_stops_being_so_when_turns_stop(platform: Platform) -> None:
    assert platform.call("GET", "/readyz").status_code == 200
    platform.clock.sleep_ms(60_000)
    assert platform.call("GET", "/readyz").status_code == 503


def test_the_policy_is_replaced_only_by_who_has_read_it(platform: Platform) -> None:
    found = platform.call("GET", "/v1/policy")
    policy = found.json() | {"revision": "next"}
    assert platform.call("PUT", "/v1/policy", json=policy).status_code == 428
    assert platform.call("PUT", "/v1/policy", json=policy, headers={"If-Match": '"other"'}).status_code == 412
    put = platform.call("PUT", "/v1/policy", json=policy, headers={"If-Match": found.headers["ETag"]})
    assert put.status_code == 200
    assert platform.call("GET", "/v1/policy").json()["revision"] == "next"


def test_a_policy_that_contradicts_itself_is_refused_and_the_last_good_one_stays(platform: Platform) -> None:
    policy: dict[str, Any] = platform.call("GET", "/v1/policy").json()
    policy["tenants"][1]["parent"] = "nobody"
    refused = platform.call("PUT", "/v1/policy", json=policy, headers={"If-Match": "*"})
    assert refused.status_code == 422, refused.text
    assert platform.call("GET", "/v1/policy").json()["revision"] == "default-1"


def test_the_floors_in_force_are_proved_on_the_devices_as_they_are(platform: Platform) -> None:
    proofs = platform.call("GET", "/v1/policy/floors").json()
    assert [(proof["tenant"], proof["is_recoverable"]) for proof in proofs] == [("civil", True), ("defence", True)]
    assert platform.call("GET", "/v1/policy/floors", platform.key("civil/justice")).status_code == 403


def test_a_preview_names_the_floor_that_could_not_come_back_in_time(platform: Platform) -> None:
    policy: dict[str, Any] = platform.call("GET", "/v1/policy").json()
    policy["tenants"][0]["reclaim_deadline_s"] = 1
    floors = platform.call("POST", "/v1/policy/preview", json=policy).json()["floors"]
    assert [(floor["tenant"], floor["is_recoverable"]) for floor in floors] == [("civil", True), ("defence", False)]
    assert "only 1000 are promised" in floors[1]["sentence"]


def test_a_preview_says_what_a_policy_would_move_and_moves_nothing(platform: Platform) -> None:
    policy: dict[str, Any] = platform.call("GET", "/v1/policy").json()
    preview = platform.call("POST", "/v1/policy/preview", json=policy).json()
    assert (preview["evicted"], preview["changed"]) == ([], [])
    before = platform.call("GET", "/v1/decisions").json()
    platform.turns(3)
    assert platform.call("GET", "/v1/decisions").json() == before


def test_every_past_decision_can_be_taken_again_with_the_same_answer(platform: Platform) -> None:
    past = platform.call("GET", "/v1/decisions").json()
    assert len(past) >= 3
    for decision in past:
        replayed = platform.call("GET", f"/v1/decisions/{decision['number']}/replay").json()
        assert replayed["same"], decision


def test_idle_turns_leave_no_trace_in_the_journal(platform: Platform) -> None:
    platform.turns(20)
    before = platform.call("GET", "/v1/decisions").json()
    platform.turns(20)
    assert platform.call("GET", "/v1/decisions").json() == before


def test_a_drained_device_is_emptied_and_comes_back(platform: Platform) -> None:
    device = platform.call("GET", "/v1/groups").json()["items"][0]["devices"][0]
    assert platform.call("PUT", f"/v1/cordons/{device}", json={"reason": "fan"}).status_code == 200
    platform.turns(60)
    groups = platform.call("GET", "/v1/groups").json()["items"]
    assert device not in [one for group in groups for one in group["devices"]]
    assert platform.call("DELETE", f"/v1/cordons/{device}").status_code == 204
    assert platform.call("GET", "/v1/cordons").json() == []


def test_an_unknown_device_cannot_be_drained(platform: Platform) -> None:
    assert platform.call("PUT", "/v1/cordons/GPU-nowhere", json={"reason": "x"}).status_code == 404


def test_events_can_be_read_from_where_one_left_off(platform: Platform) -> None:
    first = platform.call("GET", "/v1/events", params={"limit": 3}).json()
    second = platform.call("GET", "/v1/events", params={"after": first["revision"], "limit": 2}).json()
    assert [event["seq"] for event in first["items"] + second["items"]] == [1, 2, 3, 4, 5]


def test_the_audit_log_verifies_and_names_an_anchor(platform: Platform) -> None:
    verdict = platform.call("GET", "/v1/audit/verify").json()
    assert verdict["first_bad"] is None
    anchored = {"anchor_seq": verdict["records"], "anchor_hash": verdict["head"]}
    assert platform.call("GET", "/v1/audit/verify", params=anchored).json()["first_bad"] is None
    forged = {"anchor_seq": verdict["records"], "anchor_hash": "0" * 64}
    assert platform.call("GET", "/v1/audit/verify", params=forged).json()["first_bad"] is not None


def test_metrics_tell_of_shares_devices_and_isolation(platform: Platform) -> None:
    text = platform.call("GET", "/metrics").text
    assert "partage_coresident_devices 0.0" in text
    assert (
        'partage_share_gpu_millis{domain="civil",flavor="H100-80GB",part="held",tenant="civil/justice"} 1000.0' in text
    )
    assert "partage_leader 1.0" in text


def test_the_snapshot_is_what_the_decision_was_taken_from(platform: Platform) -> None:
    snapshot = platform.call("GET", "/v1/snapshot").json()
    decided = platform.call("GET", "/v1/decision").json()
    assert snapshot["generation"] == decided["decision"]["snapshot_generation"]
    assert [claim["id"] for claim in snapshot["claims"]] == [
        reason["claim"] for reason in decided["decision"]["reasons"]
    ]


def test_the_documentation_names_every_operation_and_needs_no_network(platform: Platform) -> None:
    page = platform.client.get("/docs")
    paths = platform.client.get("/openapi.json").json()["paths"]
    assert all(path in page.text for path in paths)
    assert "http://" not in page.text.replace("http://127", "")
    assert "<script" not in page.text


def test_the_type_of_every_problem_leads_to_its_line(platform: Platform) -> None:
    kind = platform.call("GET", "/v1/claims/civil/justice:nothing").json()["type"]
    path, _, code = kind.partition("#")
    assert f"id='{code}'" in platform.client.get(path).text


def test_a_tenant_sees_the_models_on_offer_and_its_own_use_alone(tmp_path: Path) -> None:
    platform = empty(tmp_path)
    tenants = ("civil/justice", "civil/health")
    rows = tuple(DayUse(tenant=name, model="m", day="2026-11-03", requests=2) for name in tenants)
    model = Model(id=ModelId("m"), variants=(), context_tokens=8_192)
    parts = replace(platform.parts, models=lambda: (model,), usage=lambda: rows)
    platform.parts.registry.put_policy(parse_policy((PROFILES / "default.yaml").read_text()))
    key = platform.key("civil/justice")
    client = TestClient(create(parts))
    as_tenant = {"Authorization": f"Bearer {key}"}
    assert [each["id"] for each in client.get("/v1/models", headers=as_tenant).json()["items"]] == ["m"]
    assert [row["tenant"] for row in client.get("/v1/usage", headers=as_tenant).json()["items"]] == ["civil/justice"]
    as_operator = {"Authorization": f"Bearer {OPERATOR}"}
    assert len(client.get("/v1/usage", headers=as_operator).json()["items"]) == 2
    assert client.get("/v1/usage").status_code == 401
