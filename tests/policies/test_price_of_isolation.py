"""What two domains on separate devices cost, as operators see it: only what somebody waits for and may not use."""

from __future__ import annotations

import pytest

from policies.decide import decide
from policies.fleet.isolation import price_of_isolation
from policies.model.memory import Memory
from policies.model.units import SecurityDomain
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together

DEFENCE, CIVIL = SecurityDomain.DEFENCE, SecurityDomain.CIVIL


def price(waiting_millis: int, held_millis: int, **of_device) -> dict:
    """Defence fills part of the only device; a civil claim asks for some of it."""
    theirs = claim("defence/x:radar", millis=held_millis, priority_class="pinned")
    ours = claim("civil/x:chat", millis=waiting_millis)
    seen = snapshot([device("G0", **of_device)], [theirs, ours], running(theirs, ("G0",)))
    policy = rules(civil=1000, defence=1000, floor=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert [one.claim for one in decision.placements] == [theirs.id], "defence stays, civil waits"
    return price_of_isolation(seen, decision, policy)


def test_the_idle_rest_of_a_device_is_what_isolation_costs_the_domain_that_waits_for_it():
    assert price(400, 600) == {(DEFENCE, "A"): 0, (CIVIL, "A"): 400}


@pytest.mark.parametrize("waiting_millis", [401, 1000])
def test_what_would_not_fit_anyway_is_no_cost_of_isolation(waiting_millis: int):
    assert price(waiting_millis, 600)[CIVIL, "A"] == 0


def test_who_waits_for_nothing_pays_nothing():
    theirs = claim("defence/x:radar", millis=600)
    seen = snapshot([device("G0")], [theirs], running(theirs, ("G0",)))
    assert set(price_of_isolation(seen, decide(seen, rules(), Memory(), NOW_MS), rules()).values()) == {0}


def test_the_parts_of_one_gpu_count_although_the_other_domain_is_on_another_part():
    theirs, ours = claim("defence/x:radar", priority_class="pinned"), claim("civil/x:chat")
    parts = [device("M0", gpu="G0"), device("M1", gpu="G0")]
    seen = snapshot(parts, [theirs, ours], *together([running(theirs, ("M0",))]))
    policy = rules(civil=1000, defence=1000, floor=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert price_of_isolation(seen, decision, policy)[CIVIL, "A"] == 1000
