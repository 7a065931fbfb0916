"""What is there can be used to its last unit, and not one unit further: devices, their memory, hosts, quotas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.fleet.isolation import price_of_isolation
from policies.invariants import check_decision
from policies.model.memory import Memory
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

WHOLE = {"gpu_millis": 500, "memory_mib": 40_000, "cpu_millis": 32_000, "host_memory_mib": 250_000}
"""Half of the only device, of its memory, and of the only host."""
EACH = sorted(WHOLE)


def half(name: str, **more: int):
    return claim(name, ladder=(Shape(flavors=("A",), **(WHOLE | more)),))


@pytest.mark.parametrize("what", EACH)
@pytest.mark.parametrize(("too_much", "served"), [(0, 1), (1, 0)])
def test_two_halves_fill_a_host_and_one_unit_more_waits(what, too_much, served):
    first, second = half("civil/x:first"), half("civil/x:second", **{what: WHOLE[what] + too_much})
    seen = snapshot([device("G0")], [first, second], running(first, ("G0",)))
    policy = rules(civil=4000, defence=0, floor=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert (granted(decision, first.id), granted(decision, second.id)) == (1, served)
    assert check_decision(seen, decision, policy) == ()


@pytest.mark.parametrize(
    ("what", "too_much", "left"), [*((what, 0, 1) for what in EACH), ("gpu_millis", 1, 2), ("memory_mib", 1, 2)]
)
def test_who_takes_back_makes_no_more_leave_than_it_needs_to_the_last_unit(what, too_much, left):
    """Two halves are lent; their owner wants one of them, and a little more in one respect."""
    lent = [half(f"civil/{name}:lent") for name in ("x", "y")]
    owner = half("civil/z:owner", **{what: WHOLE[what] + too_much})
    policy = rules(civil=1000, defence=0, floor=0)
    none, all_of_it = (Quota(flavor="A", nominal_millis=millis) for millis in (0, 1000))
    top, *teams = [one for one in policy.tenants if one.domain is SecurityDomain.CIVIL]
    heir = replace(teams[0], id="civil/z", quotas=(all_of_it,))
    policy = replace(policy, tenants=(top, heir, *(replace(one, quotas=(none,)) for one in teams)))
    seen = snapshot([device("G0")], [*lent, owner], *_on_one(lent))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert len(decision.evictions) == left
    assert granted(decision, owner.id) == 1


def _on_one(claims):
    first, *rest = [running(one, ("G0",)) for one in claims]
    return [first, *(([], groups) for _, groups in rest)]


@pytest.mark.parametrize(("what", "most"), [("gpu_millis", 400), ("memory_mib", 80_000), ("cpu_millis", 64_000),
                                            ("host_memory_mib", 500_000)])  # fmt: skip
@pytest.mark.parametrize("too_much", [0, 1])
def test_isolation_costs_what_would_fit_to_the_last_unit_and_nothing_that_would_not(what, most, too_much):
    theirs = claim("defence/x:radar", millis=600, priority_class="pinned")
    ours = claim("civil/x:chat", ladder=(Shape(flavors=("A",), **({"gpu_millis": 400} | {what: most + too_much})),))
    seen = snapshot([device("G0")], [theirs, ours], running(theirs, ("G0",)))
    policy = rules(civil=1000, defence=1000, floor=0)
    price = price_of_isolation(seen, decide(seen, policy, Memory(), NOW_MS), policy)
    assert price[SecurityDomain.CIVIL, "A"] == (0 if too_much else 400)


@pytest.mark.parametrize(("least", "served"), [(2, 2), (3, 0)])
def test_a_quota_that_nobody_may_exceed_is_used_to_its_end(least, served):
    policy = rules(civil=2000, defence=2000, floor=0)

    def bounded(one):
        most = 1000 if one.parent else 0
        return replace(one, quotas=tuple(replace(quota, borrowing_limit_millis=most) for quota in one.quotas))

    policy = replace(policy, tenants=tuple(map(bounded, policy.tenants)))
    seen = snapshot([device(f"G{index}") for index in range(4)], [claim("civil/x:gang", least=least)])
    assert granted(decide(seen, policy, Memory(), NOW_MS), "civil/x:gang") == served
