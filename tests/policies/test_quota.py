"""What counts as capacity, what is asked for, and what reservations keep, each by itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given

from policies.evidence.survey import survey
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.memory import Memory, UsageRecord
from policies.model.tenancy import Quota
from policies.model.workload import Reservation, Shape
from policies.shares.quota import (
    caps,
    count_demand,
    demands,
    healthy_capacity,
    kept_at_start,
    reserved_now,
    shares,
    starts_ms,
    wanted_of,
)
from policies.wishes.admission import asks
from policies.wishes.admission import fleet as fleet_of
from tests.policies.looking import FEW, FOUR, SEEDS, looked_at, offered_in_fair_order
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice

ONE = claim("civil/x:one")


def looked(seen, policy=None, now_ms: int = NOW_MS):
    return survey(seen, policy or rules(), Memory(), now_ms)


def kept(millis: int, tenant: str = "civil/x", begins: int = 0, ends: int = 1_000_000, **of) -> Reservation:
    return Reservation(
        id=of.pop("id", f"{tenant}:r{millis}"), tenant=tenant, flavor=of.pop("flavor", "A"), gpu_millis=millis,
        starts_at_ms=NOW_MS + begins, ends_at_ms=NOW_MS + ends,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("health", "wanted", "counts"),
    [
        (DeviceHealth.HEALTHY, False, 1),
        (DeviceHealth.SUSPECT, False, 0),
        (DeviceHealth.SUSPECT, True, 1),
        (DeviceHealth.QUARANTINED, True, 0),
    ],
)
def test_a_device_that_takes_nothing_new_is_capacity_while_a_claim_runs_on_it(health, wanted, counts):
    seen = snapshot([device("G0", health=health), device("G1")], [ONE] if wanted else [], running(ONE, ("G0",)))
    assert healthy_capacity(looked(seen)) == {"A": 1000 + 1000 * counts}


def test_a_device_on_a_closed_host_counts_while_it_is_used_and_one_that_nobody_uses_does_not():
    seen = snapshot([device("G0", "n1"), device("G1", "n1"), device("G2")], [ONE], running(ONE, ("G0",)))
    shut = replace(seen, nodes=tuple(replace(one, schedulable=one.id != "n1") for one in seen.nodes))
    assert healthy_capacity(looked(shut)) == {"A": 2000}
    failed = replace(shut, devices=tuple(
        replace(one, scrub=ScrubState.FAILED) if one.id == "G0" else one for one in shut.devices
    ))  # fmt: skip
    assert healthy_capacity(looked(failed)) == {"A": 1000}
    other = replace(device("G0"), flavor="B")
    assert healthy_capacity(looked(replace(seen, devices=(other,)))) == {"A": 0, "B": 1000}
    narrow = replace(rules(), flavors=("A",))
    assert healthy_capacity(looked(replace(seen, devices=(other,)), narrow)) == {"A": 0, "B": 1000}, "still used"
    assert healthy_capacity(looked(replace(seen, devices=(other,), claims=()), narrow)) == {"A": 0}


def test_nobody_may_ever_hold_more_than_exists_or_than_anybody_above_it_may():
    policy = rules(civil=3000)
    own = {"civil": (3000, 0), "civil/x": (1000, 500)}
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=own[one.id][0], borrowing_limit_millis=own[one.id][1]),))
        if one.id in own else one for one in policy.tenants
    ))  # fmt: skip
    most = caps(looked(snapshot(FOUR, []), policy))
    assert {name: most[name, "A"] for name in ("civil", "civil/x", "civil/y", "defence", "defence/x")} == {
        "civil": 3000, "civil/x": 1500, "civil/y": 3000, "defence": 4000, "defence/x": 4000,
    }  # fmt: skip
    odd = replace(snapshot(FOUR, []), flavors=(), devices=(), reservations=(kept(2000),))
    none = caps(looked(odd, replace(policy, flavors=("A",))))
    assert {none[name, "A"] for name in ("civil", "civil/x", "defence")} == {0}
    sick = snapshot([device("G0"), device("G1", health=DeviceHealth.RETIRED)], [])
    assert caps(looked(sick))["defence", "A"] == 2000, "what is ill may come back"


def test_a_reservation_keeps_from_when_capacity_must_begin_to_move_until_its_end():
    bounds = rules().bounds
    before = bounds.drain_deadline_ms + bounds.scrub_time_ms + bounds.worker_start_ms
    seen = snapshot(FOUR, [], reservations=(kept(500, begins=before, ends=before + 10),))
    assert starts_ms(looked(seen), NOW_MS + before) == NOW_MS
    found = [reserved_now(looked(seen, now_ms=NOW_MS + at), "A", 4000) for at in (-1, 0, before + 9, before + 10)]
    assert found == [{}, {"civil/x": 500}, {"civil/x": 500}, {}]
    assert reserved_now(looked(seen), "B", 4000) == {}


def test_a_reservation_of_nothing_or_for_nobody_keeps_nothing():
    odd = (kept(0), kept(-7), kept(500, tenant="nobody"), kept(1, tenant="defence/y"))
    assert reserved_now(looked(snapshot(FOUR, [], reservations=odd)), "A", 4000) == {"defence/y": 1}


def test_two_reservations_of_one_tenant_keep_what_both_say_as_far_as_there_is():
    two = (kept(1500), kept(1000, begins=1))
    assert reserved_now(looked(snapshot(FOUR, [], reservations=two), rules(floor=0)), "A", 4000) == {"civil/x": 2500}
    short = looked(snapshot(FOUR, [], reservations=two), rules(floor=0))
    assert reserved_now(short, "A", 2000) == {"civil/x": 2000}
    assert reserved_now(short, "A", 1000) == {"civil/x": 1000}
    floors = looked(snapshot(FOUR, [], reservations=(kept(1500, tenant="defence"),)), rules(floor=1000))
    assert reserved_now(floors, "A", 2000) == {"defence": 1000}
    assert reserved_now(floors, "A", 1000) == {"defence": 1000}, "its own floor, which stands in any case"


def test_what_a_reservation_would_keep_counts_without_an_older_one_of_the_same_name():
    asked = kept(3000, begins=100_000, ends=200_000, id="r")
    earlier = kept(2000, tenant="defence/x", begins=90_000, ends=200_000)
    policy = rules(floor=0)
    assert kept_at_start(snapshot(FOUR, []), policy, asked) == 3000
    assert kept_at_start(snapshot(FOUR, [], reservations=(replace(asked, gpu_millis=4000),)), policy, asked) == 3000
    assert kept_at_start(snapshot(FOUR, [], reservations=(earlier,)), policy, asked) == 2000
    own = replace(earlier, tenant="civil/x", gpu_millis=500)
    assert kept_at_start(snapshot(FOUR, [], reservations=(own,)), policy, asked) == 3000, "not what it has already"
    full = replace(earlier, gpu_millis=4000)
    assert kept_at_start(snapshot(FOUR, [], reservations=(full,)), policy, asked) == 0
    assert kept_at_start(snapshot(FOUR, []), policy, replace(asked, tenant="nobody")) == 0
    assert kept_at_start(snapshot(FOUR, []), policy, replace(asked, flavor="B")) == 0


TWO_RUNGS = (Shape(flavors=("A", "B")), Shape(flavors=("B", "A"), gpu_millis=500))


def wishes(*claims, demand=(), policy=None):
    flavored = [*FOUR, *(replace(device(f"B{number}"), flavor="B") for number in range(3))]
    seen = looked(snapshot(flavored, claims, demands=demand), policy)
    return seen, asks(seen, fleet_of(seen, caps(seen)))


def test_on_each_flavor_a_claim_asks_for_its_best_rung_there_times_its_replicas():
    policy = rules()
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(*one.quotas, Quota(flavor="B", nominal_millis=1000))) for one in policy.tenants
    ))  # fmt: skip
    seen, found = wishes(
        claim("civil/x:a", least=2, millis=500), claim("civil/x:b", least=3, ladder=TWO_RUNGS),
        claim("civil/y:c", suspended=True), policy=policy,
    )  # fmt: skip
    assert [wanted_of(one) for one in found] == [{"A": 1000}, {"A": 3000, "B": 3000}, {}]
    assert demands(seen, found) == {"A": {"civil/x": 4000}, "B": {"civil/x": 3000}}
    assert wanted_of(replace(found[0], idle=True)) == {}
    lower = replace(found[1], options=found[1].options[2:], upgrades=found[1].options[:2])
    assert wanted_of(lower) == {"A": 3000, "B": 3000}, "where it runs now has no part in it"
    one = replace(found[1], options=found[1].options[3:], upgrades=found[1].options[:1])
    assert wanted_of(one) == {"A": 3000}


def test_demand_that_is_counted_and_taken_away_again_is_as_before():
    seen, [first, second] = wishes(claim("civil/x:a", least=2), claim("civil/x:b", least=1))
    asked = demands(seen, [first])
    count_demand(asked, second, 1)
    assert asked["A"] == {"civil/x": 3000} == demands(seen, [first, second])["A"]
    count_demand(asked, second, -1)
    assert asked["A"] == demands(seen, [first])["A"]
    empty = {}
    count_demand(empty, second, 1)
    assert empty == {"A": {"civil/x": 1000}}


def test_shares_of_a_flavor_are_of_its_capacity_and_reservations():
    seen = looked(snapshot(FOUR, [], reservations=(kept(500, tenant="defence/x"),)), rules(floor=0))
    found = shares(seen, {"A": {"civil/x": 9000, "defence/x": 9000}, "B": {"civil/x": 9000}}, {"A": 4000})
    assert sum(found["A"][name].entitled for name in ("civil", "defence")) == 4000
    assert [found["A"][name].reserved for name in ("civil", "defence", "defence/x")] == [0, 500, 500]
    assert {one.entitled for one in found["B"].values()} == {0}


def ranked(used, weights=(), past=(), quotas=1000):
    """The claims of four tenants, two in each domain, in the order in which they are offered capacity."""
    policy = rules(civil=quotas, defence=quotas, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, fair_weight=dict(weights).get(one.id, 1)) for one in policy.tenants
    ))  # fmt: skip
    names = ("civil/x", "civil/y", "defence/x", "defence/y")
    work = looked_at(snapshot(FOUR, [claim(f"{name}:c") for name in names]), policy)
    work.used.update({(name, "A"): amount for name, amount in used.items()})
    work.memory = replace(work.memory, usage=tuple(
        UsageRecord(tenant=name, flavor="A", milli_seconds=amount, at_ms=0, rate_millis=0) for name, amount in past
    ))  # fmt: skip
    return [lot.ask.tenant.id for lot in offered_in_fair_order(work, work.lots())]


def test_whoever_borrows_least_for_its_weight_is_offered_next_first_among_domains_then_among_teams():
    assert ranked({}) == ["civil/x", "civil/y", "defence/x", "defence/y"]
    assert ranked({"civil": 1001}) == ["defence/x", "defence/y", "civil/x", "civil/y"]
    assert ranked({"civil": 1000, "defence": 999})[0] == "civil/x", "nobody borrows inside its quota"
    assert ranked({"civil": 3000, "defence": 2000, "defence/x": 501}) == [
        "defence/y",
        "defence/x",
        "civil/x",
        "civil/y",
    ]
    heavy = [("civil", 3)]
    assert ranked({"civil": 3999, "defence": 2000}, heavy)[0] == "civil/x"
    assert ranked({"civil": 4001, "defence": 2000}, heavy)[0] == "defence/x"
    assert ranked({"civil": 4001, "defence": 2001}, [("civil", 3), ("defence", 10**9)])[0] == "defence/x"
    assert ranked({"civil": 1001, "defence": 1002}, [("civil", 10**6), ("defence", 10**6)])[0] == "civil/x"


def test_weight_zero_is_offered_last_and_of_equals_the_lighter_user_of_the_past_first():
    assert ranked({"defence": 9000}, [("civil", 0)])[0] == "defence/x"
    assert ranked({"defence": 9000}, [("civil", 0), ("defence", 0)])[0] == "civil/x"
    assert ranked({}, past=[("civil", 5), ("defence", 4), ("defence/x", 1)]) == [
        "defence/y", "defence/x", "civil/x", "civil/y"
    ]  # fmt: skip


def by_looking_at_all(work, lots):
    """The slow twin: before each offer, look at everybody's next claim and take who borrows least at that moment."""
    past = {(one.tenant, one.flavor): one.milli_seconds for one in work.memory.usage}
    waiting = {}
    for lot in lots:
        waiting.setdefault(lot.ask.tenant.id, []).append(lot)

    def rank(tenant: str):
        flavor = waiting[tenant][0].ask.options[0].flavor
        for name in (tenant.partition("/")[0], tenant):
            of = work.survey.tenants[name]
            over = max(0, work.used.get((name, flavor), 0) - work.shares[flavor][name].nominal)
            yield of.fair_weight == 0, Fraction(over, of.fair_weight or 1), past.get((name, flavor), 0), name

    while waiting:
        best = min(waiting, key=lambda tenant: tuple(rank(tenant)))
        yield waiting[best].pop(0)
        waiting = {tenant: some for tenant, some in waiting.items() if some}


