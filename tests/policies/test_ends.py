"""A claim whose owner announced an end: until then it is as any other, from then on it asks for nothing and leaves."""

from __future__ import annotations

from dataclasses import replace

from policies.decide import Decider, decide
from policies.explaining.releasing import for_tenant
from policies.invariants import check_decision
from policies.model.codec import digest
from policies.model.decision import ClaimState, Eviction, EvictionReason, PendingReason
from policies.model.memory import ClaimMemory, Memory
from policies.model.workload import ClaimKind, Reservation
from tests.policies.looking import FOUR, code, granted
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot

ENDS_MS = NOW_MS + 60_000
GUEST = claim("civil/x:guest", most=4, expires_at_ms=ENDS_MS)
NEXT = claim("civil/y:next", submitted_at_ms=5)
RULES = rules(civil=4000, defence=0, floor=0)
SEEN = snapshot(FOUR, [GUEST, NEXT], running(GUEST, *((one.id,) for one in FOUR)))


def test_what_runs_of_a_claim_leaves_as_expired_when_its_end_has_come_and_not_before():
    before, after = (decide(SEEN, RULES, Memory(), at) for at in (ENDS_MS - 1, ENDS_MS))
    assert EvictionReason.EXPIRED not in {one.reason for one in before.evictions}
    assert [one.reason for one in after.evictions] == [EvictionReason.EXPIRED] * 4
    assert granted(after, NEXT.id) == 1


def test_a_claim_that_is_over_is_held_says_so_to_its_tenant_and_asks_for_nothing():
    decision = decide(SEEN, RULES, Memory(), ENDS_MS)
    said = for_tenant(decision, GUEST.id, SEEN.claims)
    assert (said.state, said.code, said.wanted_replicas) == (ClaimState.HELD, PendingReason.DEACTIVATED, 0)
    assert "the end that its owner announced has passed" in said.sentence
    assert next(one.demand_millis for one in decision.entitlements if one.tenant == "civil/x") == 0


def test_a_later_end_brings_the_claim_back():
    longer = replace(SEEN, claims=(replace(GUEST, expires_at_ms=ENDS_MS + 1), NEXT))
    over = decide(SEEN, RULES, Memory(), ENDS_MS)
    assert granted(decide(longer, RULES, over.memory, ENDS_MS), GUEST.id) >= 3


def test_deciding_again_over_the_end_of_a_claim_gives_the_bytes_of_deciding_from_nothing():
    decider, memory = Decider(), Memory()
    for at in (NOW_MS, ENDS_MS - 1, ENDS_MS, ENDS_MS + 1000):
        decided = decider.decide(SEEN, RULES, memory, at)
        assert digest(decided) == digest(decide(SEEN, RULES, memory, at))
        memory = decided.memory
    assert decider.age > 0


def test_what_ends_before_a_reservation_begins_may_use_what_that_will_need():
    """All is reserved in an hour, and what once runs may run for two: what borrows starts only if it ends before."""
    hour = NOW_MS + 3_600_000
    reserved = Reservation(
        id="defence:exercise", tenant="defence", flavor="A", gpu_millis=4000, starts_at_ms=hour,
        ends_at_ms=hour + 3_600_000,
    )  # fmt: skip
    policy = rules(civil=2000, defence=2000, floor=0)
    lasting = claim("civil/x:lasting", priority_class="batch", submitted_at_ms=1)
    patient = replace(
        policy, priority_classes=tuple(replace(one, min_runtime_s=7200) for one in policy.priority_classes)
    )
    used = claim("civil/x:used", most=2)

    def served(one) -> int:
        seen = snapshot(FOUR, [used, one], running(used, ("G0",), ("G1",)), reservations=(reserved,))
        return granted(decide(seen, patient, Memory(), NOW_MS), one.id)

    assert served(lasting) == 0
    assert served(replace(lasting, expires_at_ms=hour - 600_000)) == 1
    assert served(replace(lasting, expires_at_ms=hour)) == 0


def test_a_service_with_an_announced_end_may_use_what_is_kept_for_a_large_claim_until_that_can_start():
    busy = [claim(f"civil/x:busy{i}", kind=ClaimKind.JOB, duration_s=600) for i in range(2)]
    large = claim("civil/x:large", devices=4, submitted_at_ms=1, kind=ClaimKind.JOB, duration_s=100)
    memory = Memory(claims=(ClaimMemory(claim=large.id, waiting_since_ms=NOW_MS - 600_000),))
    runs = [running(one, (f"G{i}",), since_ms=NOW_MS) for i, one in enumerate(busy)]

    def served(ends_ms: int | None) -> int:
        brief = claim("civil/x:brief", submitted_at_ms=5, expires_at_ms=ends_ms)
        seen = snapshot(FOUR, [*busy, large, brief], *runs)
        return granted(decide(seen, rules(civil=8000, defence=0, floor=0), memory, NOW_MS), brief.id)

    assert [served(NOW_MS + 500_000), served(NOW_MS + 600_000), served(None)] == [1, 0, 0]


def test_the_second_program_lets_nothing_run_on_after_its_end_and_nothing_leave_as_expired_before():
    over = decide(SEEN, RULES, Memory(), ENDS_MS)
    running_on = replace(decide(SEEN, RULES, Memory(), NOW_MS), decided_at_ms=ENDS_MS)
    assert not check_decision(SEEN, over, RULES)
    assert {one.rule for one in check_decision(SEEN, running_on, RULES)} == {"the_expired_leave"}
    early = Eviction(
        group=SEEN.groups[0].id, claim=GUEST.id, reason=EvictionReason.EXPIRED, beneficiary=None, cost=0
    )  # fmt: skip
    taken = replace(decide(SEEN, RULES, Memory(), NOW_MS), evictions=(early,))
    assert "only_the_expired_leave_as_expired" in {one.rule for one in check_decision(SEEN, taken, RULES)}


def test_what_is_over_stays_where_nobody_can_see():
    blind = replace(SEEN, adopting=("civil",))
    assert not decide(blind, RULES, Memory(), ENDS_MS).evictions
    assert code(decide(blind, RULES, Memory(), ENDS_MS), GUEST.id) is PendingReason.DEACTIVATED


def test_who_waits_behind_a_claim_with_an_end_expects_its_place_when_that_has_come():
    first, waits = claim("civil/x:first", expires_at_ms=ENDS_MS), claim("civil/x:waits", submitted_at_ms=1)
    seen = snapshot(FOUR[:1], [first, waits], running(first, ("G0",)))
    policy = rules(civil=1000, defence=0, floor=0, worker_start_ms=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert next(one.eta_ms for one in decision.reasons if one.claim == waits.id) == ENDS_MS
