"""What changed between two lists is found wherever it stands, and what is told in order stays in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.evidence.survey import survey
from policies.explaining.register import STRETCH, Register
from policies.model.memory import Memory
from policies.turns.changes import NEAR, STEP, between
from policies.turns.loads import groups_between
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice

CLAIMS = tuple(claim(f"civil/x:c{index:04}") for index in range(3 * STEP))


def edited(dice: Dice, before: list, most: int, called: str) -> list:
    """The list after up to so many went, came, were exchanged for others or put elsewhere."""
    after = list(before)
    for number in range(int(dice.random() * (most + 1))):
        place, what = int(dice.random() * len(after)), dice.random()
        if what < 0.3:
            del after[place]
        elif what < 0.6:
            after.insert(place, claim(f"civil/x:{called}{number:04}"))
        elif what < 0.8:
            after[place] = replace(after[place], submitted_at_ms=number + 7)
        else:
            after.insert(int(dice.random() * len(after)), after.pop(place))
    return after


@pytest.mark.parametrize("most", [0, 1, NEAR, 40, STEP, 2 * STEP])
def test_a_change_brings_the_first_list_to_the_second_and_names_nothing_that_stayed(most):
    for seed in range(20):
        dice = Dice(seed)
        before = edited(dice, CLAIMS, 5, "m")
        after = edited(dice, before, most, "n")
        if seed % 2:
            after = [replace(one) for one in after]  # an observer may make every noun anew
        change = between(tuple(before), tuple(after), lambda one: one.id)
        known = {one.id: one for one in before}
        stayed = {one.id for one in after if known.get(one.id) == one}
        change.apply(known)
        assert known == {one.id: one for one in after}
        assert not stayed & (change.gone.keys() | change.new.keys())


@pytest.mark.parametrize("after", [(), CLAIMS[::-1], CLAIMS[STEP:] + CLAIMS[:STEP], CLAIMS[: STEP + 1], CLAIMS * 2])
def test_lists_turned_round_cut_short_or_doubled_are_told_apart_by_their_length(after):
    change, known = between(CLAIMS, after, lambda one: one.id), {one.id: one for one in CLAIMS}
    is_single = len({one.id for one in after}) == len(after)
    assert (change.leaves(len(CLAIMS), known.keys()) == len(after)) is is_single
    change.apply(known)
    assert known == {one.id: one for one in after}


def test_a_register_tells_its_nouns_in_the_order_of_names_whatever_came_went_or_came_back():
    dice, register, known = Dice(3), Register(), {}
    for turn in range(200):
        for _ in range(int(dice.random() * 6)):
            name = f"n{int(dice.random() * 60):02}"
            if dice.random() < 0.5:
                register.drop(name)
                known.pop(name, None)
            else:
                register.exchange((), {name: turn})
                known[name] = turn
        assert register.told() == tuple(known[name] for name in sorted(known))


def test_a_long_register_tells_them_in_order_too_where_many_come_between_two_neighbours():
    dice, register = Dice(4), Register()
    known = {f"n{index:05}": index for index in range(4 * STRETCH)}
    register.exchange((), known)
    register.told()
    for turn in range(60):
        for number in range(STRETCH // 10):
            name, gone = f"n{777 + turn % 3:05}-{turn}-{number}", f"n{int(dice.random() * 4 * STRETCH):05}"
            register.exchange((), {name: turn})
            register.drop(gone)
            known[name] = turn
            known.pop(gone, None)
        if turn % 20 == 19:
            for name in [name for name in known if name < f"n{STRETCH:05}"]:
                register.drop(name)
                del known[name]
        assert register.told() == tuple(known[name] for name in sorted(known)), turn
        assert register.told() is register.told()


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.6, 1])
def test_of_groups_is_told_what_went_came_or_changed_but_for_what_is_live_however_many_are_new_objects(share):
    one = claim("civil/x:many", most=400)
    seen = snapshot([device(f"G{index:03}") for index in range(400)], [one],
                    running(one, *((f"G{index:03}",) for index in range(400))))  # fmt: skip
    surveyed = survey(seen, rules(), Memory(), NOW_MS)
    for seed in range(6):
        dice, after, changed, live = Dice(seed), [], {}, {}
        for group in seen.groups:
            fate = dice.random() / max(share, 0.001)
            if fate < 0.1:
                changed[group.id] = None
                continue
            if fate < 0.3:
                changed[group.id] = replace(group, running=0)
            elif fate < 1:
                live[group.id] = replace(group, in_flight=(group.in_flight or 0) + 1)
            after.append((live | changed).get(group.id, group))
        came = replace(seen.groups[0], id="a-new-one")
        change, fresh = groups_between(surveyed, seen.groups, (*after, came))
        assert change.gone == {name: surveyed.groups[name] for name in changed}
        assert change.new == {name: group for name, group in changed.items() if group} | {came.id: came}
        assert {group.id: group for group in fresh} == change.new | live
