"""Quality goes down before service is refused, and up again once room has lasted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.invariants import check_decision
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, UsageState
from policies.model.memory import ClaimMemory, Memory
from policies.model.naming import group_id
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import FOUR, code, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together
from tests.simulation.world import fleet


def test_scarcity_lowers_quality_before_it_refuses_service():
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
    first, second = claim("civil/x:one", ladder=ladder), claim("civil/x:two", ladder=ladder, submitted_at_ms=1)
    seen = snapshot([device("G0")], [first, second], running(first, ("G0",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert {reason.rung for reason in decision.reasons} == {1}
    assert all(reason.granted_replicas == 1 for reason in decision.reasons)


@pytest.mark.parametrize("rank", ["standard", "pinned"])
def test_what_runs_on_a_rung_that_no_host_could_carry_anew_stays_where_it_is(rank):
    """A device of its host is suspect: nothing new starts there, what runs may stay on its rung."""
    ladder = (Shape(flavors=("A",), devices=2), Shape(flavors=("A",), gpu_millis=500))
    wide = claim("civil/x:wide", ladder=ladder, priority_class=rank)
    devices = [device("G0"), device("G1", health=DeviceHealth.SUSPECT)]
    seen = snapshot(devices, [wide], running(wide, ("G0", "G1")))
    decision = decide(seen, rules(civil=2000), Memory(), NOW_MS)
    assert not decision.evictions
    assert {(one.granted_replicas, one.rung) for one in decision.reasons} == {(1, 0)}


def test_who_changes_its_rung_where_it_stands_is_not_told_that_others_make_room():
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
    first, second = claim("civil/x:one", ladder=ladder), claim("civil/x:two", ladder=ladder, submitted_at_ms=1)
    seen = snapshot([device("G0")], [first, second], running(first, ("G0",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert (code(decision, first.id), code(decision, second.id)) == (
        PendingReason.STARTING, PendingReason.WAITING_FOR_VICTIMS,
    )  # fmt: skip


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


HALVES = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
QUARTERS = (Shape(flavors=("A",), gpu_millis=750), Shape(flavors=("A",), gpu_millis=500),
            Shape(flavors=("A",), gpu_millis=250))  # fmt: skip


def lowered(waiting, *served, devices=2, policy=None) -> list[str]:
    """The claims on a lower rung after one decision, while those that are served have a device each."""
    runs = [running(one, (f"G{number}",)) for number, one in enumerate(served)]
    seen = snapshot([device(f"G{number}") for number in range(devices)], [waiting, *served], *runs)
    decision = decide(seen, policy or rules(civil=4000), Memory(), NOW_MS)
    return sorted(one.claim for one in decision.reasons if one.rung)


def test_the_least_important_claim_is_lowered_first_then_the_first_by_name():
    wants = claim("civil/x:wants", ladder=HALVES[1:], submitted_at_ms=9)
    first, second = claim("civil/x:a", ladder=HALVES), claim("civil/x:b", ladder=HALVES)
    assert lowered(wants, first, second) == [first.id]
    assert lowered(wants, first, replace(second, priority_class="batch")) == [second.id]
    assert lowered(wants, replace(first, priority_class="critical"), second) == [second.id]
    assert lowered(wants, replace(first, priority_class="critical")) == [], "the other device is free"


def test_of_equals_the_one_that_takes_most_is_lowered():
    wants = claim("civil/x:wants", ladder=HALVES[1:], submitted_at_ms=9)
    small = claim("civil/x:a", ladder=(Shape(flavors=("A",), gpu_millis=600), *HALVES[1:]))
    assert lowered(wants, small, claim("civil/x:b", ladder=HALVES)) == ["civil/x:b"]


@pytest.mark.parametrize(
    ("waiting", "served", "is_lowered"),
    [
        ({}, {}, True),
        ({"priority_class": "batch"}, {}, False),
        ({"priority_class": "critical"}, {}, True),
        ({}, {"priority_class": "pinned"}, False),
        ({"least": 0, "most": 1}, {}, False),
        ({}, {"ladder": HALVES[:1]}, False),
    ],
)
def test_nobody_is_lowered_for_who_is_less_important_nor_who_may_not_be_nor_for_more_than_a_minimum(
    waiting, served, is_lowered
):
    wants = claim("civil/x:wants", **({"ladder": HALVES[1:], "submitted_at_ms": 9} | waiting))
    other = claim("civil/x:served", **({"ladder": HALVES} | served))
    if served.get("priority_class") == "pinned":
        wants = replace(wants, priority_class="critical")
    assert lowered(wants, other, devices=1) == ([other.id] if is_lowered else [])


def climbed(*claims, policy=None, memory=None, now_ms=NOW_MS):
    """The rung of each claim after a decision, while all run on their lowest on one device, a quarter each."""
    last = len(QUARTERS) - 1
    runs = []
    for one in claims:
        workers, groups = running(one, ("G0",))
        name = group_id(one.id, workers[0].id, last)
        runs.append((workers, [replace(groups[0], id=name, rung=last)]))
    known = memory or Memory(claims=tuple(ClaimMemory(claim=one.id, rung=last) for one in claims))
    decision = decide(
        snapshot([device("G0")], claims, *together(runs)), policy or rules(upgrade_hold_ms=0), known, now_ms
    )
    return {one.claim: one.rung for one in decision.reasons}, decision


def test_a_claim_climbs_to_the_best_rung_that_has_room():
    alone = claim("civil/x:a", ladder=QUARTERS)
    assert climbed(alone)[0] == {alone.id: 0}
    beside = claim("civil/x:b", millis=500)
    devices, last = [device("G0")], len(QUARTERS) - 1
    workers, groups = running(alone, ("G0",))
    low = replace(groups[0], id=group_id(alone.id, workers[0].id, last), rung=last)
    seen = snapshot(devices, [alone, beside], *together([(workers, [low]), running(beside, ("G0",))]))
    known = Memory(claims=(ClaimMemory(claim=alone.id, rung=last),))
    decision = decide(seen, rules(upgrade_hold_ms=0), known, NOW_MS)
    assert {one.claim: one.rung for one in decision.reasons} == {alone.id: 1, beside.id: 0}


def test_the_most_important_claim_climbs_first_then_who_could_for_longest_then_the_first_by_name():
    first, second = claim("civil/x:a", ladder=QUARTERS), claim("civil/x:b", ladder=QUARTERS)
    assert climbed(first, second)[0] == {first.id: 0, second.id: 2}
    assert climbed(first, replace(second, priority_class="critical"))[0] == {first.id: 2, second.id: 0}
    since = Memory(claims=(
        ClaimMemory(claim=first.id, rung=2, better_since_ms=NOW_MS - 5),
        ClaimMemory(claim=second.id, rung=2, better_since_ms=NOW_MS - 9),
    ))  # fmt: skip
    assert climbed(first, second, memory=since)[0] == {first.id: 2, second.id: 0}


def test_who_is_idle_or_of_a_domain_that_is_not_seen_neither_climbs_nor_lowers_anybody():
    one = claim("civil/x:a", ladder=QUARTERS)
    workers, groups = running(one, ("G0",))
    low = replace(groups[0], id=group_id(one.id, workers[0].id, 2), rung=2, in_flight=0, usage=UsageState.TRULY_IDLE)
    seen = snapshot([device("G0")], [one], (workers, [low]))
    known = Memory(claims=(ClaimMemory(claim=one.id, rung=2, idle_since_ms=1),))
    policy = rules(upgrade_hold_ms=0)
    assert [said.rung for said in decide(seen, policy, known, NOW_MS).reasons] == [2]
    works = replace(seen, groups=(replace(low, usage=UsageState.ACTIVE),))
    assert [said.rung for said in decide(works, policy, known, NOW_MS).reasons] == [0]
    hidden = replace(works, adopting=(SecurityDomain.CIVIL,))
    assert [said.rung for said in decide(hidden, policy, known, NOW_MS).reasons] == [2]
    wants, served = claim("civil/x:wants", ladder=HALVES[1:], submitted_at_ms=9), claim("civil/x:s", ladder=HALVES)
    blind = snapshot([device("G0")], [wants, served], running(served, ("G0",)), adopting=(SecurityDomain.CIVIL,))
    assert granted(decide(blind, rules(), Memory(), NOW_MS), wants.id) == 0


def test_room_must_have_lasted_to_the_millisecond():
    one, patient = claim("civil/x:a", ladder=QUARTERS), rules(upgrade_hold_ms=5_000)
    rungs, decision = climbed(one, policy=patient)
    assert rungs == {one.id: 2}
    assert [known.better_since_ms for known in decision.memory.claims] == [NOW_MS]
    for late_ms, rung in ((4_999, 2), (5_000, 0)):
        assert climbed(one, policy=patient, memory=decision.memory, now_ms=NOW_MS + late_ms)[0] == {one.id: rung}


def test_nobody_climbs_beyond_what_it_may_borrow():
    one = claim("civil/x:a", ladder=QUARTERS)
    policy = rules(civil=500, defence=500, floor=0, upgrade_hold_ms=0)
    low = replace(policy, tenants=tuple(
        replace(of, quotas=(replace(of.quotas[0], borrowing_limit_millis=0),)) for of in policy.tenants
    ))  # fmt: skip
    assert climbed(one, policy=low)[0] == {one.id: 2}, "half of the domain's half is its own"
    assert climbed(one, policy=policy)[0] == {one.id: 0}, "nobody else asks for it"


@pytest.mark.parametrize(("beside", "held"), [(1, 500), (0, 1000)], ids=["its sibling borrows", "there is room"])
def test_who_is_served_on_a_lower_rung_climbs_into_free_room_only_also_inside_its_floor(beside, held):
    """It has a floor of one device and runs on two quarters; its sibling has a device and half of that one."""
    low = claim("civil/x:low", least=2, ladder=QUARTERS[1:])
    other = claim("civil/y:other", millis=500, least=2, most=2 + beside)
    workers, groups = running(low, ("G0",))
    quarters = replace(groups[0], id=group_id(low.id, workers[0].id, 1), rung=1, replicas=2, running=2)
    fills, borrows = running(other, ("G1",)), running(other, *[("G0",)] * beside)
    fills[1][0] = replace(fills[1][0], replicas=2, running=2)
    policy = rules(civil=2000, defence=0, floor=0, upgrade_hold_ms=0)
    policy = replace(policy, tenants=tuple(
        replace(one, floor_millis=(("A", 1000),)) if one.id == "civil/x" else one for one in policy.tenants
    ))  # fmt: skip
    seen = snapshot(FOUR[:2], [low, other], *together([(workers, [quarters]), fills, borrows]))
    known = Memory(claims=(ClaimMemory(claim=low.id, rung=1), ClaimMemory(claim=other.id, rung=0)))
    decision = decide(seen, policy, known, NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert [one.held_millis for one in decision.entitlements if (one.tenant, one.flavor) == ("civil/x", "A")] == [held]


def test_who_climbs_onto_devices_of_which_it_has_some_goes_on_while_its_old_group_drains():
    """On rung 1 it ran on two devices of its host; rung 0 needs these and the other two."""
    wide = claim("civil/x:wide", ladder=(Shape(flavors=("A",), devices=4), Shape(flavors=("A",), devices=2)))
    workers, (group,) = running(wide, ("G0", "G1"))
    seen = snapshot(FOUR, [wide], (workers, [replace(group, rung=1, id=group_id(wide.id, workers[0].id, 1))]))
    policy = rules(civil=4000, upgrade_hold_ms=1_000)
    memory = Memory(claims=(ClaimMemory(claim=wide.id, rung=1, better_since_ms=NOW_MS - 1_000),))
    for later_ms in (0, 1_000):
        decision = decide(seen, policy, memory, NOW_MS + later_ms)
        assert check_decision(seen, decision, policy) == ()
        assert [(one.rung, one.devices) for one in decision.placements] == [(0, ("G0", "G1", "G2", "G3"))]
        seen, memory = replace(seen, groups=(replace(seen.groups[0], routed=False),)), decision.memory


def after_its_climb(one, policy, *places: str, rung: int = 1):
    """The turn after the one in which the claim climbed where it stands: its old group drains."""
    workers, (group,) = running(one, places)
    group = replace(group, rung=rung, id=group_id(one.id, workers[0].id, rung))
    devices = [device(name) for name in places]
    memory = Memory(claims=(ClaimMemory(claim=one.id, rung=rung, better_since_ms=NOW_MS - 1_000),))
    before = decide(snapshot(devices, [one], (workers, [group])), policy, memory, NOW_MS)
    seen = snapshot(devices, [one], (workers, [replace(group, routed=before.placements[0].rung == rung)]))
    return before, decide(seen, policy, before.memory, NOW_MS + 1_000)


def test_who_climbs_where_it_stands_need_not_ask_others_first_to_whom_its_class_gives_time():
    """A batch claim has to wait before it asks anybody to leave; here nobody leaves but its own old group."""
    ladder = (Shape(flavors=("A",), memory_mib=70_000), Shape(flavors=("A",), memory_mib=30_000))
    small = claim("civil/x:small", ladder=ladder, priority_class="batch")
    for decision in after_its_climb(small, rules(civil=1000, floor=0, upgrade_hold_ms=1_000), "G0"):
        assert [(one.rung, one.devices) for one in decision.placements] == [(0, ("G0",))]


@pytest.mark.parametrize(("quota", "rung"), [(4000, 0), (0, 1)])
def test_what_nobody_may_preempt_climbs_inside_its_own_quota_only(quota, rung):
    """Beyond it it keeps the place that it has, but would get none anew once its old group drains."""
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), devices=2))
    pinned = claim("civil/x:pinned", ladder=ladder, priority_class="pinned")
    policy = rules(civil=4000, floor=0, upgrade_hold_ms=1_000)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=quota),)) if one.id == "civil/x" else one
        for one in policy.tenants
    ))  # fmt: skip
    for decision in after_its_climb(pinned, policy, "G0", "G1"):
        assert [one.rung for one in decision.placements] == [rung]


@pytest.mark.parametrize(
    "waiting", [{"priority_class": "critical"}, {"priority_class": "pinned", "submitted_at_ms": 1}]
)
def test_what_nobody_may_preempt_keeps_its_new_place_while_its_old_group_drains_and_leaves_whoever_waits(waiting):
    """It ran on both devices and climbs to half of one; who waits for a device takes the other one, not this one."""
    ladder = (Shape(flavors=("A",), gpu_millis=500), Shape(flavors=("A",), devices=2))
    pinned = claim("civil/x:pinned", ladder=ladder, priority_class="pinned", submitted_at_ms=2)
    waits = claim("civil/y:waits", **waiting)
    workers, (group,) = running(pinned, ("G0", "G1"))
    group = replace(group, rung=1, id=group_id(pinned.id, workers[0].id, 1))
    policy = rules(civil=2000, defence=0, floor=2000, upgrade_hold_ms=1_000)
    memory = Memory(claims=(
        ClaimMemory(claim=pinned.id, rung=1, better_since_ms=NOW_MS - 1_000),
        ClaimMemory(claim=waits.id, waiting_since_ms=NOW_MS - 60_000),
    ))  # fmt: skip
    places = []
    for turn, groups in enumerate(([group], [replace(group, routed=False)], [])):
        seen = snapshot(FOUR[:2], [pinned, waits], (workers, groups))
        decision = decide(seen, policy, memory, NOW_MS + 1_000 * turn)
        assert check_decision(seen, decision, policy) == ()
        places.append({one.claim: (one.rung, one.devices) for one in decision.placements})
        memory = decision.memory
    climbs = {pinned.id: (0, ("G0",))}
    assert places == [climbs, climbs | {waits.id: (0, ("G1",))}, climbs | {waits.id: (0, ("G1",))}]


def test_a_higher_class_of_its_own_tenant_takes_nothing_from_what_nobody_may_preempt_while_it_changes_its_rung():
    """Its tenant has a guarantee of one device, and the other claim would fill it."""
    ladder = (Shape(flavors=("A",), gpu_millis=500), Shape(flavors=("A",), devices=2))
    pinned = claim("civil/x:pinned", ladder=ladder, priority_class="pinned")
    waits = claim("civil/x:waits", priority_class="critical")
    workers, (group,) = running(pinned, ("G0", "G1"))
    group = replace(group, rung=1, id=group_id(pinned.id, workers[0].id, 1))
    memory = Memory(claims=(ClaimMemory(claim=pinned.id, rung=1, better_since_ms=NOW_MS - 1_000),))
    policy = rules(civil=2000, defence=0, floor=2000, upgrade_hold_ms=1_000)
    for turn, routed in enumerate((True, False)):
        seen = snapshot(FOUR[:2], [pinned, waits], (workers, [replace(group, routed=routed)]))
        decision = decide(seen, policy, memory, NOW_MS + 1_000 * turn)
        assert check_decision(seen, decision, policy) == ()
        assert [one.rung for one in decision.placements if one.claim == pinned.id] == [0]
        memory = decision.memory


def test_what_nobody_may_preempt_does_not_climb_on_what_its_sibling_cannot_use():
    """Each has half of the only device. It keeps all of it while it runs there, and would get no more than its half."""
    ladder = (Shape(flavors=("A",), gpu_millis=600), Shape(flavors=("A",)))
    pinned = claim("civil/x:pinned", ladder=ladder, priority_class="pinned")
    waits = claim("civil/y:waits", submitted_at_ms=1)
    workers, (group,) = running(pinned, ("G0",))
    group = replace(group, rung=1, id=group_id(pinned.id, workers[0].id, 1))
    memory = Memory(claims=(ClaimMemory(claim=pinned.id, rung=1, better_since_ms=NOW_MS - 1_000),))
    seen = snapshot(FOUR[:1], [pinned, waits], (workers, [group]))
    decision = decide(seen, rules(civil=2000, defence=0, upgrade_hold_ms=1_000), memory, NOW_MS)
    assert [(one.claim, one.rung) for one in decision.placements] == [(pinned.id, 1)]


@pytest.mark.parametrize(("first", "rung"), [("critical", 1), ("batch", 0)])
def test_nobody_climbs_on_what_another_of_its_tenant_has_the_right_to_before_it(first, rung):
    """The other finds no place for both of its devices. Back in the queue, the climber would come after it again."""
    ladder = (Shape(flavors=("A",), devices=2), Shape(flavors=("A",)))
    low, waits = claim("civil/x:low", ladder=ladder), claim("civil/x:waits", devices=2, priority_class=first)
    workers, (group,) = running(low, ("G0",))
    group = replace(group, rung=1, id=group_id(low.id, workers[0].id, 1))
    memory = Memory(claims=(ClaimMemory(claim=low.id, rung=1, better_since_ms=NOW_MS - 1_000),))
    seen = snapshot(FOUR[:2], [low, waits], (workers, [group]))
    policy = rules(civil=1000, defence=1000, floor=0, upgrade_hold_ms=1_000)
    decision = decide(seen, policy, memory, NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert [(one.claim, one.rung) for one in decision.placements] == [(low.id, rung)]


def test_what_is_pooled_for_another_of_its_tenant_gives_a_claim_no_better_rung():
    """Of two devices its sibling has one. On half of the other each of the two has a right, on all of it neither."""
    policy = rules(civil=2000, defence=0, floor=2000)
    quotas = {"civil/x": 750, "civil/y": 1250}
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=quotas[one.id]),)) if one.id in quotas else one
        for one in policy.tenants
    ))  # fmt: skip
    first = claim("civil/x:first", ladder=HALVES, priority_class="critical")
    other, beside = claim("civil/x:other", millis=500), claim("civil/y:beside", most=3)
    seen = snapshot(FOUR[:2], [first, other, beside], running(beside, ("G0",)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert {one.claim: (one.rung, one.devices) for one in decision.placements} == {
        first.id: (1, ("G1",)), other.id: (0, ("G1",)), beside.id: (0, ("G0",))
    }  # fmt: skip
