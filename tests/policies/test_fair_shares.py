"""Who gets how much when not everybody can have everything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.documents.soundness import faults_of_policy
from policies.explaining.queueing import told
from policies.model.memory import Memory, UsageRecord
from policies.model.tenancy import Quota, Tenant
from policies.model.units import UNLIMITED
from policies.model.workload import Shape
from tests.policies.looking import FEW, FOUR, SEEDS, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice
from tests.simulation.generate import policy as generated


@pytest.mark.parametrize("weight", [0, 1, 10**12])
def test_p10_and_p23_extreme_weights_decide_and_end(weight):
    policy = rules(civil=0, defence=0, floor=0)
    tenants = tuple(replace(one, fair_weight=weight) if one.id == "civil" else one for one in policy.tenants)
    wishes = [claim("civil/x:a", least=0, most=4), claim("defence/x:a", least=0, most=4)]
    decision = decide(snapshot(FOUR, wishes), replace(policy, tenants=tenants), Memory(), NOW_MS)
    assert granted(decision, "civil/x:a") + granted(decision, "defence/x:a") == 4
    assert weight != 0 or granted(decision, "civil/x:a") == 0


@FEW
@given(st.lists(st.tuples(st.sampled_from(("civil/x", "civil/y", "defence/x", "defence/y")), st.integers(1, 3)),
                min_size=1, max_size=6), st.integers(0, 6))  # fmt: skip
def test_p13_no_device_idles_while_a_claim_that_could_use_it_waits(asked, count):
    wishes = [claim(f"{tenant}:c{i}", least=0, most=most) for i, (tenant, most) in enumerate(asked)]
    decision = decide(snapshot([device(f"G{i}") for i in range(count)], wishes), rules(), Memory(), NOW_MS)
    total = sum(reason.granted_replicas for reason in decision.reasons)
    assert total == min(count, sum(most for _, most in asked))


@FEW
@given(st.integers(1, 6), st.integers(1, 4))
def test_p15_splitting_a_claim_into_many_brings_its_tenant_nothing(parts, count):
    whole = [claim("civil/x:one", least=0, most=parts), claim("civil/y:other", least=0, most=4)]
    split = [claim(f"civil/x:part{i}", least=0, most=1) for i in range(parts)] + whole[1:]
    devices = [device(f"G{i}") for i in range(count)]

    def held(wishes):
        decision = decide(snapshot(devices, wishes), rules(), Memory(), NOW_MS)
        return sum(reason.granted_replicas for reason in decision.reasons if reason.claim.startswith("civil/x"))

    assert held(split) <= held(whole) + 1


def test_yesterdays_heavy_borrower_waits_behind_the_light_one():
    heavy, light = claim("civil/x:a"), claim("civil/y:b", submitted_at_ms=1)
    past = Memory(usage=(UsageRecord(tenant="civil/x", flavor="A", milli_seconds=10**9, at_ms=NOW_MS),))
    policy = rules(civil=0, defence=0, floor=0)
    seen = snapshot([device("G0")], [heavy, light])
    assert granted(decide(seen, policy, Memory(), NOW_MS), heavy.id) == 1
    assert granted(decide(seen, policy, past, NOW_MS), light.id) == 1


def test_of_what_a_domain_lends_to_its_own_tenants_the_lighter_user_of_the_past_is_served_first():
    first, second = (claim(f"civil/{name}:one", submitted_at_ms=place) for place, name in enumerate("xy"))
    seen = snapshot([device("G0")], [first, second])
    policy = rules(civil=1000, defence=0, floor=0)
    for heavy, served in (("civil/x", second), ("civil/y", first)):
        past = Memory(usage=(UsageRecord(tenant=heavy, flavor="A", milli_seconds=10**9, at_ms=NOW_MS),))
        decision = decide(seen, policy, past, NOW_MS)
        assert [one.claim for one in decision.placements] == [served.id]


def test_whoever_runs_on_what_its_domain_lends_is_not_taken_from_for_what_it_used_before():
    runs, waits = (claim(f"civil/{name}:one", submitted_at_ms=place) for place, name in enumerate("xy"))
    seen = snapshot([device("G0")], [runs, waits], running(runs, ("G0",)))
    past = Memory(usage=(UsageRecord(tenant="civil/x", flavor="A", milli_seconds=10**9, at_ms=NOW_MS),))
    assert not decide(seen, rules(civil=1000, defence=0, floor=0), past, NOW_MS).evictions


WISHES = st.lists(st.tuples(st.sampled_from(("civil/x", "civil/y", "defence/x", "defence/y")), st.integers(1, 5)),
                  min_size=1, max_size=5)  # fmt: skip


def shares_of(decision, flavor: str) -> dict[str, tuple[int, int]]:
    return {
        one.tenant: (one.guaranteed_millis, one.entitled_millis)
        for one in decision.entitlements if one.flavor == flavor
    }  # fmt: skip


def of_flavor(flavor: str, prefix: str, wishes) -> list:
    return [
        claim(f"{tenant}:{prefix}{i}", least=0, most=most, ladder=(Shape(flavors=(flavor,)),))
        for i, (tenant, most) in enumerate(wishes)
    ]


@FEW
@given(WISHES, WISHES)
def test_p9_what_anybody_asks_of_one_flavor_has_no_effect_on_the_shares_of_another(first, second):
    policy = rules()
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(*one.quotas, Quota(flavor="B", nominal_millis=0))) for one in policy.tenants
    ))  # fmt: skip
    seen = snapshot([*FOUR, *(replace(device(f"H{i}"), flavor="B") for i in range(2))], of_flavor("A", "a", first))
    alone = decide(seen, policy, Memory(), NOW_MS)
    crowded = replace(seen, claims=(*seen.claims, *of_flavor("B", "b", second)))
    both = decide(crowded, policy, Memory(), NOW_MS)
    assert shares_of(alone, "A") == shares_of(both, "A")
    assert all(granted(alone, one.id) == granted(both, one.id) for one in seen.claims)


@FEW
@given(WISHES, st.integers(4, 9))
def test_p12_everybody_has_its_quota_or_demand_and_each_domain_its_part_of_the_surplus_up_to_a_replica(asked, count):
    wishes = of_flavor("A", "c", asked)
    decision = decide(snapshot([device(f"G{i}") for i in range(count)], wishes), rules(), Memory(), NOW_MS)
    wants: dict[str, int] = {}
    has: dict[str, int] = {}
    for one in wishes:
        for tenant in (one.tenant, one.tenant.split("/")[0]):
            wants[tenant] = wants.get(tenant, 0) + one.max_replicas
            has[tenant] = has.get(tenant, 0) + granted(decision, one.id)
    for tenant, want in wants.items():
        if "/" in tenant:
            assert has[tenant] >= min(want, 1)
        else:
            assert has[tenant] >= min(want, 2 + (count - 4) // 2)


@FEW
@given(WISHES, st.integers(0, 8))
def test_p14_another_device_takes_nothing_from_anybody(asked, count):
    wishes = of_flavor("A", "c", asked)
    before, after = (
        decide(snapshot([device(f"G{i}") for i in range(number)], wishes), rules(), Memory(), NOW_MS)
        for number in (count, count + 1)
    )
    entitled = shares_of(after, "A")
    assert all(entitled[tenant][1] >= amount - 2 for tenant, (_, amount) in shares_of(before, "A").items())


DAMAGES = {
    "lends more than it has": ("lending_limit_millis", lambda q: replace(q, lending_limit_millis=q.nominal_millis + 1)),
    "owns less than nothing": (
        "nominal_millis",
        lambda q: replace(q, nominal_millis=-1, lending_limit_millis=UNLIMITED),
    ),
    "may borrow less than nothing": ("borrowing_limit_millis", lambda q: replace(q, borrowing_limit_millis=-1)),
}


@FEW
@given(SEEDS, st.sampled_from(sorted(DAMAGES)), st.integers(0, 20))
def test_p20_a_policy_that_contradicts_itself_is_refused_with_the_place_of_the_fault(seed, damage, which):
    policy = generated(Dice(seed))
    assert list(faults_of_policy(policy)) == []
    index = which % len(policy.tenants)
    field, change = DAMAGES[damage]
    tenant = policy.tenants[index]
    broken = replace(tenant, quotas=(change(tenant.quotas[0]), *tenant.quotas[1:]))
    tenants = tuple(broken if one is tenant else one for one in policy.tenants)
    places = [path for path, _ in faults_of_policy(replace(policy, tenants=tenants))]
    assert ("tenants", index, "quotas", 0, field) in places


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda one: replace(one, parent="civil/y") if one.id == "civil" else one, "parent"),
        (lambda one: replace(one, parent="nobody") if one.id == "civil/x" else one, "parent"),
        (lambda one: replace(one, floor_millis=(("A", 9000),)) if one.id == "civil" else one, "floor_millis"),
        (lambda one: replace(one, quotas=(Quota(flavor="A", nominal_millis=9000),)) if one.id == "civil/x" else one,
         "quotas"),
    ],
)  # fmt: skip
def test_p20_a_tree_that_is_none_and_children_that_are_promised_more_than_their_parent_are_refused(change, place):
    policy = rules()
    tenants: tuple[Tenant, ...] = tuple(change(one) for one in policy.tenants)
    assert place in {path[2] for path, _ in faults_of_policy(replace(policy, tenants=tenants))}


@FEW
@given(st.integers(2, 12), st.integers(1, 4))
def test_p34_what_is_judged_once_for_many_is_judged_as_if_each_stood_alone(count, devices):
    """A serving claim's duration has no meaning, but claims that differ in it share nothing while they are judged."""
    alike = [claim(f"civil/x:c{i:02}", submitted_at_ms=i, priority_class="standard" if i % 3 else "critical")
             for i in range(count)]  # fmt: skip
    apart = [replace(one, duration_s=100 + i) for i, one in enumerate(alike)]
    said = [
        [(one.claim, one.code, one.granted_replicas, one.position) for one in told(decide(
            snapshot([device(f"G{i}") for i in range(devices)], wishes), rules(), Memory(), NOW_MS), wishes).reasons]
        for wishes in (alike, apart)
    ]  # fmt: skip
    assert said[0] == said[1]


