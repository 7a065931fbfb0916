"""A whole platform in virtual time, driven by one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random  # noqa: TID251  # seeded below

from cluster.completion import is_empty
from cluster.gauges import coresident
from cluster.loop import Loop, Turn
from cluster.sim.actuator import SimActuator
from cluster.sim.clock import VirtualClock
from cluster.sim.faults import Chance, Crash, CrashingActuator, CrashingJournal, CrashingObserver
from cluster.sim.journal import MemoryJournal, MemoryLedger, MemoryRegistry, Shared
from cluster.sim.observer import SimObserver
from cluster.sim.world import Traffic, World
from policies.model.codec import digest
from policies.model.decision import ClaimState, Entitlement
from policies.model.inventory import DeviceHealth
from policies.model.policy import Policy
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import WHOLE_GPU_MILLIS, ClaimId, FlavorId, ModelId, SecurityDomain, TenantId, VariantId
from policies.model.workload import Claim, ClaimKind, Shape

FLAVOR = FlavorId("H100-80GB")
TENANTS = ("defence/cyber", "defence/command", "civil/justice", "civil/health")
DEADLINE_S = 120
TICK_MS = 400


class Broken(AssertionError):
    """A promise did not hold."""


class Scene:
    """World, journal and a control plane that may be ended and started again at any step."""

    def __init__(self, seed: int, nodes: int = 2, devices: int = 4) -> None:
        self.random = Random(seed)  # noqa: S311  # a story, not a secret
        self.clock = VirtualClock()
        self.world = World()
        for number in range(nodes):
            self.world.add_node(f"node{number}", devices)
        self.shared = Shared()
        self.registry = MemoryRegistry(self.shared)
        self.registry.put_policy(policy(nodes * devices))
        self.chance = Chance(self.random, crash_per_mille=15, failure_per_mille=30)
        self.trace: list[str] = []
        self.start()

    def start(self) -> None:
        """Start a control plane; whatever one ran before has ended."""
        journal = MemoryJournal(self.shared)
        journal.lead()
        ledger = MemoryLedger(self.shared, self.clock)
        self.loop = Loop(
            CrashingObserver(SimObserver(self.world, ledger, self.clock), self.chance),
            CrashingActuator(SimActuator(self.world, ledger, self.clock, self.chance.failure), self.chance),
            CrashingJournal(journal, self.chance),
            self.clock,
        )

    def step(self) -> None:
        """Let something happen, take a turn, and hold everything to its promises."""
        self.random.choice(EVENTS)(self)
        self.turn()

    def turn(self) -> Turn | None:
        """Take a turn; None if the process ended in it (another one starts at once)."""
        self.clock.sleep_ms(TICK_MS)
        try:
            turn = self.loop.turn()
        except Crash as crash:
            self.trace.append(f"crash {crash}")
            self.start()
            self._hold_custody()
            return None
        if not self.shared.adopted and is_empty(turn.snapshot):
            self.shared.adopted = True
        self.trace.append(f"{digest(turn.decision)} {digest(turn.plan)}")
        self._hold(turn)
        return turn

    def settle(self, turns: int) -> Turn:
        """Switch all faults off, repair everything, and return the turn in which nothing is left to do."""
        self.chance.crash_per_mille = self.chance.failure_per_mille = 0
        self.world.hidden.clear()
        self.world.failing_scrubs.clear()
        for device in list(self.world.devices):
            self.world.repair(device)
        idle = 0
        for _ in range(turns):
            refresh(self)
            self.clock.sleep_ms(CALM_TICK_MS)
            turn = self.turn()
            idle = idle + 1 if turn is not None and not turn.plan.actions else 0
            if idle == QUIET_TURNS and turn is not None:
                self._hold_floors(turn)
                return turn
        raise Broken(f"still acting after {turns} turns without faults: {turn.plan.actions if turn else 'no turn'}")

    def _hold(self, turn: Turn) -> None:
        if turn.violations:
            raise Broken(f"the plan breaks an invariant: {turn.violations}")
        if shared := coresident(turn.snapshot):
            raise Broken(f"two domains on {shared}")
        reasons = [reason.claim for reason in turn.decision.reasons]
        if sorted(reasons) != sorted(claim.id for claim in turn.snapshot.claims):
            raise Broken(f"not exactly one reason for each claim: {reasons}")
        waiting = [r.claim for r in turn.decision.reasons if r.state is ClaimState.WAITING and r.code is None]
        if waiting:
            raise Broken(f"waiting without a reason: {waiting}")
        self._hold_custody()
        self._hold_capacity()

    def _hold_floors(self, turn: Turn) -> None:
        """With every device healthy and nothing left to do, nobody who wants its floor holds less than that.

        Who is served in full on a lower rung, and finds no free room for the better one, counts as if it were there.
        """
        floors = {(tenant.id, flavor): amount for tenant in policy(8).tenants for flavor, amount in tenant.floor_millis}
        for entry in turn.decision.entitlements:
            promised = min(floors.get((entry.tenant, entry.flavor), 0), entry.demand_millis)
            if entry.held_millis + kept_low(turn, entry) < promised:
                raise Broken(f"{entry.tenant} holds {entry.held_millis}, its floor and demand are {promised}")

    def _hold_custody(self) -> None:
        """Every change of domain of a device has a passed proof between the two."""
        for record in self.shared.devices.values():
            holders = [worker.domain for worker in self.world.workers.values() if record.device in worker.devices]
            if len(holders) > 1:
                raise Broken(f"{record.device} is in {len(holders)} workers")
            if holders and record.worker is not None and holders[0] is not record.domain:
                raise Broken(f"{record.device} runs in {holders[0]}, the ledger says {record.domain}")

    def _hold_capacity(self) -> None:
        used: dict[str, int] = {}
        for group in self.world.groups.values():
            for device in group.devices:
                replicas = group.replicas // max(1, len(group.devices))
                used[device] = used.get(device, 0) + self.world.shares[group.id] * max(1, replicas)
        over = {device: amount for device, amount in used.items() if amount > 1000}
        if over:
            raise Broken(f"more than a whole device is given away: {over}")


def kept_low(turn: Turn, entry: Entitlement) -> int:
    """Return the millis that the tenant lacks since claims of it, all replicas of them served, cannot climb."""
    full = {one.claim for one in turn.decision.reasons if one.granted_replicas == one.wanted_replicas}
    lacking = 0
    for claim in turn.snapshot.claims:
        low = [one for one in turn.decision.placements if one.claim == claim.id and one.rung]
        if low and claim.tenant == entry.tenant and claim.id in full:
            replicas, rung = sum(one.replicas for one in low), low[0].rung
            more = replicas * (claim.ladder[0].gpu_millis - claim.ladder[rung].gpu_millis)
            is_inside = entry.held_millis + more <= entry.entitled_millis
            lacking += 0 if is_inside and places(turn, claim) >= replicas else more
    return lacking


def places(turn: Turn, claim: Claim) -> int:
    """Return how many replicas of the claim's best rung have room beside what others have in its domain."""
    of = {one.id: one for one in turn.snapshot.claims}
    left = {one.id: WHOLE_GPU_MILLIS for one in turn.snapshot.devices}
    for one in turn.decision.placements:
        other = of[one.claim]
        is_foreign = other.tenant.split("/")[0] != claim.tenant.split("/")[0]
        for device in one.devices if one.claim != claim.id else ():
            left[device] -= left[device] if is_foreign else other.ladder[one.rung].gpu_millis * one.replicas
    return sum(free // claim.ladder[0].gpu_millis for free in left.values())


QUIET_TURNS = 40
CALM_TICK_MS = 2_000
"""So many turns at this pace are longer than any hold of the policy."""


def policy(devices: int) -> Policy:
    """Return four tenants in two domains, every device promised to one of them, all of it lendable."""
    each = devices * 1000 // len(TENANTS)
    tenants = [
        Tenant(
            id=TenantId(domain),
            domain=domain,
            quotas=(Quota(flavor=FLAVOR, nominal_millis=devices * 500),),
            reclaim_deadline_s=DEADLINE_S,
        )
        for domain in SecurityDomain
    ]
    tenants += [
        Tenant(
            id=TenantId(path),
            domain=SecurityDomain(path.split("/")[0]),
            parent=TenantId(path.split("/")[0]),
            quotas=(Quota(flavor=FLAVOR, nominal_millis=each),),
            floor_millis=((FLAVOR, each // 2),),
            reclaim_deadline_s=DEADLINE_S,
        )
        for path in TENANTS
    ]
    classes = (
        PriorityClass(name="standard", value=100),
        PriorityClass(name="batch", value=10, min_runtime_s=5),
    )
    return Policy(revision="sim", tenants=tuple(tenants), priority_classes=classes)


def arrive(scene: Scene) -> None:
    """A tenant asks for something, or for something else under the same name."""
    tenant = scene.random.choice(TENANTS)
    number = scene.random.randrange(3)
    name = f"{tenant}:c{number}"
    whole = number == 0
    ladder = (
        Shape(flavors=(FLAVOR,), gpu_millis=1000 if whole else 500, memory_mib=30_000, variant=VariantId("big")),
        Shape(flavors=(FLAVOR,), gpu_millis=250, memory_mib=10_000, variant=VariantId("small")),
    )
    most = scene.random.randrange(1, 7)
    claim = Claim(
        id=ClaimId(name),
        tenant=TenantId(tenant),
        kind=ClaimKind.SERVING,
        ladder=ladder[: 1 + number % 2],
        model=ModelId("m"),
        desired_replicas=scene.random.randrange(1, most + 1),
        max_replicas=most,
        priority_class=scene.random.choice(("standard", "batch")),
        submitted_at_ms=scene.clock.now_ms(),
    )
    scene.registry.put_claim(claim, expected_generation=None)


def leave(scene: Scene) -> None:
    """A tenant takes back what it asked for."""
    if scene.shared.claims:
        scene.registry.delete_claim(scene.random.choice(sorted(scene.shared.claims)))


def surge(scene: Scene) -> None:
    """Traffic for one claim changes."""
    if scene.shared.claims:
        claim = scene.random.choice(sorted(scene.shared.claims))
        scene.world.traffic[claim] = Traffic(replicas=scene.random.randrange(7), observed_at_ms=scene.clock.now_ms())


def lose(scene: Scene) -> None:
    """A device falls off the bus."""
    scene.world.lose(scene.random.choice(sorted(scene.world.devices)))


def repair(scene: Scene) -> None:
    """A lost device comes back."""
    lost = [d.id for d in scene.world.devices.values() if d.health is not DeviceHealth.HEALTHY]
    if lost:
        scene.world.repair(scene.random.choice(sorted(lost)))


def hide(scene: Scene) -> None:
    """Telemetry no longer sees a device, or sees all of them again."""
    if scene.random.random() < 0.5:
        scene.world.hidden.add(scene.random.choice(sorted(scene.world.devices)))
    else:
        scene.world.hidden.clear()


def spoil(scene: Scene) -> None:
    """The next scrubs of a device fail."""
    scene.world.failing_scrubs.add(scene.random.choice(sorted(scene.world.devices)))


def take_over(scene: Scene) -> None:
    """Another control plane becomes the leader; the old one has ended."""
    scene.start()


def wait(scene: Scene) -> None:
    """Time passes."""
    scene.clock.sleep_ms(scene.random.randrange(10_000))


def refresh(scene: Scene) -> None:
    """Telemetry is fresh: every claim's traffic is measured again."""
    for traffic in scene.world.traffic.values():
        traffic.observed_at_ms = scene.clock.now_ms()


EVENTS: list[Callable[[Scene], None]] = [
    *[arrive] * 4,
    *[surge] * 5,
    *[refresh] * 6,
    *[wait] * 6,
    leave,
    lose,
    repair,
    repair,
    hide,
    hide,
    spoil,
    take_over,
]


def without_spoiling(scene: Scene) -> Scene:
    """Return the scene with every failed scrub forgiven, as an operator would after a look."""
    for key, record in scene.shared.devices.items():
        if record.scrub.value == "failed":
            scene.shared.devices[key] = replace(record, scrub=record.scrub.CLEAN, domain=None)
    return scene
