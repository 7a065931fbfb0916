"""What a trace comes to under a policy: the real loop, in virtual time, on a simulated fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from cluster.loop import Loop, Turn
from cluster.sim.actuator import SimActuator
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryJournal, MemoryLedger, MemoryRegistry, Shared
from cluster.sim.observer import SimObserver
from cluster.sim.trace import Arrival
from cluster.sim.world import World
from policies.invariants import Violation
from policies.model.decision import EvictionReason
from policies.model.naming import tenant_of
from policies.model.plan import ScrubDevice, StopRouting
from policies.model.policy import Policy
from policies.model.units import WHOLE_GPU_MILLIS, ClaimId, GroupId, TenantId
from policies.model.workload import ClaimKind

MOVING_TICK_MS = 1_000
"""Between turns while something starts, drains or is scrubbed."""
WAITING_TICK_MS = 15_000
"""Between turns while a claim waits and nothing moves: holds and delays of the policy end in between.

The longer nothing has moved, the less often is looked again: after as much time once more."""
STUCK_MS = 7 * 86_400_000
"""After so long without an arrival, an end or a move, what still waits will wait for ever."""
_OWN = (EvictionReason.RELEASED, EvictionReason.RUNG_CHANGE)


class CourseRefused(Exception):
    """The second program objected to a plan in the simulation: a fault of the decision, not of the trace."""

    code = "course_refused"

    def __init__(self, at_s: int, violations: Sequence[Violation]) -> None:
        super().__init__(at_s, violations)
        self.at_s, self.violations = at_s, tuple(violations)

    def __str__(self) -> str:
        said = "; ".join(f"{one.rule}: {one.sentence}" for one in self.violations)
        return f"{self.at_s} s into the trace the invariants refuse the plan ({said}); please report it with the trace"


@dataclass(slots=True, kw_only=True)
class Stay:
    """One claim on its way through the platform."""

    arrival: Arrival
    asked_at_ms: int
    served_at_ms: int | None = None
    """First time with all of its replicas running; None before."""
    run_since_ms: int | None = None
    """Since when all of its replicas run without a break; None while they do not."""
    evictions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantCourse:
    """What the trace came to for one tenant."""

    tenant: TenantId
    claims: int
    """Claims made."""
    never_served: int
    """Claims that never had all of their replicas running."""
    waited_s: tuple[int, ...]
    """From asking to all replicas running, of each claim that got there, ascending."""
    gpu_s: int
    """Seconds of whole devices held, by groups that ran or were starting or draining."""
    evictions: int
    """Groups that left for somebody else."""
    below_floor_s: int
    """Seconds in which less than the floor was granted though as much was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the trace came to."""

    policy: str
    """Revision of the policy."""
    virtual_s: int
    """From the first arrival until the last claim ended, or nothing moved any more."""
    turns: int
    devices: int
    busy_permille: int
    """Thousandths of the fleet's time that groups held."""
    domain_changes: int
    """Scrubs of a device that went from one domain to the other."""
    tenants: tuple[TenantCourse, ...]
    """Sorted by name; only tenants that asked for something."""