def test_of_two_tenants_or_classes_of_one_name_the_second_is_at_fault():
    policy = rules()
    twice = replace(policy, tenants=(*policy.tenants, policy.tenants[0]),
                    priority_classes=(*policy.priority_classes, policy.priority_classes[1]))  # fmt: skip
    places = {path for path, fault in faults_of_policy(twice) if "twice" in fault}
    assert places == {("tenants", len(policy.tenants)), ("priority_classes", len(policy.priority_classes))}


@pytest.mark.parametrize(("lends", "borrowed"), [(0, 0), (1000, 1000), (2000, 2000)])
def test_what_a_domain_does_not_lend_stays_free_although_nobody_there_wants_it(lends, borrowed):
    policy = rules(floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(replace(one.quotas[0], lending_limit_millis=lends),)) if one.id == "defence" else one
        for one in policy.tenants
    ))  # fmt: skip
    wish = claim("civil/x:bulk", least=0, most=4)
    decision = decide(snapshot(FOUR, [wish]), policy, Memory(), NOW_MS)
    assert granted(decision, wish.id) == 2 + borrowed // 1000


def test_a_tenant_that_borrows_keeps_nothing_back():
    policy = rules(civil=2000, defence=0, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(replace(one.quotas[0], lending_limit_millis=0),)) if one.id.startswith("civil") else one
        for one in policy.tenants
    ))  # fmt: skip
    wishes = [claim("civil/x:bulk", least=0, most=3), claim("defence/x:bulk", least=0, most=4, submitted_at_ms=1)]
    decision = decide(snapshot(FOUR, wishes), policy, Memory(), NOW_MS)
    assert sum(reason.granted_replicas for reason in decision.reasons) == 4
