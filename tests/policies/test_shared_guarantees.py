"""What reservations, halves of devices and second flavors do to a floor: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.granting.pooling import pool
from policies.granting.reclaim import Tier
from policies.granting.rights import begin_rating, rate_all
from policies.invariants import check_decision
from policies.model.decision import EvictionReason
from policies.model.inventory import DeviceHealth, UsageState
from policies.model.memory import ClaimMemory, Hold, Memory, UsageRecord
from policies.model.tenancy import Quota
from policies.model.workload import Reservation, Shape
from policies.shares.quota import kept_at_start
from tests.policies.looking import FEW, FOUR, granted, looked_at
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

ONE, TWO = claim("civil/x:one"), claim("civil/y:two")
ALL_OF_DEFENCE = claim("defence/x:all", least=0, most=4)


def kept_for(tenant: str, millis: int) -> Reservation:
    return Reservation(
        id=f"{tenant}:drill", tenant=tenant, flavor="A", gpu_millis=millis, starts_at_ms=NOW_MS, ends_at_ms=NOW_MS + 1
    )


@pytest.mark.parametrize(
    "reserved",
    [
        (kept_for("defence", 4000),),
        (kept_for("defence/x", 4000),),
        (kept_for("defence", 4000), kept_for("defence/x", 4000)),
        (kept_for("civil/x", 4000), kept_for("defence", 4000)),
    ],
)
@pytest.mark.parametrize("asked", [(), (claim("defence/x:all", least=0, most=4),)], ids=["unused", "used"])
def test_p2_no_reservation_takes_what_the_floor_of_another_needs(reserved, asked):
    seen = snapshot(FOUR, [ONE, TWO, *asked], running(ONE, ("G0",)), running(TWO, ("G1",)), reservations=reserved)
    decision = decide(seen, rules(floor=1000), Memory(), NOW_MS)
    assert granted(decision, ONE.id) + granted(decision, TWO.id) >= 1
    assert not check_decision(seen, decision, rules(floor=1000))


def test_of_reservations_that_are_more_than_there_is_the_one_that_begins_first_is_kept():
    early = replace(kept_for("defence/x", 3000), starts_at_ms=NOW_MS - 1)
    wishes = [claim("defence/x:a", least=0, most=4), claim("civil/y:b", least=0, most=4)]
    seen = snapshot(FOUR, wishes, reservations=(early, kept_for("civil/y", 3000)))
    decision = decide(seen, rules(floor=0), Memory(), NOW_MS)
    assert (granted(decision, "defence/x:a"), granted(decision, "civil/y:b")) == (3, 1)


@pytest.mark.parametrize("takes_back", ["a reservation that begins", "a quota that is lent no more"])
def test_what_is_taken_back_before_anybody_asks_for_it_leaves_by_reclaim_and_not_to_rebalance(takes_back):
    lent, policy = claim("civil/x:lent", least=0, most=4), rules(civil=4000, defence=0, floor=0)
    reserved = (kept_for("defence/x", 4000),)
    if takes_back == "a quota that is lent no more":
        own = [replace(one, quotas=(Quota(flavor="A", nominal_millis=2000, lending_limit_millis=0),))
               if one.id == "defence" else one for one in rules(civil=2000, floor=0).tenants]  # fmt: skip
        policy, reserved = replace(policy, tenants=tuple(own)), ()
    seen = snapshot(FOUR, [lent], running(lent, *((one.id,) for one in FOUR)), reservations=reserved)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert {(one.reason, one.beneficiary) for one in decision.evictions} == {(EvictionReason.RECLAIM, None)}
    assert not check_decision(seen, decision, policy)
    if reserved:
        without = replace(seen, reservations=())
        assert "victims_make_room" in {one.rule for one in check_decision(without, decision, policy)}


def test_what_a_limit_of_its_own_no_longer_lets_a_tenant_borrow_leaves_to_rebalance():
    borrows = claim("civil/x:borrows", least=0, most=4)
    policy = rules(civil=2000, floor=0)
    narrow = [replace(one, quotas=(Quota(flavor="A", nominal_millis=2000, borrowing_limit_millis=0),))
              if one.id == "civil" else one for one in policy.tenants]  # fmt: skip
    seen = snapshot(FOUR, [borrows], running(borrows, *((one.id,) for one in FOUR)))
    decision = decide(seen, replace(policy, tenants=tuple(narrow)), Memory(), NOW_MS)
    assert [one.reason for one in decision.evictions] == [EvictionReason.REBALANCE] * 2


def test_who_idles_inside_its_guarantee_is_not_sent_away_for_nobody_when_all_else_is_reserved():
    """Civil uses what is there of its reservation; the third device is defence's floor, whatever it does there."""
    idles, wants = claim("defence/x:idles"), claim("defence/x:wants", least=3)
    uses = claim("civil/x:uses", least=2)
    workers, groups = running(idles, ("G0",))
    idle = [replace(one, usage=UsageState.TRULY_IDLE) for one in groups]
    memory = Memory(claims=(ClaimMemory(claim=idles.id, idle_since_ms=1),))
    seen = snapshot(FOUR[:3], [idles, wants, uses], (workers, idle), running(uses, ("G1",), ("G2",)),
                    reservations=(kept_for("civil", 4000),))  # fmt: skip
    decision = decide(seen, rules(floor=1000), memory, NOW_MS)
    assert not decision.evictions
    assert not check_decision(seen, decision, rules(floor=1000))


