"""Canaries over HTTP: started, given more, promoted, ended; every way to start a wrong one is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.actuate.routing import next_table, promises
from cluster.canaries import conclude
from cluster.ray_rest import ServeApp
from policies.model.codec import to_plain
from policies.model.routing import RoutingTable, VariantLoad
from policies.model.units import SecurityDomain
from tests.cluster.api.platform import Platform

MAIN = "civil/justice:assistant"
TRIAL = f"{MAIN}-canary"
HERE = f"/v1/claims/{MAIN}/canary"
BETTER, SMALLER = "smollm2-135m-q8-0", "smollm2-135m-q4-0"
ANY = {"If-Match": "*"}


def start(platform: Platform, **wish: Any) -> Any:
    return platform.call("POST", HERE, json={"variant": SMALLER} | wish)


def live(platform: Platform, turns: int = 30) -> None:
    """Let turns pass as the control plane takes them: promoted canaries end by themselves."""
    for _ in range(turns):
        platform.turns(1)
        conclude(platform.parts.view.latest().snapshot, platform.parts.registry)


def claims(platform: Platform) -> list[str]:
    return [each["claim"]["id"] for each in platform.call("GET", "/v1/claims").json()["items"]]


def test_a_canary_is_a_claim_of_its_own_that_shares_the_requests_of_another(platform: Platform) -> None:
    made = start(platform, weight_percent=5)
    assert made.status_code == 201, made.text
    claim = made.json()["canary"]["claim"]
    assert claim["id"] == TRIAL
    assert claim["canary"] == {"of": MAIN, "weight_percent": 5, "promoted": False, "trial": "answer"}
    assert [shape["variant"] for shape in claim["ladder"]] == [SMALLER]
    platform.turns()
    found = platform.call("GET", HERE).json()
    assert [group["variant"] for group in found["canary"]["groups"]] == [SMALLER]
    assert [group["variant"] for group in found["main"]["groups"]] == [BETTER]
    assert found["canary"]["reason"]["state"] == "served"


def test_a_weight_is_changed_in_place_and_by_one_who_knows_the_last_one(platform: Platform) -> None:
    tag = start(platform).headers["ETag"]
    assert platform.call("PATCH", HERE, json={"weight_percent": 40}).json()["code"] == "precondition_required"
    changed = platform.call("PATCH", HERE, json={"weight_percent": 40}, headers={"If-Match": tag})
    assert changed.json()["canary"]["claim"]["canary"]["weight_percent"] == 40
    late = platform.call("PATCH", HERE, json={"weight_percent": 50}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "conflict")


@pytest.mark.parametrize("weight", [-1, 101, 2.5, "10", True, None])
def test_a_weight_that_is_no_whole_percentage_is_refused(platform: Platform, weight: object) -> None:
    start(platform)
    refused = platform.call("PATCH", HERE, json={"weight_percent": weight}, headers=ANY)
    assert refused.status_code == 422, refused.text


def test_only_one_canary_at_a_time_and_of_a_variant_that_the_model_has(platform: Platform) -> None:
    assert "has no variant 'f17'" in start(platform, variant="f17").json()["detail"]
    assert start(platform).status_code == 201
    again = start(platform)
    assert (again.status_code, again.json()["code"]) == (409, "canary_exists")


def test_a_claim_with_a_canary_is_not_deleted_from_under_it(platform: Platform) -> None:
    start(platform)
    refused = platform.call("DELETE", f"/v1/claims/{MAIN}", headers=ANY)
    assert (refused.status_code, refused.json()["code"]) == (409, "canary_exists")


def test_a_canary_for_another_tenants_claim_is_refused_even_to_an_operator(platform: Platform) -> None:
    stranger = platform.call("GET", f"/v1/claims/{MAIN}").json()["claim"] | {
        "id": "civil/health:spy",
        "tenant": "civil/health",
        "canary": {"of": MAIN, "weight_percent": 50},
    }
    refused = platform.call("PUT", "/v1/claims/civil/health:spy", json=stranger, headers={"If-None-Match": "*"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/canary/of")


def test_a_tenant_tries_variants_of_its_own_claims_and_does_not_see_others(platform: Platform) -> None:
    own, other = platform.key("civil/justice"), platform.key("civil/health")
    assert platform.call("POST", HERE, json={"variant": SMALLER}, token=other).status_code == 404
    made = platform.call("POST", HERE, json={"variant": SMALLER}, token=own)
    assert made.status_code == 201


def test_an_ended_canary_drains_and_leaves_the_main_claim_as_it_was(platform: Platform) -> None:
    start(platform)
    platform.turns()
    assert platform.call("DELETE", HERE, headers=ANY).status_code == 204
    live(platform)
    assert platform.call("GET", HERE).status_code == 404
    assert TRIAL not in claims(platform)
    assert [group["variant"] for group in platform.call("GET", f"/v1/claims/{MAIN}").json()["groups"]] == [BETTER]


def test_a_variant_that_never_answered_is_not_promoted(platform: Platform) -> None:
    start(platform)
    refused = platform.call("POST", f"{HERE}/promote")
    assert (refused.status_code, refused.json()["code"]) == (409, "canary_not_running")


def test_a_promoted_variant_becomes_the_main_claims_and_the_canary_ends_by_itself(platform: Platform) -> None:
    start(platform)
    platform.turns()
    promoted = platform.call("POST", f"{HERE}/promote").json()
    assert [shape["variant"] for shape in promoted["main"]["claim"]["ladder"]] == [SMALLER]
    assert promoted["canary"]["claim"]["canary"] == {
        "of": MAIN,
        "weight_percent": 100,
        "promoted": True,
        "trial": "answer",
    }
    served = []
    for _ in range(60):
        live(platform, turns=1)
        groups = platform.parts.view.latest().snapshot.groups
        served.append(sum(group.running for group in groups if group.claim in {MAIN, TRIAL} and group.routed))
    assert min(served) >= 1, "somebody answers all the while"
    assert TRIAL not in claims(platform)
    assert {group["variant"] for group in platform.call("GET", f"/v1/claims/{MAIN}").json()["groups"]} == {SMALLER}


def test_how_both_variants_answer_is_shown_side_by_side(platform: Platform) -> None:
    start(platform)
    platform.turns()
    turn = platform.parts.view.latest()
    traffic = (
        VariantLoad(claim=MAIN, variant=BETTER, completed=90, failed=0, first_p50_ms=100, first_p95_ms=180),
        VariantLoad(claim=TRIAL, variant=SMALLER, completed=9, failed=1, first_p50_ms=60, first_p95_ms=None),
    )
    seen = replace(turn, snapshot=replace(turn.snapshot, traffic=traffic))
    platform.parts.view.publish(seen, platform.parts.journal.policy())
    found = platform.call("GET", HERE).json()
    assert [found[side]["traffic"] for side in ("main", "canary")] == [[to_plain(load)] for load in traffic]


def test_the_gateways_table_splits_the_requests_and_follows_each_change_of_the_weight(platform: Platform) -> None:
    start(platform, weight_percent=10)
    platform.turns()

    def table(before: RoutingTable) -> RoutingTable:
        journal = platform.parts.journal
        known = promises(SecurityDomain.CIVIL, journal.policy(), journal.claims(), (), simulated=True)
        apps = {group.id: app_of(group) for group in platform.parts.view.latest().snapshot.groups}
        return next_table(before, known, apps, frozenset(apps))

    first = table(RoutingTable(generation=1, domain=SecurityDomain.CIVIL))
    route = next(route for route in first.routes if route.claim == MAIN)
    assert TRIAL not in [each.claim for each in first.routes], "nobody asks for a canary by itself"
    assert {(group.variant, group.claim) for group in route.groups} == {(BETTER, None), (SMALLER, TRIAL)}
    assert route.canary is not None
    assert (route.canary.permille, route.canary.claim) == (100, TRIAL)
    assert table(first) is first
    platform.call("PATCH", HERE, json={"weight_percent": 35}, headers=ANY)
    second = table(first)
    assert second.generation == first.generation + 1
    assert next(route for route in second.routes if route.claim == MAIN).canary == replace(route.canary, permille=350)


def app_of(group: Any) -> ServeApp:
    """Return the Serve application that a group of the simulated world would be."""
    record = {
        **{name: getattr(group, name) for name in ("claim", "worker", "rung", "variant", "devices", "cold_start_ms")},
        "group": group.id,
        "model": None,
        "gpu_millis": 1000,
        "memory_mib": 0,
        "concurrency": 4,
        "started_at_ms": 0,
    }
    return ServeApp(
        name=group.id,
        status="RUNNING",
        message="",
        config={"args": {"partage": record}},
        target=group.replicas,
        replicas=("RUNNING",) * group.running,
    )
