"""What is rated by its sum, or tried for all of equal terms, ends as it does when every lot is looked at by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.decide import Decider
from policies.granting.allocation import allocate
from policies.granting.apart import tell_each
from policies.granting.booking import sweep
from policies.granting.limits import is_allowed
from policies.granting.lines import Line
from policies.granting.movable import weak_nodes
from policies.granting.reclaim import Lot, Tier, record
from policies.granting.rights import begin_rating, rate_all
from policies.granting.working import Allocation
from policies.model.decision import PendingReason
from policies.model.memory import ClaimMemory, Memory
from policies.turns.following import follow
from policies.turns.standing import Standing, lay_out
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice

TENANTS = ("civil/x", "civil/y", "defence/x")


def crowd(dice: Dice):
    """Rules, and a host full of claims of several classes and sizes, of which some wait and some have a gang."""
    devices = [device(f"G{index:02}") for index in range(dice.randint(4, 24))]
    claims, runs, free = [], [], [one.id for one in devices]
    for number in range(dice.randint(4, 30)):
        size = dice.choice((1, 1, 1, 2, 4))
        one = claim(
            f"{dice.choice(TENANTS)}:c{number:02}", devices=size, least=dice.choice((1, 1, 2)),
            millis=dice.choice((500, 1000)) if size == 1 else 1000, submitted_at_ms=dice.randint(0, 5),
            priority_class=dice.choice(("critical", "standard", "standard", "standard", "standard", "batch")),
        )  # fmt: skip
        claims.append(one)
        held, free = free[: size * one.min_replicas], free[size * one.min_replicas :]
        if len(held) == size * one.min_replicas and dice.random() < 0.8:
            runs.append(running(one, *(tuple(held[at : at + size]) for at in range(0, len(held), size))))
    quota = dice.choice((3000, 5000, 8000, 12_000))
    floor = dice.choice((0, 1000, 3000))
    return rules(civil=quota, defence=dice.choice((0, 2000, 8000)), floor=floor), snapshot(devices, claims, *runs)


def rights(standing: Standing) -> list[tuple[object, ...]]:
    """Every lot's right after granting, and whether it was granted."""
    allocate(standing.work)
    tell_each(standing.work, standing.work.open)
    return [(lot.order, lot.tier, lot.is_kept, lot.has_failed) for lot in standing.work.lots()]


def told(standing: Standing) -> tuple[object, ...]:
    """Why lots wait, whom the budget refused, and what was tried to find that out."""
    work = standing.work
    return work.codes, work.victims.refused_by_budget, work.board.steps, work.rearrangements


def each_by_itself(standing: Standing) -> Standing:
    """The same, with no lots that are rated together, or tried for others of equal terms."""
    queues = standing.work.layout.queues
    queues.apart = {tenant: queues.of(tenant) for tenant in queues.tenants}
    queues.alike, queues.runs = {}, {}
    return standing


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 1_000_000))
def test_what_is_rated_by_its_sum_has_the_right_that_it_would_have_by_itself(seed):
    policy, seen = crowd(Dice(seed))
    one, other = (lay_out(seen, policy, Memory(), NOW_MS) for _ in range(2))
    assert rights(one) == rights(each_by_itself(other))
    assert one.work.used == other.work.used
    assert told(one) == told(other)


@pytest.mark.parametrize("waits", [True, False], ids=["somebody waits for a floor", "nobody waits for a floor"])
def test_what_has_only_a_guarantee_stays_settled_unless_somebody_waits_for_a_floor(waits):
    held = [claim(f"civil/x:c{index}") for index in range(3)]
    asking = [claim("defence/x:d", devices=2)] if waits else []
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(held)]
    seen = snapshot([device(f"G{index}") for index in range(5)], held + asking, *runs)
    standing = lay_out(seen, rules(civil=6000, defence=4000, floor=2000), Memory(), NOW_MS)
    (run,) = standing.work.layout.queues.runs["civil/x"].values()
    allocate(standing.work)
    assert all(lot.is_kept for lot in run.lots)
    assert (run.floor, run.sure) == ((2, 2) if waits else (2, 3))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 1_000_000))
def test_what_stays_granted_from_one_decision_to_the_next_is_what_is_granted_from_nothing(seed):
    policy, seen = crowd(Dice(seed))
    decider, memory = Decider(), Memory()
    for turn in range(3):
        memory = decider.decide(seen, policy, memory, NOW_MS + turn).memory
        gone = Dice(seed + turn).choice(seen.claims)
        seen = snapshot(seen.devices, [one for one in seen.claims if one is not gone], (seen.workers, seen.groups))
    assert decider.decide(seen, policy, memory, NOW_MS + 9) == Decider().decide(seen, policy, memory, NOW_MS + 9)


