"""What the control loop needs of the world. Each port has a real and a simulated implementation, one contract suite."""

from __future__ import annotations

from typing import Protocol

from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.plan import Outcome, Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim


class Clock(Protocol):
    """Time. Decisions take it as an argument; only the shells own a clock."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since the epoch."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back; for durations."""
        ...

    def sleep_ms(self, duration_ms: int) -> None:
        """Return after the duration; simulated clocks advance instead of waiting."""
        ...


class Observer(Protocol):
    """Turns the world into a Snapshot."""

    def observe(self) -> Snapshot:
        """Return what is seen now; whatever is not seen is a Gap. Never raises for a part of the world that is down."""
        ...


class Actuator(Protocol):
    """Makes a plan true, one idempotent action after another."""

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action and return soon; progress is seen by the next observation.

        An action that is already true is ACCEPTED. An action of an older fencing generation than any seen is REFUSED.
        """
        ...


class Journal(Protocol):
    """What was asked, intended and done; survives a crash at any instruction."""

    def fencing_generation(self) -> int:
        """Return the generation under which this process leads; grows with every take-over."""
        ...

    def policy(self) -> Policy:
        """Return the policy in force."""
        ...

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims asked for, sorted by id."""
        ...

    def memory(self) -> Memory:
        """Return the memory of the last decision; ``Memory()`` if there was none."""
        ...

    def intend(self, snapshot: Snapshot, decision: Decision, plan: Plan) -> None:
        """Record the plan before anything moves. Raises ``StaleGeneration`` if another process leads."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Record what became of a plan."""
        ...
