"""Rules that rest on many conditions: each condition alone is enough to change the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from policies.explaining.explain import Said, known, when
from policies.explaining.recall import is_quiet, waits_on
from policies.granting.alike import waits_alike
from policies.granting.working import runs_alone
from policies.model.decision import ClaimState, PendingReason
from policies.model.inventory import GroupState, UsageState
from policies.model.memory import ClaimMemory, Memory, Spoilt
from policies.model.workload import Shape
from policies.turns.standing import Standing, is_volatile, lay_out
from policies.wishes.admission import Ask, asks
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

ONE = claim("civil/x:one")
WAITS, RUNS = snapshot(FOUR, [ONE]), snapshot(FOUR, [ONE], running(ONE, ("G0",)))
SPOILT = (Spoilt(device="G9", rung=0, since_ms=NOW_MS),)
REMEMBERED = {
    "rung": 0, "better_since_ms": 1, "lower_since_ms": 1, "idle_since_ms": 1, "failed_at_ms": 1, "evicted_at_ms": 1,
    "waiting_since_ms": 1, "failures": 1, "spoilt": SPOILT,
}  # fmt: skip


def standing(seen=WAITS, **known) -> Standing:
    memory = Memory(claims=(ClaimMemory(claim=ONE.id, **known),)) if known else Memory()
    return lay_out(seen, rules(), memory, NOW_MS)


def wish(seen=WAITS, **known) -> Ask:
    return standing(seen, **known).wishes[ONE.id]


@pytest.mark.parametrize("name", REMEMBERED)
def test_a_claim_is_quiet_where_nothing_is_remembered_but_its_rung(name):
    assert is_quiet(ClaimMemory(claim=ONE.id, **{name: REMEMBERED[name]})) is (name == "rung")


CHANGING: dict[str, Callable[[Ask], Ask]] = {
    "a deadline": lambda ask: replace(ask, claim=replace(ONE, deadline_ms=NOW_MS * 2)),
    "an end": lambda ask: replace(ask, claim=replace(ONE, expires_at_ms=NOW_MS * 2)),
    "fewer would do": lambda ask: replace(ask, seen_lower_since_ms=1),
    "it is idle": lambda ask: replace(ask, idle_since_ms=1),
    "a group is idle": lambda ask: replace(ask, held=(replace(ask.held[0], usage=UsageState.TRULY_IDLE),)),
}


@pytest.mark.parametrize("change", CHANGING.values(), ids=CHANGING)
def test_a_wish_may_change_with_time_for_each_of_these_reasons_alone(change):
    assert not is_volatile(wish(RUNS))
    assert is_volatile(change(wish(RUNS)))


ALONE: dict[str, Callable[[Ask], Ask]] = {
    "more is wanted": lambda ask: replace(ask, wanted=2),
    "nothing is wanted": lambda ask: replace(ask, wanted=0),
    "it is refused": lambda ask: replace(ask, refusal=PendingReason.DEACTIVATED),
    "something leaves": lambda ask: replace(ask, leaving=ask.held),
    "it has two groups": lambda ask: replace(ask, held=ask.held * 2),
    "it has another group": lambda ask: replace(ask, held=(replace(ask.held[0]),)),
}


def test_a_claim_runs_alone_where_its_one_replica_runs_is_all_that_is_wanted_and_is_granted():
    work = standing(RUNS).work
    (lot,) = lots = work.of_claim[ONE.id]
    assert runs_alone(lot.ask, lots) is None, "it is not granted yet"
    lot.is_kept = True
    assert runs_alone(lot.ask, lots) is lot.seats[0]
    assert runs_alone(lot.ask, [lot, lot]) is None
    for change in ALONE.values():
        assert runs_alone(change(lot.ask), lots) is None
    lot.seats *= 2
    assert runs_alone(lot.ask, lots) is None


def test_what_starts_does_not_run_alone():
    workers, groups = running(ONE, ("G0",))
    work = standing(snapshot(FOUR, [ONE], (workers, [replace(groups[0], running=0)]))).work
    (lot,) = lots = work.of_claim[ONE.id]
    lot.is_kept = True
    assert not runs_alone(lot.ask, lots)


def waiting(**known) -> bool:
    """Whether the claim waits as before, where this is remembered of it beside that it waits."""
    made = standing(**{"waiting_since_ms": 7, **known})
    seen = made.work.survey
    return waits_on(seen, made.wishes[ONE.id], made.work.of_claim[ONE.id][0], seen.remembered[ONE.id])


@pytest.mark.parametrize("name", ["rung", "better_since_ms", "spoilt", "waiting_since_ms"])
def test_a_claim_waits_on_where_nothing_else_was_remembered(name):
    assert waiting()
    assert not waiting(**{name: None if name == "waiting_since_ms" else REMEMBERED[name]})


def test_a_claim_waits_on_where_it_was_not_granted_anything_and_nothing_else_changed():
    made = standing(waiting_since_ms=7)
    seen, ask, (lot,) = made.work.survey, made.wishes[ONE.id], made.work.of_claim[ONE.id]
    now = seen.remembered[ONE.id]
    assert waits_on(seen, ask, lot, now)
    assert not waits_on(seen, ask, lot, None)
    assert not waits_on(seen, replace(ask, seen_lower_since_ms=1), lot, now)
    assert not waits_on(seen, replace(ask, idle_since_ms=1), lot, now)
    lot.is_kept = True
    assert not waits_on(seen, ask, lot, now)
    runs = standing(RUNS)
    assert not waits_on(runs.work.survey, runs.wishes[ONE.id], runs.work.of_claim[ONE.id][0], now)


def is_alike(one=ONE, seen=None, **known) -> bool:
    made = standing(snapshot(FOUR, [one]) if seen is None else seen, **known)
    return waits_alike(made.work.survey, made.work.of_claim[one.id][0])


APART: dict[str, dict] = {
    "it was evicted": {"evicted_at_ms": 1},
    "a start failed": {"failed_at_ms": 1},
    "a device failed it": {"spoilt": SPOILT},
    "it had a rung": {"rung": 0},
}


@pytest.mark.parametrize("known", APART.values(), ids=APART)
def test_who_waits_is_told_apart_by_what_is_remembered_against_it(known):
    assert is_alike()
    assert is_alike(waiting_since_ms=1)
    assert not is_alike(**known)


def test_who_waits_is_told_apart_by_a_delay_further_replicas_or_a_group():
    assert not is_alike(replace(ONE, priority_class="batch"))
    assert not is_alike(replace(ONE, desired_replicas=2, max_replicas=2))
    assert not is_alike(seen=RUNS)
    workers, groups = running(ONE, ("G0",))
    failed = [replace(groups[0], state=GroupState.FAILED, running=0)]
    assert not is_alike(seen=snapshot(FOUR, [ONE], (workers, failed)))


def test_who_has_no_rung_that_it_could_run_on_is_like_nobody():
    work = standing().work
    (lot,) = work.of_claim[ONE.id]
    lot.ask = replace(lot.ask, options=())
    assert not waits_alike(work.survey, lot)


SHAPES = {
    "no device": Shape(flavors=("A",), devices=0),
    "no part of a device": Shape(flavors=("A",), gpu_millis=0),
    "more than a device": Shape(flavors=("A",), gpu_millis=1001),
    "less than no memory": Shape(flavors=("A",), memory_mib=-1),
    "parts of several devices": Shape(flavors=("A",), devices=2, gpu_millis=999),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_that_no_device_can_have_is_refused_and_the_least_and_most_are_not(shape):
    fine = Shape(flavors=("A",), gpu_millis=1), Shape(flavors=("A",), devices=2)
    for rung, refusal in ((shape, PendingReason.MISCONFIGURED), *((one, None) for one in fine)):
        assert wish(snapshot(FOUR, [replace(ONE, ladder=(rung,))])).refusal is refusal


def test_when_a_claims_turn_comes_is_its_own_where_it_queues_and_what_was_said_to_all_elsewhere():
    made = standing()
    facts = replace(known(made.work, {}), turns={ONE.id: 5})
    for code, at in ((PendingReason.WAITING_FOR_QUOTA, 5), (PendingReason.WAITING_FOR_VICTIMS, 9)):
        said = Said(code, ClaimState.WAITING, "", (9, "because"), (), ())
        assert when(facts, ONE.id, said) == at
    said = Said(PendingReason.WAITING_FOR_QUOTA, ClaimState.WAITING, "", (None, ""), (), ())
    assert when(facts, "civil/x:other", said) is None


def test_what_may_stay_is_whole_of_its_own_domain_and_on_its_rung():
    workers, groups = running(ONE, ("G0",))
    for seen, held in (
        (RUNS, 1),
        (snapshot(FOUR, [ONE], (workers, [replace(groups[0], state=GroupState.FAILED)])), 0),
        (snapshot(FOUR, [ONE], ([replace(workers[0], domain="defence")], groups)), 0),
        (snapshot(FOUR[1:], [ONE], (workers, groups)), 0),
        (replace(RUNS, workers=()), 0),
    ):
        (ask,) = asks_of(seen)
        assert (len(ask.held), len(ask.leaving)) == (held, 1 - held)


def asks_of(seen) -> list[Ask]:
    made = lay_out(seen, rules(), Memory(), NOW_MS)
    return asks(made.work.survey, made.fleet)


def test_a_lost_device_lets_nothing_stay():
    seen = snapshot([device("G0", health="quarantined"), *FOUR[1:]], [ONE], running(ONE, ("G0",)))
    (ask,) = asks_of(seen)
    assert ask.held == ()
