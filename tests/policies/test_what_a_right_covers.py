"""How far each right reaches: what is counted into it, to the last unit, and who gets none of what siblings share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.granting.apart import tell_each
from policies.granting.limits import is_allowed
from policies.granting.reclaim import Lot, Tier
from policies.granting.rights import rate
from policies.granting.steady import grant_settled, reopen
from policies.granting.working import Allocation, first_option, siblings
from policies.model.memory import Memory
from policies.model.units import UNLIMITED
from policies.model.workload import Shape
from tests.policies.crowds import Crowd
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot
from tests.policies.test_taken_back import begun
from tests.policies.test_two_flavors import EITHER, ON_A, ON_B, owning

CHOOSES = claim("civil/x:chooses", ladder=(EITHER,), submitted_at_ms=9)
ON_ITS_FLOOR = claim("civil/x:floor", priority_class="critical")


def settled(*runs, own: int = 3000, floor: int = 1000, one=CHOOSES) -> tuple[Allocation, Lot]:
    """Civil/x is guaranteed so much of A, of which so much is a floor; a claim that may also run on B waits.

    Of what runs on A, each a claim and its places, nothing is granted yet.
    """
    policy = owning(rules(), civil={"A": (own, UNLIMITED)}, civil_x={"A": (own, UNLIMITED)})
    policy = replace(policy, tenants=tuple(
        replace(at, floor_millis=(("A", floor),)) if at.id in ("civil", "civil/x") else at for at in policy.tenants
    ))  # fmt: skip
    stands = [running(of, *((name,) for name in places)) for of, *places in runs]
    seen = snapshot([*ON_A, *ON_B], [*(of for of, *_ in runs), one], *stands)
    work = begun(Crowd(seen, policy, Memory()), NOW_MS)
    grant_settled(work)
    reopen(work)
    return work, work.of_claim[one.id][0]


def may_have_a_floor(work: Allocation, lot: Lot) -> bool:
    return is_allowed(work, lot, first_option(lot), Tier.FLOOR)


SINGLE = claim("civil/x:single", submitted_at_ms=1)
HALVES = claim("civil/x:halves", least=2, millis=500, submitted_at_ms=2)
FLOOR_AT, SINGLE_AT, HALVES_AT = (ON_ITS_FLOOR, "G0"), (SINGLE, "G1"), (HALVES, "G2", "G3")


@pytest.mark.parametrize(("runs", "taken"), [
    ((), 0), ((SINGLE_AT,), 1000), ((HALVES_AT,), 1000), ((SINGLE_AT, HALVES_AT), 2000),
], ids=["nothing", "a replica", "a gang", "both"])  # fmt: skip
def test_beyond_a_floor_on_another_flavor_one_has_what_runs_there_inside_the_guarantee_leaves_to_the_unit(runs, taken):
    """The right is to a floor on B, say; on A the floor is held, and what runs there is not sent away for it."""
    for own, is_allowed_there in ((2000 + taken, True), (1999 + taken, False)):
        work, lot = settled(FLOOR_AT, *runs, own=own)
        assert work.used["civil/x", "A"] == 1000, "what is on its floor is granted already"
        assert {one.tier for of, *_ in runs for one in work.of_claim[of.id]} <= {Tier.GUARANTEED}
        for _ in range(2):
            assert may_have_a_floor(work, lot) is is_allowed_there, "asked again, the answer is the same"


@pytest.mark.parametrize(("floor", "is_held"), [(1000, True), (1001, False)])
def test_where_less_than_the_floor_is_held_what_runs_on_the_guarantee_does_not_count(floor, is_held):
    work, lot = settled(FLOOR_AT, HALVES_AT, own=2500, floor=floor)
    work.of_claim[HALVES.id][0].tier = Tier.GUARANTEED
    assert may_have_a_floor(work, lot) is not is_held


def test_where_nothing_is_held_yet_even_a_floor_of_one_unit_is_not_reached():
    work, lot = settled(HALVES_AT, own=1500, floor=1)
    work.of_claim[HALVES.id][0].tier = Tier.GUARANTEED
    assert may_have_a_floor(work, lot)
    work.used["civil/x", "A"] = 1
    assert not may_have_a_floor(work, lot)


def test_who_may_run_on_one_flavor_alone_has_its_floor_whatever_runs_there():
    """It runs in the order of rights: what comes after floors was rated after it."""
    here = replace(CHOOSES, ladder=(Shape(flavors=("A",)),))
    for one, is_allowed_there in ((here, True), (CHOOSES, False)):
        work, lot = settled(FLOOR_AT, HALVES_AT, own=2500, one=one)
        work.of_claim[HALVES.id][0].tier = Tier.GUARANTEED
        assert may_have_a_floor(work, lot) is is_allowed_there


def _granted(_: Allocation, lot: Lot) -> None:
    lot.is_kept = True


def _on_its_floor(_: Allocation, lot: Lot) -> None:
    lot.tier = Tier.FLOOR


def _borrowed(_: Allocation, lot: Lot) -> None:
    lot.tier = Tier.ENTITLED


def _no_service(_: Allocation, lot: Lot) -> None:
    lot.size += 1


def _without_its_minimum(work: Allocation, lot: Lot) -> None:
    (_, further) = siblings(work, lot)
    further.tier = Tier.GUARANTEED
    lot.is_kept = True
    lot.size += 1


@pytest.mark.parametrize(
    "state", [_granted, _on_its_floor, _borrowed, _no_service, _without_its_minimum], ids=lambda one: one.__name__[1:]
)
def test_what_is_counted_elsewhere_borrowed_or_no_service_takes_nothing_of_a_guarantee(state):
    """Two replicas on A stand in the way of a third claim unless they are counted for something else."""
    gang = replace(HALVES, max_replicas=3, desired_replicas=3)
    work, lot = settled(FLOOR_AT, (gang, "G2", "G3", "G1"), own=2499, one=CHOOSES)
    base, further = work.of_claim[gang.id]
    base.tier, further.tier = Tier.GUARANTEED, Tier.LEFTOVER
    assert not may_have_a_floor(work, lot)
    work.settled.clear()
    work.pooled["civil/x", "A"] = -499
    state(work, base)
    assert may_have_a_floor(work, lot)


def test_what_leaves_takes_nothing_of_the_guarantee_any_more():
    work, lot = settled(FLOOR_AT, HALVES_AT, own=2500)
    base = work.of_claim[HALVES.id][0]
    base.tier = Tier.GUARANTEED
    assert not may_have_a_floor(work, lot)
    work.board.leave(base.seats.pop())
    work.departures += 1
    assert may_have_a_floor(work, lot)


PINNED = [claim(f"civil/x:pinned{index}", priority_class="pinned", submitted_at_ms=index) for index in range(2)]


def pinned(own: int, shared: int, *places: str) -> list[Tier]:
    """The rights of two replicas that nobody may preempt, where their tenant has quota and some of its siblings'."""
    policy = owning(rules(), civil={"A": (4000, UNLIMITED)}, civil_x={"A": (own, UNLIMITED)})
    runs = [running(one, (place,)) for one, place in zip(PINNED, places, strict=False)]
    work = begun(Crowd(snapshot(ON_A, PINNED, *runs), policy, Memory()), NOW_MS)
    work.pooled["civil/x", "A"] = shared
    rate(work, "civil/x")
    tell_each(work, work.open)
    return [work.of_claim[one.id][0].tier for one in PINNED]


def test_on_what_siblings_cannot_use_nothing_begins_that_they_could_not_take_back():
    assert pinned(2000, 0) == [Tier.GUARANTEED, Tier.GUARANTEED], "its own quota"
    assert pinned(1999, 1) == [Tier.GUARANTEED, Tier.NONE], "one unit of it is a sibling's"
    assert pinned(999, 1001) == [Tier.NONE, Tier.NONE]


def test_what_nobody_may_preempt_and_runs_has_the_right_to_what_siblings_cannot_use():
    assert pinned(1999, 1, "G0", "G1") == [Tier.GUARANTEED, Tier.GUARANTEED]
