"""Lots in line: who is tried, with which right, who is passed over, and who may ask again."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from policies.granting.alike import Stretch
from policies.granting.lines import Line
from policies.granting.reclaim import Lot, Tier
from policies.granting.sharing import first_granted, known_failure, state
from policies.granting.working import Allocation
from policies.model.decision import PendingReason
from policies.model.memory import Memory
from policies.turns.standing import lay_out
from tests.policies.situations import NOW_MS, claim, device, rules, snapshot

FOUR = [claim(f"civil/x:c{index}", submitted_at_ms=index) for index in range(4)]


def laid_out(*claims) -> Allocation:
    work = lay_out(snapshot([device("G0")], claims or FOUR), rules(), Memory(), NOW_MS).work
    for classes in work.layout.queues.alike.values():
        for one in classes.values():
            one.begin_anew()
    return work


class Attempt:
    """Grants those that are named; who fails finds the tenants that are named with nothing to spare."""

    def __init__(self, grants: Iterable[str] = (), spared: dict[str, str] | None = None) -> None:
        self.grants, self.spared, self.asked = set(grants), spared or {}, list[tuple[str, Tier]]()

    def __call__(self, work: Allocation, lot: Lot, tier: Tier) -> bool:
        name = lot.ask.claim.id
        self.asked.append((name, tier))
        if name in self.spared:
            work.victims.spared.add(self.spared[name])
        return name in self.grants


def line_of(work: Allocation, attempt: Attempt, tier: Tier | None = None) -> Line:
    return Line(work, attempt, lambda lot, _: lot.order, tier)


def single(work: Allocation, *claims) -> list[Lot]:
    """Lots of these claims that are judged by themselves."""
    lots = [work.of_claim[one.id][0] for one in claims]
    for lot in lots:
        lot.terms, lot.tier = None, Tier.ENTITLED
    return lots


def served(line: Line) -> Line:
    while line.ahead:
        line.serve()
    line.resume(None)
    return line


def test_those_in_line_are_tried_in_the_order_of_their_places_with_the_right_of_the_line_or_their_own():
    for tier, tried in ((Tier.FLOOR, Tier.FLOOR), (None, Tier.ENTITLED)):
        work, attempt = laid_out(), Attempt(grants=[FOUR[1].id])
        line = line_of(work, attempt, tier)
        line.join(reversed(single(work, *FOUR)))
        served(line)
        assert attempt.asked == [(one.id, tried) for one in FOUR]
        assert [lot.ask.claim.id for lot in line.granted] == [FOUR[1].id]
        assert line.refused == {"civil/x"}
        assert [(lot.ask.claim.id, after) for lot, after in line.again] == [
            (one.id, work.departures) for one in (FOUR[0], *FOUR[2:])
        ]


def test_whoever_found_a_tenant_with_nothing_to_spare_may_ask_again_though_nobody_left():
    work, attempt = laid_out(), Attempt(grants=[FOUR[2].id], spared={FOUR[1].id: "defence", FOUR[2].id: "defence"})
    line = line_of(work, attempt, Tier.GUARANTEED)
    line.join(single(work, *FOUR))
    served(line)
    assert [lot.ask.claim.id for lot, after in line.again if after < work.departures] == [FOUR[1].id]
    assert line.refused == {"civil/x"}
    assert work.victims.spared == set(), "the last one found nobody"


@pytest.mark.parametrize("first", [True, False], ids=["of a class", "by itself"])
def test_what_one_found_is_not_held_against_whoever_comes_next(first):
    work, attempt = laid_out(), Attempt(grants=[FOUR[0].id])
    work.victims.spared.add("defence")
    line = line_of(work, attempt, Tier.GUARANTEED)
    if first:
        (alike,) = work.layout.queues.alike["civil/x"].values()
        line.join_class(alike, alike.stretches[0])
    else:
        line.join(single(work, *FOUR[:2]))
    served(line)
    now = work.departures
    assert all(after == now for _, after in line.again)
    assert work.victims.spared == set()
    if first:
        assert [(one.begin, one.end, one.asks_again_after) for one in alike.stretches] == [(1, 2, now), (2, 4, now)]


def test_of_a_class_the_next_is_tried_after_one_was_granted_and_the_rest_after_one_failed_is_passed_over():
    work, attempt = laid_out(), Attempt(grants=[FOUR[0].id])
    (alike,) = work.layout.queues.alike["civil/x"].values()
    alike.stretches[0].tier = Tier.ENTITLED
    line = line_of(work, attempt)
    line.join_class(alike, alike.stretches[0])
    served(line)
    assert attempt.asked == [(FOUR[0].id, Tier.ENTITLED), (FOUR[1].id, Tier.ENTITLED)]
    assert [lot.ask.claim.id for lot in line.granted] == [FOUR[0].id]
    assert line.refused == {"civil/x"}
    assert [(one.begin, one.end, one.has_failed) for one in alike.stretches] == [(1, 2, True), (2, 4, True)]


def test_who_was_passed_over_before_somebody_left_has_failed_and_who_comes_after_is_tried_again():
    between = claim("civil/y:other", submitted_at_ms=2)
    work, attempt = laid_out(*FOUR, between), Attempt()
    (alike,) = work.layout.queues.alike["civil/x"].values()

    def leaves(of: Allocation, lot: Lot, tier: Tier) -> bool:
        of.rearrangements += lot.ask.claim is between
        return attempt(of, lot, tier) or lot.ask.claim is between

    line = Line(work, leaves, lambda lot, _: lot.order[3:], Tier.GUARANTEED)
    line.join_class(alike, alike.stretches[0])
    line.join(single(work, between))
    served(line)
    assert [name for name, _ in attempt.asked] == [FOUR[0].id, between.id, FOUR[3].id]
    assert [(one.begin, one.end, one.has_failed) for one in alike.stretches] == [
        (0, 1, True), (1, 3, True), (3, 4, True),
    ]  # fmt: skip


def test_what_is_known_of_a_stretch_is_known_to_the_first_of_it_and_noted_for_the_others():
    work = laid_out()
    (alike,) = work.layout.queues.alike["civil/x"].values()
    one = Stretch(0, 4, Tier.ENTITLED, code=PendingReason.TOPOLOGY_UNSATISFIED, is_refused=True)
    alike.stretches = [one]
    seen: list[tuple[object, ...]] = []

    def fails(of: Allocation, lot: Lot, tier: Tier) -> bool:
        name = lot.ask.claim.id
        refused = name in of.victims.refused_by_budget
        seen.append((name, tier, lot.tier, lot.has_failed, of.codes.get(name), refused, of.trying is lot))
        return False

    assert known_failure(work, alike, one, Tier.GUARANTEED, state(work)) is None
    assert first_granted(work, alike, one, Tier.GUARANTEED, fails) is False
    assert seen == [(FOUR[0].id, Tier.GUARANTEED, Tier.ENTITLED, False, PendingReason.TOPOLOGY_UNSATISFIED, True, True)]
    assert work.trying is None
    known = known_failure(work, alike, one, Tier.GUARANTEED, state(work))
    assert known is not None
    assert (known.code, known.is_refused, known.spared) == (PendingReason.TOPOLOGY_UNSATISFIED, True, frozenset())
    assert known_failure(work, alike, one, Tier.FLOOR, state(work)) is None
    assert known_failure(work, alike, Stretch(1, 4), Tier.GUARANTEED, state(work)) is None
    assert known_failure(work, alike, one, Tier.GUARANTEED, (state(work)[0] + 1, False)) is None
    assert (one.begin, one.end) == (1, 4)


def test_of_two_stretches_that_are_tried_the_one_that_is_served_leaves_the_other_as_it_was():
    work, attempt = laid_out(*FOUR), Attempt(grants=[one.id for one in FOUR])
    (alike,) = work.layout.queues.alike["civil/x"].values()
    alike.stretches = [Stretch(0, 1, Tier.FLOOR), Stretch(1, 4, Tier.GUARANTEED)]
    line = line_of(work, attempt)
    line.join_class(alike, alike.stretches[0])
    served(line)
    assert attempt.asked == [(FOUR[0].id, Tier.FLOOR)]
    assert [(one.begin, one.end) for one in alike.stretches] == [(1, 4)]