def test_two_halves_of_a_guarantee_serve_one_whole_replica():
    """Civil is guaranteed one device; its two tenants have half of one each, and both ask for a whole one."""
    wanted = claim("defence/x:all", least=0, most=4)
    devices = [replace(one, health=DeviceHealth.QUARANTINED) if one.id == "G3" else one for one in FOUR]
    policy = rules(civil=1000, defence=2000, floor=1000)
    seen = snapshot(devices, [ONE, TWO, wanted], running(wanted, ("G0",), ("G1",), ("G2",)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert granted(decision, ONE.id) + granted(decision, TWO.id) == 1
    assert granted(decision, wanted.id) == 2


def test_who_runs_on_what_siblings_cannot_use_is_not_turned_out_by_an_equal():
    seen = snapshot(FOUR[:1], [ONE, replace(TWO, submitted_at_ms=1)], running(TWO, ("G0",)))
    decision = decide(seen, rules(civil=1000, defence=0, floor=1000), Memory(), NOW_MS)
    assert granted(decision, TWO.id) == 1
    assert not decision.evictions


@pytest.mark.parametrize(("left_ms", "serves"), [(1, TWO.id), (0, ONE.id)], ids=["held", "the hold has expired"])
def test_what_was_freed_for_one_of_two_equals_serves_this_one_until_the_hold_expires(left_ms, serves):
    hold = Hold(device="G0", claim=TWO.id, expires_at_ms=NOW_MS + left_ms)
    seen = snapshot(FOUR[:1], [ONE, replace(TWO, submitted_at_ms=1)])
    decision = decide(seen, rules(civil=1000, defence=0, floor=1000), Memory(holds=(hold,)), NOW_MS)
    assert [one.claim for one in decision.placements] == [serves]


def test_what_was_freed_for_a_further_replica_is_not_taken_from_a_minimum_that_would_take_it_back():
    """Each of two tenants has a GPU and a half; the gang of two that stands comes before what is beyond a minimum."""
    wide, gang = claim("civil/x:wide", most=2), claim("civil/y:gang", least=2)
    held = Memory(holds=(Hold(device="G1", claim=wide.id, expires_at_ms=NOW_MS + 1),))
    seen = snapshot(FOUR[:3], [wide, gang], running(wide, ("G0",)), running(gang, ("G1",), ("G2",)))
    decision = decide(seen, rules(civil=3000, defence=0), held, NOW_MS)
    assert decision.evictions == ()
    assert [granted(decision, one.id) for one in (wide, gang)] == [1, 2]


def test_what_is_kept_for_the_second_of_a_tenant_does_not_take_the_place_of_its_first_that_would_take_it_back():
    """Two halves of a guarantee are one device; who runs there came first, and a device is kept for the other one."""
    second, sibling = claim("civil/x:second", submitted_at_ms=1), replace(TWO, submitted_at_ms=2)
    held = Memory(holds=(Hold(device="G1", claim=second.id, expires_at_ms=NOW_MS + 1),))
    seen = snapshot(FOUR[:2], [ONE, second, sibling, ALL_OF_DEFENCE], running(ONE, ("G0",)))
    decision = decide(seen, rules(civil=1000, defence=1000, floor=1000), held, NOW_MS)
    assert decision.evictions == ()
    assert [granted(decision, one.id) for one in (ONE, second, sibling)] == [1, 0, 0]


def test_what_a_sibling_does_not_lend_is_pooled_for_nobody():
    policy = rules(civil=1000, defence=2000, floor=0)
    keeping = Quota(flavor="A", nominal_millis=500, lending_limit_millis=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(keeping,)) if one.id == "civil/y" else one for one in policy.tenants
    ))  # fmt: skip
    both = claim("defence/x:both", least=0, most=2)
    seen = snapshot(FOUR[:2], [ONE, both], running(both, ("G0",), ("G1",)))
    assert granted(decide(seen, policy, Memory(), NOW_MS), ONE.id) == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2)), min_size=1, max_size=5), st.integers(1, 3))
