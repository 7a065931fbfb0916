"""Nothing is given twice, in parts, or to whom it may not go."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given

from policies.decide import decide
from policies.invariants import check_decision
from policies.model.decision import EvictionReason, PendingReason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.memory import Hold, Memory
from policies.model.units import SecurityDomain
from policies.model.workload import Canary, ModelAccess
from tests.policies.looking import FEW, FOUR, SEEDS, granted, some_world
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, event, world
from tests.simulation.world import fleet


@FEW
@given(SEEDS)
def test_p1_nothing_is_allocated_twice_or_beyond_what_is_healthy(seed):
    _, made = some_world(seed)
    seen, decision, _ = made.turn()
    assert check_decision(seen, decision, made.policy) == ()


def test_p16_a_claim_that_is_given_to_another_domain_does_not_keep_its_place():
    mine = claim("civil/x:chat")
    runs = running(mine, ("G0",))
    moved = replace(mine, tenant="defence/x")
    decision = decide(snapshot([device("G0")], [moved], runs), rules(), Memory(), NOW_MS)
    assert all(binding.domain is SecurityDomain.DEFENCE for binding in decision.bindings if decision.placements)
    assert runs[1][0].id in {one.group for one in decision.evictions}


@pytest.mark.parametrize(
    "terms",
    [{"access": ModelAccess(shared_with=("civil/y", "defence/x"))}, {"canary": Canary(of="defence/x:chat")}],
    ids=["shares its model", "takes requests"],
)
def test_a_claim_that_reaches_into_the_other_domain_gets_no_place_and_says_why(terms):
    reaching, other = claim("civil/x:chat", model="m", **terms), claim("defence/x:chat", model="m")
    seen = snapshot(FOUR, [reaching, other], running(reaching, ("G0",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    said = next(one for one in decision.reasons if one.claim == reaching.id)
    assert (said.code, said.granted_replicas) == (PendingReason.DOMAIN_FORBIDDEN, 0)
    assert "reaches to defence/x, which is of the other domain" in said.sentence
    assert granted(decision, other.id) == 1


def test_p21_a_gang_gets_all_of_its_replicas_or_none():
    decision = decide(snapshot(FOUR, [claim("civil/x:gang", least=5, most=5)]), rules(civil=9000), Memory(), NOW_MS)
    assert decision.placements == ()
    decision = decide(snapshot(FOUR, [claim("civil/x:gang", least=4, most=5)]), rules(civil=9000), Memory(), NOW_MS)
    assert granted(decision, "civil/x:gang") == 4


def test_p24_a_lost_device_leaves_the_shares_at_once():
    wish = claim("civil/x:chat", least=0, most=4)
    sick = [*FOUR[:3], device("G3", health=DeviceHealth.QUARANTINED)]
    shares = decide(snapshot(sick, [wish]), rules(), Memory(), NOW_MS).entitlements
    assert sum(one.entitled_millis for one in shares if one.tenant == "civil") == 3000


def test_what_stands_on_a_lost_device_is_drained_also_where_no_host_is_left_that_could_carry_its_claim():
    wide = claim("civil/x:wide", devices=4)
    sick = [*FOUR[:3], device("G3", health=DeviceHealth.QUARANTINED)]
    decision = decide(
        snapshot(sick, [wide], running(wide, tuple(one.id for one in FOUR))), rules(civil=4000), Memory(), NOW_MS
    )
    assert [one.reason for one in decision.evictions] == [EvictionReason.DRAIN]
    assert next(one.code for one in decision.reasons) is PendingReason.TOPOLOGY_UNSATISFIED


SHARED = claim("civil/x:shared", millis=250, least=8, most=8)


@pytest.mark.parametrize(
    "others",
    [(), (replace(SHARED, ladder=(replace(SHARED.ladder[0], gpu_millis=1000),)),)],
    ids=["its claim is gone", "its claim now asks for whole devices"],
)
def test_what_stood_on_parts_of_a_device_stops_no_decision_whatever_became_of_its_claim(others):
    """By the shape that is known now, eight replicas on one device would be far more than there is."""
    workers, groups = running(SHARED, ("G0",))
    stands = workers, [replace(one, replicas=8, running=8) for one in groups]
    late = claim("civil/y:late", millis=500)
    kept = Memory(holds=tuple(Hold(device=one, claim=late.id, expires_at_ms=NOW_MS + 1) for one in ("G1", "G2")))
    seen = snapshot(FOUR[:3], [*others, late], stands)
    decision = decide(seen, rules(), kept, NOW_MS)
    assert granted(decision, late.id) == 1
    if not others:
        assert [one.reason for one in decision.evictions] == [EvictionReason.RELEASED]


@FEW
@given(SEEDS)
def test_p28_no_gpu_serves_two_domains_nor_passes_from_one_to_the_other_without_a_scrub(seed):
    dice = Dice(seed)
    made = world(dice)
    owner: dict[str, str] = {}
    for number in range(25):
        if dice.random() < 0.6:
            event(dice, made, number)
        made.step()
        for one in made.devices.values():
            if one.scrub is ScrubState.CLEAN and one.domain is None:
                owner.pop(one.id, None)
        on_gpu: dict[str, set[str]] = {}
        for worker in made.workers.values():
            for one in worker.devices:
                assert owner.setdefault(one, worker.domain) == worker.domain, "a device passed on without a scrub"
                on_gpu.setdefault(made.devices[one].gpu, set()).add(worker.domain)
        assert all(len(domains) == 1 for domains in on_gpu.values())


def test_p28_a_move_between_domains_is_made_of_a_stop_a_scrub_and_a_start_in_this_order():
    made = fleet(rules(), 1, flavor="A")
    lent = claim("civil/x:bulk")
    made.claims[lent.id] = lent
    made.settle()
    made.history.clear()
    made.claims = {"defence/x:triage": claim("defence/x:triage")}
    made.settle()
    steps = ["stop_routing", "stop_group", "stop_worker", "scrub_device", "start_worker", "start_group"]
    places = [made.history.index(step) for step in steps]
    assert all(before < after for before, after in pairwise(places))
