"""A declared mode changes what it names, while it lasts, when two people approved it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.invariants import check_decision
from policies.model.codec import to_json
from policies.model.decision import EvictionReason
from policies.model.inventory import UsageState
from policies.model.memory import ClaimMemory, Memory
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota
from policies.model.workload import Shape
from policies.modes import effective, is_paused, mode_in_force, overlay_in_force
from tests.policies.looking import FEW, FOUR, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot


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


BULK = claim("civil/x:bulk", least=0, most=4, priority_class="batch")


def in_a_crisis(policy):
    """The policy while a crisis pauses civil batch work."""
    return replace(
        policy,
        overlays=(ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",), paused_tenants=("civil",)),),
        declaration=ModeDeclaration(mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS * 2,
                                    approvers=("ana", "ben")),
    )  # fmt: skip


def test_a_crisis_pauses_what_may_be_paused_but_leaves_the_civil_floor():
    bulk, policy = BULK, in_a_crisis(rules())
    decision = decide(snapshot(FOUR, [bulk], running(bulk, *((one.id,) for one in FOUR))), policy, Memory(), NOW_MS)
    assert granted(decision, bulk.id) == 1
    assert {one.reason for one in decision.evictions} == {EvictionReason.MODE_CHANGE}


@pytest.mark.parametrize("bounds", [{}, {"evictions_per_window": 0}], ids=["", "the budget of evictions is used up"])
@pytest.mark.parametrize("since_ms", [1, NOW_MS - 1], ids=["ran for long", "began just now"])
def test_what_a_crisis_pauses_makes_room_in_the_same_decision_for_whoever_waits(since_ms, bounds):
    """Also beyond what is guaranteed to whoever waits: paused work leaves in any case."""
    radar, policy = claim("defence/x:radar", least=0, most=3), in_a_crisis(rules(**bounds))
    seen = snapshot(FOUR, [BULK, radar], running(BULK, *((one.id,) for one in FOUR), since_ms=since_ms))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert (granted(decision, BULK.id), granted(decision, radar.id)) == (1, 3)
    assert {(one.reason, one.beneficiary) for one in decision.evictions} == {(EvictionReason.MODE_CHANGE, radar.id)}


def test_what_idles_and_is_paused_leaves_for_the_mode_also_where_not_all_of_it_is_seen_to_idle():
    radar, policy = claim("defence/x:radar", least=0, most=4), in_a_crisis(rules(defence=4000, floor=0))
    workers, groups = running(BULK, *((one.id,) for one in FOUR))
    seen = snapshot(FOUR, [BULK, radar], (workers, [replace(groups[0], usage=UsageState.TRULY_IDLE), *groups[1:]]))
    memory = Memory(claims=(ClaimMemory(claim=BULK.id, idle_since_ms=1),))
    decision = decide(seen, policy, memory, NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert [one.reason for one in decision.evictions] == [EvictionReason.MODE_CHANGE] * 4


def test_in_a_crisis_a_floor_holds_of_which_no_tenant_has_enough_for_a_whole_replica():
    """Two tenants have half a GPU each of the civil floor, and the work of both is paused."""
    both, policy = (
        [claim(f"civil/{name}:bulk", priority_class="batch") for name in "xy"],
        in_a_crisis(rules(civil=1000)),
    )
    seen = snapshot(FOUR, both, *(running(one, (place.id,)) for one, place in zip(both, FOUR[:2], strict=True)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert sum(granted(decision, one.id) for one in both) == 1


def test_in_a_crisis_a_floor_is_not_lost_to_a_sibling_that_might_run_there_and_runs_elsewhere():
    """Paused work of y might have the floor of A and finds its place on B: what x runs on A stays for that floor."""
    gang = claim("civil/x:gang", least=2, priority_class="batch")
    either = claim("civil/y:either", most=2, ladder=(Shape(flavors=("B", "A")),), priority_class="batch")
    both = tuple(Quota(flavor=flavor, nominal_millis=2000) for flavor in "AB")
    policy = in_a_crisis(rules(civil=2000, defence=0))
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=() if one.id == "civil/x" else both,
                floor_millis=(("A", 1000), ("B", 1000)) if one.id == "civil" else ())
        if one.domain == "civil" else one for one in policy.tenants
    ))  # fmt: skip
    on_b = [replace(device(name, "n1"), flavor="B") for name in ("H0", "H1")]
    seen = snapshot([*FOUR[:2], *on_b], [gang, either], running(gang, ("G0",), ("G1",)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert granted(decision, gang.id) == 2


def test_in_a_crisis_a_floor_is_not_lost_to_siblings_that_might_run_there_one_after_the_other():
    """Two claims of y might have the floor of A, the second once the first runs on B; then the second runs there too.

    What x runs on the only device of A, which was not seen, stays for that floor.
    """
    stays = claim("civil/x:stays", priority_class="batch")
    first = claim("civil/y:first", ladder=(Shape(flavors=("A", "B")),), submitted_at_ms=1)
    second = claim("civil/y:second", ladder=(Shape(flavors=("B", "A")),), priority_class="batch")
    both = tuple(Quota(flavor=flavor, nominal_millis=2000) for flavor in "AB")
    policy = in_a_crisis(rules(civil=2000, defence=0))
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=() if one.id == "civil/x" else both,
                floor_millis=(("A", 1000),) if one.id == "civil" else ())
        if one.domain == "civil" else one for one in policy.tenants
    ))  # fmt: skip
    on_b = [replace(device(name, "n1"), flavor="B") for name in ("H0", "H1")]
    gap = Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=0)
    seen = snapshot([FOUR[0], *on_b], [stays, first, second], running(stays, ("G0",)), gaps=(gap,))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert [granted(decision, one.id) for one in (stays, first, second)] == [1, 1, 1]


def test_a_crisis_may_pause_one_team_by_name_and_not_its_neighbour():
    both = [claim(f"civil/{name}:bulk", least=0, most=1, priority_class="batch") for name in ("x", "y")]
    policy = replace(
        rules(floor=0),
        overlays=(ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",), paused_tenants=("civil/x",)),),
        declaration=ModeDeclaration(mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS * 2,
                                    approvers=("ana", "ben")),
    )  # fmt: skip
    decision = decide(snapshot(FOUR, both), policy, Memory(), NOW_MS)
    assert [granted(decision, one.id) for one in both] == [0, 1]


def test_each_mode_has_its_own_overlay_and_a_mode_without_one_changes_nothing():
    both = (
        ModeOverlay(mode=OperatingMode.HEIGHTENED, fair_weights=(("civil", 3),)),
        ModeOverlay(mode=OperatingMode.CRISIS, fair_weights=(("civil", 7),), waived_floors=("defence",)),
    )
    for mode, weight in ((OperatingMode.HEIGHTENED, 3), (OperatingMode.CRISIS, 7), (OperatingMode.NORMAL, 1)):
        declared = replace(rules(), overlays=both, declaration=ModeDeclaration(
            mode=mode, declared_at_ms=10, expires_at_ms=20, approvers=("ana", "ben"),
        ))  # fmt: skip
        now = {one.id: one for one in effective(declared, 15).tenants}
        assert now["civil"].fair_weight == weight
        assert now["defence"].fair_weight == now["civil/x"].fair_weight == 1
        assert now["civil"].floor_millis == (("A", 1000),)
        assert now["defence"].floor_millis == (() if mode is OperatingMode.CRISIS else (("A", 1000),))
        assert [mode_in_force(declared, at) is mode for at in (9, 10, 19, 20)] == (
            [True] * 4 if mode is OperatingMode.NORMAL else [False, True, True, False]
        )
    assert overlay_in_force(replace(declared, overlays=both[:1], declaration=replace(
        declared.declaration, mode=OperatingMode.CRISIS,
    )), 15) is None  # fmt: skip


def test_what_is_paused_is_of_a_class_that_is_named_and_of_a_tenant_that_is_named_or_below_one():
    def paused(*tenants: str, **of: str) -> bool:
        overlay = ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",), paused_tenants=tenants)
        return is_paused(overlay, of.get("priority_class", "batch"), of.get("tenant", "civil/x"))

    assert paused()
    assert paused("civil")
    assert paused("defence", "civil/x")
    assert not paused(priority_class="standard")
    assert not paused("civil/x", tenant="civil")
    assert not paused("civil/x", tenant="civil/xy")
    assert not is_paused(None, "batch", "civil/x")
