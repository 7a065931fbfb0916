"""A decision that somebody wrote or changed by hand: what it names wrongly, leaves out or says falsely is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.invariants import check_alone, check_decision
from policies.model.decision import ClaimState, Eviction, EvictionReason
from policies.model.memory import Memory
from policies.model.workload import Shape
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot

LENT = claim("civil/x:chat", least=1, most=3, desired=3)
GANG = claim("defence/x:gang", ladder=(Shape(flavors=("A",), variant="whole"),), least=2, most=2)
SEEN = snapshot(FOUR, [LENT, GANG], running(LENT, ("G0",), ("G1",), ("G2",)))
POLICY = rules()
SOUND = decide(SEEN, POLICY, Memory(), NOW_MS)
LEAVES = SOUND.evictions[0]
NEW = next(one for one in SOUND.placements if one.claim == GANG.id)
HELD = next(one for one in SOUND.placements if one.claim == LENT.id)


def placed(one, **otherwise):
    """The decision with this placement changed."""
    return replace(
        SOUND, placements=tuple(replace(each, **otherwise) if each is one else each for each in SOUND.placements)
    )


def bound(worker, **otherwise):
    """The decision with this worker changed."""
    return replace(SOUND, bindings=tuple(
        replace(each, **otherwise) if each.worker == worker else each for each in SOUND.bindings
    ))  # fmt: skip


def told(**otherwise):
    """The decision that says this of the claim that lends."""
    return replace(SOUND, reasons=tuple(
        replace(each, **otherwise) if each.claim == LENT.id else each for each in SOUND.reasons
    ))  # fmt: skip


def shared(**otherwise):
    """The decision that says this of the shares of civil/x."""
    return replace(SOUND, entitlements=tuple(
        replace(each, **otherwise) if each.tenant == "civil/x" else each for each in SOUND.entitlements
    ))  # fmt: skip


def leaving(**otherwise):
    return replace(SOUND, evictions=(replace(LEAVES, **otherwise),))


FALSE = {
    "a worker twice": (replace(SOUND, bindings=(*SOUND.bindings, SOUND.bindings[0])), "each_is_named_once"),
    "a group twice": (replace(SOUND, placements=(*SOUND.placements, NEW)), "each_is_named_once"),
    "a worker of no device": (bound(NEW.worker, devices=()), "workers_are_as_they_are"),
    "a worker on another host": (bound(NEW.worker, node="n9"), "workers_are_as_they_are"),
    "a worker that changes domain": (bound(HELD.worker, domain="defence"), "workers_are_as_they_are"),
    "a rung below the ladder": (placed(NEW, rung=5), "groups_are_of_their_claims_ladder"),
    "a rung before the ladder": (placed(NEW, rung=-1), "groups_are_of_their_claims_ladder"),
    "another variant": (placed(NEW, variant="small"), "groups_are_of_their_claims_ladder"),
    "a group on nothing": (placed(NEW, devices=()), "groups_are_of_their_claims_ladder"),
    "a group of no replica": (placed(NEW, replicas=0), "groups_are_of_their_claims_ladder"),
    "a group that runs for somebody else": (placed(HELD, claim=GANG.id), "groups_are_of_their_claims_ladder"),
    "an unknown group leaves": (leaving(group="nobody"), "who_leaves_is_known"),
    "a group of another claim leaves": (leaving(claim=GANG.id), "who_leaves_is_known"),
    "taken for nobody": (leaving(beneficiary=None), "victims_make_room"),
    "nothing said of a group": (replace(SOUND, evictions=()), "every_group_stays_or_leaves"),
    "a group that stays and leaves": (
        replace(SOUND, evictions=(LEAVES, Eviction(
            group=HELD.group, claim=LENT.id, reason=EvictionReason.RECLAIM, beneficiary=GANG.id, cost=0
        ))), "every_group_stays_or_leaves",
    ),
    "more granted than placed": (told(granted_replicas=3), "reasons_follow_from_placements"),
    "waiting without a code": (told(code=None), "every_wait_has_a_code"),
    "served with too few": (told(state=ClaimState.SERVED), "states_follow_from_replicas"),
    "an unknown claim": (told(claim="civil/x:ghost"), "one_reason_per_claim"),
    "a share that was not placed": (shared(held_millis=0), "shares_follow_from_placements"),
    "a share of nobody": (shared(tenant="mars"), "shares_are_of_known_tenants"),
    "no shares": (replace(SOUND, entitlements=()), "every_share_is_told"),
}  # fmt: skip


@pytest.mark.parametrize("what", FALSE)
def test_what_a_decision_says_falsely_is_named(what):
    tampered, rule = FALSE[what]
    assert rule in {one.rule for one in check_decision(SEEN, tampered, POLICY)}


def test_what_was_not_tampered_with_has_no_objection_with_and_without_its_policy():
    assert check_decision(SEEN, SOUND, POLICY) == ()
    assert check_alone(SEEN, SOUND) == ()


@pytest.mark.parametrize("what", set(FALSE) - {"no shares", "a share of nobody"})
def test_most_of_it_is_named_without_the_policy_too(what):
    tampered, rule = FALSE[what]
    assert rule in {one.rule for one in check_alone(SEEN, tampered)}


def test_a_floor_is_judged_by_what_is_placed_and_not_by_what_is_said_to_be_held():
    """All of civil leaves for the gang, and the shares go on saying that it holds what it held."""
    mine = [one for one in SOUND.placements if one.claim == LENT.id]
    gone = tuple(
        Eviction(group=one.group, claim=LENT.id, reason=EvictionReason.RECLAIM, beneficiary=GANG.id, cost=0)
        for one in mine
    )
    taken = replace(
        SOUND, evictions=(LEAVES, *gone), placements=tuple(one for one in SOUND.placements if one not in mine)
    )
    assert "no_victim_below_its_floor" in {one.rule for one in check_decision(SEEN, taken, POLICY)}
