"""The second program finds what the first would hide: each rule fails on a decision that was tampered with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.invariants import check_decision
from policies.model.decision import ClaimState, Eviction, EvictionReason, PendingReason
from policies.model.inventory import DeviceHealth
from policies.model.memory import Memory
from policies.model.naming import group_id
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import FOUR, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

ONE, TWO = claim("civil/x:one"), claim("defence/x:two", least=0, most=4)
POLICY = replace(
    rules(floor=1000),
    overlays=(ModeOverlay(mode=OperatingMode.CRISIS, waived_floors=("civil",)),),
    declaration=ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=NOW_MS - 10, expires_at_ms=NOW_MS, approvers=("ana", "ben")
    ),
)
SEEN = snapshot(FOUR, [ONE, TWO], running(ONE, ("G0",)))
SOUND = decide(SEEN, POLICY, Memory(), NOW_MS)
GROUP = SEEN.groups[0].id

NOTHING = {"granted_replicas": 0, "state": ClaimState.WAITING, "code": PendingReason.WAITING_FOR_QUOTA}


def rules_broken(decision, seen=SEEN, policy=POLICY) -> set[str]:
    return {one.rule for one in check_decision(seen, decision, policy)}


def without_it(reason: EvictionReason, beneficiary: str | None = None, seen=SEEN):
    """The decision in which the civil claim loses its place for this reason."""
    gone = Eviction(group=GROUP, claim=ONE.id, reason=reason, beneficiary=beneficiary, cost=0)
    decided = decide(seen, POLICY, Memory(), NOW_MS)
    return replace(
        decided, evictions=(gone,), placements=tuple(one for one in decided.placements if one.claim != ONE.id),
        reasons=tuple(replace(one, **NOTHING) if one.claim == ONE.id else one for one in decided.reasons),
        entitlements=tuple(
            replace(one, held_millis=0) if one.tenant.startswith("civil") else one for one in decided.entitlements
        ),
    )  # fmt: skip


def test_what_was_not_tampered_with_is_sound():
    assert not rules_broken(SOUND)


def test_a_mode_that_is_not_in_force_waives_no_floor():
    taken = replace(without_it(EvictionReason.RECLAIM, TWO.id), mode=OperatingMode.CRISIS)
    assert rules_broken(taken) == {"the_mode_is_in_force", "no_victim_below_its_floor"}


@pytest.mark.parametrize("beneficiary", [TWO.id, None])
def test_a_floor_is_broken_for_nobody_as_it_is_for_somebody(beneficiary):
    assert rules_broken(without_it(EvictionReason.REBALANCE, beneficiary)) == {"no_victim_below_its_floor"}


def test_a_floor_that_is_demanded_and_can_be_met_is_guaranteed():
    less = replace(SOUND, entitlements=tuple(replace(one, guaranteed_millis=0) for one in SOUND.entitlements))
    assert rules_broken(less) == {"floors_are_guaranteed"}


def test_more_than_there_is_is_promised_to_nobody():
    more = replace(SOUND, entitlements=tuple(
        replace(one, entitled_millis=5000) if one.tenant == "civil" else one for one in SOUND.entitlements
    ))  # fmt: skip
    assert rules_broken(more) == {"sums_within_capacity"}


def test_a_device_is_not_filled_twice_by_one_group():
    place = next(one for one in SOUND.placements if one.claim == TWO.id)
    twice = replace(SOUND, placements=(
        *(one for one in SOUND.placements if one is not place), replace(place, replicas=2)
    ))  # fmt: skip
    assert "sums_within_capacity" in rules_broken(twice)


def test_a_device_of_a_replica_on_several_is_not_filled_twice_either():
    wide, beside = claim("civil/x:wide", devices=2), claim("civil/y:beside")
    seen = snapshot(FOUR, [wide, beside], running(wide, ("G0", "G1")), running(beside, ("G2",)))
    decision = decide(seen, rules(civil=4000), Memory(), NOW_MS)
    first, second = sorted(decision.placements, key=lambda one: len(one.devices))
    both = replace(decision, placements=(second, replace(first, worker=second.worker, devices=second.devices[:1])))
    assert "sums_within_capacity" in rules_broken(both, seen, rules(civil=4000))


def test_a_decision_of_another_picture_of_the_world_is_refused():
    assert rules_broken(SOUND, replace(SEEN, generation=SEEN.generation + 1)) == {"decision_is_of_this_snapshot"}


def test_a_floor_that_the_sound_devices_cannot_meet_is_no_fault_of_the_decision():
    sick = [replace(one, health=DeviceHealth.QUARANTINED) for one in FOUR[1:]]
    seen = snapshot([FOUR[0], *sick], [ONE, TWO], running(ONE, ("G0",)))
    assert not rules_broken(decide(seen, POLICY, Memory(), NOW_MS), seen)


def test_nobody_leaves_as_idle_who_works():
    assert rules_broken(without_it(EvictionReason.IDLE, TWO.id)) == {"only_the_idle_leave_as_idle"}


def test_who_is_moved_has_a_place_afterwards():
    assert rules_broken(without_it(EvictionReason.CONSOLIDATE, TWO.id)) == {"what_is_moved_has_a_place"}


def test_nobody_leaves_for_a_claim_that_gets_no_place():
    assert "victims_make_room" in rules_broken(without_it(EvictionReason.PREEMPT, "civil/y:waits"))


def test_who_may_not_be_preempted_does_not_leave_for_nobody_either():
    pinned = replace(ONE, priority_class="pinned")
    seen = snapshot(FOUR, [pinned, TWO], running(pinned, ("G0",)))
    assert "the_non_preemptible_stay" in rules_broken(without_it(EvictionReason.REBALANCE, seen=seen), seen)


def test_what_was_not_seen_does_not_leave_for_nobody_either():
    seen = replace(SEEN, gaps=(Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=0),))
    assert "no_move_rests_on_a_gap" in rules_broken(without_it(EvictionReason.REBALANCE, seen=seen), seen)


def test_a_replica_on_several_devices_of_which_one_was_not_seen_keeps_its_place_and_its_rung():
    wide = claim("civil/x:wide", ladder=(Shape(flavors=("A",), devices=4), Shape(flavors=("A",), gpu_millis=500)))
    hidden = Gap(kind=GapKind.DEVICE, subject="G2", cause="timeout", since_ms=0)
    seen = snapshot(FOUR, [wide], running(wide, ("G0", "G1", "G2", "G3")), gaps=(hidden,))
    decision = decide(seen, rules(civil=4000, defence=0), Memory(), NOW_MS)
    assert [(one.rung, len(one.devices)) for one in decision.placements] == [(0, 4)]


def test_what_was_not_seen_runs_on_although_its_tenant_has_no_right_to_it():
    """Another domain no longer lends its quota: it is held until it is seen again."""
    wide = claim("civil/x:wide", devices=2)
    hidden = Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=0)
    seen = snapshot(FOUR, [wide], running(wide, ("G0", "G1")), gaps=(hidden,))
    keeping = Quota(flavor="A", nominal_millis=4000, lending_limit_millis=0)
    policy = rules(civil=0, defence=4000, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(keeping,)) if one.id == "defence" else one for one in policy.tenants
    ))  # fmt: skip
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert [one.group for one in decision.evictions] == []
    assert not check_decision(seen, decision, policy)


def test_a_replica_on_a_worker_that_the_decision_does_not_name_is_found():
    elsewhere = replace(SOUND, placements=tuple(replace(one, worker="civil-nowhere") for one in SOUND.placements))
    assert "groups_stay_inside_their_worker" in rules_broken(elsewhere)


def test_the_memory_of_a_device_is_not_given_away_twice_where_its_computing_suffices():
    heavy = [claim(f"civil/x:{name}", ladder=(Shape(flavors=("A",), gpu_millis=250, memory_mib=50_000),))
             for name in ("one", "two")]  # fmt: skip
    seen = snapshot(FOUR, heavy)
    decision = decide(seen, rules(), Memory(), NOW_MS)
    first, second = decision.placements
    assert first.devices != second.devices, "two of 50000 MiB do not fit on one of 80000"
    beside = replace(second, worker=first.worker, devices=first.devices)
    assert "sums_within_capacity" in rules_broken(replace(decision, placements=(first, beside)), seen, rules())


def test_a_replica_of_which_one_device_is_lost_is_no_service_that_a_rule_protects():
    """Its class may not be preempted, but what does not run any more leaves."""
    wide = claim("civil/x:wide", devices=2, priority_class="pinned")
    sick = replace(FOUR[1], health=DeviceHealth.QUARANTINED)
    seen = snapshot([FOUR[0], sick], [wide], running(wide, ("G0", "G1")))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert [one.claim for one in decision.evictions] == [wide.id]
    assert not rules_broken(decision, seen, rules())


@pytest.mark.parametrize(
    ("reason", "rule"),
    [
        (EvictionReason.DRAIN, "only_what_is_broken_is_drained"),
        (EvictionReason.MODE_CHANGE, "only_the_paused_leave_for_a_mode"),
        (EvictionReason.RELEASED, "only_what_is_too_much_is_released"),
        (EvictionReason.EXPIRED, "only_the_expired_leave_as_expired"),
    ],
)
def test_no_word_for_leaving_hides_that_a_claim_that_asks_lost_its_place(reason, rule):
    assert rule in rules_broken(without_it(reason))


def test_a_mode_in_force_takes_no_floor_that_the_policy_does_not_name():
    """Civil is paused, and its floor stands: what leaves inside of it is a broken promise, whatever it is called."""
    crisis = ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("standard",))
    on = replace(POLICY.declaration, expires_at_ms=NOW_MS + 1)

    def broken(overlay) -> set[str]:
        policy = replace(POLICY, overlays=(overlay,), declaration=on)
        taken = replace(without_it(EvictionReason.MODE_CHANGE), mode=OperatingMode.CRISIS)
        return rules_broken(taken, policy=policy)

    assert broken(crisis) == {"no_victim_below_its_floor"}
    assert broken(replace(crisis, waived_floors=("civil",))) == set()
    assert broken(replace(crisis, paused_tenants=("defence",), waived_floors=("civil",))) == {
        "only_the_paused_leave_for_a_mode"
    }


def test_a_new_worker_on_a_device_that_nobody_knows_is_found():
    binding = SOUND.bindings[0]
    new = replace(binding, worker="civil-new", devices=("nowhere",))
    assert "only_seen_devices_are_bound" in rules_broken(replace(SOUND, bindings=(*SOUND.bindings, new)))


def test_a_domain_that_was_not_seen_does_not_move_its_replicas_for_others():
    """Nothing leaves it and nothing changes its place there, whoever has a right to the device."""
    gap = Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=0)
    seen = snapshot(FOUR[:1], [ONE, claim("defence/x:owner")], running(ONE, ("G0",)), gaps=(gap,))
    decision = decide(seen, rules(civil=0, defence=1000), Memory(), NOW_MS)
    assert decision.evictions == ()
    assert not rules_broken(decision, seen, rules(civil=0, defence=1000))


def test_a_gang_that_lost_a_device_is_no_service_and_its_leaving_breaks_no_floor():
    """Two replicas on two devices each, and no third place for the one that lost a device: the gang ends as a whole."""
    gang = claim("civil/x:gang", devices=2, least=2)
    sick = [replace(one, health=DeviceHealth.QUARANTINED) if one.id == "G1" else one for one in FOUR]
    seen = snapshot([*sick, device("G4", "n1")], [gang], running(gang, ("G0", "G1"), ("G2", "G3")))
    policy = rules(civil=8000, defence=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert len(decision.evictions) == 2
    assert not rules_broken(decision, seen, policy)


@pytest.mark.parametrize(("rungs", "broken"), [((0, 1), set()), ((0, 0), {"the_non_preemptible_stay"})])
def test_a_gang_that_nobody_may_preempt_stays_where_it_has_its_minimum_on_one_rung(rungs, broken):
    """It needs two, and nothing new starts on a device that is suspect: with one replica on each rung it is let go."""
    ladder = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=900))
    gang = claim("civil/x:gang", least=2, ladder=ladder, priority_class="pinned")
    workers, groups = running(gang, ("G0",), ("G1",))
    on_rungs = [
        replace(one, rung=rung, id=group_id(gang.id, one.worker, rung)) for one, rung in zip(groups, rungs, strict=True)
    ]
    devices = [FOUR[0], replace(FOUR[1], health=DeviceHealth.SUSPECT)]
    seen, policy = snapshot(devices, [gang], (workers, on_rungs)), rules(civil=2000, floor=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert (decision.placements == ()) is (rungs == (0, 1))
    gone = tuple(
        Eviction(group=one.id, claim=gang.id, reason=EvictionReason.REBALANCE, beneficiary=None, cost=0)
        for one in on_rungs
    )
    reasons = tuple(replace(one, granted_replicas=0) for one in decision.reasons)
    let_go = replace(decision, placements=(), evictions=gone, reasons=reasons)
    assert {"the_non_preemptible_stay"} & {one.rule for one in check_decision(seen, let_go, policy)} == broken


def test_what_nobody_may_preempt_leaves_once_it_is_given_to_a_tenant_of_the_other_domain():
    given = claim("defence/x:given", priority_class="pinned")
    seen, policy = snapshot(FOUR[:1], [given], running(given, ("G0",), domain=SecurityDomain.CIVIL)), rules(defence=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert [one.group for one in decision.evictions] == [seen.groups[0].id]


@pytest.mark.parametrize(("keeper", "stays"), [("civil/y", 1), ("civil/x", 2)])
def test_what_a_tenant_of_the_domain_keeps_for_itself_and_does_not_use_is_not_lost_to_others(keeper, stays):
    """Of the floor of two GPUs x runs on both. One of them is kept by y, who does not use it, or by x itself."""
    chat, other = claim("civil/x:chat", least=0, most=2), claim("defence/x:all", least=0, most=4)
    seen = snapshot(FOUR, [chat, other], running(chat, ("G0",), ("G1",)), running(other, ("G2",), ("G3",)))
    kept = (Quota(flavor="A", nominal_millis=1000, lending_limit_millis=0),)
    policy = rules(civil=2000, defence=2000, floor=2000)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=kept) if one.id == keeper else one for one in policy.tenants
    ))  # fmt: skip
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert granted(decision, chat.id) == stays
    loser = next(one for one in decision.placements if one.claim == chat.id)
    gone = Eviction(group=loser.group, claim=chat.id, reason=EvictionReason.RECLAIM, beneficiary=other.id, cost=0)
    taken = replace(
        decision, placements=tuple(one for one in decision.placements if one is not loser), evictions=(gone,),
        reasons=tuple(replace(one, granted_replicas=0) if one.claim == chat.id else one for one in decision.reasons),
    )  # fmt: skip
    assert "no_victim_below_its_floor" in {one.rule for one in check_decision(seen, taken, policy)}