def test_claims_of_equal_terms_that_wait_share_them_also_with_those_that_come_later():
    waiting, policy = [claim(f"civil/x:c{index}") for index in range(4)], rules()
    standing = lay_out(snapshot([device("G0")], waiting[:2]), policy, Memory(), NOW_MS)
    assert follow(standing, snapshot([device("G0")], waiting), policy, Memory(), NOW_MS)
    lots = [lot for some in standing.work.of_claim.values() for lot in some]
    assert len(lots) == 4
    assert all(lot.terms is lots[0].terms for lot in lots)


def test_a_claim_stands_apart_from_its_equals_as_long_as_something_is_remembered_against_it():
    waiting, policy, seen = [claim(f"civil/x:c{index}") for index in range(3)], rules(), [device("G0")]
    standing = lay_out(snapshot(seen, waiting), policy, Memory(), NOW_MS)
    evicted = Memory(claims=(ClaimMemory(claim=waiting[1].id, evicted_at_ms=NOW_MS),))
    for memory, apart in ((evicted, [waiting[1].id]), (Memory(), [])):
        assert follow(standing, snapshot(seen, waiting), policy, memory, NOW_MS + 1)
        queues = standing.work.layout.queues
        (alike,) = queues.alike["civil/x"].values()
        assert [lot.ask.claim.id for lot in queues.apart["civil/x"]] == apart
        assert list(alike.claims) == [lot.ask.claim.id for lot in alike.lots]
        assert set(alike.claims) == {one.id for one in waiting} - set(apart)


def test_a_failure_is_passed_on_to_equals_in_line_and_asked_again_behind_the_place_where_something_changed():
    waiting = [claim(f"civil/x:c{index}", submitted_at_ms=index) for index in range(4)]
    work = lay_out(snapshot([device("G0")], waiting), rules(), Memory(), NOW_MS).work
    (alike,) = work.layout.queues.alike["civil/x"].values()
    alike.begin_anew()
    asked: list[str] = []

    def fails(of: Allocation, lot: Lot, _: Tier) -> bool:
        asked.append(lot.ask.claim.id)
        of.codes[lot.ask.claim.id] = PendingReason.TOPOLOGY_UNSATISFIED
        return False

    line = Line(work, fails, lambda lot, _: lot.order, Tier.GUARANTEED)
    line.join_class(alike, alike.stretches[0])
    line.serve()
    line.serve()
    line.resume(waiting_place := alike.lots[1].order)
    assert waiting_place < alike.lots[2].order
    assert [(one.begin, one.end, one.has_failed) for one in alike.stretches] == [
        (0, 1, True),
        (1, 2, True),
        (2, 4, False),
    ]
    work.departures += 1
    while line.ahead:
        line.serve()
    line.resume(None)
    assert asked == [waiting[0].id, waiting[2].id]
    assert all(one.has_failed and one.code is PendingReason.TOPOLOGY_UNSATISFIED for one in alike.stretches)


def test_asking_where_something_may_be_moved_or_what_runs_inside_a_guarantee_moves_nothing_on():
    """Of five that run three have a guarantee: of the others one has just lost its place to somebody."""
    held = [claim(f"civil/x:c{index}", submitted_at_ms=index) for index in range(5)]
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(held)]
    devices = [device(f"G{index}", node=f"n{index}") for index in range(5)]
    work = lay_out(snapshot(devices, held, *runs), rules(civil=3000, defence=2000, floor=0), Memory(), NOW_MS).work
    begin_rating(work)
    rate_all(work, "civil/x")
    (run,) = work.layout.queues.runs["civil/x"].values()
    (last,) = run.stretches
    assert (last.begin, last.end) == (3, 5)
    loser = run.lots[4]
    asks = run.lots[3]
    record(work.victims, asks, Tier.FLOOR, tuple(loser.seats))
    before = list(work.victims.robbed), list(work.open["civil/x"]), replace(last)
    assert before[0] == [loser]
    assert weak_nodes(work, Tier.FLOOR) == {"n3"}
    assert run.amount(last) == 1000
    assert all(is_allowed(work, asks, one, Tier.FLOOR) in (True, False) for one in asks.ask.options)
    assert (work.victims.robbed, work.open["civil/x"], last) == before
    sweep(work, "civil/x", Tier.FLOOR)
    assert work.victims.robbed == []
    assert loser in work.open["civil/x"]
