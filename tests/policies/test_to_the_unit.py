"""Limits of quota, reservations, holds and delays, each at the last unit that is allowed and at the one after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.invariants import check_decision
from policies.model.decision import PendingReason
from policies.model.inventory import Flavor
from policies.model.memory import ClaimMemory, Hold, Memory, UsageRecord
from policies.model.tenancy import Quota
from policies.model.units import UNLIMITED
from policies.model.workload import ClaimKind, Reservation
from policies.wishes.ends import boost, ends_by
from tests.policies.looking import FOUR, code, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_explain import tight

SIX = [device(f"G{index}") for index in range(6)]
MANY = claim("civil/x:many", least=0, most=6)


def quotas(policy, **of_tenant):
    """The policy with these quotas of A: millis, what is lent, and what may be borrowed."""
    known = {name.replace("_", "/"): one for name, one in of_tenant.items()}
    return replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(
            flavor="A", nominal_millis=known[one.id][0], lending_limit_millis=known[one.id][1],
            borrowing_limit_millis=known[one.id][2]),)) if one.id in known else one
        for one in policy.tenants
    ))  # fmt: skip


def served(seen, policy, name: str = MANY.id, memory=Memory(), now_ms: int = NOW_MS) -> int:  # noqa: B008  # frozen
    return granted(decide(seen, policy, memory, now_ms), name)


NONE = rules(civil=2000, defence=2000, floor=0)
ALL = UNLIMITED
HELD_BACK = {
    "all is lent": ({"defence": (4000, ALL, ALL)}, 6),
    "nothing is lent": ({"defence": (4000, 0, ALL)}, 2),
    "one device is lent": ({"defence": (4000, 1000, ALL)}, 3),
    "a part of a device is lent, which is no device": ({"defence": (4000, 1999, ALL)}, 3),
    "its own limit of borrowing": ({"civil": (2000, ALL, 1000)}, 3),
    "its own limit to the unit": ({"civil": (2000, ALL, 999)}, 2),
    "the limit of the tenant itself": ({"civil_x": (1000, ALL, 2000)}, 3),
    "both limits": ({"civil": (2000, ALL, 2000), "civil_x": (1000, ALL, 1000)}, 2),
    "a sibling lends nothing of its part": ({"civil_y": (1000, 0, ALL)}, 5),
    "the sibling and the other domain lend nothing": ({"civil_y": (1000, 0, ALL), "defence": (4000, 0, ALL)}, 1),
}


@pytest.mark.parametrize(("limits", "most"), HELD_BACK.values(), ids=HELD_BACK)
def test_what_may_be_borrowed_ends_at_the_unit_that_the_policy_says(limits, most):
    assert served(snapshot(SIX, [MANY]), quotas(NONE, **limits)) == most


def test_who_stays_inside_its_own_quota_may_use_what_others_keep_and_do_not_use_where_devices_were_lost():
    policy = quotas(NONE, defence=(2000, 0, ALL), civil_x=(2000, ALL, ALL), civil_y=(0, ALL, ALL))
    assert [served(snapshot(SIX[:count], [MANY]), policy) for count in (2, 3, 4, 5)] == [2, 2, 2, 3]


def test_what_others_keep_and_use_themselves_is_kept_once():
    theirs = claim("defence/x:theirs", least=0, most=2)
    policy = quotas(NONE, defence=(3000, 0, ALL))
    seen = snapshot(SIX, [MANY, theirs], running(theirs, ("G0",), ("G1",)))
    assert served(seen, policy) == 3


@pytest.mark.parametrize(("rank", "stays"), [("pinned", True), ("standard", False)])
def test_where_a_limit_is_lowered_what_may_not_be_ended_stays_on_its_rung_though_only_a_smaller_one_is_inside(
    rank, stays
):
    """It runs on four devices; its tenant may now hold one. No other move is held up by it."""
    ladder = (*claim(MANY.id, devices=4).ladder, *claim(MANY.id, millis=500).ladder)
    wide = claim("civil/x:wide", ladder=ladder, priority_class=rank)
    policy = quotas(NONE, civil=(1000, ALL, 0), civil_x=(1000, ALL, 0))
    seen = snapshot(FOUR, [wide], running(wide, tuple(one.id for one in FOUR)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert (not decision.evictions) is stays
    assert not check_decision(seen, decision, policy)


BEGINS_MS = NOW_MS + 10_000_000
PREPARED_MS = BEGINS_MS - 42_000
"""Draining, scrubbing and starting come before: 30 s, 2 s and 10 s."""


def ahead(millis: int, tenant: str = "defence", flavor: str = "A", name: str = "r") -> Reservation:
    return Reservation(id=name, tenant=tenant, flavor=flavor, gpu_millis=millis, starts_at_ms=BEGINS_MS,
                       ends_at_ms=BEGINS_MS + 1)  # fmt: skip


FIXED = claim("civil/x:fixed", priority_class="pinned", least=1, most=1)


def pinned_beside(*reservations, seconds: int | None = None, now_ms: int = NOW_MS, **terms):
    """Whether a job that nobody may end starts on one of two devices; it borrows."""
    job = replace(FIXED, priority_class="lasting", kind=ClaimKind.JOB, duration_s=seconds, **terms)
    policy = rules(civil=0, defence=0, floor=0)
    lasting = replace(policy.priority_classes[1], name="lasting", min_runtime_s=20_000)
    policy = replace(policy, priority_classes=(*policy.priority_classes, lasting))
    seen = snapshot(FOUR[:2], [job], reservations=reservations)
    seen = replace(seen, flavors=(*seen.flavors, Flavor(id="B", model="B", memory_mib=1)))
    return bool(served(seen, policy, job.id, now_ms=now_ms))


def test_a_reservation_ahead_keeps_out_who_could_not_be_gone_in_time_where_both_do_not_fit():
    assert pinned_beside(ahead(1000))
    assert not pinned_beside(ahead(1001))
    assert not pinned_beside(ahead(1000), ahead(1, name="s"))
    assert not pinned_beside(ahead(2000))


def test_what_is_reserved_for_its_own_tenant_or_above_or_of_another_flavor_keeps_nobody_out():
    assert pinned_beside(ahead(2000, "civil"))
    assert pinned_beside(ahead(2000, "civil/x"))
    assert not pinned_beside(ahead(2000, "civil/y"))
    assert pinned_beside(ahead(2000, flavor="B"))


def test_a_job_that_has_ended_when_the_reservation_is_prepared_may_run_before_it():
    lasts = (PREPARED_MS - NOW_MS) // 1000
    assert pinned_beside(ahead(2000), seconds=lasts)
    assert not pinned_beside(ahead(2000), seconds=lasts + 1)
    assert pinned_beside(ahead(2000), expires_at_ms=PREPARED_MS)
    assert not pinned_beside(ahead(2000), expires_at_ms=PREPARED_MS + 1)


def test_what_may_be_ended_when_the_reservation_is_prepared_may_run_before_it():
    """Its class is protected for 20,000 s: until then nobody may end it."""
    assert pinned_beside(ahead(2000), now_ms=PREPARED_MS - 20_000_000)
    assert not pinned_beside(ahead(2000), now_ms=PREPARED_MS - 20_000_000 + 1)


def test_from_the_moment_a_reservation_is_prepared_what_its_owner_uses_of_it_is_kept_once():
    """Its owner runs on one of two devices, and has that reserved; who borrows the other is not in its way."""
    theirs = claim("defence/x:theirs", priority_class="pinned")
    job = replace(FIXED, kind=ClaimKind.JOB)
    policy = quotas(rules(civil=1000, defence=1000, floor=0), defence_x=(1000, ALL, ALL), civil_x=(0, ALL, ALL))
    seen = snapshot(FOUR[:2], [job, theirs], running(theirs, ("G0",)), reservations=(ahead(1000),))
    job = replace(job, priority_class="lasting")
    lasting = replace(policy.priority_classes[1], name="lasting", min_runtime_s=20_000)
    policy = replace(policy, priority_classes=(*policy.priority_classes, lasting))
    seen = replace(seen, claims=(job, theirs))
    assert served(seen, policy, job.id, now_ms=PREPARED_MS) == 1


def test_who_is_kept_out_by_a_reservation_to_come_is_told_so():
    job = replace(FIXED, id="civil/x:lasting", priority_class="lasting")
    policy = rules(civil=0, defence=0, floor=0)
    lasting = replace(policy.priority_classes[1], name="lasting", min_runtime_s=20_000)
    policy = replace(policy, priority_classes=(*policy.priority_classes, lasting))
    decision = decide(snapshot(FOUR[:2], [job], reservations=(ahead(2000),)), policy, Memory(), NOW_MS)
    assert code(decision, job.id) is PendingReason.RESERVATION_AHEAD


LARGE = claim("civil/x:large", devices=2)
SMALL = claim("civil/y:small", submitted_at_ms=5, priority_class="batch")
OWNED = rules(civil=8000, defence=0, floor=0)
BY_X = quotas(OWNED, civil_x=(8000, ALL, ALL), civil_y=(0, ALL, ALL))
"""What others use they borrow from civil/x."""


def one_of_two(waited_ms: int, **rest):
    """One device of a host of two is free; a job without an end uses the other. Whether a small claim gets it."""
    busy = claim("civil/y:busy", kind=ClaimKind.JOB, priority_class="pinned")
    memory = Memory(claims=(ClaimMemory(claim=LARGE.id, waiting_since_ms=NOW_MS - waited_ms),))
    seen = snapshot(FOUR[:2], [busy, LARGE, SMALL], running(busy, ("G0",)))
    return served(seen, BY_X, SMALL.id, memory), decide(seen, BY_X, memory, NOW_MS).memory.holds


def test_a_device_is_kept_for_a_large_claim_once_it_has_waited_for_the_cool_down():
    assert one_of_two(29_999) == (1, (Hold(device="G1", claim=SMALL.id, expires_at_ms=NOW_MS + 120_000),))
    assert one_of_two(30_000) == (0, (Hold(device="G1", claim=LARGE.id, expires_at_ms=NOW_MS + 120_000),))


def test_devices_are_kept_on_the_host_that_misses_the_fewest_and_no_more_than_are_needed():
    """Of the host of four two are free, of the host of three one: three are needed."""
    devices = [device(f"A{index}", "n0") for index in range(3)] + [device(f"B{index}", "n1") for index in range(4)]
    busy = [claim(f"civil/y:busy{index}", kind=ClaimKind.JOB, priority_class="pinned") for index in range(4)]
    runs = [running(one, (place,)) for one, place in zip(busy, ("A0", "A1", "B0", "B1"), strict=True)]
    runs = [([replace(w, node="n1" if w.devices[0][0] == "B" else "n0") for w in workers], groups)
            for workers, groups in runs]  # fmt: skip
    memory = Memory(claims=(ClaimMemory(claim=LARGE.id, waiting_since_ms=1),))
    large = claim(LARGE.id, devices=3)
    decision = decide(snapshot(devices, [*busy, large], *runs), BY_X, memory, NOW_MS)
    assert {one.device for one in decision.memory.holds} == {"B2", "B3"}
    half = claim(LARGE.id, devices=2)
    decision = decide(snapshot(devices[:3], [*busy[:2], half], *runs[:2]), BY_X, memory, NOW_MS)
    assert {one.device for one in decision.memory.holds} == {"A2"}


def test_of_two_large_claims_the_one_that_came_first_has_devices_kept_for_it():
    busy = claim("civil/y:busy", kind=ClaimKind.JOB, priority_class="pinned")
    names = ("civil/x:a", "civil/x:b")
    memory = Memory(claims=tuple(ClaimMemory(claim=name, waiting_since_ms=1) for name in names))
    for first, late in (names, names[::-1]):
        both = [claim(first, devices=2, submitted_at_ms=1), claim(late, devices=2, submitted_at_ms=2)]
        decision = decide(snapshot(FOUR[:2], [busy, *both], running(busy, ("G0",))), BY_X, memory, NOW_MS)
        assert [one.claim for one in decision.memory.holds] == [first]


def test_a_large_claim_that_runs_has_nothing_kept_for_it():
    memory = Memory(claims=(ClaimMemory(claim=LARGE.id, rung=0, waiting_since_ms=1),))
    seen = snapshot(FOUR, [LARGE, SMALL], running(LARGE, ("G0", "G1")))
    assert served(seen, BY_X, SMALL.id, memory) == 1
    assert {one.claim for one in decide(seen, BY_X, memory, NOW_MS).memory.holds} == {SMALL.id}


def test_the_host_that_was_kept_before_is_kept_on():
    devices = [device(f"{host}{index}", node) for host, node in (("A", "n0"), ("B", "n1")) for index in range(2)]
    busy = [claim(f"civil/y:busy{index}", kind=ClaimKind.JOB, priority_class="pinned") for index in range(2)]
    runs = [running(one, (place,)) for one, place in zip(busy, ("A0", "B0"), strict=True)]
    runs[1] = ([replace(one, node="n1") for one in runs[1][0]], runs[1][1])
    for before, kept in ((None, "A1"), ("B1", "B1"), ("A1", "A1")):
        holds = () if before is None else (Hold(device=before, claim=LARGE.id, expires_at_ms=NOW_MS + 1),)
        memory = Memory(claims=(ClaimMemory(claim=LARGE.id, waiting_since_ms=1),), holds=holds)
        decision = decide(snapshot(devices, [*busy, LARGE], *runs), OWNED, memory, NOW_MS)
        assert [one.device for one in decision.memory.holds] == [kept]


def test_until_a_large_claim_can_start_brief_jobs_may_use_what_is_kept_for_it_to_the_second():
    """It starts in 600 s; a job's device is free again when it was drained, wiped twice and started on anew."""
    busy = [claim(f"civil/x:busy{i}", kind=ClaimKind.JOB, duration_s=seconds) for i, seconds in enumerate((600, 900))]
    runs = [running(one, (f"G{i}",), since_ms=NOW_MS) for i, one in enumerate(busy)]
    memory = Memory(claims=(ClaimMemory(claim=LARGE.id, waiting_since_ms=1),))
    large = claim(LARGE.id, devices=3, submitted_at_ms=1)
    for seconds, runs_now in ((556, 1), (557, 0)):
        brief = claim("civil/y:brief", kind=ClaimKind.JOB, duration_s=seconds, submitted_at_ms=5)
        assert served(snapshot(FOUR, [*busy, large, brief], *runs), OWNED, brief.id, memory) == 1
        later = snapshot(FOUR[:3], [*busy, large, brief], *runs)
        assert served(later, OWNED, brief.id, Memory(claims=memory.claims)) == (1 if seconds <= 856 else 0)
        wide = replace(large, ladder=claim(LARGE.id, devices=4).ladder)
        assert served(snapshot(FOUR, [*busy, wide, brief], *runs), OWNED, brief.id, memory) == 1
        four = [*busy, claim("civil/x:busy2", kind=ClaimKind.JOB, duration_s=600)]
        runs_of = [*runs, running(four[2], ("G2",), since_ms=NOW_MS)]
        two = replace(large, ladder=claim(LARGE.id, devices=2).ladder)
        assert served(snapshot(FOUR, [*four, two, brief], *runs_of), OWNED, brief.id, memory) == runs_now


