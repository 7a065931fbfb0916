"""Quality goes down before service is refused, and up again once room has lasted."""

from __future__ import annotations

import pytest

from policies.decide import decide
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth
from policies.model.memory import ClaimMemory, Memory
from policies.model.workload import Shape
from tests.policies.looking import code, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
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
