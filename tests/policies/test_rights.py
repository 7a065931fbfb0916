"""Who goes first, who may take from whom, and what is offered on: each rule where it alone decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.explaining.holders import holders
from policies.explaining.queueing import BLOCKERS_SHOWN
from policies.granting.allocation import allocate
from policies.granting.apart import tell_each
from policies.granting.reclaim import Tier
from policies.granting.rights import begin_rating, rate_all
from policies.model.decision import PendingReason
from policies.model.inventory import GroupState, Node, ScrubState
from policies.model.memory import Hold, Memory
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind, Shape
from policies.shares.entitlement import fill
from policies.turns.standing import lay_out
from tests.policies.crowds import crowd
from tests.policies.looking import FOUR, code, granted, looked_at, offered_in_fair_order
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_crowds_of_equals import of_equals


def decided(seen, policy, memory=None):
    return decide(seen, policy, memory or Memory(), NOW_MS)


def test_who_stays_inside_its_quota_is_offered_what_is_left_before_who_borrows_less_than_that_quota():
    policy = rules(civil=4000, defence=0)
    quotas = {"civil/x": 3000, "civil/y": 0}
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=quotas[one.id]),)) if one.id in quotas else one
        for one in policy.tenants
    ))  # fmt: skip
    work = looked_at(snapshot(FOUR, [claim("civil/x:inside"), claim("civil/y:borrows")]), policy)
    work.used.update({("civil/x", "A"): 2000, ("civil/y", "A"): 1000})
    offered = [lot.ask.claim.id for lot in offered_in_fair_order(work, work.lots())]
    assert offered == ["civil/x:inside", "civil/y:borrows"]


def test_a_hold_keeps_a_device_from_whoever_would_have_been_served_first_without_it():
    first, rival = claim("defence/x:first", submitted_at_ms=5), claim("civil/x:rival", submitted_at_ms=1)
    held = Memory(holds=(Hold(device="G0", claim=first.id, expires_at_ms=NOW_MS + 1000),))
    seen = snapshot([device("G0")], [first, rival])
    assert granted(decided(seen, rules(civil=0, defence=0)), rival.id) == 1
    assert granted(decided(seen, rules(civil=0, defence=0), held), first.id) == 1


def test_inside_a_tenant_nobody_takes_from_an_equal_although_its_right_is_stronger():
    """The wide one is larger than the quota and borrows; the narrow one would be inside it."""
    wide, narrow = claim("civil/x:wide", devices=2), claim("civil/x:narrow", submitted_at_ms=1)
    seen = snapshot(FOUR[:2], [wide, narrow], running(wide, ("G0", "G1")))
    decision = decided(seen, rules(civil=1000, defence=0, floor=0))
    assert granted(decision, wide.id) == 1
    assert not decision.evictions


def test_quota_that_one_claim_cannot_use_is_offered_to_the_next_of_its_tenant():
    """The first must be spread over two hosts, of which there is one; the next takes back a device with its quota."""
    first = claim("civil/x:first", least=2, spread=True)
    following, lent = claim("civil/x:next", submitted_at_ms=1), claim("defence/x:lent", least=0, most=2)
    seen = snapshot(FOUR[:2], [first, following, lent], running(lent, ("G0",), ("G1",)))
    decision = decided(seen, rules(civil=4000, defence=0, floor=0))
    assert granted(decision, first.id) == 0
    assert granted(decision, following.id) == 1
    assert {one.beneficiary for one in decision.evictions} == {following.id}


def test_a_domain_that_was_not_seen_keeps_nobody_of_the_other_domain_waiting():
    blind, goes_on = claim("civil/x:blind", least=2), claim("defence/x:goes-on")
    seen = snapshot(FOUR, [blind, goes_on], running(blind, ("G0",)), adopting=(SecurityDomain.CIVIL,))
    decision = decided(seen, rules())
    assert granted(decision, goes_on.id) == 1
    assert code(decision, blind.id) is PendingReason.TELEMETRY_STALE
    assert not decision.evictions


@pytest.mark.parametrize(("adopting", "served"), [((), 1), ((SecurityDomain.CIVIL,), 0)])
def test_a_device_that_a_domain_held_last_is_taken_by_nobody_else_while_that_domain_is_not_seen(adopting, served):
    """Its worker may still be there: what was not seen is not free."""
    dirty = device("G0", domain=SecurityDomain.CIVIL, scrub=ScrubState.DIRTY)
    taker = claim("defence/x:taker")
    assert granted(decided(snapshot([dirty], [taker], adopting=adopting), rules()), taker.id) == served


def test_of_two_replicas_of_which_one_is_enough_the_one_that_runs_stays():
    one = claim("civil/x:one")
    workers, groups = running(one, ("G0",), ("G1",))
    starting = [replace(group, running=0, state=GroupState.STARTING) if group.devices == ("G0",) else group
                for group in (replace(group, routed=False) for group in groups)]  # fmt: skip
    decision = decided(snapshot(FOUR, [one], (workers, starting)), rules(scale_down_hold_ms=0))
    assert [placement.devices for placement in decision.placements] == [("G1",)]


@pytest.mark.parametrize(("amount", "weights", "parts"), [(7, (5, 2, 3), [4, 1, 2]), (5, (3, 3, 1), [2, 2, 1])])
def test_what_division_leaves_over_goes_to_the_largest_remainder(amount, weights, parts):
    assert fill(amount, [(amount, weight) for weight in weights]) == parts


@pytest.mark.parametrize(("cores", "served"), [(4000, 1), (3999, 0)])
def test_a_host_that_has_exactly_the_processors_that_become_free_is_room_enough(cores, served):
    """The lent replica leaves two cores on a host that has two more; the owner needs all four."""
    shapes = {name: (Shape(flavors=("A",), cpu_millis=amount),) for name, amount in (("lent", 2000), ("owner", 4000))}
    lent = claim("defence/x:lent", ladder=shapes["lent"])
    owner = claim("civil/x:owner", ladder=shapes["owner"])
    seen = snapshot(FOUR[:1], [lent, owner], running(lent, ("G0",)))
    seen = replace(seen, nodes=(Node(id="n0", cpu_millis=cores, memory_mib=0),))
    assert granted(decided(seen, rules(civil=2000, defence=0, floor=0)), owner.id) == served


def test_a_job_that_ends_before_a_reservation_begins_runs_in_between():
    brief = claim("civil/x:brief", kind=ClaimKind.JOB, duration_s=60)
    assert granted(decided(snapshot(FOUR, [brief]), rules()), brief.id) == 1


def test_a_replica_beyond_the_minimum_has_no_stronger_right_than_the_minimum():
    """Its domain is guaranteed one device: a gang of two does not fit into that, the third replica alone would."""
    gang = claim("civil/x:gang", least=2, most=3)
    work = lay_out(snapshot(FOUR, [gang]), rules(civil=1000, floor=0), Memory(), NOW_MS).work
    begin_rating(work)
    rate_all(work, "civil/x")
    base, further = work.of_claim[gang.id]
    assert base.tier > Tier.GUARANTEED
    assert further.tier >= base.tier


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("made", [crowd, of_equals])
def test_of_each_flavor_the_first_few_holders_are_those_with_the_weakest_right_and_the_lowest_class(part, made):
    for seed in range(part, 80, 4):
        here = made(seed)
        work = lay_out(here.snapshot, here.policy, here.memory, NOW_MS).work
        allocate(work)
        tell_each(work, work.open)
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for name, lots in work.of_claim.items():
            for lot in lots:
                if lot.is_kept and lot.seats:
                    of_flavor = found.setdefault(lot.seats[0].flavor, {})
                    of_flavor.setdefault(name, (-int(lot.tier), lot.ask.value))
        first = {
            flavor: tuple(sorted(held, key=lambda name, held=held: (held[name], name))[: BLOCKERS_SHOWN + 1])
            for flavor, held in found.items()
        }
        assert {one.flavor: one.claims for one in holders(work)} == first
