"""Platforms that observer and actuator are held to their contract on: simulated always, real Ray where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.ports import Actuator, Clock, Ledger, Observer
from cluster.sim.actuator import SimActuator
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryLedger, Shared
from cluster.sim.observer import SimObserver
from cluster.sim.world import World
from policies.model.plan import Action, Outcome, Plan
from policies.model.snapshot import Snapshot

PATIENCE_MS = 120_000
STEP_MS = 250


@dataclass
class Platform:
    """Ports over one world, and patience."""

    observer: Observer
    actuator: Actuator
    ledger: Ledger
    clock: Clock
    fencing: int = 1
    plans: int = 0

    def do(self, *actions: Action, fencing: int | None = None) -> Outcome:
        """Carry out the actions as one plan."""
        self.plans += 1
        plan = Plan(
            id=f"contract-{self.plans}",
            snapshot_generation=self.plans,
            fencing_generation=fencing or self.fencing,
            decided_at_ms=self.clock.now_ms(),
            actions=actions,
        )
        return self.actuator.execute(plan)

    def until(self, holds: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """Return the first snapshot in which it holds; fail with words after long enough."""
        deadline = self.clock.monotonic_ms() + PATIENCE_MS
        while True:
            snapshot = self.observer.observe()
            if holds(snapshot):
                return snapshot
            assert self.clock.monotonic_ms() < deadline, f"never came true: {what}; last seen: {snapshot}"
            self.clock.sleep_ms(STEP_MS)


def simulated() -> Platform:
    """Return a simulated platform with four devices."""
    clock, world = VirtualClock(), World()
    world.add_node("node", 4)
    ledger = MemoryLedger(Shared(), clock)
    return Platform(SimObserver(world, ledger, clock), SimActuator(world, ledger, clock), ledger, clock)
