"""What a decision begins from, beside the plain meaning of each of its figures, in crowded fleets."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from policies.decide import Decider
from policies.explaining.results import conclude
from policies.granting.allocation import allocate
from policies.model.inventory import UsageState
from policies.model.memory import ClaimMemory, Memory
from policies.model.units import UNLIMITED
from policies.turns.following import follow
from policies.turns.standing import Standing, lay_out
from tests.policies.crowds import NOW_MS, Crowd, crowd
from tests.policies.looking import DEPTH, FOUR
from tests.policies.situations import claim, rules, running, snapshot
from tests.policies.test_crowds_again import happened
from tests.policies.test_crowds_of_equals import changed_beside, of_equals
from tests.simulation.generate import Dice

CROWDS = range(0, 120 * DEPTH, 2)


def laid_out(here: Crowd) -> Standing:
    return lay_out(here.snapshot, here.policy, here.memory, NOW_MS)


def seats_in(made: Standing) -> list:
    """Every replica on the board, once."""
    return list({id(seat): seat for some in made.work.board.seats.values() for seat in some}.values())


@pytest.mark.parametrize("part", range(4))
def test_every_replica_of_a_group_that_is_there_has_its_seat_and_those_that_may_stay_have_a_lot(part):
    for seed in CROWDS[part::4]:
        here = crowd(seed)
        made = laid_out(here)
        claims = {one.id: one for one in here.snapshot.claims}
        standing = Counter(seat.group.id for seat in seats_in(made))
        workers = made.work.survey.workers
        there = [one for one in here.snapshot.groups if one.worker in workers]
        assert standing == Counter({one.id: one.replicas if one.claim in claims else 1 for one in there})
        of_lots = {id(seat): lot for lots in made.work.of_claim.values() for lot in lots for seat in lot.seats}
        assert {key: id(lot) for key, lot in made.work.victims.lot_of.items()} == {
            key: id(lot) for key, lot in of_lots.items()
        }
        leaving = {id(seat) for seat in made.work.board.leaving}
        assert leaving == {id(seat) for seat in seats_in(made)} - of_lots.keys()
        assert {id(seat) for some in made.leaving.values() for seat in some} == leaving


@pytest.mark.parametrize("part", range(4))
def test_a_claims_lots_are_its_minimum_and_each_replica_beyond_filled_with_what_is_most_worth_keeping(part):
    for seed in CROWDS[part::4]:
        made = laid_out(crowd(seed))
        for name, lots in made.work.of_claim.items():
            wish = made.wishes[name]
            sizes = [wish.minimum] * (wish.minimum > 0) + [1] * (wish.wanted - wish.minimum)
            assert [lot.size for lot in lots] == sizes
            assert [lot.is_base for lot in lots] == [index == 0 and wish.minimum > 0 for index in range(len(sizes))]
            held = [
                seat for group in wish.held for seat in made.work.layout.seated.get(group.id, ())
            ][: wish.wanted]  # fmt: skip
            seated = [seat for lot in lots for seat in lot.seats]
            assert list(map(id, seated)) == list(map(id, held))
            assert all(len(lot.seats) == lot.size or not later.seats for lot, later in pairwise(lots))


@pytest.mark.parametrize("part", range(4))
def test_what_stands_is_what_complete_lots_hold_for_their_tenant_and_for_all_above_it(part):
    for seed in CROWDS[part::4]:
        here = crowd(seed)
        made, expected = laid_out(here), Counter[tuple[str, str]]()
        parents = {one.id: one.parent for one in here.policy.tenants}
        for lots in made.work.of_claim.values():
            for lot in lots:
                for seat in lot.seats if not lot.missing else ():
                    at = lot.ask.tenant.id
                    while at is not None:
                        expected[at, seat.flavor] += seat.charge
                        at = parents[at]
        assert {key: amount for key, amount in made.work.standing.items() if amount} == dict(expected)
        assert made.work.used == {}


@pytest.mark.parametrize("part", range(4))
def test_who_keeps_something_from_its_siblings_and_how_many_may_still_be_evicted(part):
    for seed in CROWDS[part::4]:
        here = crowd(seed)
        work, bounds = laid_out(here).work, here.policy.bounds
        late = [at for at in here.memory.evictions_ms if at > NOW_MS - bounds.eviction_window_ms]
        assert work.victims.budget == max(0, bounds.evictions_per_window - len(late))
        groups = {one.id for one in here.snapshot.groups if one.id in work.survey.groups}
        assert work.victims.draining == {one.group for one in here.memory.drains} & groups
        assert list(work.roots) == sorted(one.id for one in here.policy.tenants if one.parent is None)
        for tenant in here.policy.tenants:
            beside = sorted(
                one.id for one in here.policy.tenants if one.parent == tenant.parent and one.id != tenant.id
            )
            for flavor, shares in work.shares.items():
                keeping = [one for one in beside if shares[one].lending < shares[one].nominal or shares[one].reserved]
                assert list(work.keeping_beside.get((tenant.id, flavor), ())) == keeping


@pytest.mark.parametrize("part", range(4))
def test_which_wishes_may_change_by_themselves_and_which_samples_are_too_old(part):
    for seed in CROWDS[part::4]:
        here = crowd(seed)
        made = laid_out(here)
        oldest = NOW_MS - here.policy.bounds.telemetry_max_age_ms
        assert made.stale == {one.claim for one in here.snapshot.demands if one.observed_at_ms < oldest}
        assert made.volatile == {
            name for name, wish in made.wishes.items()
            if wish.claim.deadline_ms is not None or wish.claim.expires_at_ms is not None
            or wish.seen_lower_since_ms is not None or wish.idle_since_ms is not None
            or any(group.usage is UsageState.TRULY_IDLE for group in wish.held)
        }  # fmt: skip
        assert made.results.orphans == {one.claim for one in here.snapshot.groups} - {
            one.id for one in here.snapshot.claims
        }


ONE = claim("civil/x:chat")
USUAL = snapshot(FOUR, [ONE], running(ONE, ("G0",)), demands=[(ONE.id, 1)])
KNOWN = Memory(claims=(ClaimMemory(claim=ONE.id, rung=0),))
ODD = {
    "two workers on a device": (replace(USUAL, workers=(*USUAL.workers, replace(USUAL.workers[0], id="w2"))), KNOWN),
    "a device twice": (replace(USUAL, devices=(*USUAL.devices, FOUR[1])), KNOWN),
    "a worker twice": (replace(USUAL, workers=USUAL.workers * 2), KNOWN),
    "a group twice": (replace(USUAL, groups=USUAL.groups * 2), KNOWN),
    "a claim twice": (replace(USUAL, claims=USUAL.claims * 2), KNOWN),
    "a demand twice": (replace(USUAL, demands=USUAL.demands * 2), KNOWN),
    "remembered twice": (USUAL, Memory(claims=KNOWN.claims * 2)),
}


@pytest.mark.parametrize(("seen", "memory"), ODD.values(), ids=ODD)
def test_what_is_listed_twice_is_decided_from_nothing_each_time(seen, memory):
    for given, known, age in ((USUAL, KNOWN, 1), (seen, memory, 0)):
        assert laid_out(Crowd(given, rules(), known)).is_plain is (age == 1)
        decider = Decider()
        for _ in range(2):
            decider.decide(given, rules(), known, NOW_MS)
        assert decider.age == age


def test_quotas_that_lend_all_keep_nothing():
    work = laid_out(Crowd(USUAL, rules(), KNOWN)).work
    assert all(quota.lending_limit_millis == UNLIMITED for one in rules().tenants for quota in one.quotas)
    assert not any(work.keeping_beside.values())


def figures(made: Standing) -> dict[str, object]:
    """What stands, told by names and amounts: two that were made in other ways can be compared."""
    work, layout = made.work, made.work.layout
    return {
        "wishes": {name: (wish.wanted, wish.minimum, wish.value, wish.rung, wish.refusal, wish.paused, wish.idle)
                   for name, wish in made.wishes.items()},
        "asked": {(tenant, flavor): amount for flavor, of in made.asked.items()
                  for tenant, amount in of.items() if amount},
        "lots": {name: [(lot.size, lot.order, sorted(seat.group.id for seat in lot.seats)) for lot in lots]
                 for name, lots in work.of_claim.items()},
        "complete": {key: amount for key, amount in layout.complete.items() if amount},
        "standing": {key: amount for key, amount in work.standing.items() if amount},
        "used": {key: amount for key, amount in work.used.items() if amount},
        "seats": {device: [seat.group.id for seat in seats] for device, seats in work.board.seats.items() if seats},
        "free": (work.board.free_millis, work.board.free_memory, work.board.node_free),
        "workers": {device: one.id for device, one in work.board.worker_of.items()},
        "home": {device: one.id for device, one in layout.home.items()},
        "leaving": sorted(seat.group.id for seat in work.board.leaving),
        "volatile": made.volatile, "stale": made.stale, "orphans": made.results.orphans,
        "budget": work.victims.budget, "draining": work.victims.draining, "shares": work.shares,
        "capacity": work.capacity,
    }  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_what_stands_after_it_was_followed_is_what_is_laid_out_anew(part):
    followed = 0
    for seed in range(part, 80 * DEPTH, 4):
        here, dice, other = of_equals(seed), Dice(seed), of_equals(seed + 1).snapshot
        seen, memory, now_ms = here.snapshot, here.memory, NOW_MS
        made = lay_out(seen, here.policy, memory, now_ms)
        for _ in range(3):
            allocate(made.work)
            memory = conclude(made.results, made.work, made.wishes, made.changed, made.asked).memory
            now_ms += dice.choice((0, 1_000, 10_000, 50_000))
            seen = happened(dice, replace(seen, generation=seen.generation + 1, observed_at_ms=now_ms), other)
            seen, memory = changed_beside(dice, seen, memory)
            anew = lay_out(seen, here.policy, memory, now_ms)
            if not follow(made, seen, here.policy, memory, now_ms):
                made = anew
                continue
            followed += 1
            assert figures(made) == figures(anew), seed
    assert followed