@pytest.mark.parametrize(("left_ms", "kept"), [(1, 0), (0, 1)])
def test_what_was_freed_for_a_claim_is_kept_from_others_until_the_hold_expires(left_ms, kept):
    """It is a gang that must be on two hosts, of which there is one so far."""
    gang = claim("civil/x:gang", least=2, most=2, spread=True)
    other = claim("civil/y:other")
    hold = Memory(holds=tuple(
        Hold(device=name, claim=gang.id, expires_at_ms=NOW_MS + left_ms) for name in ("G0", "G1")
    ))  # fmt: skip
    assert served(snapshot(FOUR[:2], [gang, other]), BY_X, other.id, hold) == kept


def test_a_hold_for_a_claim_that_has_all_it_wants_or_is_gone_keeps_nobody_out():
    one, other = claim("civil/x:one", priority_class="critical"), claim("civil/y:other", submitted_at_ms=3)
    for holder in (one.id, "civil/x:gone"):
        hold = Memory(holds=(Hold(device="G1", claim=holder, expires_at_ms=NOW_MS + 1),))
        assert served(snapshot(FOUR[:2], [one, other], running(one, ("G0",))), OWNED, other.id, hold) == 1


JOB = claim("civil/x:job", kind=ClaimKind.JOB, duration_s=100)


