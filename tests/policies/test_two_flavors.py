"""Gangs on two flavors, of which one may be kept by others: what each gives up, where it stays, how that is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.granting.parting import give_up_what_may_not_stay, stay_where_allowed
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation
from policies.invariants import check_decision
from policies.model.decision import EvictionReason
from policies.model.memory import Memory
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode, Policy
from policies.model.tenancy import Quota
from policies.model.units import UNLIMITED
from policies.model.workload import Shape
from policies.turns.standing import lay_out
from tests.policies.crowds import Crowd
from tests.policies.looking import DEPTH
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_taken_back import assert_adds_up, state
from tests.simulation.generate import Dice

ON_A = [device(f"G{index}") for index in range(4)]
ON_B = [replace(device(f"H{index}", "n1"), flavor="B") for index in range(4)]
ON_C = [replace(device(f"I{index}", "n2"), flavor="C") for index in range(3)]
EITHER = Shape(flavors=("A", "B"))
WORLDS = 60 * DEPTH


def owning(policy: Policy, **of_tenant) -> Policy:
    """The policy with these quotas: of each flavor millis and what of it is lent."""
    known = {name.replace("_", "/"): quotas for name, quotas in of_tenant.items()}
    return replace(policy, tenants=tuple(
        replace(one, floor_millis=(), quotas=tuple(
            Quota(flavor=flavor, nominal_millis=much, lending_limit_millis=lent)
            for flavor, (much, lent) in known.get(one.id, {}).items()
        )) for one in policy.tenants
    ))  # fmt: skip


def crisis(policy: Policy) -> Policy:
    """The policy while batch is paused."""
    overlay = ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",))
    declared = ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS + 10**6, approvers=("ana", "ben")
    )
    return replace(policy, overlays=(overlay,), declaration=declared)


def some_world(seed: int) -> Crowd:
    """Gangs that stand on both flavors, and claims that want one of them; quotas that are lent or not."""
    dice = Dice(seed)
    free = {one.id for one in (*ON_A, *ON_B)}
    claims, runs = [], []
    for index in range(dice.randint(1, 4)):
        least = dice.randint(1, 3)
        one = claim(
            f"{dice.choice(('civil', 'civil', 'defence'))}/{dice.choice('xy')}:c{index}", least=least,
            most=least + dice.randint(0, 2), priority_class=dice.choice(("standard", "standard", "batch", "pinned")),
            ladder=(dice.choice((EITHER, EITHER, Shape(flavors=("B", "A")), Shape(flavors=("A",)))),),
            submitted_at_ms=index,
        )  # fmt: skip
        claims.append(one)
        flavors = {device.id for device in (*ON_A, *ON_B) if device.flavor in one.ladder[0].flavors}
        able = sorted(free & flavors)
        places = [able.pop(dice.randint(0, len(able) - 1)) for _ in range(min(len(able), dice.randint(0, 4)))]
        free -= set(places)
        workers, groups = running(one, *((name,) for name in places))
        workers = [replace(made, node="n1" if made.devices[0] in {b.id for b in ON_B} else "n0") for made in workers]
        since = [NOW_MS - dice.choice((1, 10**6, 2 * 10**6)) for _ in groups]
        runs.append((workers, [replace(made, since_ms=at) for made, at in zip(groups, since, strict=True)]))
    quotas = {
        name: {flavor: (dice.choice((0, 1000, 2000)), dice.choice((UNLIMITED, UNLIMITED, 0))) for flavor in "AB"}
        for name in ("civil_x", "civil_y", "defence_x", "defence_y")
    }
    for name in ("civil", "defence"):
        quotas[name] = {
            flavor: (sum(quotas[f"{name}_{part}"][flavor][0] for part in "xy"), dice.choice((UNLIMITED, 0)))
            for flavor in "AB"
        }
    policy = owning(rules(), **quotas)
    policy = crisis(policy) if dice.random() < 0.2 else policy
    return Crowd(snapshot([*ON_A, *ON_B], claims, *runs), policy, Memory())


NOTHING = {"A": (0, UNLIMITED), "B": (0, UNLIMITED)}
GANG = claim("civil/x:gang", least=2, most=3, ladder=(EITHER,))
RIGHTS = {"A": Tier.GUARANTEED, "B": Tier.ENTITLED}


def shut(policy: Policy) -> Policy:
    """The policy, where nobody may borrow."""
    return replace(policy, tenants=tuple(
        replace(one, quotas=tuple(replace(quota, borrowing_limit_millis=0) for quota in one.quotas))
        for one in policy.tenants
    ))  # fmt: skip


ALL_KEPT = {"A": (3000, 0), "B": (3000, 0)}
CLOSED = owning(rules(), defence=ALL_KEPT, defence_x=ALL_KEPT)
"""All that is there is of a tenant that lends nothing."""


def standing(*places: str, one=GANG, policy: Policy = CLOSED) -> tuple[Allocation, Lot, Lot]:
    """The gang at these places, three of A and three of B, and its two lots: the minimum, and one replica beyond it."""
    workers, groups = running(one, *((name,) for name in places))
    on = {made.id: made.node for made in (*ON_A, *ON_B)}
    workers = [replace(made, node=on[made.devices[0]]) for made in workers]
    work = lay_out(snapshot([*ON_A[:3], *ON_B[:3], *ON_C], [one], (workers, groups)), policy, Memory(), NOW_MS).work
    base, further = work.of_claim[one.id]
    return work, base, further


def places(lot: Lot) -> list[str]:
    return [seat.devices[0] for seat in lot.seats]


def assert_counted(work: Allocation, base: Lot, further: Lot) -> None:
    """What is complete counts for the tenant, what was given up for nobody, and nothing has moved on the board."""
    complete = [seat for lot in (base, further) if not lot.missing for seat in lot.seats]
    for flavor in "AB":
        there = 1000 * sum(seat.flavor == flavor for seat in complete)
        assert [work.standing.get((name, flavor), 0) for name in ("civil/x", "civil")] == [there, there]
    mine = {id(seat): lot for lot in (base, further) for seat in lot.seats}
    assert work.victims.lot_of == mine
    assert not {id(seat) for seat in work.given_up} & mine.keys()
    assert len(mine) + len(work.given_up) == len(work.board.moved) == 3
    assert set(work.board.moved.values()) == {0}


@pytest.mark.parametrize(
    ("at", "stronger", "stays", "beyond"),
    [(("G0", "G1", "H0"), "A", ["G0", "G1"], []), (("G0", "G1", "H0"), "B", ["H0"], []),
     (("G0", "H0", "H1"), "A", ["G0"], []), (("G0", "H0", "H1"), "B", ["H0", "H1"], [])],
)  # fmt: skip
def test_a_gang_without_a_right_keeps_what_stands_where_its_tenant_has_the_strongest_right(at, stronger, stays, beyond):
    work, base, further = standing(*at)
    asked = []

    def right(flavor, amount):
        asked.append((flavor, amount))
        return Tier.GUARANTEED if flavor == stronger else Tier.ENTITLED

    give_up_what_may_not_stay(work, base, right)
    assert sorted(asked) == [("A", 2000), ("B", 2000)], "of each flavor a right to all of its minimum"
    assert (places(base), places(further)) == (stays, beyond)
    assert sorted(seat.devices[0] for seat in work.given_up) == sorted(set(at) - {*stays})
    assert_counted(work, base, further)
    lost = {seat.group.id for seat in work.given_up}
    assert work.victims.taken == dict.fromkeys(lost, (EvictionReason.RECLAIM, None, 10000))


def test_of_flavors_with_equal_rights_the_gang_keeps_the_one_that_its_owner_named_first():
    for ladder in (EITHER, Shape(flavors=("B", "A"))):
        work, base, _ = standing("G0", "H0", "H1", one=replace(GANG, ladder=(ladder,)))
        first = base.ask.options[0].flavor
        give_up_what_may_not_stay(work, base, lambda *_: Tier.ENTITLED)
        assert {seat.flavor for seat in base.seats} == {first}


@pytest.mark.parametrize("right", [Tier.LEFTOVER, Tier.NONE])
def test_a_gang_without_a_right_on_any_flavor_gives_nothing_up_by_itself(right):
    work, base, _ = standing("G0", "G1", "H0")
    before = state(work)
    give_up_what_may_not_stay(work, base, lambda *_: right)
    assert (state(work), work.given_up, dict(work.board.moved)) == (before, [], {})


@pytest.mark.parametrize("limits", ["it may borrow all of it", "all of it is its own"])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_gang_that_something_lets_stay_where_it_is_gives_nothing_up_unless_a_mode_pauses_it(limits, is_paused):
    own = dict.fromkeys("AB", (3000, UNLIMITED))
    free, owned = owning(rules(), civil=NOTHING, civil_x=NOTHING), shut(owning(rules(), civil=own, civil_x=own))
    work, base, further = standing("G0", "G1", "H0", policy=free if limits == "it may borrow all of it" else owned)
    base.ask = further.ask = replace(base.ask, paused=is_paused)
    give_up_what_may_not_stay(work, base, lambda flavor, _: RIGHTS[flavor])
    assert len(work.given_up) == is_paused
    assert {reason for reason, *_ in work.victims.taken.values()} == (
        {EvictionReason.MODE_CHANGE} if is_paused else set()
    )
    if is_paused:
        assert_counted(work, base, further)


def kept(flavor: str) -> Policy:
    """Defence owns all of the flavor and lends nothing; of the other everybody may have what is there."""
    theirs = NOTHING | {flavor: (3000, 0)}
    return owning(rules(), defence=theirs, defence_x=theirs)


@pytest.mark.parametrize(
    ("at", "shut_flavor", "stays"),
    [(("G0", "H0", "H1"), "A", ["H0", "H1"]), (("G0", "H0", "H1"), "B", ["G0"]),
     (("G0", "G1", "H0"), "B", ["G0", "G1"])],
)  # fmt: skip
def test_of_a_gang_without_a_right_stays_what_stands_where_nobody_keeps_the_room(at, shut_flavor, stays):
    work, base, further = standing(*at, policy=kept(shut_flavor))
    stay_where_allowed(work, base)
    assert places(base) == stays
    assert_counted(work, base, further)
    lost = {seat.group.id for seat in work.given_up}
    assert work.victims.taken == dict.fromkeys(lost, (EvictionReason.RECLAIM, None, 10000))


@pytest.mark.parametrize(("at", "flavor"), [(("G0", "G1", "H0"), "A"), (("G0", "H0", "H1"), "B")])
def test_where_it_may_stay_on_either_flavor_it_stays_where_most_of_it_stands(at, flavor):
    work, base, further = standing(*at, policy=owning(rules()))
    stay_where_allowed(work, base)
    assert {seat.flavor for seat in base.seats} == {flavor}
    assert_counted(work, base, further)
    assert {reason for reason, *_ in work.victims.taken.values()} == {EvictionReason.REBALANCE}


def test_who_may_stay_nowhere_or_is_paused_or_is_on_one_flavor_is_left_to_leave_as_a_whole():
    for work, base, is_paused in (
        (*standing("G0", "G1", "H0")[:2], False),
        (*standing("G0", "G1", "H0", policy=kept("B"))[:2], True),
        (*standing("G0", "G1", "G2", policy=kept("A"))[:2], False),
        (*standing("G0", "G1", "G2", policy=owning(rules()))[:2], False),
    ):
        base.ask = replace(base.ask, paused=is_paused)
        before = state(work)
        stay_where_allowed(work, base)
        assert (state(work), work.given_up, dict(work.board.moved)) == (before, [], {})


def test_a_minimum_that_is_not_complete_asks_where_all_of_it_has_a_right_and_a_further_replica_stays_where_it_is():
    """Three of four were to run on A, the fourth on B started before two of those.

    Counted for the minimum it would leave it without a guarantee: a sibling would have the room of those two, and lose
    it again in the next decision.
    """
    one = claim("civil/x:gang", least=3, most=4, ladder=(EITHER,))
    sibling = claim("civil/y:sibling", least=1, most=2, priority_class="batch")
    own = NOTHING | {"A": (3000, UNLIMITED)}
    theirs = NOTHING | {"B": (4000, UNLIMITED)}
    policy = owning(rules(), civil=own, civil_x=own, civil_y=NOTHING, defence=theirs, defence_x=theirs)
    workers, groups = running(one, ("G0",), ("H0",))
    beside = [claim(f"defence/x:b{index}", ladder=(Shape(flavors=("B",)),)) for index in range(1, 4)]
    runs = [running(other, (f"H{index}",)) for index, other in enumerate(beside, 1)]
    on_b = [([replace(made, node="n1") for made in some], held) for some, held in [(workers[1:], []), *runs]]
    seen = snapshot([*ON_A[:3], *ON_B], [one, sibling, *beside], (workers[:1], groups), *on_b)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert sorted((made.claim, *made.devices) for made in decision.placements if "civil" in made.claim) == [
        (one.id, "G0"), (one.id, "G1"), (one.id, "G2"), (one.id, "H0")
    ]  # fmt: skip
    assert not decision.evictions


def test_room_for_all_of_the_minimum_is_what_lets_it_stay():
    """Of A two GPUs are kept of three: a replica would find room in what is left, its minimum of two would not."""
    theirs = NOTHING | {"A": (2000, 0)}
    policy = owning(rules(), defence=theirs, defence_x=theirs)
    work, base, _ = standing("G0", "G1", "H0", policy=policy)
    stay_where_allowed(work, base)
    assert places(base) == ["H0"]


LOWER = replace(GANG, ladder=(EITHER, replace(EITHER, gpu_millis=500)))
ALSO_ON_C = replace(GANG, ladder=(Shape(flavors=("C", "A", "B")),))


def test_neither_a_right_to_a_lower_rung_nor_one_where_nothing_of_it_stands_lets_a_gang_stay():
    work, base, _ = standing("G0", "G1", "H0", one=LOWER)
    give_up_what_may_not_stay(work, base, lambda _, amount: Tier.GUARANTEED if amount < 2000 else Tier.NONE)
    assert len(base.seats) == 2
    assert not work.given_up
    policy = owning(rules(), defence=ALL_KEPT | {"C": (0, UNLIMITED)}, defence_x=ALL_KEPT | {"C": (0, UNLIMITED)})
    work, base, _ = standing("G0", "G1", "H0", one=ALSO_ON_C, policy=policy)
    give_up_what_may_not_stay(work, base, lambda flavor, _: Tier.GUARANTEED if flavor == "C" else Tier.NONE)
    assert not work.given_up
    stay_where_allowed(work, base)
    assert not work.given_up


def test_room_for_a_lower_rung_lets_no_gang_stay_on_the_one_that_it_has():
    theirs = dict.fromkeys("AB", (2000, 0))
    work, base, _ = standing("G0", "G1", "H0", one=LOWER, policy=owning(rules(), defence=theirs, defence_x=theirs))
    stay_where_allowed(work, base)
    assert len(base.seats) == 2
    assert not work.given_up


@pytest.mark.parametrize("part", range(4))
def test_whatever_gangs_on_two_flavors_give_up_every_figure_is_what_the_replicas_add_up_to(part):
    for seed in range(part, WORLDS, 4):
        assert_adds_up(some_world(seed), NOW_MS)
