"""Who is like whom: a failure is passed on to equals as long as it stands, and to nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.granting.reclaim import Lot, Tier
from policies.granting.sharing import granted, state, terms_of
from policies.granting.working import TRIED_PER_DECISION, Allocation
from policies.model.decision import PendingReason
from policies.model.memory import ClaimMemory, Memory, Spoilt
from policies.model.workload import ClaimKind, Shape
from policies.turns.standing import lay_out
from tests.policies.situations import NOW_MS, claim, device, rules, snapshot

FIRST, SECOND = claim("civil/x:a"), claim("civil/x:b", submitted_at_ms=1)
RIGHT = Tier.GUARANTEED


def laid_out(*claims, memory=Memory()) -> Allocation:  # noqa: B008  # a frozen noun
    return lay_out(snapshot([device("G0"), device("G1")], claims), rules(), memory, NOW_MS).work


def lot(one, **terms) -> Lot:
    """The lot of the claim, alone on the platform."""
    (found,) = laid_out(one).of_claim[one.id]
    return replace(found, ask=replace(found.ask, **terms)) if terms else found


class Attempts:
    """Attempts that fail in one way, and who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, work: Allocation, asked: Lot, _: Tier) -> bool:
        name = asked.ask.claim.id
        self.asked.append(name)
        work.codes[name] = PendingReason.SEARCH_INCOMPLETE
        work.victims.refused_by_budget.add(name)
        work.victims.spared.add("defence")
        return False


def both_asked(work: Allocation, between=lambda _work, _second: None) -> tuple[list[str], Lot]:
    """Who is asked of two that fail, when this happens in between."""
    attempts, (first, second) = Attempts(), (work.of_claim[one.id][0] for one in (FIRST, SECOND))
    assert granted(work, first, RIGHT, attempts) is False
    work.victims.spared.clear()
    between(work, second)
    assert granted(work, second, RIGHT, attempts) is False
    return attempts.asked, second


def test_how_one_fails_its_equals_fail_without_being_asked():
    work = laid_out(FIRST, SECOND)
    asked, second = both_asked(work)
    assert asked == [FIRST.id]
    assert second.has_failed
    assert work.codes[SECOND.id] is PendingReason.SEARCH_INCOMPLETE
    assert work.victims.refused_by_budget == {FIRST.id, SECOND.id}
    assert work.victims.spared == {"defence"}


def gone(work: Allocation, _: Lot) -> None:
    work.departures += 1


def spent(work: Allocation, _: Lot) -> None:
    work.rearrangements += TRIED_PER_DECISION


def searched(work: Allocation, _: Lot) -> None:
    work.board.steps += work.survey.policy.bounds.search_steps


def told(work: Allocation, second: Lot) -> None:
    work.codes[second.ask.claim.id] = PendingReason.RESERVATION_AHEAD


def refused(work: Allocation, second: Lot) -> None:
    work.victims.refused_by_budget.add(second.ask.claim.id)


def kept_for(work: Allocation, second: Lot) -> None:
    work.holding.add(second.ask.claim.id)


def unlike(_: Allocation, second: Lot) -> None:
    second.terms = None


def has_a_group(work: Allocation, second: Lot) -> None:
    second.ask.held = (object(),)


def had_a_group(work: Allocation, second: Lot) -> None:
    second.ask.leaving = (object(),)


@pytest.mark.parametrize(
    "between", [gone, spent, searched, told, refused, kept_for, unlike, has_a_group, had_a_group],
    ids=lambda one: one.__name__,
)  # fmt: skip
def test_who_is_no_equal_any_more_or_after_something_changed_is_asked(between):
    assert both_asked(laid_out(FIRST, SECOND), between)[0] == [FIRST.id, SECOND.id]


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ({"waiting_since_ms": 1}, [FIRST.id]),
        ({"failed_at_ms": NOW_MS - 10**6}, [FIRST.id, SECOND.id]),
        ({"spoilt": (Spoilt(device="G9", rung=0, since_ms=NOW_MS),)}, [FIRST.id, SECOND.id]),
        ({"evicted_at_ms": NOW_MS}, [FIRST.id, SECOND.id]),
    ],
    ids=["that it waits", "a failed start", "a device that failed it", "that it may not ask others to leave yet"],
)
def test_what_is_remembered_against_one_makes_it_no_equal(known, asked):
    work = laid_out(FIRST, SECOND, memory=Memory(claims=(ClaimMemory(claim=SECOND.id, **known),)))
    assert both_asked(work)[0] == asked


