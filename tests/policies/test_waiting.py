"""Reservations, deadlines, large claims and failed starts: who waits, and for how long at the most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.explaining.releasing import for_operator, for_tenant
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, GroupState
from policies.model.memory import ClaimMemory, Memory
from policies.model.tenancy import Quota
from policies.model.workload import ClaimKind, Reservation, Shape
from tests.policies.looking import FOUR, code, granted
from tests.policies.situations import CLASSES, LONG_AGO_MS, NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.world import fleet


def test_p17_a_large_claim_gets_its_host_although_small_ones_keep_arriving():
    made = fleet(rules(civil=8000, cooldown_ms=3_000), 4, flavor="A")
    small = [claim(f"civil/x:s{i}", kind=ClaimKind.JOB) for i in range(4)]
    made.claims = {one.id: one for one in small}
    made.settle()
    large = claim("civil/x:large", devices=4, submitted_at_ms=1)
    made.claims[large.id] = large
    for turn in range(120):
        if turn % 10 == 9 and turn < 40:
            del made.claims[f"civil/x:s{turn // 10}"]
        late = claim(f"civil/x:t{turn:03}", kind=ClaimKind.JOB, submitted_at_ms=2 + turn)
        made.claims[late.id] = late
        made.step()
        if made.running(large.id):
            return
    raise AssertionError("the large claim starved")


def test_a_reservation_is_ready_when_it_begins_and_gone_when_it_ends():
    policy = rules(civil=4000, defence=0, floor=0)
    kept = Reservation(id="exercise", tenant="defence/x", flavor="A", gpu_millis=2000,
                       starts_at_ms=NOW_MS + 10_000, ends_at_ms=NOW_MS + 100_000)  # fmt: skip
    wish = claim("civil/x:bulk", least=0, most=4)
    seen = snapshot(FOUR, [wish], reservations=(kept,))
    assert granted(decide(seen, policy, Memory(), NOW_MS), wish.id) == 2
    assert granted(decide(seen, policy, Memory(), NOW_MS + 100_000), wish.id) == 4


def kept_for(name: str):
    """One GPU of four is free and kept for a claim of this name that needs two of one host; another waits before it."""
    large = claim(name, devices=2, submitted_at_ms=1, priority_class="critical")
    small, busy = claim("civil/x:small", submitted_at_ms=2), claim("defence/x:busy", most=3, priority_class="pinned")
    devices = [device(f"G{index}", node=f"n{index // 2}") for index in range(4)]
    seen = snapshot(devices, [large, small, busy], running(busy, ("G0",), ("G2",), ("G3",)))
    memory = Memory(claims=(ClaimMemory(claim=large.id, waiting_since_ms=NOW_MS - 600_000),))
    decision = decide(seen, owning(large.tenant), memory, NOW_MS)
    assert {one.device for one in decision.memory.holds if one.claim == large.id} == {"G1"}
    return decision, seen.claims


def owning(tenant: str):
    """Of four GPUs one is guaranteed to civil/x, one to defence/x, and two more to the tenant."""
    policy, own = rules(civil=3000, defence=1000, floor=0), {"civil/x": 1000, "civil/y": 0}
    own |= {tenant: own[tenant] + 2000}
    return replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=own[one.id]),)) if one.id in own else one
        for one in policy.tenants
    ))  # fmt: skip


@pytest.mark.parametrize("name", ["civil/x:large", "civil/y:large"])
def test_operators_are_told_for_whom_free_gpus_are_kept_from_whoever_waits_before_them_and_for_how_long(name):
    decision, _ = kept_for(name)
    told = for_operator(decision, "civil/x:small")
    assert told.code is PendingReason.TOPOLOGY_UNSATISFIED
    assert f"free GPUs that would do are kept for {name}, ahead of it, until that has its place" in told.sentence
    assert told.sentence.endswith("and for at most 120 s if they were freed for it")


def test_a_tenant_is_told_for_which_of_its_own_claims_gpus_are_kept_and_for_how_long():
    decision, claims = kept_for("civil/x:large")
    told = for_tenant(decision, "civil/x:small", claims)
    assert told.code is PendingReason.WAITING_FOR_QUOTA
    assert told.sentence == (
        "0 of 1 replicas: nothing that its tenant may hold is free now: it is in use, or kept for a claim ahead of it; "
        "GPUs that would do are kept for civil/x:large, ahead of it, until that has its place, and for at most 120 s "
        "if they were freed for it"
    )


def test_of_what_is_kept_for_others_a_tenant_is_told_what_everybody_is_told_who_waits_for_quota():
    decision, claims = kept_for("civil/y:large")
    told = for_tenant(decision, "civil/x:small", claims)
    more = replace(claims[2], desired_replicas=4, max_replicas=4)
    full = snapshot(FOUR, [claims[1], more], running(more, *((one.id,) for one in FOUR)))
    nothing_kept = decide(full, rules(civil=0, defence=4000, floor=0), Memory(), NOW_MS)
    assert nothing_kept.memory.holds == ()
    waits = for_tenant(nothing_kept, "civil/x:small", full.claims)
    assert (told.code, told.sentence) == (waits.code, waits.sentence)
    assert told.sentence.endswith("it is in use, or kept for a claim ahead of it")
    assert "civil/y" not in str(told)


def test_backfill_never_delays_a_reservation():
    policy = rules(civil=4000, defence=0, floor=0)
    kept = Reservation(id="exercise", tenant="defence/x", flavor="A", gpu_millis=4000,
                       starts_at_ms=NOW_MS + 600_000, ends_at_ms=NOW_MS + 900_000)  # fmt: skip
    fixed = claim("civil/x:fixed", priority_class="pinned", kind=ClaimKind.JOB, duration_s=10_000)
    brief = claim("civil/y:brief", priority_class="pinned", kind=ClaimKind.JOB, duration_s=60)
    borrow = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=0),)) for one in policy.tenants
    ), priority_classes=(*policy.priority_classes[:3], replace(policy.priority_classes[3], preemptible=True,
                                                               min_runtime_s=10_000)))  # fmt: skip
    decision = decide(snapshot(FOUR, [fixed, brief], reservations=(kept,)), borrow, Memory(), NOW_MS)
    assert code(decision, fixed.id) is PendingReason.RESERVATION_AHEAD
    assert granted(decision, brief.id) == 1


def test_a_job_whose_deadline_is_near_goes_before_its_equals():
    urgent = claim("civil/x:urgent", kind=ClaimKind.JOB, duration_s=100, deadline_ms=NOW_MS + 100_000,
                   submitted_at_ms=LONG_AGO_MS + 5)  # fmt: skip
    calm = claim("civil/x:calm", kind=ClaimKind.JOB, submitted_at_ms=LONG_AGO_MS)
    decision = decide(snapshot([device("G0")], [urgent, calm]), rules(), Memory(), NOW_MS)
    assert granted(decision, urgent.id) == 1


def test_a_claim_that_fails_to_start_waits_longer_each_time():
    made = fleet(rules(worker_start_ms=2_000), 1, flavor="A")
    one = claim("civil/x:broken")
    made.claims[one.id] = one
    made.settle()

    def fail():
        name = next(iter(made.groups))
        made.groups[name] = replace(made.groups[name], state=GroupState.FAILED, running=0, routed=False,
                                    since_ms=made.now_ms)  # fmt: skip
        begin = made.now_ms
        for _ in range(40):
            made.step()
            if any(group.state is not GroupState.FAILED for group in made.groups.values()):
                return made.now_ms - begin
        raise AssertionError("never started again")

    first, second = fail(), fail()
    assert second > first


def test_what_a_lost_gpu_stopped_is_no_failed_start_and_begins_elsewhere_at_once():
    made = fleet(rules(worker_start_ms=2_000), 2, flavor="A")
    one = claim("civil/x:steady")
    made.claims[one.id] = one
    made.settle()
    (name,) = made.groups
    (lost,) = made.groups[name].devices
    made.devices[lost] = replace(made.devices[lost], health=DeviceHealth.QUARANTINED)
    made.groups[name] = replace(made.groups[name], state=GroupState.FAILED, running=0, since_ms=made.now_ms)
    _, decision, _ = made.step()
    assert (code(decision, one.id), granted(decision, one.id)) == (PendingReason.STARTING, 1)
    assert lost not in decision.reasons[0].sentence, "it did not fail to start there"


def queued(job) -> dict[str, int]:
    """Grants to a large claim that has waited long and to a late job, while two of four devices are busy for 10 min."""
    busy = [claim(f"civil/x:busy{i}", kind=ClaimKind.JOB, duration_s=600) for i in range(2)]
    large = claim("civil/x:large", devices=4, submitted_at_ms=1, kind=ClaimKind.JOB, duration_s=100)
    runs = [running(one, (f"G{i}",), since_ms=NOW_MS) for i, one in enumerate(busy)]
    memory = Memory(claims=(ClaimMemory(claim=large.id, waiting_since_ms=NOW_MS - 600_000),))
    seen = snapshot(FOUR, [*busy, large, job], *runs)
    policy = rules(civil=8000, defence=0, floor=0)
    decision = decide(seen, policy, memory, NOW_MS)
    return {reason.claim: reason.granted_replicas for reason in decision.reasons}


def late(**terms):
    return claim("civil/x:late", submitted_at_ms=5, **terms)


def test_a_short_job_may_use_what_is_kept_for_a_large_claim_if_it_ends_before_that_can_start():
    assert queued(late(kind=ClaimKind.JOB, duration_s=500))["civil/x:late"] == 1


@pytest.mark.parametrize(
    "job",
    [
        late(kind=ClaimKind.JOB, duration_s=600),
        late(kind=ClaimKind.JOB, duration_s=599),
        late(kind=ClaimKind.JOB),
        late(duration_s=10),
    ],
    ids=["ends later", "leaves later than it ends", "no end announced", "serves for ever"],
)
def test_backfill_never_delays_a_higher_claim_whose_start_follows_from_jobs_that_end(job):
    assert queued(job)["civil/x:late"] == 0


def test_nothing_is_lent_of_what_is_kept_while_nobody_knows_when_it_will_be_used():
    job = late(kind=ClaimKind.JOB, duration_s=1)
    busy = [claim(f"civil/x:busy{i}") for i in range(2)]
    large = claim("civil/x:large", devices=4, submitted_at_ms=1)
    memory = Memory(claims=(ClaimMemory(claim=large.id, waiting_since_ms=NOW_MS - 600_000),))
    runs = [running(one, (f"G{i}",)) for i, one in enumerate(busy)]
    seen = snapshot(FOUR, [*busy, large, job], *runs)
    decision = decide(seen, rules(civil=8000, defence=0, floor=0), memory, NOW_MS)
    assert {one.claim: one.granted_replicas for one in decision.reasons}[job.id] == 0


def test_a_gang_finds_room_on_a_worker_that_holds_more_devices_than_one_replica_needs():
    made = fleet(rules(civil=4000, defence=0, floor=0), 4, flavor="A")
    wide, gang = claim("civil/x:wide", devices=4), claim("civil/x:gang", devices=2, least=2)
    made.claims = {wide.id: wide}
    made.settle()
    made.claims = {gang.id: gang}
    made.settle()
    assert made.running(gang.id) == 2


def test_who_runs_on_a_better_rung_than_it_has_a_right_to_makes_room_on_a_lower_one():
    """One device, half of it promised to each tenant: neither waits because the other came first."""
    made = fleet(rules(civil=1000, defence=0, floor=0, cooldown_ms=1_000), 1, flavor="A")
    both = tuple(Shape(flavors=("A",), gpu_millis=millis, variant=f"v{millis}") for millis in (1000, 500))
    early, late = claim("civil/x:early", ladder=both), claim("civil/y:late", millis=500, submitted_at_ms=1)
    made.claims = {early.id: early}
    made.settle()
    made.claims[late.id] = late
    made.run(30)
    made.settle()
    assert (made.running(early.id), made.running(late.id)) == (1, 1)


@pytest.mark.parametrize(("spare_s", "urgency"), [(0, 100), (50, 75), (100, 50), (150, 25), (200, 0), (900, 0)])
def test_a_deadline_weighs_the_more_the_less_time_is_left_before_the_job_would_have_to_start(spare_s, urgency):
    """It begins to weigh when twice the job's length is left beyond the job itself, and weighs fully when none is."""
    due = NOW_MS + (100 + spare_s) * 1000
    job = claim("civil/x:job", devices=2, kind=ClaimKind.JOB, duration_s=100, deadline_ms=due)
    decision = decide(snapshot([device("G0")], [job]), rules(), Memory(), NOW_MS)
    assert dict(decision.reasons[0].score_terms)["deadline"] == urgency