@dataclass(slots=True)
class Course:
    """One trace on one fleet under one policy."""

    policy: Policy
    arrivals: Sequence[Arrival]
    world: World
    progress: Callable[[int, int], None] = lambda _done, _all: None
    """Told how many of the claims have ended."""
    clock: VirtualClock = field(default_factory=VirtualClock)
    shared: Shared = field(default_factory=Shared)
    stays: dict[ClaimId, Stay] = field(default_factory=dict)
    ended: list[Stay] = field(default_factory=list)
    gpu_ms: dict[TenantId, int] = field(default_factory=dict)
    below_ms: dict[TenantId, int] = field(default_factory=dict)
    leaving: set[GroupId] = field(default_factory=set)
    scrubs: int = 0
    turns: int = 0
    moved_at_ms: int = 0

    def run(self) -> Report:
        """Live through the trace and return what it came to.

        The same arguments give the same report. Takes about as many turns as the trace has arrivals and ends, and one
        more per second of every move. Raises ``CourseRefused`` if the invariants object to a plan.
        """
        self.shared.adopted = True
        registry = MemoryRegistry(self.shared, claims_per_tenant=len(self.arrivals))
        registry.put_policy(self.policy)
        loop, begun = self._loop(), self.clock.now_ms()
        waiting, self.moved_at_ms = list(reversed(self.arrivals)), begun
        while waiting or self.stays:
            while waiting and begun + waiting[-1].at_s * 1000 <= self.clock.now_ms():
                self._arrive(waiting.pop(), registry)
            turn = self._turn(loop, begun)
            self._settle(turn, registry)
            self.progress(len(self.ended), len(self.arrivals))
            upcoming = begun + waiting[-1].at_s * 1000 if waiting else None
            if upcoming is None and self.clock.now_ms() - self.moved_at_ms > STUCK_MS:
                break
            self._pass(self._pause_ms(turn, upcoming), turn)
        return self._report(begun)

    def _loop(self) -> Loop:
        journal = MemoryJournal(self.shared)
        journal.lead()
        ledger = MemoryLedger(self.shared, self.clock)
        observer = SimObserver(self.world, ledger, self.clock)
        return Loop(observer, SimActuator(self.world, ledger, self.clock), journal, self.clock)

    def _arrive(self, arrival: Arrival, registry: MemoryRegistry) -> None:
        claim = replace(arrival.claim, submitted_at_ms=self.clock.now_ms())
        registry.put_claim(claim, expected_generation=None)
        self.stays[claim.id] = Stay(arrival=arrival, asked_at_ms=self.clock.now_ms())
        self.moved_at_ms = self.clock.now_ms()

    def _turn(self, loop: Loop, begun: int) -> Turn:
        turn = loop.turn()
        self.turns += 1
        if turn.violations:
            raise CourseRefused((self.clock.now_ms() - begun) // 1000, turn.violations)
        if turn.plan.actions:
            self.moved_at_ms = self.clock.now_ms()
        self.scrubs += sum(
            isinstance(one, ScrubDevice) and one.from_domain != one.to_domain for one in turn.plan.actions
        )
        self._count_evictions(turn)
        self.shared.intents.clear()
        self.shared.outcomes.clear()
        return turn

    def _count_evictions(self, turn: Turn) -> None:
        gone = {left.group: left for left in turn.decision.evictions if left.reason not in _OWN}
        stopped = {one.group for one in turn.plan.actions if isinstance(one, StopRouting)}
        for group in stopped & gone.keys() - self.leaving:
            self.leaving.add(group)
            if (stay := self.stays.get(gone[group].claim)) is not None:
                stay.evictions += 1
        self.leaving &= {group.id for group in turn.snapshot.groups}

    def _settle(self, turn: Turn, registry: MemoryRegistry) -> None:
        """Note who runs in full, and take back the claims whose time is over."""
        running: dict[ClaimId, int] = {}
        for group in turn.snapshot.groups:
            running[group.claim] = running.get(group.claim, 0) + (group.running if group.routed else 0)
        now = self.clock.now_ms()
        for name, stay in list(self.stays.items()):
            if running.get(name, 0) < stay.arrival.claim.desired_replicas:
                stay.run_since_ms = None
            elif stay.run_since_ms is None:
                stay.run_since_ms = now
                stay.served_at_ms = now if stay.served_at_ms is None else stay.served_at_ms
            if (ends := _ends_ms(stay)) is not None and ends <= now:
                registry.delete_claim(name)
                self.ended.append(self.stays.pop(name))
                self.moved_at_ms = now

    def _pause_ms(self, turn: Turn, upcoming: int | None) -> int:
        """Return how long nothing that matters can happen."""
        now = self.clock.now_ms()
        known = [at for stay in self.stays.values() if (at := _ends_ms(stay)) is not None]
        known += [at for at, _, _ in self.world.due]
        known += [upcoming] if upcoming is not None else []
        if turn.plan.actions or self.world.due:
            known.append(now + MOVING_TICK_MS)
        if any(stay.run_since_ms is None for stay in self.stays.values()):
            known.append(now + max(WAITING_TICK_MS, now - self.moved_at_ms))
        return max(1, min(known) - now) if known else MOVING_TICK_MS

    def _pass(self, pause_ms: int, turn: Turn) -> None:
        for group in self.world.groups.values():
            tenant = tenant_of(group.claim)
            held = self.world.shares[group.id] * max(len(group.devices), group.replicas)
            self.gpu_ms[tenant] = self.gpu_ms.get(tenant, 0) + held * pause_ms // WHOLE_GPU_MILLIS
        floors = {(one.id, flavor): amount for one in self.policy.tenants for flavor, amount in one.floor_millis}
        for entry in turn.decision.entitlements:
            if entry.held_millis < min(floors.get((entry.tenant, entry.flavor), 0), entry.demand_millis):
                self.below_ms[entry.tenant] = self.below_ms.get(entry.tenant, 0) + pause_ms
        self.clock.sleep_ms(pause_ms)

    def _report(self, begun: int) -> Report:
        lived_ms = max(1, self.clock.now_ms() - begun)
        everyone = [*self.ended, *self.stays.values()]
        tenants = sorted({stay.arrival.claim.tenant for stay in everyone} | self.below_ms.keys())
        return Report(
            policy=self.policy.revision,
            virtual_s=lived_ms // 1000,
            turns=self.turns,
            devices=len(self.world.devices),
            busy_permille=sum(self.gpu_ms.values()) * 1000 // (lived_ms * max(1, len(self.world.devices))),
            domain_changes=self.scrubs,
            tenants=tuple(self._tenant(one, everyone) for one in tenants),
        )

    def _tenant(self, tenant: TenantId, everyone: Iterable[Stay]) -> TenantCourse:
        own = [stay for stay in everyone if stay.arrival.claim.tenant == tenant]
        waited = [stay.served_at_ms - stay.asked_at_ms for stay in own if stay.served_at_ms is not None]
        return TenantCourse(
            tenant=tenant,
            claims=len(own),
            never_served=len(own) - len(waited),
            waited_s=tuple(one // 1000 for one in sorted(waited)),
            gpu_s=self.gpu_ms.get(tenant, 0) // 1000,
            evictions=sum(stay.evictions for stay in own),
            below_floor_s=self.below_ms.get(tenant, 0) // 1000,
        )


def _ends_ms(stay: Stay) -> int | None:
    """Return when the claim is over: a job once it has run in one piece, anything else after its time."""
    if stay.arrival.claim.kind is not ClaimKind.JOB:
        return stay.asked_at_ms + stay.arrival.duration_s * 1000
    return None if stay.run_since_ms is None else stay.run_since_ms + stay.arrival.duration_s * 1000
