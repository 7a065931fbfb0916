"""A crowded fleet that is left alone comes to rest: what it was about to do is done, and then nothing more is."""

from __future__ import annotations

from hypothesis import example, given, settings

from policies.model.inventory import GroupState, ScrubState, WorkerState
from tests.policies.crowds import NOW_MS, crowd
from tests.policies.looking import DEPTH, SEEDS
from tests.simulation.world import World

TURNS = 300


def fleet_of(seed: int) -> World:
    """The crowd as a fleet in which time passes: what starts, stops or is scrubbed when it begins is soon over."""
    here = crowd(seed)
    seen, made = here.snapshot, World(policy=here.policy)
    for kind in ("nodes", "devices", "flavors", "workers", "groups", "claims"):
        setattr(made, kind, {one.id: one for one in getattr(seen, kind)})
    made.demands = {one.claim: one.replicas for one in seen.demands}
    made.reservations, made.memory, made.now_ms = list(seen.reservations), here.memory, NOW_MS
    groups = [one.id for one in seen.groups if one.state in (GroupState.STARTING, GroupState.STOPPING)]
    scrubs = [one.id for one in seen.devices if one.scrub is ScrubState.SCRUBBING]
    workers = [one.id for one in seen.workers if one.state is WorkerState.STARTING]
    for kind, names in (("group", groups), ("scrub", scrubs), ("worker", workers)):
        made.pending.update({(kind, name): 1 for name in names})
    return made


@settings(max_examples=4 * DEPTH, deadline=None, derandomize=DEPTH == 1)
@given(SEEDS)
@example(22771)  # a replica is moved aside, and others would have to move than those that do already
@example(25516)  # what nobody may preempt would climb on what siblings cannot use
@example(20971)  # what is kept for the second claim of a tenant displaces its first, which would take it back
@example(28293)  # a claim climbs on what another of its tenant has the right to first
@example(26516)  # what is pooled for another of its tenant would serve for a better rung
@example(3486)  # what nobody may preempt changes its rung, and who waits would have its new place meanwhile
def test_p5_a_crowded_fleet_that_is_left_alone_comes_to_rest(seed):
    made, quiet = fleet_of(seed), 0
    for _ in range(TURNS):
        _, _, done = made.step()
        quiet = 0 if done.actions or made.pending else quiet + 1
        if quiet > 20:
            return
    raise AssertionError(f"still moving: {made.history[-10:]}")
