"""Crowds in which many ask for the same: equals are judged together, and each ends as if it stood alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import Decider, decide
from policies.model.codec import to_json
from policies.model.decision import PendingReason
from policies.model.inventory import WorkerState
from policies.model.memory import Drain, Memory
from policies.model.snapshot import Snapshot
from policies.model.units import SecurityDomain
from tests.policies.crowds import NOW_MS, Crowd, crowd
from tests.policies.looking import DEPTH
from tests.policies.test_crowds_again import happened
from tests.simulation.generate import Dice

CROWDS = (*range(36 * DEPTH), 1004)
"""In the last some equals have their right with the second of their options: how they fail is not how others do."""
TURNS = 4


def of_equals(seed: int) -> Crowd:
    """A crowd in which up to three of the claims have many equals that came a little earlier or later."""
    here, dice = crowd(seed), Dice(seed)
    equals = [
        replace(one, id=f"{one.id}-{index}", submitted_at_ms=one.submitted_at_ms + index - 2)
        for one in here.snapshot.claims[: dice.randint(1, 3)] for index in range(dice.randint(3, 12))
    ]  # fmt: skip
    return replace(here, snapshot=replace(here.snapshot, claims=(*here.snapshot.claims, *equals)))


@pytest.mark.parametrize("part", range(4))
def test_in_a_crowd_of_equals_each_ends_as_it_does_where_nobody_has_an_equal(part):
    """No host has any of the models at hand, so that they change nothing but that nobody is like another."""
    for seed in CROWDS[part::4]:
        here = of_equals(seed)
        apart = tuple(replace(one, model=f"m{index}") for index, one in enumerate(here.snapshot.claims))
        one, other = (
            decide(seen, here.policy, here.memory, NOW_MS)
            for seen in (here.snapshot, replace(here.snapshot, claims=apart))
        )
        if all(reason.code is not PendingReason.SEARCH_INCOMPLETE for reason in other.reasons):
            assert to_json(replace(one, search_steps=0)) == to_json(replace(other, search_steps=0)), seed


def changed_beside(dice: Dice, seen: Snapshot, memory: Memory) -> tuple[Snapshot, Memory]:
    """The arguments after a worker is another domain's or another one, or what is remembered is not what was said."""
    kind = dice.choice(("nothing", "nothing", "worker", "drains", "claims", "holds"))
    if kind == "worker" and seen.workers:
        at = dice.choice(seen.workers)
        other = dice.choice((
            {"domain": dice.choice(list(SecurityDomain))}, {"state": WorkerState.STARTING}, {"ray_node_id": "other"},
        ))  # fmt: skip
        seen = replace(seen, workers=tuple(replace(one, **other) if one is at else one for one in seen.workers))
    elif kind == "drains":
        some = sorted(one.id for one in seen.groups)[dice.randint(0, 2) :: 3]
        memory = replace(memory, drains=tuple(Drain(group=one, since_ms=seen.observed_at_ms) for one in some))
    elif kind == "claims":
        memory = replace(memory, claims=memory.claims[dice.randint(0, 1) :: 2])
    elif kind == "holds":
        memory = replace(memory, holds=memory.holds[1:], evictions_ms=memory.evictions_ms[1:])
    return seen, memory


@pytest.mark.parametrize("part", range(4))
def test_in_a_crowd_of_equals_deciding_again_gives_the_bytes_of_deciding_from_nothing(part):
    for seed in CROWDS[part::4]:
        here, dice, other = of_equals(seed), Dice(seed), of_equals(seed + 1).snapshot
        seen, memory, now_ms, decider = here.snapshot, here.memory, NOW_MS, Decider()
        for _ in range(TURNS):
            decision = decider.decide(seen, here.policy, memory, now_ms)
            assert to_json(decision) == to_json(decide(seen, here.policy, memory, now_ms)), seed
            now_ms += dice.choice((0, 1_000, 3_000, 10_000, 50_000))
            seen = happened(dice, replace(seen, generation=seen.generation + 1, observed_at_ms=now_ms), other)
            seen, memory = changed_beside(dice, seen, decision.memory)