@FEW
def test_a_domain_lacks_less_than_its_smallest_waiting_replica_of_its_floor(wishes, whole):
    """Whatever its tenants ask for, on any number of whole devices, while the other domain wants everything."""
    claims = [
        claim(f"civil/{'xy'[tenant]}:c{index}", devices=devices) for index, (tenant, devices) in enumerate(wishes)
    ]
    rival = claim("defence/x:all", least=0, most=2 * whole)
    devices = [device(f"G{index}") for index in range(2 * whole)]
    policy = rules(civil=1000 * whole, defence=1000 * whole, floor=1000 * whole)
    seen = snapshot(devices, [*claims, rival], running(rival, *((one.id,) for one in devices)))
    decision = decide(seen, policy, Memory(), NOW_MS)
    held = sum(one.held_millis for one in decision.entitlements if one.tenant == "civil")
    waiting = [one.ladder[0].devices * 1000 for one in claims if not granted(decision, one.id)]
    assert not waiting or held + min(waiting) > 1000 * whole


def with_b_kept_by_defence(policy):
    """The policy, where defence lends none of its one GPU of a second flavor, B."""
    kept = Quota(flavor="B", nominal_millis=1000, lending_limit_millis=0)
    return replace(policy, tenants=tuple(
        replace(one, quotas=(*one.quotas, kept)) if one.id in ("defence", "defence/x") else one
        for one in policy.tenants
    ))  # fmt: skip


ON_B = replace(device("H0", "n1"), flavor="B")
EITHER = Shape(flavors=("B", "A"))


def test_a_claim_on_two_flavors_keeps_the_replica_that_it_has_a_right_to_as_its_minimum():
    """Its replica on B has to leave, nobody lends it; the one on A is inside its own quota, and is enough to serve."""
    wide = claim("civil/x:wide", least=1, most=2, ladder=(EITHER,))
    policy = with_b_kept_by_defence(rules(civil=2000, defence=2000, floor=1000))
    first, second = running(wide, ("H0",), since_ms=1), running(wide, ("G0",))
    decision = decide(snapshot([ON_B, *FOUR[:1]], [wide], first, second), policy, Memory(), NOW_MS)
    assert [one.devices for one in decision.placements] == [("G0",)]


WEAKER = claim("civil/x:weaker", priority_class="batch")


