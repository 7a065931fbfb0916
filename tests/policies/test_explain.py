"""Every claim is told why it waits, what would admit it, and nothing about others that it may not know."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.certificate import certify
from policies.decide import decide
from policies.explaining.queueing import told
from policies.explaining.releasing import for_operator, for_tenant
from policies.model.codec import schema, to_json
from policies.model.decision import ClaimState, Decision, PendingReason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.tenancy import Quota
from policies.model.workload import ClaimKind
from tests.policies.looking import FEW
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, event, world

FOUR = [device(f"G{index}") for index in range(4)]


def tight(limit: int = 0) -> Policy:
    """Nobody may borrow more than this."""
    policy = rules()

    def cut(one):
        return replace(one, quotas=tuple(replace(quota, borrowing_limit_millis=limit) for quota in one.quotas))

    return replace(policy, tenants=tuple(cut(one) for one in policy.tenants))


@FEW
@given(st.integers(0, 100_000))
def test_every_claim_has_exactly_one_reason_and_every_wait_a_code(seed):
    dice = Dice(seed)
    made = world(dice)
    for number in range(10):
        event(dice, made, number)
        made.step()
    seen, decision, _ = made.turn()
    assert [reason.claim for reason in decision.reasons] == sorted(one.id for one in seen.claims)
    for reason in decision.reasons:
        assert reason.sentence
        assert reason.granted_replicas >= reason.wanted_replicas or reason.code is not None


def test_p32_what_a_tenant_is_told_does_not_change_with_what_others_ask_for():
    mine, theirs = claim("civil/x:mine", least=0, most=4), claim("defence/x:secret", least=2, most=2)
    more = claim("defence/y:more")
    alone = snapshot(FOUR, [mine, theirs], running(theirs, ("G0",), ("G1",)), running(mine, ("G2",), ("G3",)))
    crowd = replace(alone, claims=(*alone.claims, more))
    told = []
    for seen in (alone, crowd):
        decision = decide(seen, rules(), Memory(), NOW_MS)
        told.append(to_json(for_tenant(decision, mine.id, seen.claims)))
    assert told[0] == told[1]
    assert "secret" not in told[0]


def test_p32_blockers_of_other_tenants_are_shown_to_operators_only():
    mine, theirs = claim("civil/x:mine"), claim("defence/x:secret", least=0, most=4)
    policy = rules(civil=0, defence=4000, floor=0)
    seen = snapshot(FOUR, [mine, theirs], running(theirs, *((one.id,) for one in FOUR)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert for_operator(told(decision, seen.claims), mine.id).blockers == (theirs.id,)
    assert for_tenant(decision, mine.id, seen.claims).blockers == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suspended": True}, PendingReason.SUSPENDED),
        ({"priority_class": "unheard-of"}, PendingReason.MISCONFIGURED),
        ({"tenant": "civil/nobody"}, PendingReason.MISCONFIGURED),
        ({"min_replicas": 9, "desired_replicas": 9, "max_replicas": 9}, PendingReason.EXCEEDS_MAX_QUOTA),
        ({"ladder": (replace(claim("civil/x:a").ladder[0], flavors=("B",)),)}, PendingReason.NO_MATCHING_FLAVOR),
        ({"ladder": (replace(claim("civil/x:a").ladder[0], devices=4),)}, PendingReason.TOPOLOGY_UNSATISFIED),
    ],
)
def test_a_claim_that_cannot_run_is_told_the_first_reason_that_applies(change, said):
    devices = [device(f"G{index}", node=f"n{index}") for index in range(4)]
    one = replace(claim("civil/x:a"), **change)
    decision = decide(snapshot(devices, [one]), rules(), Memory(), NOW_MS)
    assert for_operator(decision, one.id).code is said


def codes(decision: Decision) -> dict[str, PendingReason | None]:
    return {reason.claim: reason.code for reason in decision.reasons}


def test_who_lacks_its_own_quota_because_devices_were_lost_is_told_so():
    sick = [device("G0"), *(device(f"G{i}", health=DeviceHealth.QUARANTINED) for i in range(1, 4))]
    first, second = claim("civil/x:a"), claim("defence/x:a", submitted_at_ms=1)
    decision = decide(snapshot(sick, [first, second], running(first, ("G0",))), rules(), Memory(), NOW_MS)
    assert codes(decision) == {first.id: None, second.id: PendingReason.CAPACITY_LOST}
    assert "lost" in for_tenant(decision, second.id, [first, second]).sentence
    well = [device(one.id) for one in sick]
    assert set(codes(decide(snapshot(well, [first, second]), rules(), Memory(), NOW_MS)).values()) == {
        PendingReason.STARTING
    }


def test_who_lacks_its_own_quota_because_hosts_are_closed_is_told_so_and_not_that_its_quota_is_used_up():
    one = claim("civil/x:a")
    seen = snapshot([device("G0"), device("G1", node="n1")], [one])
    closed = replace(seen, nodes=tuple(replace(node, schedulable=False) for node in seen.nodes))
    decision = decide(closed, rules(), Memory(), NOW_MS)
    assert codes(decision) == {one.id: PendingReason.CAPACITY_LOST}
    assert "hosts are closed" in for_tenant(decision, one.id, [one]).sentence


def test_who_did_not_say_since_when_it_waits_has_not_waited_since_1970():
    some = [claim("civil/x:a"), claim("civil/x:b", submitted_at_ms=NOW_MS - 5_000)]
    decision = told(decide(snapshot([], some), rules(), Memory(), NOW_MS), some)
    assert [dict(one.score_terms)["waited_s"] for one in decision.reasons] == [0, 5]


def test_who_wants_more_than_its_quota_waits_for_quota_even_while_devices_are_lost():
    sick = [*FOUR[:3], device("G3", health=DeviceHealth.QUARANTINED)]
    wish = claim("civil/x:a", least=0, most=4)
    decision = decide(snapshot(sick, [wish]), tight(), Memory(), NOW_MS)
    assert codes(decision) == {wish.id: PendingReason.WAITING_FOR_QUOTA}


def test_who_could_use_a_device_that_was_not_seen_is_told_that_it_was_not_seen():
    first, second = claim("civil/x:a"), claim("defence/x:a", submitted_at_ms=1)
    gap = Gap(kind=GapKind.DEVICE, subject="G1", cause="timeout", since_ms=NOW_MS)
    seen = snapshot(FOUR[:2], [first, second], running(first, ("G0",)), gaps=(gap,))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert codes(decision) == {first.id: None, second.id: PendingReason.TELEMETRY_STALE}
    assert for_operator(decision, second.id).state is ClaimState.WAITING


def test_the_certificate_proves_floors_that_can_be_kept():
    assert all(proof.is_recoverable for proof in certify(snapshot(FOUR, []), rules(), NOW_MS))


@pytest.mark.parametrize(
    ("devices", "policy", "word"),
    [
        (FOUR[:1], rules(), "whole GPUs"),
        ([], rules(), "no healthy device"),
        ([device("a", gpu="g"), device("b", gpu="g")], rules(), "whole GPUs"),
        (FOUR, rules(drain_deadline_ms=119_000), "ms"),
    ],
)
def test_the_certificate_names_the_floor_that_cannot_be_kept_and_why(devices, policy, word):
    faulty = [proof for proof in certify(snapshot(devices, []), policy, NOW_MS) if not proof.is_recoverable]
    assert faulty
    assert word in faulty[0].sentence


@pytest.mark.parametrize("noun", [Policy, Snapshot, Decision])
def test_every_field_of_the_published_schemas_is_described(noun):
    found = schema(noun)
    for one in (found, *found.get("$defs", {}).values()):
        for name, field in one.get("properties", {}).items():
            assert field.get("description") or "const" in field, name
            assert "None" not in field.get("description", ""), name
            assert "1970" in field["description"] or not name.endswith("_at_ms"), name


def test_a_quota_of_zero_one_left_out_and_an_unlimited_one_are_three_things():
    zero, left_out = Quota(flavor="A", nominal_millis=0, borrowing_limit_millis=0), Quota(flavor="A", nominal_millis=0)
    wish = claim("civil/x:a")
    policy = rules(civil=0, floor=0)
    for quota, count in ((zero, 0), (left_out, 1)):
        tenants = tuple(replace(one, quotas=(quota,)) if one.id == "civil/x" else one for one in policy.tenants)
        decision = decide(snapshot(FOUR, [wish]), replace(policy, tenants=tenants), Memory(), NOW_MS)
        assert for_operator(decision, wish.id).granted_replicas == count


def test_who_waits_for_others_to_leave_for_a_scrub_or_for_a_start_is_told_until_when():
    policy = rules(floor=0, drain_deadline_ms=30_000, scrub_time_ms=2_000, worker_start_ms=10_000)
    lent, owner = claim("civil/x:bulk"), claim("defence/x:triage")
    etas = {}
    for name, devices, claims, runs in (
        ("victims", FOUR[:1], (lent, owner), [running(lent, ("G0",))]),
        ("scrub", [device("G0", domain="civil", scrub=ScrubState.DIRTY)], (owner,), []),
        ("start", FOUR[:1], (owner,), []),
    ):
        decision = decide(snapshot(devices, claims, *runs), replace_quota(policy), Memory(), NOW_MS)
        etas[name] = for_operator(decision, owner.id).eta_ms - NOW_MS
    assert etas == {"victims": 42_000, "scrub": 12_000, "start": 10_000}


def replace_quota(policy: Policy) -> Policy:
    """Civil owns nothing, so that what it runs is lent."""
    return replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=0),), floor_millis=()) if one.domain == "civil" else one
        for one in policy.tenants
    ))  # fmt: skip


def test_who_waits_for_quota_is_told_when_the_first_job_of_its_own_tenant_ends_and_it_has_started():
    job = claim("civil/x:job", kind=ClaimKind.JOB, duration_s=100)
    wish = claim("civil/x:late", submitted_at_ms=1)
    seen = snapshot(FOUR, [job, wish], running(job, ("G0",), since_ms=NOW_MS - 40_000))
    assert for_operator(decide(seen, tight(), Memory(), NOW_MS), wish.id).eta_ms == NOW_MS + 60_000 + 10_000


def test_who_is_suspended_is_said_to_be_held_and_not_to_wait():
    decision = decide(snapshot(FOUR, [claim("civil/x:new", suspended=True)]), rules(), Memory(), NOW_MS)
    assert for_operator(decision, "civil/x:new").state is ClaimState.HELD
