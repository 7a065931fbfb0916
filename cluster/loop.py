"""The control loop: level-triggered, one writer. A crash between any two lines of ``turn`` is safe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.collecting import not_collecting
from cluster.completion import complete
from cluster.ports import Actuator, Clock, Journal, Observer
from cluster.refusals import Refusal
from policies.decide import Decider
from policies.invariants import Violation, check
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.plan import Outcome, Plan
from policies.model.snapshot import Snapshot
from policies.planning import plan as plan_moves

log = logging.getLogger(__name__)

USAGE_WRITTEN_EVERY_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn saw, decided and did; the API answers from the latest."""

    snapshot: Snapshot
    decision: Decision
    plan: Plan
    violations: tuple[Violation, ...]
    outcome: Outcome | None
    """None if the plan was refused."""
    observe_ms: int
    decide_ms: int
    total_ms: int


class Loop:
    """Observe, decide, plan, check, intend, execute, settle."""

    def __init__(self, observer: Observer, actuator: Actuator, journal: Journal, clock: Clock) -> None:
        self.observer, self.actuator, self.journal, self.clock = observer, actuator, journal, clock
        self.decider = Decider()

    def turn(self) -> Turn:
        """Take one turn and return it.

        The plan is refused as a whole if the invariants object to any part of it. A turn that plans nothing and learns
        nothing is not journalled; the actuator is still called, to keep keys and routing tables in force.
        Raises ``NoPolicy``, ``StaleGeneration`` and the journal's other refusals.
        """
        journal, started = self.journal, self.clock.monotonic_ms()
        policy, memory = journal.policy(), journal.memory()
        snapshot = complete(self.observer.observe(), journal)
        observed = self.clock.monotonic_ms()
        with not_collecting():
            decision = self.decider.decide(snapshot, policy, memory, self.clock.now_ms())
            plan = plan_moves(snapshot, decision, policy, journal.fencing_generation())
        decided = self.clock.monotonic_ms()
        violations = check(snapshot, plan, policy, decision.memory)
        outcome = None
        if not violations:
            if plan.actions or learnt(memory, decision):
                journal.intend(snapshot, decision, plan)
            outcome = self.actuator.execute(plan)
            if plan.actions:
                journal.settle(outcome)
        return Turn(
            snapshot=snapshot,
            decision=decision,
            plan=plan,
            violations=violations,
            outcome=outcome,
            observe_ms=observed - started,
            decide_ms=decided - observed,
            total_ms=self.clock.monotonic_ms() - started,
        )


def learnt(before: Memory, decision: Decision) -> bool:
    """Return whether the decision remembers something worth a write.

    Use at a steady rate is not: it is exact whenever it is computed, so it is written only once in a while.
    """
    after = decision.memory
    if replace(before, usage=()) != replace(after, usage=()):
        return True
    rates = {(use.tenant, use.flavor): use.rate_millis for use in before.usage}
    oldest = min((use.at_ms for use in before.usage), default=decision.decided_at_ms)
    changed = rates != {(use.tenant, use.flavor): use.rate_millis for use in after.usage}
    return changed or decision.decided_at_ms - oldest >= USAGE_WRITTEN_EVERY_MS


def run(
    loop: Loop, *, publish: Callable[[Turn], None], hold: Callable[[Exception], bool], rest: Callable[[], bool]
) -> None:
    """Take turns until ``rest`` or ``hold`` returns False.

    ``rest`` waits for the next turn. ``publish`` is told of every turn; ``hold`` of every turn that could not be taken:
    the world stays as it is until one can.
    """
    last = ""
    while rest():
        try:
            publish(loop.turn())
            last = ""
        except Exception as error:
            if repr(error) != last and isinstance(error, Refusal):
                log.warning("holding (%s): %s", error.code, error)
            elif repr(error) != last:
                log.exception("a turn was not taken")
            last = repr(error)
            if not hold(error):
                return