@pytest.mark.parametrize("others", [(), (WEAKER,)], ids=["a free GPU", "a GPU under a lower class"])
def test_a_gang_that_must_leave_one_of_its_two_flavors_is_placed_anew_in_the_same_decision(others):
    """One of its two replicas stands on B, which nobody lends; all of it fits into its own quota of A, its floor."""
    gang = claim("civil/x:gang", least=2, ladder=(EITHER,))
    runs = [running(gang, ("H0",), since_ms=1), running(gang, ("G0",)), *(running(one, ("G1",)) for one in others)]
    policy = with_b_kept_by_defence(rules(civil=2000, defence=2000, floor=1000))
    seen = snapshot([ON_B, *FOUR[:2]], [gang, *others], *runs)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert sorted(one.devices for one in decision.placements) == [("G0",), ("G1",)]
    left = {seen.groups[0].id: (EvictionReason.RECLAIM, None)} | {
        seen.groups[2 + index].id: (EvictionReason.PREEMPT, gang.id) for index in range(len(others))
    }
    assert {one.group: (one.reason, one.beneficiary) for one in decision.evictions} == left


def test_a_gang_whose_minimum_stands_on_one_flavor_has_the_part_of_the_floor_that_no_sibling_can_use():
    """Two tenants have half a GPU each of the floor; one replica of three stands on B, which nobody lends."""
    gang = claim("civil/x:gang", least=2, most=3, ladder=(replace(EITHER, gpu_millis=500),))
    runs = [running(gang, ("H0",), since_ms=1), running(gang, ("G0",)), running(gang, ("G1",))]
    others = claim("civil/y:other", submitted_at_ms=1), claim("defence/x:all", most=2)
    policy = with_b_kept_by_defence(rules(civil=1000, defence=1000, floor=1000))
    seen = snapshot([ON_B, *FOUR[:2]], [gang, *others], *runs)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert granted(decision, gang.id) == 2


def with_b_for_x_and_a_for_y(policy, millis):
    """The policy, where civil/x has so much of B, civil/y one GPU of A, and their domain a floor of one GPU of B."""
    quotas = {
        "civil": (("A", 1000), ("B", millis)), "civil/x": (("B", millis),), "civil/y": (("A", 1000),),
    }  # fmt: skip
    return replace(policy, tenants=tuple(
        one if one.id not in quotas else replace(
            one, quotas=tuple(Quota(flavor=flavor, nominal_millis=much) for flavor, much in quotas[one.id]),
            floor_millis=(("B", 1000),) if one.id == "civil" else (),
        )
        for one in policy.tenants
    ))  # fmt: skip


def lending_nothing_of_a(policy, tenant: str):
    """The policy, where this tenant has one GPU of A for itself."""
    kept = (Quota(flavor="A", nominal_millis=1000, lending_limit_millis=0),)
    return replace(policy, tenants=tuple(
        replace(one, quotas=kept) if one.id == tenant else one for one in policy.tenants
    ))  # fmt: skip


def test_a_gang_that_borrowed_on_one_flavor_goes_back_to_its_own_when_that_is_needed():
    """Its replica on A stands where, beside what its sibling holds, defence keeps a GPU to itself; B has another."""
    gang, own = claim("civil/x:gang", least=2, ladder=(EITHER,)), claim("civil/y:own")
    policy = with_b_for_x_and_a_for_y(rules(civil=1000, defence=1000, floor=0), 2000)
    policy = lending_nothing_of_a(policy, "defence")
    runs = [running(gang, ("H0",)), running(gang, ("G0",)), running(own, ("G1",))]
    seen = snapshot([ON_B, replace(ON_B, id="H1", gpu="H1"), *FOUR[:2]], [gang, own], *runs)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert sorted(one.devices for one in decision.placements) == [("G1",), ("H0",), ("H1",)]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_claim_on_two_flavors_stays_on_the_one_that_has_room_for_what_it_borrows_there(replicas):
    """On A its sibling needs one GPU and defence lends none; on B it has a right to less than its minimum of two.

    Nobody else needs B, of which its domain has a floor: all of it stands there then. Of two replicas of which one is
    enough the one on B serves.
    """
    wide = claim("civil/x:wide", least=replicas, most=2, ladder=(EITHER,), submitted_at_ms=1)
    own = claim("civil/y:own", ladder=(Shape(flavors=("A", "B")),))
    policy = with_b_for_x_and_a_for_y(rules(civil=1000, defence=1000, floor=0), 500 * replicas)
    policy = lending_nothing_of_a(policy, "defence")
    runs = [running(wide, ("G0",), since_ms=1), running(wide, ("H0",)), running(own, ("G1",))]
    on_b = [replace(ON_B, id=name, gpu=name) for name in ("H0", "H1")]
    seen = snapshot([*on_b[:replicas], *FOUR[:2]], [wide, own], *runs)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert sorted(one.devices for one in decision.placements) == [("G1",), ("H0",), ("H1",)][: 1 + replicas]
    left = [(seen.groups[0].id, EvictionReason.RECLAIM, None)]
    assert [(one.group, one.reason, one.beneficiary) for one in decision.evictions] == left


