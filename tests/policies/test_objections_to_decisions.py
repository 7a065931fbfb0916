"""What the second program says of each statement of a decision: nothing up to the limit, one rule beyond it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.invariants import check_alone, check_decision
from policies.model.decision import ClaimState, PendingReason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.memory import Memory
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
POLICY = rules(floor=1000)
ONE, TWO = claim("civil/x:one", most=3, desired=1), claim("defence/x:two", least=0, most=4)
SEEN = snapshot(FOUR, [ONE, TWO], running(ONE, ("G0",)))
SOUND = decide(SEEN, POLICY, Memory(), NOW_MS)
GROUP = SEEN.groups[0]


def objections(decision, seen=SEEN, policy=POLICY) -> set[tuple[str, str]]:
    return {(one.rule, one.subject) for one in check_decision(seen, decision, policy)}


def rules_of(decision, seen=SEEN, policy=POLICY) -> set[str]:
    return {rule for rule, _ in objections(decision, seen, policy)}


def only(decision, name: str, **changes):
    """The decision in which the placements of this claim are changed."""
    return replace(decision, placements=tuple(
        replace(one, **changes) if one.claim == name else one for one in decision.placements
    ))  # fmt: skip


def room(cpu: int, memory: int, seen):
    return replace(seen, nodes=tuple(replace(one, cpu_millis=cpu, memory_mib=memory) for one in seen.nodes))


HEAVY = (Shape(flavors=("A",), gpu_millis=500, cpu_millis=3_000, host_memory_mib=5_000),)


@pytest.mark.parametrize(
    ("cpu", "memory", "fits"), [(9_000, 15_000, True), (8_999, 15_000, False), (9_000, 14_999, False)]
)
def test_a_host_carries_all_that_is_on_it_once_something_starts_there(cpu, memory, fits):
    stays, comes = claim("civil/x:stays", ladder=HEAVY), claim("civil/y:comes", ladder=HEAVY, least=2)
    seen = snapshot(FOUR[:2], [stays, comes], running(stays, ("G0",)))
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    assert sum(one.replicas for one in decision.placements) == 3
    assert rules_of(decision, room(cpu, memory, seen)) == (set() if fits else {"sums_within_capacity"})


def test_a_host_that_became_too_small_keeps_what_runs_and_takes_no_more():
    pair = claim("civil/x:pair", ladder=HEAVY, most=2, desired=2)
    seen = snapshot(FOUR[:1], [pair], running(pair, ("G0",)))
    both = replace(seen, groups=(replace(seen.groups[0], replicas=2, running=2),))
    grown = decide(both, POLICY, Memory(), NOW_MS)
    assert rules_of(grown, room(10, 10, both)) == set()
    assert rules_of(grown, room(10, 10, seen)) == {"sums_within_capacity"}
    elsewhere = replace(room(10, 10, seen), nodes=())
    assert rules_of(grown, elsewhere) == set(), "of a host that is not listed nothing is known"


@pytest.mark.parametrize(("count", "whole"), [(1, False), (2, True), (3, True), (4, False)])
def test_a_gang_has_all_of_its_replicas_in_however_many_groups_and_no_more_than_its_most(count, whole):
    gang = claim("civil/x:gang", least=2, most=3, desired=3)
    seen = snapshot(FOUR, [gang], running(gang, *((one.id,) for one in FOUR[:3])))
    decision = decide(seen, rules(civil=4000), Memory(), NOW_MS)
    one, *others = decision.placements
    made = replace(decision, placements=(replace(one, replicas=count - 1), others[0]) if count > 1 else (one,))
    assert (("gangs_are_whole", gang.id) not in objections(made, seen, rules(civil=4000))) == whole


@pytest.mark.parametrize("state", [
    {"health": DeviceHealth.SUSPECT}, {"health": DeviceHealth.QUARANTINED}, {"scrub": ScrubState.FAILED},
])  # fmt: skip
def test_nothing_starts_on_a_device_that_is_not_sound_and_what_runs_there_may_stay(state):
    sick = replace(SEEN, devices=tuple(replace(one, **state) for one in SEEN.devices))
    subjects = {subject for rule, subject in objections(SOUND, sick) if rule == "new_work_goes_to_healthy_devices"}
    assert subjects == {"G1", "G2", "G3"}


@pytest.mark.parametrize("gap", [(GapKind.DEVICE, "G1"), (GapKind.NODE, "n0"), (GapKind.CLUSTER, "mars")])
def test_nothing_starts_on_a_device_or_a_host_that_was_not_seen(gap):
    hidden = replace(SEEN, gaps=(Gap(kind=gap[0], subject=gap[1], cause="timeout", since_ms=0),))
    subjects = {subject for rule, subject in objections(SOUND, hidden) if rule == "new_work_goes_to_healthy_devices"}
    assert subjects == {"G1": {"G1"}, "n0": {"G1", "G2", "G3"}, "mars": set()}[gap[1]]
    gone = replace(SEEN, devices=SEEN.devices[:1])
    assert ("new_work_goes_to_healthy_devices", "G1") in objections(SOUND, gone)


def test_nobody_runs_for_a_claim_that_is_not_there_or_is_of_the_other_domain():
    [mine] = [one for one in SOUND.placements if one.claim == ONE.id]
    for name in ("civil/x:ghost", TWO.id):
        assert ("tenants_run_in_their_own_domain", mine.group) in objections(only(SOUND, ONE.id, claim=name))
    over = replace(SEEN, claims=(replace(ONE, expires_at_ms=NOW_MS), TWO))
    assert ("the_expired_leave", mine.group) in objections(SOUND, over)
    soon = replace(SEEN, claims=(replace(ONE, expires_at_ms=NOW_MS + 1), TWO))
    assert objections(SOUND, soon) == set()


def test_each_claim_has_one_reason():
    [mine] = [one for one in SOUND.reasons if one.claim == ONE.id]
    assert objections(replace(SOUND, reasons=(*SOUND.reasons, mine))) == {("one_reason_per_claim", ONE.id)}
    without = replace(SOUND, reasons=tuple(one for one in SOUND.reasons if one is not mine))
    assert ("one_reason_per_claim", ONE.id) in objections(without)


@pytest.mark.parametrize("figure", ["guaranteed", "entitled", "held", "borrowed", "lent"])
def test_no_figure_of_a_share_is_below_zero(figure):
    def told(amount: int):
        return replace(SOUND, entitlements=tuple(
            replace(one, **{f"{figure}_millis": amount}) if one.tenant == "civil/y" else one
            for one in SOUND.entitlements
        ))  # fmt: skip

    assert ("no_amount_is_negative", "civil/y") in objections(told(-1))
    assert ("no_amount_is_negative", "civil/y") not in objections(told(0))


@pytest.mark.parametrize(("civil", "fits"), [(2000, True), (2001, False)])
def test_domains_are_promised_together_no_more_than_exists(civil, fits):
    told = replace(SOUND, entitlements=tuple(
        replace(one, entitled_millis={"civil": civil, "defence": 2000}.get(one.tenant, 9_000))
        for one in SOUND.entitlements
    ))  # fmt: skip
    assert (("sums_within_capacity", "A") not in objections(told)) == fits


SOME_CODE = PendingReason.WAITING_FOR_QUOTA


def test_a_group_that_runs_stays_on_its_devices_unless_it_changes_its_size():
    pair = claim("civil/x:pair", devices=2)
    seen = snapshot(FOUR, [pair], running(pair, ("G0", "G1")))
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    rule = ("groups_are_of_their_claims_ladder", seen.groups[0].id)
    assert objections(decision, seen) == set()
    assert rule in objections(only(decision, pair.id, devices=("G0", "G2")), seen)
    assert rule not in objections(only(decision, pair.id, devices=("G0", "G2"), replicas=2), seen)
    four = replace(seen, groups=(replace(seen.groups[0], devices=("G0", "G1", "G2", "G3")),))
    assert rule not in objections(only(decision, pair.id, devices=("G2", "G3")), four), (
        "what it has too much it gives up"
    )
    assert rule in objections(only(decision, pair.id, devices=("G2", "G9")), four)
    odd = replace(seen, groups=(replace(seen.groups[0], rung=5),))
    assert rule not in objections(only(decision, pair.id, devices=("G1",), rung=5), odd)


def test_a_new_group_has_the_devices_that_its_replicas_need_of_a_kind_that_its_rung_accepts():
    pair = claim("civil/x:pair", devices=2)
    seen = snapshot(FOUR, [pair])
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    [made] = decision.placements
    rule = ("groups_are_of_their_claims_ladder", made.group)
    assert rule in objections(only(decision, pair.id, devices=("G0", "G1", "G2")), seen)
    assert rule not in objections(only(decision, pair.id, devices=("G0", "G1", "G2", "G3"), replicas=2), seen)
    other = replace(seen, devices=tuple(replace(one, flavor="B") for one in seen.devices))
    assert rule in objections(decision, other)
    any_kind = replace(seen, claims=(replace(pair, ladder=(Shape(flavors=(), devices=2),)),))
    assert rule not in objections(decision, replace(any_kind, devices=other.devices))


STATES = {
    (ClaimState.SERVED, 2, 2): True, (ClaimState.SERVED, 3, 2): True, (ClaimState.SERVED, 1, 2): False,
    (ClaimState.DEGRADED, 1, 2): True, (ClaimState.DEGRADED, 0, 2): False, (ClaimState.WAITING, 0, 2): True,
    (ClaimState.WAITING, 1, 2): False,
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_a_claim_is_called_what_its_replicas_make_it(state):
    name, has, wants = state
    told = replace(SOUND, reasons=tuple(
        replace(one, state=name, granted_replicas=has, wanted_replicas=wants, code=SOME_CODE) if one.claim == ONE.id
        else one for one in SOUND.reasons
    ))  # fmt: skip
    assert (("states_follow_from_replicas", ONE.id) not in objections(told)) == STATES[state]
    assert (("reasons_follow_from_placements", ONE.id) in objections(told)) == (has != 1)


def test_a_share_is_held_as_it_is_placed_by_the_larger_part_of_computing_and_memory():
    wide = claim("civil/x:wide", ladder=(Shape(flavors=("A",), gpu_millis=300, memory_mib=50_000),))
    seen = snapshot([device("G0"), replace(device("G1"), memory_mib=100_000)], [wide])
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    assert objections(decision, seen) == set()
    [held] = {one.held_millis for one in decision.entitlements if one.tenant == "civil"}
    assert held == 625, "50000 of the 80000 MiB that the smaller of the devices has"
    wrong = replace(decision, entitlements=tuple(
        replace(one, held_millis=500) if one.tenant == "civil/x" else one for one in decision.entitlements
    ))  # fmt: skip
    assert objections(wrong, seen) == {("shares_follow_from_placements", "civil/x")}
    own = replace(wrong, entitlements=(*decision.entitlements, replace(wrong.entitlements[0], tenant="civil/.")))
    assert "shares_follow_from_placements" not in rules_of(own, seen)
    assert "shares_are_of_known_tenants" not in rules_of(own, seen)


def test_without_the_policy_tenants_stand_below_whoever_is_named_above_them():
    """The shares of the domain count once, not with those of its teams a second time."""
    told = replace(SOUND, entitlements=tuple(
        replace(one, entitled_millis=4000 if one.tenant.startswith("civil") else 0) for one in SOUND.entitlements
    ))  # fmt: skip
    assert check_alone(SEEN, told) == ()
    deeper = replace(told, entitlements=(*told.entitlements, replace(told.entitlements[0], tenant="civil/x/far/below",
                                                                     entitled_millis=4000, held_millis=0)))  # fmt: skip
    assert check_alone(SEEN, deeper) == ()
    strange = replace(told, entitlements=(*told.entitlements, replace(told.entitlements[0], tenant="mars/x")))
    assert {one.rule for one in check_alone(SEEN, strange)} == {"shares_are_of_known_tenants"}


@pytest.mark.parametrize(("memory_mib", "fits"), [(80_000, True), (79_999, False)])
def test_the_memory_of_a_device_is_filled_to_the_last_unit_and_no_further(memory_mib, fits):
    half = claim("civil/x:half", ladder=(Shape(flavors=("A",), gpu_millis=500, memory_mib=40_000),), least=2)
    seen = snapshot(FOUR[:1], [half])
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    assert sum(one.replicas for one in decision.placements) == 2
    narrow = replace(seen, devices=(replace(seen.devices[0], memory_mib=memory_mib),))
    assert (("sums_within_capacity", "G0") not in objections(decision, narrow)) == fits