@pytest.mark.parametrize(
    ("slack_s", "added"),
    [(-1000, 100), (-1, 100), (0, 100), (1, 100), (2, 99), (100, 50), (199, 1), (200, 0), (900, 0)],
)
def test_a_job_rises_as_its_deadline_comes_near_and_is_at_the_top_when_it_must_start(slack_s, added):
    """It takes 100 s; from twice that before the last moment on it rises by one for every two seconds."""
    late = replace(JOB, deadline_ms=NOW_MS + 100_000 + slack_s * 1000)
    assert boost(late, NOW_MS, ()) == added
    assert boost(late, NOW_MS, running(late, ("G0",))[1]) == 100
    for one in (replace(late, duration_s=None), replace(late, deadline_ms=None)):
        assert boost(one, NOW_MS, running(late, ("G0",))[1]) == 0


@pytest.mark.parametrize(
    ("terms", "end"),
    [({}, 100_000), ({"expires_at_ms": 99_999}, 99_999), ({"expires_at_ms": 100_001}, 100_000),
     ({"duration_s": None}, None), ({"kind": ClaimKind.SERVING}, None),
     ({"kind": ClaimKind.SERVING, "expires_at_ms": 7}, 7), ({"duration_s": None, "expires_at_ms": 7}, 7)],
)  # fmt: skip
def test_what_begins_has_ended_by_its_length_or_its_end_whichever_comes_first(terms, end):
    assert ends_by(replace(JOB, **terms), 0) == end