def test_what_leaves_since_its_gang_lost_a_replica_is_lost_to_whoever_took_that():
    """Its own domain takes the borrowed replica on A; the one on B cannot serve alone: that floor is lost to nobody."""
    gang, own, other = claim("civil/x:gang", least=2, ladder=(EITHER,)), claim("civil/y:own"), claim("defence/x:all")
    policy = with_b_for_x_and_a_for_y(rules(civil=1000, defence=1000, floor=0), 1000)
    runs = [running(gang, ("H0",)), running(gang, ("G0",)), running(other, ("G1",))]
    seen = snapshot([ON_B, *FOUR[:2]], [gang, own, other], *runs)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    left = {seen.groups[0].id: (EvictionReason.REBALANCE, None), seen.groups[1].id: (EvictionReason.RECLAIM, own.id)}
    assert {one.group: (one.reason, one.beneficiary) for one in decision.evictions} == left


def test_a_gang_that_idles_loses_nothing_where_its_own_domain_needs_one_of_its_two_flavors():
    """What it has on A goes to its sibling, so that on B stands alone; who waits for B may not start yet."""
    gang, own = claim("civil/x:gang", least=2, ladder=(EITHER,)), claim("civil/y:own")
    waits = claim("civil/x:waits", least=2, ladder=(Shape(flavors=("B",)),))
    policy = with_b_for_x_and_a_for_y(rules(civil=1000, defence=1000, floor=0), 2000)
    policy = lending_nothing_of_a(policy, "defence")
    workers, (on_b, on_a) = running(gang, ("H0",), ("G0",))
    memory = Memory(claims=(
        ClaimMemory(claim=gang.id, idle_since_ms=1), ClaimMemory(claim=waits.id, failed_at_ms=NOW_MS - 1, failures=3),
    ))  # fmt: skip

    def seen(usage):
        groups = [replace(on_b, usage=usage), replace(on_a, usage=UsageState.TRULY_IDLE)]
        devices = [ON_B, replace(ON_B, id="H1", gpu="H1"), *FOUR[:2]]
        return snapshot(devices, [gang, own, waits], (workers, groups))

    decision = decide(seen(UsageState.UNKNOWN), policy, memory, NOW_MS)
    assert {one.group for one in decision.evictions} == {on_b.id, on_a.id}
    assert check_decision(seen(UsageState.UNKNOWN), decision, policy) == ()
    working = check_decision(seen(UsageState.ACTIVE), decision, policy)
    assert "no_victim_below_its_floor" in {one.rule for one in working}


def test_a_further_replica_for_the_floor_of_another_flavor_has_no_stronger_right_than_its_minimum():
    """Its first stands on B, inside its tenant's quota; the second is all that its domain has of the floor of A.

    Two tenants have half a GPU each of that floor. With the floor's right the second would ask before the first has its
    place, fail, and be looked at no more: whoever has a weaker right might take it.
    """
    wide = claim("civil/x:wide", most=2, ladder=(EITHER,), priority_class="critical")
    policy = rules(civil=1000)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(*one.quotas, Quota(flavor="B", nominal_millis=1000)), floor_millis=one.floor_millis[:1])
        if one.id in ("civil", "civil/x") else one for one in policy.tenants
    ))  # fmt: skip
    runs = running(wide, ("H0",), since_ms=1), running(wide, ("G0",))
    seen = snapshot([ON_B, *FOUR[:2]], [wide, claim("civil/y:other"), claim("defence/x:all")], *runs)
    work = looked_at(seen, policy)
    begin_rating(work)
    pool(work, {tenant: rate_all(work, tenant) for tenant in work.layout.queues.tenants})
    assert [one.tier for one in work.of_claim[wide.id]] == [Tier.GUARANTEED, Tier.GUARANTEED]


