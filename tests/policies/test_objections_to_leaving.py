"""What the second program says of whoever leaves: that no floor is broken, and that what is said of it is true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.invariants import check_alone, check_decision
from policies.model.decision import ClaimState, Eviction, EvictionReason, PendingReason
from policies.model.inventory import DeviceHealth, GroupState, ScrubState, UsageState, WorkerState
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Reservation, Shape
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, running, snapshot
from tests.policies.test_objections_to_decisions import (
    GROUP,
    ONE,
    POLICY,
    SEEN,
    SOME_CODE,
    SOUND,
    TWO,
    objections,
    rules_of,
)


def taken(reason=EvictionReason.RECLAIM, beneficiary=TWO.id, seen=SEEN, name=ONE.id, **said):
    """The decision in which the civil claim loses its place."""
    gone = tuple(Eviction(group=one.group, claim=name, reason=reason, beneficiary=beneficiary, cost=0)
                 for one in SOUND.placements if one.claim == ONE.id)  # fmt: skip
    left = tuple(one for one in SOUND.placements if one.claim != ONE.id)
    reasons = tuple(
        replace(one, **({"granted_replicas": 0, "state": ClaimState.HELD, "code": SOME_CODE} | said))
        if one.claim == ONE.id else one for one in SOUND.reasons
    )  # fmt: skip
    shares = tuple(replace(one, held_millis=0) if one.tenant.startswith("civil") else one for one in SOUND.entitlements)
    return replace(SOUND, evictions=gone, placements=left, reasons=reasons, entitlements=shares)


BELOW = "no_victim_below_its_floor"
AHEAD_MS = POLICY.bounds.drain_deadline_ms + POLICY.bounds.scrub_time_ms + POLICY.bounds.worker_start_ms


def kept(tenant="civil/y", flavor="A", begins=0, ends=10, millis=1000) -> tuple[Reservation, ...]:
    return (Reservation(id="r", tenant=tenant, flavor=flavor, gpu_millis=millis, starts_at_ms=NOW_MS + begins,
                        ends_at_ms=NOW_MS + ends),)  # fmt: skip


def parts(*gpus: str):
    """The four devices as parts of these GPUs."""
    return tuple(replace(one, gpu=gpu) for one, gpu in zip(SEEN.devices, gpus, strict=True))


def ill(*names: str, **state):
    return tuple(replace(one, **state) if one.id in names else one for one in SEEN.devices)


FLOORS = {
    "it asks for it and can have it": ({}, True),
    "its own reservation keeps as much": ({"reservations": kept()}, False),
    "its own reservation keeps less": ({"reservations": kept(millis=999)}, True),
    "the reservation of another": ({"reservations": kept("defence/x")}, True),
    "a reservation of another kind": ({"reservations": kept(flavor="B")}, True),
    "a reservation that has begun to move": ({"reservations": kept(begins=AHEAD_MS, ends=AHEAD_MS + 1)}, False),
    "a reservation that has not": ({"reservations": kept(begins=AHEAD_MS + 1, ends=AHEAD_MS + 2)}, True),
    "a reservation that is over": ({"reservations": kept(begins=-5, ends=0)}, True),
    "two GPUs for two floors": ({"devices": ill("G2", "G3", health=DeviceHealth.QUARANTINED)}, True),
    "one GPU for two floors": ({"devices": ill("G1", "G2", "G3", health=DeviceHealth.QUARANTINED)}, False),
    "one GPU that passed its scrub": ({"devices": ill("G1", "G2", "G3", scrub=ScrubState.FAILED)}, False),
    "one GPU in two parts for two domains": ({"devices": parts("g", "g", "g", "g")}, False),
    "two GPUs in two parts": ({"devices": parts("g", "g", "h", "h")}, True),
    "a GPU of another kind": ({"devices": ill("G1", "G2", "G3", flavor="B")}, False),
    "a host that is closed": ({"nodes": tuple(replace(one, schedulable=False) for one in SEEN.nodes)}, False),
    "a host that nobody knows": ({"nodes": ()}, True),
    "a host that was not seen": ({"gaps": (Gap(kind=GapKind.NODE, subject="n0", cause="timeout", since_ms=0),)}, False),
    "a claim that had no minimum": ({"claims": (replace(ONE, min_replicas=2, desired_replicas=3), TWO)}, False),
    "a group that had failed": ({"groups": (replace(GROUP, state=GroupState.FAILED),)}, False),
    "a device that was lost": ({"devices": ill("G0", health=DeviceHealth.RETIRED)}, False),
}  # fmt: skip


@pytest.mark.parametrize("why", FLOORS)
def test_nobody_is_put_below_a_floor_that_it_asks_for_and_that_can_be_met(why):
    terms, broken = FLOORS[why]
    assert ((BELOW, "civil") in objections(taken(), replace(SEEN, **terms))) == broken


def test_a_floor_is_for_whoever_asks_for_more_than_it_has():
    assert (BELOW, "civil") not in objections(taken(wanted_replicas=0, state=ClaimState.SERVED, code=None))


@pytest.mark.parametrize("reason", EvictionReason)
def test_what_leaves_for_others_breaks_a_floor_and_what_is_moved_idle_or_gone_by_itself_does_not(reason):
    free = (EvictionReason.IDLE, EvictionReason.CONSOLIDATE)
    assert ((BELOW, "civil") in objections(taken(reason))) == (reason not in free)
    for_nobody = (EvictionReason.REBALANCE, EvictionReason.RECLAIM, EvictionReason.PREEMPT, EvictionReason.MODE_CHANGE)
    assert ((BELOW, "civil") in objections(taken(reason, None))) == (reason in for_nobody)


@pytest.mark.parametrize(("least", "broken"), [(1, True), (2, False)])
def test_of_a_gang_that_had_not_its_minimum_nothing_is_lost_to_others(least, broken):
    """The civil claim is over; beside it stood one half, of a claim for which that is enough, or of a gang of two."""
    half = claim("civil/y:half", least=least, millis=500)
    workers, groups = running(half, ("G1",))
    seen = replace(
        SEEN, claims=(ONE, TWO, half), workers=(*SEEN.workers, *workers), groups=(*SEEN.groups, *groups),
        devices=ill("G1", domain=SecurityDomain.CIVIL, scrub=ScrubState.DIRTY),
    )  # fmt: skip
    gone = Eviction(group=groups[0].id, claim=half.id, reason=EvictionReason.RECLAIM, beneficiary=TWO.id, cost=0)
    decision = taken(EvictionReason.RELEASED, None)
    assert ((BELOW, "civil") in objections(replace(decision, evictions=(*decision.evictions, gone)), seen)) == broken


def test_what_leaves_for_its_own_tenant_breaks_no_floor_of_it():
    beside = claim("civil/y:beside", least=0)
    seen = replace(SEEN, claims=(ONE, TWO, beside))
    assert (BELOW, "civil") not in objections(taken(beneficiary=beside.id), seen)


def test_a_floor_is_guaranteed_to_whoever_asks_for_it():
    def told(millis: int, demand: int):
        return replace(SOUND, entitlements=tuple(
            replace(one, guaranteed_millis=millis, demand_millis=demand) if one.tenant == "civil" else one
            for one in SOUND.entitlements
        ))  # fmt: skip

    broken = ("floors_are_guaranteed", "civil")
    assert broken not in objections(told(1000, 9000))
    assert broken in objections(told(999, 9000))
    assert broken not in objections(told(999, 999))
    assert broken not in objections(told(0, 9000), replace(SEEN, reservations=kept()))
    assert broken in objections(told(0, 9000), replace(SEEN, reservations=kept(millis=999)))


def test_floors_below_a_tenant_count_together_where_they_are_more_than_its_own():
    policy = replace(POLICY, tenants=tuple(
        replace(one, floor_millis=(("A", 1000),)) if one.id.startswith("civil/") else one for one in POLICY.tenants
    ))  # fmt: skip
    three = replace(SEEN, devices=ill("G3", health=DeviceHealth.QUARANTINED))
    two = replace(SEEN, devices=ill("G2", "G3", health=DeviceHealth.QUARANTINED))
    assert (BELOW, "civil") in objections(taken(), three, policy)
    assert (BELOW, "civil") not in objections(taken(), two, policy)
    waived = replace(policy, overlays=(ModeOverlay(mode=OperatingMode.CRISIS, waived_floors=("civil/y",)),),
                     declaration=declared())  # fmt: skip
    crisis = replace(taken(), mode=OperatingMode.CRISIS)
    assert (BELOW, "civil") in objections(crisis, two, waived)


def declared(**otherwise) -> ModeDeclaration:
    return ModeDeclaration(**({
        "mode": OperatingMode.CRISIS, "declared_at_ms": NOW_MS, "expires_at_ms": NOW_MS + 1, "approvers": ("a", "b"),
    } | otherwise))  # fmt: skip


@pytest.mark.parametrize(
    ("otherwise", "holds"),
    [({}, True), ({"approvers": ("a", "a")}, False),
     ({"declared_at_ms": NOW_MS + 1, "expires_at_ms": NOW_MS + 2}, False),
     ({"declared_at_ms": 0, "expires_at_ms": NOW_MS}, False)],
)  # fmt: skip
def test_a_decision_names_the_mode_that_two_people_approved_and_that_is_not_over(otherwise, holds):
    policy = replace(POLICY, declaration=declared(**otherwise))
    wrong = ("the_mode_is_in_force", OperatingMode.NORMAL)
    assert (wrong in objections(SOUND, SEEN, policy)) == holds
    crisis = replace(SOUND, mode=OperatingMode.CRISIS)
    assert (("the_mode_is_in_force", OperatingMode.CRISIS) in objections(crisis, SEEN, policy)) != holds


PAUSE = ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("standard",))
PAUSES = {
    "its class, everywhere": (PAUSE, True),
    "its class, in its domain": (replace(PAUSE, paused_tenants=("defence", "civil")), True),
    "its class, of its own team": (replace(PAUSE, paused_tenants=("civil/x",)), True),
    "its class, of another team": (replace(PAUSE, paused_tenants=("civil/y",)), False),
    "its class, of a team whose name begins alike": (replace(PAUSE, paused_tenants=("civil/",)), False),
    "another class": (replace(PAUSE, paused_classes=("batch",)), False),
    "its class in another mode": (replace(PAUSE, mode=OperatingMode.HEIGHTENED), False),
}


@pytest.mark.parametrize("what", PAUSES)
def test_only_what_the_mode_in_force_pauses_leaves_for_it(what):
    overlay, paused = PAUSES[what]
    decision = replace(taken(EvictionReason.MODE_CHANGE), mode=OperatingMode.CRISIS)
    told = objections(decision, SEEN, replace(POLICY, overlays=(overlay,), declaration=declared()))
    assert (("only_the_paused_leave_for_a_mode", GROUP.id) not in told) == paused
    normal = objections(taken(EvictionReason.MODE_CHANGE), SEEN, replace(POLICY, overlays=(overlay,)))
    assert ("only_the_paused_leave_for_a_mode", GROUP.id) in normal


def test_without_the_policy_whoever_is_said_to_leave_for_a_mode_is_believed_while_there_is_one():
    for mode, believed in ((OperatingMode.CRISIS, True), (OperatingMode.NORMAL, False)):
        found = {one.rule for one in check_alone(SEEN, replace(taken(EvictionReason.MODE_CHANGE), mode=mode))}
        assert ("only_the_paused_leave_for_a_mode" not in found) == believed
        assert "the_mode_is_in_force" not in found


BROKEN = {
    "nothing": ({}, False),
    "its device is quarantined": ({"devices": ill("G0", health=DeviceHealth.QUARANTINED)}, True),
    "its device is retired": ({"devices": ill("G0", health=DeviceHealth.RETIRED)}, True),
    "its device is suspect": ({"devices": ill("G0", health=DeviceHealth.SUSPECT)}, False),
    "its device is gone": ({"devices": SEEN.devices[1:]}, True),
    "its worker is gone": ({"workers": ()}, True),
    "its worker is lost": ({"workers": (replace(SEEN.workers[0], state=WorkerState.LOST),)}, True),
    "it failed": ({"groups": (replace(GROUP, state=GroupState.FAILED),)}, True),
}


@pytest.mark.parametrize("what", BROKEN)
def test_only_what_is_broken_is_drained(what):
    terms, broken = BROKEN[what]
    told = objections(taken(EvictionReason.DRAIN, None), replace(SEEN, **terms))
    assert (("only_what_is_broken_is_drained", GROUP.id) not in told) == broken


def test_what_is_idle_may_leave_as_idle_and_what_is_moved_has_a_place():
    idle = replace(SEEN, groups=(replace(GROUP, usage=UsageState.TRULY_IDLE),))
    rule = ("only_the_idle_leave_as_idle", GROUP.id)
    assert rule in objections(taken(EvictionReason.IDLE))
    assert rule not in objections(taken(EvictionReason.IDLE), idle)
    gone = replace(taken(EvictionReason.CONSOLIDATE).evictions[0], beneficiary=None)
    moved = replace(SOUND, evictions=(gone,))
    assert "what_is_moved_has_a_place" not in rules_of(moved)


def test_what_is_released_is_more_than_its_claim_asks_for():
    rule = ("only_what_is_too_much_is_released", GROUP.id)
    assert rule in objections(taken(EvictionReason.RELEASED, None))
    assert rule not in objections(taken(EvictionReason.RELEASED, None, wanted_replicas=0, state=ClaimState.SERVED))
    assert rule not in objections(taken(EvictionReason.RELEASED, None, code=PendingReason.SUSPENDED))
    nobody = replace(taken(EvictionReason.RELEASED, None), reasons=())
    assert rule not in objections(nobody)
    two = replace(SEEN, groups=(replace(GROUP, replicas=2),))
    assert rule not in objections(taken(EvictionReason.RELEASED, None), two), "two ran, one is wanted"
    unknown = objections(taken(EvictionReason.RELEASED, None, name="civil/x:ghost"))
    assert ("who_leaves_is_known", GROUP.id) in unknown


@pytest.mark.parametrize(("reason", "whole", "told"), [
    (EvictionReason.REBALANCE, True, True), (EvictionReason.REBALANCE, False, False),
    (EvictionReason.DRAIN, True, False),
])  # fmt: skip
def test_who_may_not_be_preempted_leaves_for_nobody_only_where_it_was_no_service_any_more(reason, whole, told):
    pinned = replace(ONE, priority_class="pinned", min_replicas=1 if whole else 2, desired_replicas=3)
    decision = taken(reason, None)
    rule = ("the_non_preemptible_stay", GROUP.id)
    assert (rule in objections(decision, replace(SEEN, claims=(pinned, TWO)))) == told
    assert rule in objections(taken(reason), replace(SEEN, claims=(pinned, TWO))), "for somebody, never"


def test_what_was_not_seen_does_not_leave():
    hidden = replace(SEEN, gaps=(Gap(kind=GapKind.NODE, subject="n0", cause="timeout", since_ms=0),))
    blind = replace(SEEN, gaps=(Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=0),))
    rule = ("no_move_rests_on_a_gap", GROUP.id)
    assert rule not in objections(taken())
    assert rule in objections(taken(), hidden)
    assert rule in objections(taken(EvictionReason.REBALANCE, None), hidden)
    assert rule not in objections(taken(EvictionReason.DRAIN, None), hidden)
    assert rule in objections(taken(EvictionReason.DRAIN, None), blind)


def test_what_is_lent_no_more_or_reserved_may_be_taken_back_for_nobody():
    rule = ("victims_make_room", GROUP.id)
    assert rule in objections(taken(EvictionReason.RECLAIM, None))
    for terms, may in (({"begins": AHEAD_MS, "ends": AHEAD_MS + 1}, True),
                       ({"begins": AHEAD_MS + 1, "ends": 10**9}, False),
                       ({"begins": -5, "ends": 0}, False), ({"flavor": "B"}, False)):  # fmt: skip
        seen = replace(SEEN, reservations=kept("defence", **terms))
        assert (rule not in objections(taken(EvictionReason.RECLAIM, None), seen)) == may
        assert rule in objections(taken(EvictionReason.PREEMPT, None), seen)
    for flavor, may in (("A", True), ("B", False)):
        quota = Quota(flavor=flavor, nominal_millis=5, lending_limit_millis=5)
        new = Tenant(id="defence/z", domain=SecurityDomain.DEFENCE, parent="defence", quotas=(quota,))
        keeps = replace(POLICY, tenants=(*POLICY.tenants, new))
        assert (rule not in objections(taken(EvictionReason.RECLAIM, None), SEEN, keeps)) == may


def test_every_group_stays_or_leaves_unless_its_domain_was_not_seen():
    silent = replace(SOUND, placements=tuple(one for one in SOUND.placements if one.claim != ONE.id))
    rule = ("every_group_stays_or_leaves", GROUP.id)
    assert rule in objections(silent)
    assert rule in objections(silent, replace(SEEN, workers=()))
    assert rule not in objections(silent, replace(SEEN, adopting=(SecurityDomain.CIVIL,)))
    [both] = [one for one in check_decision(SEEN, replace(SOUND, evictions=taken().evictions), POLICY)
              if one.rule == rule[0]]  # fmt: skip
    assert both.sentence == f"group {GROUP.id} stays and leaves"
    [none] = [one for one in check_decision(SEEN, silent, POLICY) if one.rule == rule[0]]
    assert none.sentence == f"group {GROUP.id} neither stays nor leaves"


def test_whether_a_group_was_seen_is_asked_of_its_own_claim_alone():
    """The group that leaves for nobody was not seen; that of another claim beside it was."""
    both = snapshot(FOUR, [ONE, TWO], running(ONE, ("G0",)), running(TWO, ("G1",)))
    hidden = replace(both, gaps=(Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=0),))
    assert ("no_move_rests_on_a_gap", GROUP.id) in objections(taken(EvictionReason.REBALANCE, None), hidden)
    two = replace(hidden, groups=(*hidden.groups, replace(GROUP, id="beside", devices=("G2",))))
    assert ("no_move_rests_on_a_gap", GROUP.id) not in objections(taken(EvictionReason.REBALANCE, None), two)


def test_a_floor_counts_all_replicas_of_a_group_and_nothing_of_a_device_that_is_gone():
    halves = replace(ONE, ladder=(Shape(flavors=("A",), gpu_millis=500),), min_replicas=2, desired_replicas=3)
    seen = replace(SEEN, claims=(halves, TWO), groups=(replace(GROUP, replicas=2, running=2),))
    assert (BELOW, "civil") in objections(taken(), seen)
    assert (BELOW, "civil") not in objections(taken(), replace(seen, groups=(GROUP,))), "one of two was no service"
    tight = taken()
    tight = replace(tight, entitlements=tuple(
        replace(one, guaranteed_millis=999) if one.tenant == "civil" else one for one in tight.entitlements
    ))  # fmt: skip
    assert (BELOW, "civil") not in objections(tight, seen), "what it lost together is more than it is guaranteed"
    assert (BELOW, "civil") not in objections(taken(), replace(seen, devices=SEEN.devices[1:]))
