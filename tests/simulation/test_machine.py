"""Hundreds of cycles of arrivals, departures, failures, gaps and mode changes, each checked by the second program."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.documents.document import parse_policy
from policies.model.inventory import DeviceHealth, GroupState
from policies.model.memory import Memory
from policies.model.snapshot import Gap, GapKind
from tests.policies.looking import DEPTH
from tests.simulation.generate import Dice, claim, event, world
from tests.simulation.test_lend_and_take_back import DEFAULT, chat
from tests.simulation.world import fleet


class Platform(RuleBasedStateMachine):
    """Whatever happens, in whatever order: each turn is decided, planned, checked and carried out."""

    @initialize(seed=st.integers(0, 10**6))
    def begin(self, seed):
        self.dice = Dice(seed)
        self.world = world(self.dice)
        self.count = 0

    @rule()
    def a_claim_arrives(self):
        self.count += 1
        tenants = [tenant.id for tenant in self.world.policy.tenants if tenant.parent]
        one = claim(self.dice, self.count, tenants, self.world.now_ms)
        self.world.claims[one.id] = one

    @precondition(lambda self: self.world.claims)
    @rule()
    def a_claim_leaves(self):
        self.world.claims.pop(self.dice.choice(sorted(self.world.claims)))

    @precondition(lambda self: self.world.groups)
    @rule()
    def an_engine_gives_up(self):
        name = self.dice.choice(sorted(self.world.groups))
        self.world.groups[name] = replace(
            self.world.groups[name], state=GroupState.FAILED, running=0, routed=False, since_ms=self.world.now_ms
        )  # fmt: skip

    @rule()
    def the_control_plane_forgets_everything(self):
        self.world.memory = Memory()

    @rule(steps=st.integers(1, 8))
    def time_passes(self, steps):
        self.world.run(steps)

    @rule()
    def something_else_happens(self):
        self.count += 1
        event(self.dice, self.world, self.count)

    @invariant()
    def every_turn_is_sound(self):
        if hasattr(self, "world"):
            self.world.step()


TestPlatform = Platform.TestCase
TestPlatform.settings = settings(
    max_examples=12 * DEPTH,
    stateful_step_count=30,
    deadline=None,
    derandomize=DEPTH == 1,
    phases=(Phase.explicit, Phase.generate),
)


def test_two_hundred_cycles_of_everything_that_can_go_wrong_end_in_rest():
    dice = Dice(7)
    made = world(dice)
    for number in range(200):
        if dice.random() < 0.4:
            event(dice, made, number)
        made.step()
    made.gaps, made.adopting = [], ()
    made.policy = replace(made.policy, declaration=None)
    quiet = 0
    for _ in range(400):
        quiet = 0 if made.step()[2].actions or made.pending else quiet + 1
        if quiet > 60:
            return
    raise AssertionError(f"still moving: {made.history[-10:]}")


@pytest.mark.parametrize("seed", [366, 362_881], ids=["a gang loses its minimum", "a group has shrunk"])
def test_stories_in_which_the_deep_run_found_a_fault_go_on_without_an_objection(seed):
    dice = Dice(seed)
    made = world(dice)
    tenants = [tenant.id for tenant in made.policy.tenants if tenant.parent]
    made.step()
    for number in range(1, 31):
        one = claim(dice, number, tenants, made.now_ms)
        made.claims[one.id] = one
        made.step()


def test_a_replica_that_moves_to_another_device_of_its_worker_is_another_group_there():
    """Found by the deep run: somebody took one device of a worker, and who had it another one of the same worker."""
    platform = Platform()
    platform.begin(seed=577)
    platform.every_turn_is_sound()
    arrives, fails = Platform.a_claim_arrives, Platform.an_engine_gives_up
    for happens in (*[arrives] * 7, *[fails] * 2, *[arrives] * 3, *[fails] * 3, *[arrives] * 2):
        happens(platform)
        platform.every_turn_is_sound()


def test_a_reservation_of_a_whole_flavor_meets_a_gang_on_two_and_nothing_is_objected_to():
    """Found by the deep run: a reservation takes the one GPU of a flavor on which part of a gang's minimum stands."""
    dice = Dice(635)
    made = world(dice)
    for number in range(25):
        if dice.random() < 0.6:
            event(dice, made, number)
        made.step()
    assert made.reservations


def test_losing_all_memory_in_the_middle_of_a_move_ends_in_the_same_state():
    ends = []
    for forgets in (False, True):
        made = fleet(parse_policy(DEFAULT.read_text()), 4)

        for one in (chat("civil/justice", "chat", 4), chat("defence/cyber", "triage", 3, "critical")):
            made.claims[one.id] = one
        made.demands = {"civil/justice:chat": 3, "defence/cyber:triage": 1}
        made.settle()
        made.demands["defence/cyber:triage"] = 2
        for turn in range(30):
            made.step()
            if forgets and turn in (0, 2, 4, 6):
                made.memory = Memory()
        made.settle()
        ends.append(sorted((group.id, group.devices, group.running, group.routed) for group in made.groups.values()))
    assert ends[0] == ends[1]


def test_a_domain_that_was_not_seen_holds_and_the_other_one_goes_on():
    made = fleet(parse_policy(DEFAULT.read_text()), 4)

    for one in (chat("civil/justice", "chat", 2), chat("defence/cyber", "triage", 2)):
        made.claims[one.id] = one
    made.demands = {"civil/justice:chat": 2, "defence/cyber:triage": 1}
    made.settle()
    made.gaps = [Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=made.now_ms)]
    del made.claims["civil/justice:chat"]
    made.demands["defence/cyber:triage"] = 2
    made.run(20)
    assert made.running("defence/cyber:triage") == 2
    assert made.running("civil/justice:chat") == 2


def test_a_sick_device_is_left_and_its_worker_is_given_up():
    made = fleet(parse_policy(DEFAULT.read_text()), 4)

    one = chat("civil/justice", "chat", 1)
    made.claims[one.id] = one
    made.settle()
    name = next(iter(made.held_by("civil")))
    made.devices[name] = replace(made.devices[name], health=DeviceHealth.QUARANTINED)
    made.settle()
    assert made.running(one.id) == 1
    assert name not in made.held_by("civil")
