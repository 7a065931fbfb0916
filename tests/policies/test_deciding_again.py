"""A decision that follows the one before is the decision from nothing, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.decide import Decider, decide
from policies.model.codec import to_json
from policies.model.decision import ClaimState
from policies.model.inventory import UsageState
from policies.model.memory import ClaimMemory, Drain, Memory
from policies.model.units import SecurityDomain
from policies.model.workload import Demand, Reservation
from policies.turns.changes import between
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, event, world

FOUR = [device(f"G{index}") for index in range(4)]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 100_000))
def test_whatever_happens_in_between_deciding_again_gives_the_bytes_of_deciding_from_nothing(seed):
    dice = Dice(seed)
    made, decider = world(dice), Decider()
    for number in range(30):
        if dice.random() < 0.6:
            event(dice, made, number)
        seen, memory = made.observe(), Memory() if number % 13 == 7 else made.memory
        again = decider.decide(seen, made.policy, memory, made.now_ms)
        assert to_json(again) == to_json(decide(seen, made.policy, memory, made.now_ms)), (seed, number)
        made.step()


def in_use(seen, dice, now_ms):
    """The same world under live traffic: other requests inside, checkpoints and samples than a moment ago."""
    samples = []
    for one in seen.claims:
        if dice.random() < 0.8:
            age = dice.choice((0, 0, 0, 1, 1000 * 1000))
            samples.append(Demand(
                claim=one.id, replicas=dice.choice((1, 1, 1, 0, 2, 3)), observed_at_ms=now_ms - age,
                in_flight=dice.randint(0, 2), queued=dice.choice((0, 0, 1)),
            ))  # fmt: skip
    groups = [
        replace(
            one, in_flight=dice.choice((None, 0, 1, 9)), usage=dice.choice((one.usage, one.usage, *UsageState)),
            checkpoint_ms=dice.choice((None, now_ms - 5000)),
        )
        for one in seen.groups
    ]  # fmt: skip
    return replace(seen, groups=tuple(groups), demands=tuple(samples))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 100_000))
def test_under_live_traffic_deciding_again_gives_the_bytes_of_deciding_from_nothing(seed):
    dice = Dice(seed)
    made, decider = world(dice), Decider()
    for number in range(25):
        if dice.random() < 0.4:
            event(dice, made, number)
        seen = in_use(made.observe(), dice, made.now_ms)
        again = decider.decide(seen, made.policy, made.memory, made.now_ms)
        assert to_json(again) == to_json(decide(seen, made.policy, made.memory, made.now_ms)), (seed, number)
        made.step()


def test_requests_checkpoints_and_samples_of_an_unchanged_demand_lay_nothing_out_anew():
    one, other = claim("civil/x:chat"), claim("civil/y:bulk")
    seen, decider, memory = snapshot(FOUR[:1], [one, other], running(one, ("G0",))), Decider(), Memory()
    told = []
    for turn in range(4):
        now_ms = NOW_MS + 1000 * turn
        live = tuple(replace(group, in_flight=turn, checkpoint_ms=now_ms) for group in seen.groups)
        samples = tuple(
            Demand(claim=claim.id, replicas=1, observed_at_ms=now_ms, in_flight=turn) for claim in seen.claims
        )
        later = replace(seen, generation=turn, groups=live, demands=samples)
        again = decider.decide(later, rules(), memory, now_ms)
        assert to_json(again) == to_json(decide(later, rules(), memory, now_ms))
        told, memory = [*told, again.reasons], again.memory
    assert decider.age == 3
    assert told[3] is told[2], "what is laid out anew is said anew, of others that are equal too"


def test_a_quiet_world_is_followed_and_not_laid_out_anew():
    one, other = claim("civil/x:chat"), claim("civil/y:bulk", least=2)
    seen = snapshot(FOUR, [one, other], running(one, ("G0",)))
    decider, memory = Decider(), Memory()
    for turn in range(3):
        memory = decider.decide(replace(seen, generation=turn), rules(), memory, NOW_MS + turn).memory
    assert decider.age == 2


def test_what_is_reserved_is_followed_until_it_begins_or_ends():
    one, other = claim("civil/x:chat"), claim("civil/y:bulk", most=3)
    begins, ends = NOW_MS + 100_000, NOW_MS + 200_000
    reserved = Reservation(
        id="defence:drill", tenant="defence", flavor="A", gpu_millis=2000, starts_at_ms=begins, ends_at_ms=ends
    )
    seen = snapshot(FOUR, [one, other], running(one, ("G0",)), reservations=(reserved,))
    decider, memory, ages = Decider(), Memory(), []
    for at in (NOW_MS, NOW_MS + 1, begins, begins + 1, ends, ends + 1):
        again = decider.decide(seen, rules(floor=0), memory, at)
        assert to_json(again) == to_json(decide(seen, rules(floor=0), memory, at))
        memory, ages = again.memory, [*ages, decider.age]
    assert ages == [0, 1, 0, 1, 0, 1], "laid out anew only where something begins or ends"


def test_after_a_loss_of_memory_nothing_is_said_again_of_what_simply_runs():
    one = claim("civil/x:chat")
    seen, decider = snapshot(FOUR, [one], running(one, ("G0",))), Decider()
    first = decider.decide(seen, rules(), Memory(), NOW_MS)
    assert first.memory.claims
    again = decider.decide(seen, rules(), first.memory, NOW_MS + 1000)
    assert decider.age == 1
    assert again.reasons is first.reasons
    assert to_json(again) == to_json(decide(seen, rules(), first.memory, NOW_MS + 1000))


def test_after_a_loss_of_memory_nothing_is_said_again_of_who_waits_with_nothing():
    runs, waits = claim("civil/x:r"), [claim(f"civil/x:w{index}", submitted_at_ms=index + 1) for index in range(3)]
    seen, decider = snapshot(FOUR[:1], [runs, *waits], running(runs, ("G0",))), Decider()
    first = decider.decide(seen, rules(), Memory(), NOW_MS)
    assert [one.waiting_since_ms for one in first.memory.claims] == [None, NOW_MS, NOW_MS, NOW_MS]
    again = decider.decide(seen, rules(), first.memory, NOW_MS + 1000)
    assert decider.age == 1
    assert again.reasons is first.reasons
    assert again.memory.claims is first.memory.claims
    assert to_json(again) == to_json(decide(seen, rules(), first.memory, NOW_MS + 1000))


def test_who_waits_is_looked_at_again_where_something_else_is_remembered_than_was_said():
    one, other, late = (claim(f"civil/x:w{index}", submitted_at_ms=index) for index in range(3))
    seen, decider = snapshot(FOUR[:1], [one, other, late], running(one, ("G0",))), Decider()
    memory = decider.decide(seen, rules(), Memory(), NOW_MS).memory
    for turn, change in enumerate(({"evicted_at_ms": NOW_MS}, {"failed_at_ms": NOW_MS, "failures": 1}, {"rung": 0}), 1):
        known = replace(memory, claims=(*memory.claims[:2], replace(memory.claims[2], **change)))
        again = decider.decide(seen, rules(), known, NOW_MS + turn)
        assert to_json(again) == to_json(decide(seen, rules(), known, NOW_MS + turn))
    assert decider.age == 3


def test_since_when_a_claim_waits_is_said_anew_as_long_as_it_is_not_remembered():
    one, late = claim("civil/x:w0"), claim("civil/x:w1", submitted_at_ms=1)
    seen, decider = snapshot(FOUR[:1], [one, late], running(one, ("G0",))), Decider()
    for turn in range(3):
        again = decider.decide(seen, rules(), Memory(), NOW_MS + turn)
        assert again.memory.claims[1].waiting_since_ms == NOW_MS + turn
    assert decider.age == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda seen: replace(seen, claims=seen.claims[1:]),
        lambda seen: replace(seen, claims=(*seen.claims, claim("defence/x:new"))),
        lambda seen: replace(seen, groups=tuple(replace(one, running=0) for one in seen.groups)),
        lambda seen: replace(seen, groups=(), workers=()),
        lambda seen: replace(seen, demands=(Demand(claim="civil/y:bulk", replicas=1, observed_at_ms=NOW_MS),)),
    ],
    ids=["a claim goes", "a claim comes", "a replica stops", "a worker goes", "traffic falls"],
)
def test_a_change_of_what_is_asked_for_or_runs_is_followed(change):
    one, other = claim("civil/x:chat"), claim("civil/y:bulk", most=2)
    seen, decider = snapshot(FOUR, [one, other], running(one, ("G0",))), Decider()
    memory = decider.decide(seen, rules(), Memory(), NOW_MS).memory
    later = replace(change(seen), generation=2)
    again = decider.decide(later, rules(), memory, NOW_MS + 1000)
    assert decider.age == 1
    assert to_json(again) == to_json(decide(later, rules(), memory, NOW_MS + 1000))


@pytest.mark.parametrize(
    "change",
    [
        lambda seen: replace(seen, devices=seen.devices[1:]),
        lambda seen: replace(seen, claims=seen.claims * 2),
        lambda seen: replace(seen, nodes=tuple(replace(one, schedulable=False) for one in seen.nodes)),
    ],
    ids=["a device is gone", "a claim occurs twice", "a host takes no new work"],
)
def test_a_change_of_the_fleet_is_decided_from_nothing(change):
    one = claim("civil/x:chat")
    seen, decider = snapshot(FOUR, [one], running(one, ("G0",))), Decider()
    memory = decider.decide(seen, rules(), Memory(), NOW_MS).memory
    later = change(seen)
    again = decider.decide(later, rules(), memory, NOW_MS + 1000)
    assert decider.age == 0
    assert to_json(again) == to_json(decide(later, rules(), memory, NOW_MS + 1000))


def test_other_rules_are_decided_from_nothing():
    seen, decider = snapshot(FOUR, [claim("civil/x:chat")]), Decider()
    memory = decider.decide(seen, rules(), Memory(), NOW_MS).memory
    again = decider.decide(seen, rules(civil=0), memory, NOW_MS)
    assert decider.age == 0
    assert again == decide(seen, rules(civil=0), memory, NOW_MS)


def test_nouns_that_are_equal_are_no_change_and_one_exchanged_is_one_that_went_and_one_that_came():
    before = tuple(claim(f"civil/x:c{index}") for index in range(40))
    assert not between(before, tuple(replace(one) for one in before), lambda one: one.id)
    after = (*before[1:], replace(before[0], priority_class="batch"))
    change = between(before, after, lambda one: one.id)
    assert list(change.gone) == list(change.new) == [before[0].id]


def test_what_is_said_of_whoever_waits_is_the_same_object_while_others_come_and_go():
    runs = [claim(f"civil/x:r{index}") for index in range(4)]
    waits = [claim(f"civil/x:w{index}", submitted_at_ms=index + 1) for index in range(3)]
    seen = snapshot(FOUR, [*runs, *waits], *(running(one, (f"G{at}",)) for at, one in enumerate(runs)))
    decider, memory, said = Decider(), Memory(), []
    policy = rules(civil=4000, floor=0)
    for turn in range(4):
        late = claim(f"civil/x:late{turn}", submitted_at_ms=99)
        now = replace(seen, claims=(*seen.claims, late), generation=turn)
        decision = decider.decide(now, policy, memory, NOW_MS + turn * 60_000)
        assert to_json(decision) == to_json(decide(now, policy, memory, NOW_MS + turn * 60_000))
        memory, said = decision.memory, [*said, {one.claim: one for one in decision.reasons}]
    assert decider.age == 3
    for one in waits:
        assert said[3][one.id].state is ClaimState.WAITING
        assert said[3][one.id] is said[2][one.id]


def test_when_its_turn_comes_is_told_anew_although_all_else_that_is_said_of_it_stands():
    ends, forever = claim("civil/x:r0", expires_at_ms=NOW_MS + 3_600_000), claim("civil/x:r0")
    waits = [claim(f"civil/x:w{index}", submitted_at_ms=index + 1) for index in range(3)]
    decider, memory, told = Decider(), Memory(), []
    for turn, runs in enumerate((ends, ends, ends, forever, forever, ends)):
        seen = replace(snapshot(FOUR[:1], [runs, *waits], running(runs, ("G0",))), generation=turn)
        decision = decider.decide(seen, rules(civil=4000, floor=0), memory, NOW_MS + turn * 60_000)
        assert to_json(decision) == to_json(decide(seen, rules(civil=4000, floor=0), memory, NOW_MS + turn * 60_000))
        memory = decision.memory
        told.append(next(one.eta_ms is not None for one in decision.reasons if one.claim == waits[0].id))
    assert decider.age == 5
    assert told == [True, True, True, False, False, True]


@pytest.mark.parametrize("at", [0, 1])
def test_which_of_two_replicas_drains_is_followed(at):
    wish = claim("civil/x:chat", least=1, most=2)
    seen = snapshot(FOUR, [wish], running(wish, ("G0",), ("G1",)), demands=[(wish.id, 1)])
    known, decider = ClaimMemory(claim=wish.id, rung=0, lower_since_ms=1), Decider()
    decider.decide(seen, rules(), Memory(claims=(known,)), NOW_MS)
    memory = Memory(claims=(known,), drains=(Drain(group=seen.groups[at].id, since_ms=NOW_MS),))
    again = decider.decide(seen, rules(), memory, NOW_MS)
    assert decider.age == 1
    assert [one.group for one in again.evictions] == [seen.groups[at].id]
    assert to_json(again) == to_json(decide(seen, rules(), memory, NOW_MS))


@pytest.mark.parametrize("second", [False, True], ids=["the first time", "once hosts are known"])
def test_whose_worker_is_another_domains_now_has_lost_its_place(second):
    wish = claim("civil/x:chat")
    seen, decider, memory = snapshot(FOUR, [wish], running(wish, ("G0",))), Decider(), Memory()
    for turn in range(1 + second):
        memory = decider.decide(replace(seen, generation=turn), rules(), memory, NOW_MS).memory
    taken = replace(seen, workers=(replace(seen.workers[0], domain=SecurityDomain.DEFENCE),))
    again = decider.decide(taken, rules(), memory, NOW_MS)
    assert decider.age == 1 + second
    assert [one.group for one in again.evictions] == [seen.groups[0].id]
    assert to_json(again) == to_json(decide(taken, rules(), memory, NOW_MS))


def test_what_started_after_hosts_were_known_is_lost_with_its_worker_too():
    first, later = claim("civil/y:first"), claim("civil/x:later")
    one, two = running(first, ("G0",)), running(later, ("G1",))
    changed = replace(one[0][0], domain=SecurityDomain.DEFENCE), replace(two[0][0], domain=SecurityDomain.DEFENCE)
    turns = [
        snapshot(FOUR, [first, later], one),
        snapshot(FOUR, [first, later], ([changed[0]], one[1])),
        snapshot(FOUR, [first, later], one, two),
        snapshot(FOUR, [first, later], one, ([changed[1]], two[1])),
    ]
    devices, decider, memory = turns[2].devices, Decider(), Memory()
    for turn, seen in enumerate(turns):
        now = replace(seen, generation=turn, devices=devices)
        again = decider.decide(now, rules(), memory, NOW_MS + turn)
        assert to_json(again) == to_json(decide(now, rules(), memory, NOW_MS + turn))
        assert decider.age == turn
        memory = again.memory
    assert two[1][0].id in {one.group for one in again.evictions}
