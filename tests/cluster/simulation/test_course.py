"""A trace of claims, lived through in virtual time under one policy or another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.sim.course import Course, Report
from cluster.sim.recorded import recorded, written
from cluster.sim.trace import COLUMNS, TraceFault, parse
from cluster.sim.world import World
from policies.documents.document import parse_policy
from policies.model.codec import to_plain
from policies.model.policy import Policy

PROFILES = Path(__file__).parents[3] / "policies" / "profiles"
HEADER = ",".join(COLUMNS)


def shipped() -> Policy:
    return parse_policy((PROFILES / "default.yaml").read_text())


def lived(*lines: str, policy: Policy | None = None, devices: int = 4) -> Report:
    world = World()
    world.add_node("n1", devices)
    return Course(policy or shipped(), parse("\n".join((HEADER, *lines))), world).run()


def of(report: Report, tenant: str):
    return next(one for one in report.tenants if one.tenant == tenant)


BORROWER = "0,civil/justice:watch,serving,standard,4,1,1000,40000,3600"
OWNER = "600,defence/cyber:triage,serving,critical,1,1,1000,40000,1200"


def test_what_is_lent_comes_back_when_its_owner_asks_and_goes_out_again_after() -> None:
    report = lived(BORROWER, OWNER)
    assert of(report, "civil/justice").evictions == 1
    assert of(report, "defence/cyber").never_served == 0
    assert of(report, "defence/cyber").waited_s[0] < 120, "the promised time of the shipped policy"
    assert report.domain_changes == 2, "to Defence and back"


def test_nobody_is_held_below_its_floor_for_longer_than_the_promise() -> None:
    assert all(one.below_floor_s <= 120 for one in lived(BORROWER, OWNER).tenants)


def test_a_tenant_that_lends_nothing_never_waits_for_its_own() -> None:
    policy = shipped()
    keeping = tuple(
        replace(one, quotas=tuple(replace(q, lending_limit_millis=0) for q in one.quotas))
        if one.id.startswith("defence") else one
        for one in policy.tenants
    )  # fmt: skip
    report = lived(BORROWER, OWNER, policy=replace(policy, tenants=keeping))
    assert of(report, "civil/justice").evictions == 0
    assert report.domain_changes == 0
    assert of(report, "civil/justice").never_served == 1, "four replicas need what Defence now keeps"


def test_a_job_that_had_to_leave_starts_over_and_ends() -> None:
    job = "0,civil/justice:tune,job,standard,4,1,1000,40000,900"
    report = lived(job, OWNER)
    assert of(report, "civil/justice").evictions >= 1
    assert of(report, "civil/justice").never_served == 0
    assert report.virtual_s > 1800 + 900, "it ran in one piece only after Defence had left"


def test_time_that_nobody_needs_passes_in_one_step() -> None:
    far = "1000000,defence/cyber:late,job,standard,1,1,1000,40000,60"
    report = lived("0,civil/health:early,job,standard,1,1,1000,40000,60", far)
    assert report.virtual_s > 1_000_000
    assert report.turns < 60


def test_what_can_never_be_served_ends_the_trace_and_is_counted() -> None:
    report = lived("0,civil/justice:huge,job,standard,9,1,1000,40000,60")
    assert of(report, "civil/justice").never_served == 1
    assert of(report, "civil/justice").gpu_s == 0


def test_the_same_trace_gives_the_same_report_whatever_the_order_of_its_lines() -> None:
    assert lived(BORROWER, OWNER) == lived(OWNER, BORROWER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at_s,claim\n0,x", "are missing"),
        (HEADER, "no line follows"),
        (f"{HEADER}\n0,nobody,job,batch,1,1,1000,0,60", "not tenant:name"),
        (f"{HEADER}\n0,civil/a:b,task,batch,1,1,1000,0,60", "neither serving nor job"),
        (f"{HEADER}\n0,civil/a:b,job,batch,none,1,1000,0,60", "replicas is 'none'"),
        (f"{HEADER}\n-1,civil/a:b,job,batch,1,1,1000,0,60", "at_s is '-1'"),
        (f"{HEADER}\n0,civil/a:b,job,batch,1,1,1001,0,60", "more than a whole device"),
        (f"{HEADER}\n0,civil/a:b,job,batch,1,1,1000,0,60\n1,civil/a:b,job,batch,1,1,1000,0,60", "on an earlier line"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(TraceFault, match=said) as fault:
        parse(text, "week.csv")
    assert "week.csv:" in str(fault.value)


def put(at_ms: int, name: str, **changes: object) -> dict[str, object]:
    claim = parse(f"{HEADER}\n0,{name},serving,standard,2,1,500,20000,60")[0].claim
    return {
        "at_ms": at_ms,
        "kind": "claim.put",
        "subject": name,
        "body": {"claim": to_plain(replace(claim, **changes))},
    }


def test_what_the_audit_log_tells_of_becomes_a_trace_that_can_be_lived_through() -> None:
    records = [
        {"at_ms": 500, "kind": "policy.put", "subject": "p", "body": {}},
        put(1_000, "civil/justice:a"),
        put(61_000, "defence/cyber:b"),
        put(121_000, "civil/justice:a", desired_replicas=1),
        {"at_ms": 181_000, "kind": "claim.deleted", "subject": "defence/cyber:b", "body": {}},
        put(200_000, "civil/health:c", suspended=True),
        {"at_ms": 241_000, "kind": "mode.ended", "subject": "crisis", "body": {}},
    ]
    text = written(recorded(records))
    assert text.splitlines()[1:] == [
        "0,civil/justice:a,serving,standard,2,1,500,20000,120",
        "60,defence/cyber:b,serving,standard,2,1,500,20000,120",
        "120,civil/justice:a@2,serving,standard,1,1,500,20000,120",
    ]
    again = parse(text)
    world = World()
    world.add_node("n1", 4)
    assert Course(shipped(), again, world).run().virtual_s >= 240


def test_a_log_without_claims_is_an_empty_trace() -> None:
    assert written(recorded([])).splitlines() == [HEADER]