def test_what_failed_with_one_right_is_asked_with_another():
    work, attempts = laid_out(FIRST, SECOND), Attempts()
    first, second = (work.of_claim[one.id][0] for one in (FIRST, SECOND))
    for one, right in ((first, Tier.GUARANTEED), (second, Tier.FLOOR), (second, Tier.GUARANTEED)):
        one.has_failed = False
        work.codes.clear()
        work.victims.refused_by_budget.clear()
        granted(work, one, right, attempts)
    assert attempts.asked == [FIRST.id, SECOND.id]


def test_only_what_takes_a_place_from_somebody_lets_all_others_be_asked_again():
    """Places that were free only become fewer, so that what failed before fails again."""
    work = laid_out(FIRST, SECOND)
    first, second = (work.of_claim[one.id][0] for one in (FIRST, SECOND))
    before = state(work)
    assert granted(work, first, RIGHT, lambda *_: True)
    assert (state(work), work.version) == (before, 1)

    def moves(of: Allocation, *_) -> bool:
        of.rearrangements += 1
        return True

    def takes(of: Allocation, *_) -> bool:
        of.victims.taken["g"] = ("reclaim", None, 0)
        return True

    for attempt, departures in ((moves, 1), (takes, 2)):
        assert granted(work, second, RIGHT, attempt)
        assert (work.departures, work.version) == (departures, departures + 1)
    second.seats.append(object())
    assert granted(work, second, RIGHT, lambda *_: False) is False
    assert (work.departures, work.version) == (3, 3), "what it holds may be taken by others from now on"


EQUAL = {
    "a later one": claim("civil/x:z", submitted_at_ms=99),
    "another name": claim("civil/x:y"),
}
UNEQUAL = {
    "another tenant": claim("civil/y:a"),
    "another size": claim("civil/x:a", millis=500),
    "another class": claim("civil/x:a", priority_class="critical"),
    "a gang": claim("civil/x:a", least=2),
    "a job": claim("civil/x:a", kind=ClaimKind.JOB),
    "a length": claim("civil/x:a", duration_s=60),
    "an end": claim("civil/x:a", expires_at_ms=NOW_MS + 1),
    "a model": claim("civil/x:a", model="m"),
    "two rungs": claim("civil/x:a", ladder=(Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))),
}


@pytest.mark.parametrize("other", [*EQUAL.values(), *UNEQUAL.values()], ids=[*EQUAL, *UNEQUAL])
def test_equal_are_those_of_which_nothing_differs_but_name_and_moment(other):
    one = claim("civil/x:a")
    work = laid_out(one, replace(other, id=f"{other.tenant}:other"))
    first, second = (lots[0] for _, lots in sorted(work.of_claim.items(), key=lambda pair: pair[0] != one.id))
    assert (first.terms == second.terms) is (other in EQUAL.values())
    assert first.terms is not None
    assert second.terms is not None


@pytest.mark.parametrize(
    "terms", [{"idle": True}, {"upgrades": (object(),)}, {"rung": 0}], ids=["idle", "could climb", "has a rung"]
)
def test_who_is_idle_or_had_a_rung_is_like_nobody(terms):
    assert terms_of(lot(FIRST)) is not None
    assert terms_of(lot(FIRST, **terms)) is None


def test_who_spreads_holds_something_or_is_beyond_a_minimum_is_like_nobody():
    assert terms_of(lot(replace(FIRST, spread=True))) is None
    assert terms_of(replace(lot(FIRST), seats=[object()])) is None
    assert terms_of(replace(lot(FIRST), is_base=False)) is None