LENT, OWNER = claim("civil/x:lent", least=0, most=4), claim("defence/x:owner")


def told(memory, **bounds):
    seen = snapshot(FOUR, [LENT, OWNER], running(LENT, *((one.id,) for one in FOUR)))
    decision = decide(seen, rules(floor=0, **bounds), memory, NOW_MS)
    reason = next(one for one in decision.reasons if one.claim == OWNER.id)
    return reason.sentence, reason.eta_ms, reason.eta_assumption


def test_when_the_budget_is_used_up_the_first_eviction_that_leaves_the_window_is_waited_for():
    of_late = Memory(evictions_ms=(NOW_MS - 60_000, NOW_MS - 50_000, NOW_MS - 5_000))
    sentence, eta_ms, assumption = told(of_late, evictions_per_window=2)
    assert "others may not leave for it yet: 2 groups may make room for others in 60 s" in sentence
    assert (eta_ms, assumption) == (NOW_MS + 10_000, "the budget of evictions is free again")


def test_who_rests_is_told_until_when_and_a_moment_later_asks():
    for ago_ms in (1, 29_999):
        rests = Memory(claims=(ClaimMemory(claim=OWNER.id, waiting_since_ms=1, evicted_at_ms=NOW_MS - ago_ms),))
        sentence, eta_ms, _ = told(rests)
        assert "it made room for others itself lately: it asks nobody to leave within 30 s of that" in sentence
        assert eta_ms == NOW_MS - ago_ms + 30_000


