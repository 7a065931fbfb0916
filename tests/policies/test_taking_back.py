"""Who must leave, for whom, at what cost, and how often."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.decide import decide
from policies.evidence.survey import survey
from policies.granting.displacing import Weak, find_by_displacing
from policies.invariants import check_decision
from policies.model.decision import Eviction, EvictionReason, PendingReason
from policies.model.memory import ClaimMemory, Hold, Memory
from policies.model.tenancy import Quota
from policies.model.workload import ClaimKind, Shape
from policies.shares.quota import starts_ms
from policies.wishes.ends import has_expired
from tests.policies.looking import FEW, FOUR, SEEDS, code, granted, looked_at, some_world, wanting
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together
from tests.simulation.generate import Dice
from tests.simulation.world import fleet


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


def in_force(seen, policy) -> frozenset[str]:
    """Return the reservations for which capacity is kept now, and the claims that are over: each gives rights anew."""
    looked = survey(seen, policy, Memory(), seen.observed_at_ms)
    return frozenset(
        one.id for one in seen.reservations if starts_ms(looked, one.starts_at_ms) <= looked.now_ms < one.ends_at_ms
    ) | {one.id for one in seen.claims if has_expired(one, looked.now_ms)}


@FEW
@given(SEEDS)
@example(1151)  # a reservation comes due, and whose it is takes back what it had given
@example(2846)  # a floor is owed on one flavor, and the place on the other is covered by what its tenant runs there
def test_p5_and_p6_left_alone_the_platform_comes_to_rest_and_nobody_evicts_its_evictor(seed):
    _, made = some_world(seed, 25)
    made.gaps, made.adopting = [], ()
    made.policy = replace(made.policy, declaration=None)
    evicted: set[tuple[frozenset[str], str, str]] = set()
    quiet = 0
    for _ in range(300):
        seen, decision, done = made.step()
        kept = in_force(seen, made.policy)
        for one in decision.evictions:
            if one.beneficiary and one.reason is not EvictionReason.CONSOLIDATE:
                assert (kept, one.beneficiary, one.claim) not in evicted
                evicted.add((kept, one.claim, one.beneficiary))
        quiet = 0 if done.actions or made.pending else quiet + 1
        if quiet > 20:
            return
    raise AssertionError(f"still moving: {made.history[-10:]}")


@pytest.mark.parametrize(("quota", "left"), [(1000, 0), (2000, 1)])
def test_p6_for_a_floor_on_one_flavor_nobody_leaves_another_on_which_its_tenant_has_all_that_it_is_owed(quota, left):
    """Who is owed a floor of A and runs its quota of B takes more of B only where that quota covers both."""
    chat, next_one = (claim(f"civil/x:{name}", ladder=(Shape(flavors=()),)) for name in ("chat", "next"))
    next_one = replace(next_one, ladder=(*next_one.ladder, Shape(flavors=("A",), gpu_millis=250)))
    lent = claim("civil/y:bulk", ladder=(Shape(flavors=("B",)),), priority_class="batch")
    quotas = (Quota(flavor="A", nominal_millis=500), Quota(flavor="B", nominal_millis=quota))
    policy = rules(civil=4000, defence=0, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=quotas, floor_millis=(("A", 500),)) if one.id == "civil/x"
        else replace(one, quotas=quotas if one.id == "civil" else ()) if one.domain == "civil" else one
        for one in policy.tenants
    ))  # fmt: skip
    small, *on_b = device("G0", "n1"), *(replace(device(name), flavor="B") for name in ("H0", "H1"))
    pinned = claim("civil/y:pinned", priority_class="pinned")
    runs = running(chat, ("H0",)), running(lent, ("H1",)), running(pinned, ("G0",))
    seen = snapshot([small, *on_b], [chat, next_one, lent, pinned], *runs)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert [one.claim for one in decision.evictions] == [lent.id] * left


def test_p7_freed_capacity_goes_to_the_claim_that_it_was_freed_for():
    waiting, rival = claim("civil/x:first"), claim("civil/y:rival", submitted_at_ms=1)
    rival = replace(rival, priority_class="critical")
    seen = snapshot([device("G0")], [replace(waiting, submitted_at_ms=5), rival])
    held = Memory(holds=(Hold(device="G0", claim=waiting.id, expires_at_ms=NOW_MS + 1000),))
    assert granted(decide(seen, rules(civil=4000), held, NOW_MS), waiting.id) == 1


def test_p7_two_claims_that_are_to_share_a_freed_device_both_have_it_kept_until_they_start():
    halves = [claim("civil/x:first", millis=500), claim("civil/x:second", millis=500)]
    seen = snapshot([device("G0")], halves)
    begun = decide(seen, rules(floor=0), Memory(), NOW_MS)
    again = decide(seen, rules(floor=0), begun.memory, NOW_MS + 1000)
    assert [granted(again, one.id) for one in halves] == [1, 1]


@pytest.mark.parametrize("kept", ["G0", "G1"])
def test_of_places_that_cost_the_same_the_one_that_is_kept_for_who_waits_is_taken(kept):
    """One replica that has borrowed both devices leaves, whichever of them is taken."""
    lent, owner = claim("civil/x:bulk", devices=2), claim("defence/x:owner")
    seen = snapshot(FOUR[:2], [lent, owner], running(lent, ("G0", "G1")))
    held = Memory(holds=(Hold(device=kept, claim=owner.id, expires_at_ms=NOW_MS + 1_000),))
    decision = decide(seen, rules(civil=0, defence=2000), held, NOW_MS)
    assert [one.devices for one in decision.placements] == [(kept,)]


def test_p26_a_hold_that_expired_no_longer_keeps_anybody_out():
    rival = claim("civil/x:rival")
    seen = snapshot([device("G0")], [rival, claim("civil/x:first", submitted_at_ms=NOW_MS)])
    held = Memory(holds=(Hold(device="G0", claim="civil/x:first", expires_at_ms=NOW_MS),))
    assert granted(decide(seen, rules(civil=4000), held, NOW_MS), rival.id) == 1


def test_p22_a_search_that_was_cut_short_says_so_and_not_that_it_is_impossible():
    lent = claim("civil/x:bulk", most=4)
    seen = snapshot(FOUR, [lent, claim("defence/x:triage")], running(lent, *((one.id,) for one in FOUR)))
    decision = decide(seen, rules(floor=0, search_steps=0), Memory(), NOW_MS)
    assert code(decision, "defence/x:triage") is PendingReason.SEARCH_INCOMPLETE


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
    seen = snapshot([device(name) for name in free], lent, *together(runs))
    work = looked_at(seen, rules(civil=0, defence=0, floor=0))
    wanted = wanting(need)

    def price(seat):
        return costs[seat.claim][2]

    site = find_by_displacing(work.board, wanted, price, price, Weak(frozenset(("n0",))))
    assert site.cost == min(_cheapest(name, left, need, costs) for name, left in free.items())


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


def _cheapest(name: str, left: int, need: int, costs) -> int:
    """Every set of groups on the device, tried one after the other."""
    here = [(millis, price) for place, millis, price in costs.values() if place == name]
    return min(
        (sum(price for _, price in some) for size in range(len(here) + 1) for some in combinations(here, size)
         if left + sum(millis for millis, _ in some) >= need), default=10**12,
    )  # fmt: skip


@FEW
@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 3)), min_size=1, max_size=4), st.integers(1, 6))
def test_p3_whoever_takes_a_tenant_and_all_above_it_keep_their_floors_after_the_whole_plan(asked, wanted):
    """Floors of the domain and of each of its tenants, all of which hold what they were lent."""
    policy = rules(civil=2000, defence=4000, floor=2000)
    policy = replace(policy, tenants=tuple(
        replace(one, floor_millis=(("A", 1000),)) if one.parent == "civil" else one for one in policy.tenants
    ))  # fmt: skip
    claims = [claim(f"civil/{name}:c{i}", least=0, most=most) for i, (name, most) in enumerate(asked)]
    devices, runs, free = [device(f"G{i}") for i in range(6)], [], [f"G{i}" for i in range(6)]
    for one in claims:
        places, free = free[: one.max_replicas], free[one.max_replicas :]
        runs.append(running(one, *((place,) for place in places)))
    taker = claim("defence/x:taker", least=0, most=wanted, priority_class="critical")
    decision = decide(snapshot(devices, [*claims, taker], *runs), policy, Memory(), NOW_MS)
    held: dict[str, int] = {}
    before: dict[str, int] = {}
    for one, (_, groups) in zip(claims, runs, strict=True):
        for tenant in (one.tenant, "civil"):
            held[tenant] = held.get(tenant, 0) + 1000 * granted(decision, one.id)
            before[tenant] = before.get(tenant, 0) + 1000 * len(groups)
    assert all(held[tenant] >= min(floor, before[tenant]) for tenant, floor in (("civil", 2000),) if tenant in held)
    assert all(held[name] >= min(1000, before[name]) for name in held if name != "civil")


def test_p3_a_decision_that_puts_a_tenant_below_its_floor_is_refused_by_the_second_program():
    mine, taker = claim("civil/x:chat"), claim("defence/x:triage")
    seen = snapshot([device("G0"), device("G1")], [mine, taker], running(mine, ("G0",)))
    sound = decide(seen, rules(), Memory(), NOW_MS)
    assert check_decision(seen, sound, rules()) == ()
    group = seen.groups[0].id
    gone = Eviction(group=group, claim=mine.id, reason=EvictionReason.RECLAIM, beneficiary=taker.id, cost=1)
    broken = replace(
        sound, evictions=(gone,), placements=tuple(one for one in sound.placements if one.group != group),
        reasons=tuple(replace(one, granted_replicas=0) if one.claim == mine.id else one for one in sound.reasons),
        entitlements=tuple(
            replace(one, held_millis=0) if one.tenant.startswith("civil") else one for one in sound.entitlements
        ),
    )  # fmt: skip
    assert "no_victim_below_its_floor" in {one.rule for one in check_decision(seen, broken, rules())}


def test_the_last_eviction_that_the_budget_allows_takes_place_and_no_further_one():
    lent = claim("civil/x:bulk", least=0, most=4)
    owners = [claim(f"defence/{name}:triage") for name in ("x", "y")]
    seen = snapshot(FOUR, [lent, *owners], running(lent, *((one.id,) for one in FOUR)))
    decision = decide(seen, rules(floor=0, evictions_per_window=1), Memory(), NOW_MS)
    assert len(decision.evictions) == 1
    assert sorted(granted(decision, one.id) for one in owners) == [0, 1]


def test_of_two_jobs_the_one_that_saved_its_work_last_makes_room():
    jobs = [claim(f"civil/x:job{index}", kind=ClaimKind.JOB, least=1) for index in range(2)]
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(jobs)]
    saved = (NOW_MS - 600_000, NOW_MS - 60_000)
    runs = [
        (workers, [replace(groups[0], checkpoint_ms=at)]) for (workers, groups), at in zip(runs, saved, strict=True)
    ]
    seen = snapshot(FOUR[:2], [*jobs, claim("defence/x:triage")], *runs)
    decision = decide(seen, rules(civil=0, defence=2000, floor=0), Memory(), NOW_MS)
    assert [one.claim for one in decision.evictions] == [jobs[1].id]


@pytest.mark.parametrize(("waited_ms", "left"), [(29_999, 0), (30_000, 1)])
def test_a_class_that_waits_before_it_evicts_waits_as_long_as_the_policy_says(waited_ms, left):
    lent, owner = claim("civil/x:bulk"), claim("defence/x:batch", priority_class="batch")
    seen = snapshot(FOUR[:1], [lent, owner], running(lent, ("G0",)))
    memory = Memory(claims=(ClaimMemory(claim=owner.id, waiting_since_ms=NOW_MS - waited_ms),))
    decision = decide(seen, rules(civil=0, defence=1000, floor=0), memory, NOW_MS)
    assert len(decision.evictions) == left


def test_what_is_kept_for_a_claim_of_its_team_a_higher_class_may_take():
    ordinary, urgent = claim("civil/x:ordinary"), claim("civil/x:urgent", priority_class="critical")
    held = Memory(holds=(Hold(device="G0", claim=ordinary.id, expires_at_ms=NOW_MS + 1000),))
    decision = decide(snapshot(FOUR[:1], [ordinary, urgent]), rules(civil=1000, defence=0), held, NOW_MS)
    assert (granted(decision, urgent.id), granted(decision, ordinary.id)) == (1, 0)
