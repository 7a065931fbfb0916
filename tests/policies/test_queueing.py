"""A claim's place in its tenant's queue and how long it has waited: said on reading, never stored."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.decide import Decider, decide
from policies.explaining.queueing import is_again, telling, told
from policies.granting.allocation import allocate
from policies.granting.apart import tell_each
from policies.model.codec import from_json, to_json
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, TenantId
from policies.turns.standing import lay_out
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, event, world

TWO = [device(f"G{index}") for index in range(2)]


def served_in_order(seen: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> dict[ClaimId, int]:
    """Return the places as granting itself leaves its queues, with what got no place in them."""
    standing = lay_out(seen, policy, memory, now_ms)
    allocate(standing.work)
    tell_each(standing.work, standing.work.open)
    found: dict[ClaimId, int] = {}
    places: dict[TenantId, int] = {}
    for ask in [lot.ask for lot in standing.work.open_lots()]:
        if ask.claim.id not in found:
            found[ask.claim.id] = places[ask.tenant.id] = places.get(ask.tenant.id, 0) + 1
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 100_000))
def test_the_place_that_is_told_is_the_place_in_the_order_in_which_granting_serves(seed):
    dice = Dice(seed)
    made = world(dice)
    for number in range(12):
        if dice.random() < 0.6:
            event(dice, made, number)
        seen = made.observe()
        decision = decide(seen, made.policy, made.memory, made.now_ms)
        places = {one.claim: one.position for one in told(decision, seen.claims).reasons if one.position is not None}
        assert places == served_in_order(seen, made.policy, made.memory, made.now_ms), (seed, number)
        made.step()


def test_who_waits_is_told_its_place_and_for_how_long_and_whoever_is_served_is_not():
    some = [claim("civil/x:a", least=2, most=2), claim("civil/x:b", submitted_at_ms=NOW_MS - 5_000),
            claim("civil/x:c", submitted_at_ms=NOW_MS - 9_999)]  # fmt: skip
    seen = snapshot(TWO, some, running(some[0], ("G0",), ("G1",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    one, other, longest = told(decision, seen.claims).reasons
    assert (one.position, one.score_terms) == (None, ())
    assert (other.position, dict(other.score_terms)["waited_s"]) == (2, 5)
    assert (longest.position, dict(longest.score_terms)["waited_s"]) == (1, 9)


def test_a_decision_keeps_neither_so_that_a_turn_later_the_same_is_said_of_whoever_waits():
    first, waits = claim("civil/x:a"), claim("civil/x:b", least=2, submitted_at_ms=NOW_MS - 5_000)
    seen, decider = snapshot(TWO, [first, waits], running(first, ("G0",))), Decider()
    memory = decider.decide(seen, rules(), Memory(), NOW_MS).memory
    before = decider.decide(seen, rules(), memory, NOW_MS + 60_000)
    after = decider.decide(seen, rules(), before.memory, NOW_MS + 120_000)
    assert after.reasons == before.reasons
    assert [dict(one.score_terms)["waited_s"] for one in told(after, seen.claims).reasons if one.code] == [125]


def test_what_an_older_release_kept_reads_as_it_was():
    runs, waits = claim("civil/x:a", least=2, most=2), claim("civil/x:b", submitted_at_ms=NOW_MS - 5_000)
    seen = snapshot(TWO, [runs, waits], running(runs, ("G0",), ("G1",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    older = from_json(Decision, to_json(told(decision, seen.claims)))
    assert older.reasons[1].position == 1
    assert told(replace(older, decided_at_ms=NOW_MS + 60_000), seen.claims).reasons == older.reasons
    assert is_again(decision, decision, seen.claims)


def test_a_decision_taken_again_is_the_one_that_an_older_release_kept():
    runs, waits = claim("civil/x:a", least=1, most=2), claim("civil/x:b", submitted_at_ms=NOW_MS - 5_000)
    seen = snapshot(TWO, [runs, waits], running(waits, ("G0",), ("G1",)))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    read = told(decision, seen.claims)
    kept = replace(read, holders=(), reasons=tuple(
        replace(one, lacks=(), score_terms=tuple(term for term in one.score_terms if term[0] != "beyond_minimum"))
        for one in read.reasons
    ))  # fmt: skip
    assert kept != read
    assert is_again(decision, kept, seen.claims)
    assert not is_again(replace(decision, mode="crisis"), kept, seen.claims)
    wrong = tuple(replace(one, blockers=()) for one in kept.reasons)
    assert not is_again(decision, replace(kept, reasons=wrong), seen.claims)


def test_of_a_claim_that_was_not_decided_upon_nothing_is_added():
    waits = claim("civil/x:b", least=3)
    decision = decide(snapshot(TWO, [waits]), rules(), Memory(), NOW_MS)
    assert telling(decision, ())(decision.reasons[0]) is decision.reasons[0]
