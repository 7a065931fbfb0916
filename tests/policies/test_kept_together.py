"""What is kept up to date piece by piece is what it would be if it were made anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.fleet.board import Board
from policies.granting.alike import Alike, Failure, Stretch, cut, joined
from policies.granting.queues import Queues, Run
from policies.granting.reclaim import Lot, Tier
from policies.granting.steady import _fitting, _next, _reaching
from policies.model.decision import PendingReason
from policies.model.memory import ClaimMemory, Memory
from policies.turns.standing import lay_out
from tests.policies.crowds import NOW_MS, crowd
from tests.policies.looking import DEPTH
from tests.policies.situations import claim, device, rules, running, snapshot
from tests.policies.test_crowds_of_equals import of_equals
from tests.simulation.generate import Dice


@pytest.mark.parametrize("seed", range(12 * DEPTH))
def test_how_many_of_a_row_fit_or_are_enough_does_not_depend_on_where_one_begins_to_look(seed):
    dice = Dice(seed)
    charges = [dice.choice((250, 500, 1000)) for _ in range(8)]
    for _ in range(40):
        begin, end = sorted((dice.randint(0, 8), dice.randint(0, 8)))
        room, guess = dice.choice((-250, 0, 250, 750, 1000, 1250, 2000, 9000)), dice.randint(0, 9)
        sums = {at: sum(charges[begin:at]) for at in range(begin, end + 1)}
        assert _fitting(charges, begin, end, room, guess) == max(at for at in sums if sums[at] <= room or at == begin)
        enough = [at for at in sums if sums[at] >= room]
        assert _reaching(charges, begin, end, room, guess) == min(enough, default=end)
        fits = [at for at in range(begin, end) if charges[at] <= room]
        assert _next(charges, begin, end, room) == min(fits, default=end)


def shown(queues: Queues) -> dict[str, object]:
    """What is in the queues, in order, without what is empty."""
    return {
        "lots": {name: [lot.order for lot in lots] for name in queues.tenants if (lots := queues.of(name))},
        "apart": {name: [lot.order for lot in lots] for name, lots in queues.apart.items() if lots},
        "lacking": {name: [lot.order for lot in lots] for name, lots in queues.lacking.items() if lots},
        "runs": {
            (name, key): ([lot.order for lot in run.lots], run.charges, run.value, run.flavor)
            for name, runs in queues.runs.items() for key, run in runs.items() if run.lots
        },
        "alike": {
            (name, one.lots[0].terms): ([lot.order for lot in one.lots], one.claims)
            for name, classes in queues.alike.items() for one in classes.values()
        },
        "lowerable": {name: count for name, count in queues.lowerable.items() if count},
        "ending": {name: count for name, count in queues.ending.items() if count},
        "climbing": queues.climbing,
        "changing": queues.changing,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(24 * DEPTH))
def test_queues_into_which_lots_come_and_from_which_they_go_are_as_if_filled_at_once(seed):
    here, dice = of_equals(seed), Dice(seed)
    seen = lay_out(here.snapshot, here.policy, here.memory, NOW_MS).work
    claims = list(seen.of_claim.values())
    here_first = [lots for lots in claims if dice.random() < 0.5]
    kept, whole = Queues(), Queues()
    kept.fill((lot for lots in here_first for lot in lots), seen.survey)
    for lots in claims:
        if lots not in here_first:
            kept.add(lots, seen.survey)
    gone = [lots for lots in claims if dice.random() < 0.3]
    for lots in gone:
        kept.remove(lots)
    whole.fill((lot for lots in claims if lots not in gone for lot in lots), seen.survey)
    assert shown(kept) == shown(whole)
    terms = {lot.terms: lot.terms for name in kept.tenants for lot in kept.of(name) if lot.terms is not None}
    assert all(terms[lot.terms] is lot.terms for name in kept.tenants for lot in kept.of(name) if lot.terms is not None)


@pytest.mark.parametrize("seed", range(0, 60 * DEPTH, 5))
def test_a_board_that_is_shown_is_the_board_on_which_each_was_seated(seed):
    here = crowd(seed)
    board = lay_out(here.snapshot, here.policy, here.memory, NOW_MS).work.board
    seats = list({id(seat): seat for some in board.seats.values() for seat in some}.values())
    before = figures(board)
    for seat in seats:
        board.leave(seat)
    assert all(not some for some in board.seats.values())
    for seat in reversed(seats):
        board.take(seat)
    assert figures(board) == before
    assert not any(board.moved.values())


def figures(board: Board) -> tuple[object, ...]:
    """What is free where."""
    spare = {key: (one.idle, one.whole) for key, one in board.spare.items()}
    return board.free_millis, board.free_memory, board.node_free, board.node_cpu, board.node_memory, spare


def row(count: int) -> list[Lot]:
    """Waiting lots in the order of their queue."""
    waiting = [claim(f"civil/x:c{index}", submitted_at_ms=index) for index in range(count)]
    work = lay_out(snapshot([device("G0")], waiting), rules(), Memory(), NOW_MS).work
    return [work.of_claim[one.id][0] for one in waiting]


def spans(stretches) -> list[tuple[int, int]]:
    return [(one.begin, one.end) for one in stretches]


@pytest.mark.parametrize(
    ("place", "left"),
    [(0, [(1, 4), (6, 7)]), (2, [(0, 2), (3, 4), (6, 7)]), (3, [(0, 3), (6, 7)]), (6, [(0, 4)]),
     (4, None), (5, None), (7, None)],
)  # fmt: skip
def test_one_that_is_looked_at_apart_leaves_those_before_and_after_it_together(place, left):
    first, second = Stretch(0, 4, Tier.FLOOR, has_failed=True, is_refused=True), Stretch(6, 7, Tier.NONE)
    some = [first, second]
    found = cut(some, place)
    assert found is (None if left is None else first if place < 4 else second)
    assert spans(some) == ([(0, 4), (6, 7)] if left is None else left)
    assert all((one.tier, one.has_failed, one.is_refused) == (Tier.FLOOR, True, True) for one in some if one.end <= 4)


def test_stretches_are_joined_where_they_meet_and_the_same_holds_for_both():
    some: list[Stretch] = []
    joined(some, Stretch(0, 0, Tier.FLOOR))
    assert some == []
    joined(some, Stretch(0, 2, Tier.FLOOR))
    joined(some, Stretch(2, 3, Tier.FLOOR))
    joined(some, Stretch(4, 5, Tier.FLOOR))
    joined(some, Stretch(5, 6, Tier.GUARANTEED))
    assert spans(some) == [(0, 3), (4, 5), (5, 6)]
    unlike = ({"code": PendingReason.ON_HOLD}, {"is_refused": True}, {"has_failed": True}, {"asks_again_after": 3})
    for index, other in enumerate(unlike):
        joined(some, Stretch(6 + index, 7 + index, Tier.GUARANTEED, **other))
    assert len(some) == 3 + len(unlike)


def test_lots_of_a_class_stand_in_the_order_of_the_queue_and_fail_or_are_granted_from_the_front():
    lots, of = row(4), Alike()
    for lot in (lots[2], lots[0], lots[3], lots[1]):
        of.add(lot)
    assert (of.lots, of.claims) == (lots, [lot.ask.claim.id for lot in lots])
    of.remove(lots[1])
    assert (of.lots, of.claims) == ([lots[0], *lots[2:]], [lot.ask.claim.id for lot in (lots[0], *lots[2:])])
    of.add(lots[1])
    of.begin_anew()
    (one,) = of.stretches
    assert (one.begin, one.end, of.value) == (0, 4, lots[0].ask.value)
    of.give(one)
    assert spans(of.stretches) == [(1, 4)]
    known = Failure(
        state=(7, False), version=0, code=PendingReason.ON_HOLD, is_refused=True, spared=frozenset({"civil"})
    )
    of.fail(one, 2, known)
    assert [(s.begin, s.end, s.has_failed, s.is_refused, s.asks_again_after, s.code) for s in of.stretches] == [
        (1, 2, True, True, 6, PendingReason.ON_HOLD), (2, 4, False, False, None, None),
    ]  # fmt: skip
    of.fail(one, 4, replace(known, spared=frozenset()))
    assert [(s.begin, s.end, s.asks_again_after) for s in of.stretches] == [(1, 2, 6), (2, 4, 7)]
    assert one not in of.stretches


RIGHTS = (Tier.FLOOR, Tier.GUARANTEED, Tier.ENTITLED, Tier.LEFTOVER)


@pytest.mark.parametrize("seed", range(12 * DEPTH))
def test_a_run_that_is_settled_again_and_again_gives_each_the_right_that_it_was_rated(seed):
    dice, run, lots = Dice(seed), Run(500, "A"), running_lots(6)
    for lot in lots:
        run.add(lot)
    for _ in range(5):
        ends = sorted(dice.randint(0, 6) for _ in range(3))
        bounds = [0, *ends, 6]
        rated: list[Stretch] = []
        for tier, begin, end in zip(RIGHTS, bounds[:-1], bounds[1:], strict=True):
            joined(rated, Stretch(begin, end, tier))
        run.settle(rated)
        of = [next(one.tier for one in rated if one.begin <= index < one.end) for index in range(6)]
        assert [lot.tier for lot in lots] == of
        assert [lot.is_kept for lot in lots] == [tier <= Tier.GUARANTEED for tier in of]
        assert (run.floor, run.sure) == (of.count(Tier.FLOOR), of.count(Tier.FLOOR) + of.count(Tier.GUARANTEED))
        assert spans(run.stretches) == spans(one for one in rated if one.tier > Tier.GUARANTEED)
        left = of.count(Tier.LEFTOVER)
        amount = run.grant(Tier.ENTITLED)
        assert amount == 1000 * of.count(Tier.ENTITLED)
        assert [lot.is_kept for lot in lots].count(False) == left
        assert spans(run.stretches) == ([(6 - left, 6)] if left else [])
        for lot in lots[run.sure :]:
            lot.is_kept = False


def running_lots(count: int) -> list[Lot]:
    """Lots that have their one replica, in the order of their queue."""
    claims = [claim(f"civil/x:c{index}", submitted_at_ms=index) for index in range(count)]
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(claims)]
    seen = snapshot([device(f"G{index}") for index in range(count)], claims, *runs)
    memory = Memory(claims=(ClaimMemory(claim=claims[0].id, rung=0),))
    work = lay_out(seen, rules(civil=count * 1000), memory, NOW_MS).work
    return [work.of_claim[one.id][0] for one in claims]


def test_who_comes_or_goes_between_those_that_are_settled_is_settled_too():
    lots, run = running_lots(6), Run(500, "A")
    for lot in lots[:2] + lots[3:]:
        run.add(lot)
    run.settle([Stretch(0, 2, Tier.FLOOR), Stretch(2, 4, Tier.GUARANTEED), Stretch(4, 5, Tier.ENTITLED)])
    lots[2].tier = Tier.NONE
    run.add(lots[2])
    assert (run.floor, run.sure, run.lots) == (2, 5, lots)
    assert (lots[2].tier, lots[2].is_kept) == (Tier.GUARANTEED, True)
    run.remove(lots[0])
    assert (run.floor, run.sure, len(run.lots), len(run.charges)) == (1, 4, 5, 5)
    lots[0].tier, lots[0].is_kept = Tier.NONE, False
    run.add(lots[0])
    assert (run.floor, run.sure, run.lots, lots[0].tier) == (2, 5, lots, Tier.FLOOR)
    run.remove(lots[5])
    assert (run.floor, run.sure) == (2, 5)
    lots[5].is_kept = False
    run.add(lots[5])
    assert (run.floor, run.sure, lots[5].is_kept) == (2, 5, False)
