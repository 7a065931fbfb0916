"""What tests of decisions look at: who was granted what, why not, and worlds to look at."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st

from policies.evidence.survey import survey
from policies.fleet.board import Need
from policies.granting.fairness import in_fair_order
from policies.granting.working import first_option
from policies.model.memory import Memory
from policies.model.units import SecurityDomain
from policies.shares.quota import caps, demands, healthy_capacity, shares
from policies.turns.setting import start
from policies.wishes.admission import asks
from policies.wishes.admission import fleet as fleet_of
from tests.policies.situations import NOW_MS, device
from tests.simulation.generate import Dice, event, world

SEEDS = st.integers(0, 100_000)
ORDINARY = 100
"""Examples per test that Hypothesis tries unless told otherwise."""
DEPTH = max(1, settings().max_examples // ORDINARY)
FEW = settings(max_examples=15 * DEPTH, deadline=None, derandomize=DEPTH == 1)
"""A few fixed examples, the same on every machine; many random ones under ``make test-deep``."""
FOUR = [device(f"G{index}") for index in range(4)]


def granted(decision, name: str) -> int:
    return next(reason.granted_replicas for reason in decision.reasons if reason.claim == name)


def code(decision, name: str):
    return next(reason.code for reason in decision.reasons if reason.claim == name)


def some_world(seed: int, steps: int = 12):
    dice = Dice(seed)
    made = world(dice)
    for number in range(steps):
        if dice.random() < 0.7:
            event(dice, made, number)
        made.step()
    return dice, made


def looked_at(seen, policy):
    """The work of a decision before anything is decided."""
    looked = survey(seen, policy, Memory(), NOW_MS)
    wishes = asks(looked, fleet_of(looked, caps(looked)))
    capacity = healthy_capacity(looked)
    return start(looked, Memory(), wishes, shares(looked, demands(looked, wishes), capacity), capacity)


def offered_in_fair_order(work, lots):
    """Yield the lots as they are offered what is left, each next one of the tenant that borrows least then."""
    waiting = {}
    for lot in lots:
        waiting.setdefault(lot.ask.tenant.id, deque()).append(lot)

    def flavor(tenant: str):
        return first_option(waiting[tenant][0]).flavor if waiting[tenant] else None

    for tenant, now in in_fair_order(work, waiting, flavor):
        counts = work.counts
        while work.counts == counts and flavor(tenant) == now:
            yield waiting[tenant].popleft()


def wanting(millis: int) -> Need:
    """What one replica of this size in civil must find."""
    return Need(
        claim="civil/y:o", domain=SecurityDomain.CIVIL, rung=0, flavor="A", devices=1, gpu_millis=millis, memory_mib=0,
        charge=millis,
    )  # fmt: skip