def test_only_a_job_ends_and_may_use_what_is_reserved_for_later():
    policy = rules(civil=0, defence=0, floor=0)
    kept = Reservation(id="exercise", tenant="defence/x", flavor="A", gpu_millis=4000,
                       starts_at_ms=NOW_MS + 600_000, ends_at_ms=NOW_MS + 900_000)  # fmt: skip
    long = replace(policy, priority_classes=tuple(replace(one, min_runtime_s=10_000) for one in CLASSES))
    for kind, served in ((ClaimKind.JOB, 1), (ClaimKind.SERVING, 0)):
        brief = claim("civil/x:brief", kind=kind, duration_s=60)
        decision = decide(snapshot(FOUR, [brief], reservations=(kept,)), long, Memory(), NOW_MS)
        assert granted(decision, brief.id) == served


def test_a_waiting_job_is_told_when_it_will_have_started_after_the_first_of_its_teams_jobs():
    jobs = [claim(f"civil/x:job{i}", kind=ClaimKind.JOB, duration_s=600 * (i + 1)) for i in range(2)]
    runs = [running(one, (f"G{i}",), since_ms=NOW_MS) for i, one in enumerate(jobs)]
    late = claim("civil/x:late", kind=ClaimKind.JOB, submitted_at_ms=9)
    decision = decide(snapshot(FOUR[:2], [*jobs, late], *runs), rules(civil=2000, defence=0), Memory(), NOW_MS)
    assert next(one.eta_ms for one in decision.reasons if one.claim == late.id) == NOW_MS + 600_000 + 10_000


def test_who_works_is_served_before_who_was_found_idle():
    idle, works = claim("civil/x:idle"), claim("civil/x:works", submitted_at_ms=5)
    memory = Memory(claims=(ClaimMemory(claim=idle.id, idle_since_ms=LONG_AGO_MS),))
    decision = decide(snapshot([device("G0")], [idle, works]), rules(), memory, NOW_MS)
    assert (granted(decision, idle.id), granted(decision, works.id)) == (0, 1)