def queue(*lengths: int | None, first: int = 100, since_ms: int = NOW_MS):
    running_job = claim("civil/x:a", kind=ClaimKind.JOB, duration_s=first)
    waiting = [claim(f"civil/x:b{index}", kind=ClaimKind.JOB, duration_s=seconds, submitted_at_ms=index)
               for index, seconds in enumerate(lengths, start=1)]  # fmt: skip
    seen = snapshot(FOUR, [running_job, *waiting], running(running_job, ("G0",), since_ms=since_ms))
    decision = decide(seen, tight(), Memory(), NOW_MS)
    etas = {one.claim: one.eta_ms for one in decision.reasons}
    return [None if etas[one.id] is None else (etas[one.id] - NOW_MS) // 1000 for one in waiting]


def test_each_in_a_queue_begins_when_those_before_it_have_ended_and_a_start_takes_its_time():
    assert queue(50, 50, 50) == [110, 170, 230]
    assert queue(50, since_ms=NOW_MS - 99_000) == [11]
    assert queue(50, since_ms=NOW_MS - 200_000) == [10], "what should have ended is expected to end now"
    assert queue(None, 50) == [110, None]
    assert queue(50, None, 50) == [110, 170, None]


def test_a_gang_begins_when_enough_has_ended_for_all_of_it():
    halves = [claim(f"civil/x:a{index}", kind=ClaimKind.JOB, duration_s=seconds, millis=500)
              for index, seconds in enumerate((50, 100))]  # fmt: skip
    gang = claim("civil/x:gang", kind=ClaimKind.JOB, least=2, most=2, millis=500, submitted_at_ms=1)
    runs = [running(one, (place,), since_ms=NOW_MS) for one, place in zip(halves, ("G0", "G1"), strict=True)]
    decision = decide(snapshot(FOUR, [*halves, gang], *runs), tight(), Memory(), NOW_MS)
    assert next(one.eta_ms for one in decision.reasons if one.claim == gang.id) == NOW_MS + 110_000


def test_of_what_siblings_can_use_only_together_the_one_goes_first_that_used_less_in_the_past():
    """Civil is guaranteed one device, of which each of its tenants has half; both want a whole one."""
    one, two = claim("civil/x:one", submitted_at_ms=1), claim("civil/y:two", submitted_at_ms=1)
    theirs = claim("defence/x:theirs")
    seen = snapshot(FOUR[:1], [one, two, theirs], running(theirs, ("G0",)))
    for heavy, light in (("civil/x", two), ("civil/y", one)):
        used = Memory(usage=(UsageRecord(tenant=heavy, flavor="A", milli_seconds=10**9, at_ms=NOW_MS),))
        decision = decide(seen, rules(civil=1000, defence=0, floor=0), used, NOW_MS)
        assert [eviction.beneficiary for eviction in decision.evictions] == [light.id]
    earlier = replace(seen, claims=(one, replace(two, priority_class="critical"), theirs))
    decision = decide(earlier, rules(civil=1000, defence=0, floor=0), used, NOW_MS)
    assert [eviction.beneficiary for eviction in decision.evictions] == [two.id], "a higher class goes before it"


@pytest.mark.parametrize(("limit", "served_by"), [(499, 0), (500, 1)])
def test_what_is_pooled_stays_inside_the_limit_of_borrowing_of_whoever_gets_it(limit, served_by):
    one, theirs = claim("civil/x:one"), claim("defence/x:theirs")
    waits = claim("civil/y:waits", millis=501)
    policy = quotas(rules(civil=1000, defence=0, floor=0), civil_x=(500, ALL, limit), civil_y=(500, ALL, 0))
    seen = snapshot(FOUR[:1], [one, waits, theirs], running(theirs, ("G0",)))
    assert served(seen, policy, one.id) == served_by
    assert served(seen, policy, waits.id) == 0


def test_a_hold_on_a_device_that_is_no_more_keeps_nothing_and_nobody_is_told_of_it():
    """One waits for room on two hosts, of which there is one; for another a device was freed that is gone since."""
    apart, other = claim("civil/x:apart", least=2, spread=True), claim("defence/y:other", least=3)
    memory = Memory(holds=(Hold(device="gone", claim=other.id, expires_at_ms=NOW_MS + 10_000),))
    policy = rules(civil=4000, defence=4000, floor=0)
    decision = decide(snapshot(FOUR, [apart, other]), policy, memory, NOW_MS)
    (told,) = [one for one in decision.reasons if one.claim == apart.id]
    assert told.granted_replicas == 0
    assert "kept for" not in told.sentence
    assert "gone" not in {one.device for one in decision.memory.holds}
