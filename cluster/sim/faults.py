"""Seeded faults: actions that fail, and a process that ends between any two calls of the loop."""

from __future__ import annotations

from random import Random  # noqa: TID251  # the caller seeds it

from cluster.ports import Actuator, Journal, Observer
from policies.model.decision import Decision
from policies.model.inventory import Cordon
from policies.model.memory import Memory
from policies.model.plan import Action, ActionOutcome, Outcome, Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim, Reservation

SCALE = 1_000


class Crash(Exception):
    """The simulated process ended here."""


class Chance:
    """Decides, from its seed alone, what goes wrong."""

    def __init__(self, random: Random, *, crash_per_mille: int = 0, failure_per_mille: int = 0) -> None:
        self._random = random
        self.crash_per_mille = crash_per_mille
        self.failure_per_mille = failure_per_mille

    def crash(self, place: str) -> None:
        """End the process here, or do not."""
        if self._random.randrange(SCALE) < self.crash_per_mille:
            raise Crash(place)

    def failure(self, action: Action) -> str:
        """Return the detail of a failure, or nothing."""
        fails = self._random.randrange(SCALE) < self.failure_per_mille
        return f"injected failure of {action.kind}" if fails else ""


class CrashingObserver:
    """Observer of a process that may end before or after it observed."""

    def __init__(self, inner: Observer, chance: Chance) -> None:
        self._inner, self._chance = inner, chance

    def observe(self) -> Snapshot:
        """Return what is seen, unless the process ends."""
        self._chance.crash("before observe")
        snapshot = self._inner.observe()
        self._chance.crash("after observe")
        return snapshot


class CrashingActuator:
    """Actuator of a process that may end before or after any action."""

    def __init__(self, inner: Actuator, chance: Chance) -> None:
        self._inner, self._chance = inner, chance

    def execute(self, plan: Plan) -> Outcome:
        """Carry out the plan action by action; the process may end in between, the actions done stay done."""
        results: list[ActionOutcome] = []
        if not plan.actions:
            return self._inner.execute(plan)
        for action in plan.actions:
            self._chance.crash(f"before {action.kind}")
            part = Plan(
                id=plan.id,
                snapshot_generation=plan.snapshot_generation,
                fencing_generation=plan.fencing_generation,
                decided_at_ms=plan.decided_at_ms,
                actions=(action,),
            )
            results += self._inner.execute(part).results
        self._chance.crash("after execute")
        return Outcome(plan=plan.id, results=tuple(results), finished_at_ms=plan.decided_at_ms)


class CrashingJournal:
    """Journal of a process that may end before or after any write; a write is whole or not at all."""

    def __init__(self, inner: Journal, chance: Chance) -> None:
        self._inner, self._chance = inner, chance

    def lead(self) -> int:
        """Become the leader."""
        return self._inner.lead()

    def fencing_generation(self) -> int:
        """Return the generation taken by ``lead``."""
        return self._inner.fencing_generation()

    def policy(self) -> Policy:
        """Return the policy in force."""
        return self._inner.policy()

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims."""
        return self._inner.claims()

    def cordons(self) -> tuple[Cordon, ...]:
        """Return what is out of use."""
        return self._inner.cordons()

    def reservations(self) -> tuple[Reservation, ...]:
        """Return the capacity kept for tenants."""
        return self._inner.reservations()

    def adopted(self) -> bool:
        """Return whether the journal accounts for what runs."""
        return self._inner.adopted()

    def adopt(self, actor: str) -> None:
        """Record that it does."""
        self._inner.adopt(actor)

    def memory(self) -> Memory:
        """Return the memory of the last decision."""
        return self._inner.memory()

    def intend(self, snapshot: Snapshot, decision: Decision, plan: Plan) -> None:
        """Record the plan, unless the process ends."""
        self._chance.crash("before intend")
        self._inner.intend(snapshot, decision, plan)
        self._chance.crash("after intend")

    def settle(self, outcome: Outcome) -> None:
        """Record the outcome, unless the process ends."""
        self._chance.crash("before settle")
        self._inner.settle(outcome)
        self._chance.crash("after settle")