@FEW
@given(SEEDS)
def test_the_next_claim_is_always_of_whoever_borrows_least_at_that_moment(seed):
    dice = Dice(seed)
    policy = rules(floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, fair_weight=dice.choice((0, 1, 1, 2, 3)), quotas=tuple(
            Quota(flavor=flavor, nominal_millis=dice.choice((0, 0, 1000, 2000))) for flavor in "AB")
        ) for one in policy.tenants
    ))  # fmt: skip
    names = ("civil/x", "civil/y", "defence/x", "defence/y")
    claims = [claim(f"{name}:{number}", ladder=(Shape(flavors=(dice.choice("AB"),)),), submitted_at_ms=number)
              for name in names for number in range(4)]  # fmt: skip
    seen = snapshot([*FOUR, *(replace(device(f"B{number}"), flavor="B") for number in range(4))], claims)
    used = {(name, flavor): dice.choice((0, 1, 1001, 3000)) for name in (*names, "civil", "defence") for flavor in "AB"
            if dice.random() < 0.6}  # fmt: skip
    past = tuple(UsageRecord(tenant=name, flavor=flavor, milli_seconds=dice.choice((0, 1, 2)), at_ms=0, rate_millis=0)
                 for name in names for flavor in "AB" if dice.random() < 0.6)  # fmt: skip
    takes = {one.id: dice.random() < 0.6 for one in claims}

    def order(offered) -> list[str]:
        work = looked_at(seen, policy)
        work.used.update(used)
        work.memory = replace(work.memory, usage=past)
        found = []
        for lot in offered(work, sorted(work.lots(), key=lambda lot: lot.ask.claim.submitted_at_ms)):
            found.append(lot.ask.claim.id)
            if takes[lot.ask.claim.id]:
                for name in (lot.ask.tenant.id, lot.ask.tenant.parent):
                    key = name, lot.ask.options[0].flavor
                    work.used[key] = work.used.get(key, 0) + 1000
                work.counts += 1
        return found

    assert order(offered_in_fair_order) == order(by_looking_at_all)


def test_whoever_takes_nothing_of_what_is_offered_is_offered_the_next():
    claims = [claim(f"{name}:{number}") for name in ("civil/x", "defence/x") for number in range(3)]
    work = looked_at(snapshot(FOUR, claims), rules(floor=0))
    order = [lot.ask.claim.id for lot in offered_in_fair_order(work, work.lots())]
    assert order == sorted(order)
    assert all(one < other for one, other in pairwise(order))
