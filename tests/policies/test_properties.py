"""What an auditor may rely on, one sentence per test."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.admission import asks
from policies.admission import fleet as fleet_of
from policies.board import Need
from policies.decide import decide
from policies.displacing import Weak, find_by_displacing
from policies.invariants import check_decision
from policies.model.codec import to_json
from policies.model.decision import EvictionReason, PendingReason
from policies.model.inventory import DeviceHealth, UsageState
from policies.model.memory import ClaimMemory, Hold, Memory
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind, Reservation, Shape
from policies.modes import effective, mode_in_force
from policies.planning import plan
from policies.quota import caps, demands, healthy_capacity, shares
from policies.setting import start
from policies.survey import survey
from tests.policies.situations import LONG_AGO_MS, NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, event, world
from tests.simulation.world import fleet

SEEDS = st.integers(0, 100_000)
FEW = settings(max_examples=15, deadline=None, derandomize=True)
FOUR = [device(f"G{index}") for index in range(4)]


def granted(decision, name: str) -> int:
    return next(reason.granted_replicas for reason in decision.reasons if reason.claim == name)


def code(decision, name: str):
    return next(reason.code for reason in decision.reasons if reason.claim == name)


def some_world(seed: int, steps: int = 12):
    dice = Dice(seed)
    made = world(dice)
    for number in range(steps):
        if dice.random() < 0.7:
            event(dice, made, number)
        made.step()
    return dice, made


@FEW
@given(SEEDS)
def test_p1_nothing_is_allocated_twice_or_beyond_what_is_healthy(seed):
    _, made = some_world(seed)
    seen, decision, _ = made.turn()
    assert check_decision(seen, decision, made.policy) == ()


def test_p2_a_floor_that_the_certificate_promises_is_back_within_its_deadline():
    made = fleet(rules(), 4, flavor="A")
    lent = claim("civil/x:bulk", most=4, priority_class="batch")
    made.claims[lent.id] = lent
    made.settle()
    assert len(made.held_by("civil")) == 4
    owner = claim("defence/x:triage")
    made.claims[owner.id] = owner
    begin = made.now_ms
    while made.running(owner.id) < 1:
        made.step()
        assert made.now_ms - begin <= 120_000


@FEW
@given(SEEDS)
def test_p4_and_p11_the_order_of_lists_has_no_effect_on_a_single_byte(seed):
    dice, made = some_world(seed)
    seen = made.observe()

    def mixed(rows):
        rows = list(rows)
        return tuple(rows.pop(dice.randint(0, len(rows) - 1)) for _ in range(len(rows)))

    names = ("flavors", "nodes", "devices", "workers", "groups", "claims", "demands", "gaps")
    shuffled = replace(seen, **{name: mixed(getattr(seen, name)) for name in names})
    rules_mixed = replace(made.policy, tenants=mixed(made.policy.tenants))
    one = decide(seen, made.policy, made.memory, made.now_ms)
    other = decide(shuffled, rules_mixed, made.memory, made.now_ms)
    assert to_json(replace(one, policy_digest="")) == to_json(replace(other, policy_digest=""))
    assert plan(seen, one, made.policy, 1).actions == plan(shuffled, other, rules_mixed, 1).actions


@FEW
@given(SEEDS)
def test_p5_and_p6_left_alone_the_platform_comes_to_rest_and_nobody_evicts_its_evictor(seed):
    _, made = some_world(seed, 25)
    made.gaps, made.adopting = [], ()
    made.policy = replace(made.policy, declaration=None)
    evicted: set[tuple[str, str]] = set()
    quiet = 0
    for _ in range(300):
        _, decision, done = made.step()
        for one in decision.evictions:
            if one.beneficiary and one.reason is not EvictionReason.CONSOLIDATE:
                assert (one.beneficiary, one.claim) not in evicted
                evicted.add((one.claim, one.beneficiary))
        quiet = 0 if done.actions or made.pending else quiet + 1
        if quiet > 20:
            return
    raise AssertionError(f"still moving: {made.history[-10:]}")


def test_p7_freed_capacity_goes_to_the_claim_that_it_was_freed_for():
    waiting, rival = claim("civil/x:first"), claim("civil/y:rival", submitted_at_ms=1)
    rival = replace(rival, priority_class="critical")
    seen = snapshot([device("G0")], [replace(waiting, submitted_at_ms=5), rival])
    held = Memory(holds=(Hold(device="G0", claim=waiting.id, expires_at_ms=NOW_MS + 1000),))
    assert granted(decide(seen, rules(civil=4000), held, NOW_MS), waiting.id) == 1


def test_p26_a_hold_that_expired_no_longer_keeps_anybody_out():
    rival = claim("civil/x:rival")
    seen = snapshot([device("G0")], [rival, claim("civil/x:first", submitted_at_ms=NOW_MS)])
    held = Memory(holds=(Hold(device="G0", claim="civil/x:first", expires_at_ms=NOW_MS),))
    assert granted(decide(seen, rules(civil=4000), held, NOW_MS), rival.id) == 1


@pytest.mark.parametrize("weight", [0, 1, 10**12])
def test_p10_and_p23_extreme_weights_decide_and_end(weight):
    policy = rules(civil=0, defence=0, floor=0)
    tenants = tuple(replace(one, fair_weight=weight) if one.id == "civil" else one for one in policy.tenants)
    wishes = [claim("civil/x:a", least=0, most=4), claim("defence/x:a", least=0, most=4)]
    decision = decide(snapshot(FOUR, wishes), replace(policy, tenants=tenants), Memory(), NOW_MS)
    assert granted(decision, "civil/x:a") + granted(decision, "defence/x:a") == 4
    assert weight != 0 or granted(decision, "civil/x:a") == 0


@FEW
@given(st.lists(st.tuples(st.sampled_from(("civil/x", "civil/y", "defence/x", "defence/y")), st.integers(1, 3)),
                min_size=1, max_size=6), st.integers(0, 6))  # fmt: skip
def test_p13_no_device_idles_while_a_claim_that_could_use_it_waits(asked, count):
    wishes = [claim(f"{tenant}:c{i}", least=0, most=most) for i, (tenant, most) in enumerate(asked)]
    decision = decide(snapshot([device(f"G{i}") for i in range(count)], wishes), rules(), Memory(), NOW_MS)
    total = sum(reason.granted_replicas for reason in decision.reasons)
    assert total == min(count, sum(most for _, most in asked))


@FEW
@given(st.integers(1, 6), st.integers(1, 4))
def test_p15_splitting_a_claim_into_many_brings_its_tenant_nothing(parts, count):
    whole = [claim("civil/x:one", least=0, most=parts), claim("civil/y:other", least=0, most=4)]
    split = [claim(f"civil/x:part{i}", least=0, most=1) for i in range(parts)] + whole[1:]
    devices = [device(f"G{i}") for i in range(count)]

    def held(wishes):
        decision = decide(snapshot(devices, wishes), rules(), Memory(), NOW_MS)
        return sum(reason.granted_replicas for reason in decision.reasons if reason.claim.startswith("civil/x"))

    assert held(split) <= held(whole) + 1


def test_p16_a_claim_that_is_given_to_another_domain_does_not_keep_its_place():
    mine = claim("civil/x:chat")
    runs = running(mine, ("G0",))
    moved = replace(mine, tenant="defence/x")
    decision = decide(snapshot([device("G0")], [moved], runs), rules(), Memory(), NOW_MS)
    assert all(binding.domain is SecurityDomain.DEFENCE for binding in decision.bindings if decision.placements)
    assert runs[1][0].id in {one.group for one in decision.evictions}


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


@FEW
@given(SEEDS)
def test_p19_deciding_changes_nothing_that_it_was_given(seed):
    _, made = some_world(seed, 6)
    seen = made.observe()
    before = to_json(seen), to_json(made.policy), to_json(made.memory)
    decide(seen, made.policy, made.memory, made.now_ms)
    assert before == (to_json(seen), to_json(made.policy), to_json(made.memory))


def test_p21_a_gang_gets_all_of_its_replicas_or_none():
    decision = decide(snapshot(FOUR, [claim("civil/x:gang", least=5, most=5)]), rules(civil=9000), Memory(), NOW_MS)
    assert decision.placements == ()
    decision = decide(snapshot(FOUR, [claim("civil/x:gang", least=4, most=5)]), rules(civil=9000), Memory(), NOW_MS)
    assert granted(decision, "civil/x:gang") == 4


def test_p22_a_search_that_was_cut_short_says_so_and_not_that_it_is_impossible():
    lent = claim("civil/x:bulk", most=4)
    seen = snapshot(FOUR, [lent, claim("defence/x:triage")], running(lent, *((one.id,) for one in FOUR)))
    decision = decide(seen, rules(floor=0, search_steps=0), Memory(), NOW_MS)
    assert code(decision, "defence/x:triage") is PendingReason.SEARCH_INCOMPLETE


def test_p24_a_lost_device_leaves_the_shares_at_once():
    wish = claim("civil/x:chat", least=0, most=4)
    sick = [*FOUR[:3], device("G3", health=DeviceHealth.QUARANTINED)]
    shares = decide(snapshot(sick, [wish]), rules(), Memory(), NOW_MS).entitlements
    assert sum(one.entitled_millis for one in shares if one.tenant == "civil") == 3000


def test_p25_a_group_that_takes_long_to_leave_is_counted_as_one_eviction():
    lent = claim("civil/x:bulk", most=4)
    seen = snapshot(FOUR, [lent, claim("defence/x:triage")], running(lent, *((one.id,) for one in FOUR)))
    first = decide(seen, rules(floor=0), Memory(), NOW_MS)
    again = decide(seen, rules(floor=0), first.memory, NOW_MS + 1000)
    assert len(first.memory.evictions_ms) == len(again.memory.evictions_ms) == 1


def test_p27_a_victim_is_found_although_a_protected_group_comes_first():
    fixed, lent = claim("civil/x:a-fixed", priority_class="pinned"), claim("civil/y:z-lent", most=1)
    seen = snapshot(FOUR[:2], [fixed, lent, claim("defence/x:triage")],
                    running(fixed, ("G0",)), running(lent, ("G1",)))  # fmt: skip
    decision = decide(seen, rules(civil=1000, defence=1000, floor=0), Memory(), NOW_MS)
    assert [one.claim for one in decision.evictions] == [lent.id]


@FEW
@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_p29_after_a_mode_has_expired_the_policy_is_the_baseline_byte_for_byte(begin, length, after):
    base = replace(rules(), overlays=(ModeOverlay(mode=OperatingMode.CRISIS, fair_weights=(("civil", 7),)),))
    declared = replace(base, declaration=ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=begin, expires_at_ms=begin + length, approvers=("ana", "ben"),
    ))  # fmt: skip
    assert to_json(effective(declared, begin + length + after)) == to_json(effective(base, 0)) == to_json(base)
    assert to_json(effective(declared, begin)) != to_json(base)


def test_p29_a_mode_that_one_person_approved_twice_has_no_effect():
    declared = replace(rules(), declaration=ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=10, approvers=("ana", "ana"),
    ))  # fmt: skip
    assert mode_in_force(declared, 5) is OperatingMode.NORMAL


def test_a_crisis_pauses_what_may_be_paused_but_leaves_the_civil_floor():
    bulk = claim("civil/x:bulk", least=0, most=4, priority_class="batch")
    policy = replace(
        rules(),
        overlays=(ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",), paused_tenants=("civil",)),),
        declaration=ModeDeclaration(mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS * 2,
                                    approvers=("ana", "ben")),
    )  # fmt: skip
    decision = decide(snapshot(FOUR, [bulk], running(bulk, *((one.id,) for one in FOUR))), policy, Memory(), NOW_MS)
    assert granted(decision, bulk.id) == 1
    assert {one.reason for one in decision.evictions} == {EvictionReason.MODE_CHANGE}


@FEW
@given(SEEDS, st.sampled_from((GapKind.CLUSTER, GapKind.NODE, GapKind.DEVICE, GapKind.GATEWAY)))
def test_p33_not_seeing_something_never_takes_a_place_that_would_otherwise_be_kept(seed, kind):
    dice, made = some_world(seed, 10)
    made.gaps, made.adopting = [], ()
    made.run(6)
    seen = made.observe()
    subjects = {GapKind.NODE: sorted(made.nodes), GapKind.DEVICE: sorted(made.devices)}.get(kind, ["civil", "defence"])
    gap = Gap(kind=kind, subject=dice.choice(subjects), cause="timeout", since_ms=made.now_ms)
    calm = {one.group for one in decide(seen, made.policy, made.memory, made.now_ms).evictions}
    blind = decide(replace(seen, gaps=(gap,)), made.policy, made.memory, made.now_ms).evictions
    concerned = {group.id for group in seen.groups if _is_hidden(seen, group, gap)}
    assert not (concerned & {one.group for one in blind if one.beneficiary}) - calm


def _is_hidden(seen, group, gap) -> bool:
    worker = next((one for one in seen.workers if one.id == group.worker), None)
    if worker is None:
        return False
    return gap.subject in (*group.devices, worker.node, str(worker.domain))


def test_p33_a_demand_that_is_too_old_keeps_what_runs():
    chat = claim("civil/x:chat", least=1, most=4)
    seen = snapshot(FOUR, [chat], running(chat, ("G0",), ("G1",), ("G2",)), demands=[(chat.id, 1)])
    late = NOW_MS + 60_000
    assert granted(decide(seen, rules(civil=4000), Memory(), late), chat.id) == 3


def test_a_group_is_not_evicted_before_it_ran_for_its_minimum_except_for_a_floor():
    young = claim("civil/x:bulk", least=0, most=4, priority_class="batch")
    runs = running(young, *((one.id,) for one in FOUR), since_ms=NOW_MS - 1000)
    seen = snapshot(FOUR, [young, claim("defence/x:triage")], runs)
    assert granted(decide(seen, rules(floor=0), Memory(), NOW_MS), "defence/x:triage") == 0
    assert granted(decide(seen, rules(floor=1000), Memory(), NOW_MS), "defence/x:triage") == 1


def test_no_more_groups_are_evicted_in_a_window_than_the_budget_allows():
    lent = claim("civil/x:bulk", least=0, most=4)
    owner = claim("defence/x:triage", least=0, most=2)
    seen = snapshot(FOUR, [lent, owner], running(lent, *((one.id,) for one in FOUR)))
    decision = decide(seen, rules(floor=0, evictions_per_window=1), Memory(), NOW_MS)
    assert len(decision.evictions) == 1
    assert code(decision, owner.id) is PendingReason.WAITING_FOR_VICTIMS


def test_the_cheapest_group_to_move_is_the_one_that_is_asked_to_leave():
    lent = claim("civil/x:bulk", least=0, most=4)
    workers, groups = running(lent, *((one.id,) for one in FOUR))
    groups = [replace(one, in_flight=0 if "G2" in one.devices else 9) for one in groups]
    seen = snapshot(FOUR, [lent, claim("defence/x:triage")], (workers, groups))
    decision = decide(seen, rules(floor=0), Memory(), NOW_MS)
    assert [one.devices for one in groups if one.id == decision.evictions[0].group] == [("G2",)]


def test_idle_capacity_is_lent_and_comes_back_when_work_arrives():
    mine = claim("defence/x:night", least=1)
    workers, groups = running(mine, ("G0",))
    idle = [replace(one, usage=UsageState.TRULY_IDLE, in_flight=0) for one in groups]
    other = claim("civil/x:chat")
    memory = Memory()
    seen = snapshot([device("G0")], [mine, other], (workers, idle), demands=[(mine.id, 1), (other.id, 1)])
    policy = rules(idle_after_ms=60_000, floor=0)
    assert granted(decide(seen, policy, memory, NOW_MS), other.id) == 0
    memory = decide(seen, policy, memory, NOW_MS).memory
    fresh = replace(seen, demands=tuple(replace(one, observed_at_ms=NOW_MS + 60_000) for one in seen.demands))
    lent = decide(fresh, policy, memory, NOW_MS + 60_000)
    assert granted(lent, other.id) == 1
    assert {one.reason for one in lent.evictions} == {EvictionReason.IDLE}
    busy = replace(fresh, demands=tuple(replace(one, in_flight=1) for one in fresh.demands))
    assert granted(decide(busy, policy, memory, NOW_MS + 60_000), mine.id) == 1


def test_scarcity_lowers_quality_before_it_refuses_service():
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
    first, second = claim("civil/x:one", ladder=ladder), claim("civil/x:two", ladder=ladder, submitted_at_ms=1)
    seen = snapshot([device("G0")], [first, second], running(first, ("G0",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert {reason.rung for reason in decision.reasons} == {1}
    assert all(reason.granted_replicas == 1 for reason in decision.reasons)


def test_quality_is_lowered_only_after_scarcity_has_lasted():
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
    first, second = claim("civil/x:one", ladder=ladder), claim("civil/x:two", ladder=ladder, submitted_at_ms=1)
    seen = snapshot([device("G0")], [first, second], running(first, ("G0",)))
    policy = rules(downgrade_hold_ms=5_000)
    at_once = decide(seen, policy, Memory(), NOW_MS)
    assert (granted(at_once, first.id), granted(at_once, second.id)) == (1, 0)
    assert {reason.rung for reason in at_once.reasons if reason.claim == first.id} == {0}
    early = decide(seen, policy, at_once.memory, NOW_MS + 4_999)
    assert granted(early, second.id) == 0
    later = decide(seen, policy, early.memory, NOW_MS + 5_000)
    assert {reason.rung for reason in later.reasons} == {1}


def test_a_claim_that_lost_its_place_waits_for_its_rung_before_it_takes_a_lower_one():
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
    one, other = claim("civil/x:one", ladder=ladder), claim("civil/y:half", millis=500)
    seen = snapshot([device("G0")], [one, other], running(other, ("G0",)))
    memory = Memory(claims=(ClaimMemory(claim=one.id, rung=0, waiting_since_ms=NOW_MS),))
    policy = rules(civil=4000, downgrade_hold_ms=5_000)
    assert granted(decide(seen, policy, memory, NOW_MS + 4_999), one.id) == 0
    assert granted(decide(seen, policy, memory, NOW_MS + 5_000), one.id) == 1


def test_a_better_rung_is_taken_only_after_room_has_lasted():
    made = fleet(rules(civil=4000, upgrade_hold_ms=5_000), 1, flavor="A")
    ladder = (Shape(flavors=("A",), variant="best"), Shape(flavors=("A",), gpu_millis=500, variant="small"))
    for name in ("civil/x:one", "civil/x:two"):
        made.claims[name] = claim(name, ladder=ladder)
    made.settle()
    assert {group.rung for group in made.groups.values()} == {1}
    del made.claims["civil/x:two"]
    made.run(4)
    assert {group.rung for group in made.groups.values() if group.claim == "civil/x:one"} == {1}
    made.run(20)
    assert {group.rung for group in made.groups.values()} == {0}
    assert made.running("civil/x:one") == 1


def test_a_reservation_is_ready_when_it_begins_and_gone_when_it_ends():
    policy = rules(civil=4000, defence=0, floor=0)
    kept = Reservation(id="exercise", tenant="defence/x", flavor="A", gpu_millis=2000,
                       starts_at_ms=NOW_MS + 10_000, ends_at_ms=NOW_MS + 100_000)  # fmt: skip
    wish = claim("civil/x:bulk", least=0, most=4)
    seen = snapshot(FOUR, [wish], reservations=(kept,))
    assert granted(decide(seen, policy, Memory(), NOW_MS), wish.id) == 2
    assert granted(decide(seen, policy, Memory(), NOW_MS + 100_000), wish.id) == 4


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


def test_a_job_whose_deadline_is_near_goes_before_its_equals():
    urgent = claim("civil/x:urgent", kind=ClaimKind.JOB, duration_s=100, deadline_ms=NOW_MS + 100_000,
                   submitted_at_ms=LONG_AGO_MS + 5)  # fmt: skip
    calm = claim("civil/x:calm", kind=ClaimKind.JOB, submitted_at_ms=LONG_AGO_MS)
    decision = decide(snapshot([device("G0")], [urgent, calm]), rules(), Memory(), NOW_MS)
    assert granted(decision, urgent.id) == 1


def test_yesterdays_heavy_borrower_waits_behind_the_light_one():
    from policies.model.memory import UsageRecord

    heavy, light = claim("civil/x:a"), claim("civil/y:b", submitted_at_ms=1)
    past = Memory(usage=(UsageRecord(tenant="civil/x", flavor="A", milli_seconds=10**9, at_ms=NOW_MS),))
    policy = rules(civil=0, defence=0, floor=0)
    seen = snapshot([device("G0")], [heavy, light])
    assert granted(decide(seen, policy, Memory(), NOW_MS), heavy.id) == 1
    assert granted(decide(seen, policy, past, NOW_MS), light.id) == 1


def test_a_claim_that_fails_to_start_waits_longer_each_time():
    made = fleet(rules(worker_start_ms=2_000), 1, flavor="A")
    one = claim("civil/x:broken")
    made.claims[one.id] = one
    made.settle()
    from policies.model.inventory import GroupState

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


@FEW
@given(SEEDS)
def test_p8_every_victim_is_needed_and_no_cheaper_set_of_victims_exists(seed):
    dice = Dice(seed)
    lent = [claim(f"civil/x:l{i}", millis=dice.choice((250, 500, 1000))) for i in range(6)]
    free = {f"G{i}": 1000 for i in range(3)}
    runs, costs = [], {}
    for one in lent:
        millis = one.ladder[0].gpu_millis
        place = next((name for name, left in free.items() if left >= millis), None)
        if place is not None:
            free[place] -= millis
            runs.append(running(one, (place,)))
            costs[one.id] = (place, millis, dice.randint(1, 9))
    need = dice.choice((250, 500, 1000))
    seen = snapshot([device(name) for name in free], lent, *_with_one_worker_each(runs))
    policy = rules(civil=0, defence=0, floor=0)
    work = start(*_arguments(seen, policy))
    wanted = Need(claim="civil/y:o", domain=SecurityDomain.CIVIL, rung=0, flavor="A", devices=1, gpu_millis=need,
                  memory_mib=0, charge=need)  # fmt: skip

    def price(seat):
        return costs[seat.claim][2]

    site = find_by_displacing(work.board, wanted, price, price, Weak(frozenset(("n0",))))
    assert site.cost == min(_cheapest(name, left, need, costs) for name, left in free.items())


def _with_one_worker_each(runs):
    known: set[str] = set()
    for workers, groups in runs:
        new = [worker for worker in workers if worker.id not in known]
        known.update(worker.id for worker in new)
        yield new, groups


def _arguments(seen, policy):
    looked = survey(seen, policy, Memory(), NOW_MS)
    wishes = asks(looked, fleet_of(looked, caps(looked)))
    capacity = healthy_capacity(looked)
    return looked, Memory(), wishes, shares(looked, demands(looked, wishes), capacity), capacity


def _cheapest(name: str, left: int, need: int, costs) -> int:
    """Every set of groups on the device, tried one after the other."""
    here = [(millis, price) for place, millis, price in costs.values() if place == name]
    return min(
        (sum(price for _, price in some) for size in range(len(here) + 1) for some in combinations(here, size)
         if left + sum(millis for millis, _ in some) >= need), default=10**12,
    )  # fmt: skip