def test_what_siblings_share_of_a_flavor_goes_to_whoever_used_least_of_it_whatever_else_its_tenant_waits_for():
    """Each has half of the one GPU of B; x used less of B than y, but much of A, for which it waits too."""
    policy = with_b_for_x_and_a_for_y(rules(civil=2000, defence=0, floor=0), 1000)
    halves = {"civil/x": (("B", 500),), "civil/y": (("B", 500),)}
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=tuple(Quota(flavor=flavor, nominal_millis=much) for flavor, much in halves[one.id]))
        if one.id in halves else one for one in policy.tenants
    ))  # fmt: skip
    on_a = claim("civil/x:on-a", devices=2, submitted_at_ms=1)
    light, heavy = (
        claim(f"civil/{name}:on-b", ladder=(Shape(flavors=("B",)),), submitted_at_ms=at)
        for name, at in (("x", 2), ("y", 3))
    )
    used = (("civil/x", "A", 9), ("civil/x", "B", 1), ("civil/y", "A", 0), ("civil/y", "B", 5))
    memory = Memory(usage=tuple(
        UsageRecord(tenant=tenant, flavor=flavor, milli_seconds=10**9 * much, at_ms=NOW_MS)
        for tenant, flavor, much in used
    ))  # fmt: skip
    decision = decide(snapshot([ON_B, *FOUR[:2]], [on_a, light, heavy]), policy, memory, NOW_MS)
    assert (granted(decision, light.id), granted(decision, heavy.id)) == (1, 0)


@pytest.mark.parametrize(("radar", "broken"), [
    (claim("defence/x:radar"), claim("defence/y:broken", millis=250, most=4, submitted_at_ms=1)),
    (claim("defence/x:radar", least=0, most=1, priority_class="batch"), claim("defence/y:broken", least=1, most=2)),
], ids=["of a claim that fits into it", "of a claim of which only the minimum does"])  # fmt: skip
def test_what_a_sibling_may_not_start_now_serves_whoever_runs_of_the_domain(radar, broken):
    """Two tenants share the guarantee of a device; what one of them asked for fails to start and waits a while."""
    other = claim("civil/x:other", submitted_at_ms=2)
    kept = Reservation(id="exercise", tenant="civil/x", flavor="A", gpu_millis=1000,
                       starts_at_ms=NOW_MS - 1, ends_at_ms=NOW_MS + 600_000)  # fmt: skip
    seen = snapshot(FOUR[:2], [radar, broken, other], running(radar, ("G0",)), reservations=(kept,))
    policy = rules(civil=1000, defence=1000, floor=1000)
    policy = replace(policy, tenants=tuple(
        one if one.parent else replace(one, quotas=tuple(replace(q, lending_limit_millis=0) for q in one.quotas))
        for one in policy.tenants
    ))  # fmt: skip
    memory = Memory(claims=(ClaimMemory(claim=broken.id, failed_at_ms=NOW_MS - 1, failures=3),))
    decision = decide(seen, policy, memory, NOW_MS)
    assert {one.claim: one.granted_replicas for one in decision.reasons} == {radar.id: 1, broken.id: 0, other.id: 1}
    assert check_decision(seen, decision, policy) == ()


@pytest.mark.parametrize(("asked", "kept"), [(2000, 2000), (3000, 3000), (4000, 3000)])
def test_who_reserves_is_told_beforehand_how_much_of_it_the_floors_of_others_leave(asked, kept):
    wish = kept_for("defence", asked)
    assert kept_at_start(snapshot(FOUR, []), rules(floor=1000), wish) == kept


def test_who_reserves_after_another_is_told_what_is_left():
    earlier = kept_for("defence", 2000)
    seen = snapshot(FOUR, [], reservations=(earlier,))
    assert kept_at_start(seen, rules(floor=1000), replace(kept_for("defence/x", 4000), id="later")) == 1000
