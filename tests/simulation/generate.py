"""Random but repeatable policies, fleets and events. The seed is the whole input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from policies.model.inventory import Device, DeviceHealth, Flavor, GroupState, Node, UsageState
from policies.model.policy import Bounds, ModeDeclaration, ModeOverlay, OperatingMode, Policy
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, ClaimKind, Reservation, Shape
from tests.simulation.world import World

CLASSES = (
    PriorityClass(name="critical", value=1000),
    PriorityClass(name="standard", value=500),
    PriorityClass(name="batch", value=100, min_runtime_s=5, preemption_delay_s=3),
    PriorityClass(name="pinned", value=800, preemptible=False),
)
FLAVORS = ("A", "B")


class Dice:
    """Throws that depend on the seed alone, the same on every machine and in every version of Python."""

    def __init__(self, seed: int) -> None:
        self._seed, self._count = seed, 0

    def randint(self, low: int, high: int) -> int:
        self._count += 1
        text = f"{self._seed}:{self._count}".encode()
        return low + int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % (high - low + 1)

    def choice(self, options: Sequence):
        return options[self.randint(0, len(options) - 1)]

    def random(self) -> float:
        return self.randint(0, 999_999) / 1_000_000


def policy(rng: Dice) -> Policy:
    tenants = []
    for domain in SecurityDomain:
        leaves = [f"{domain}/{name}" for name in ("x", "y", "z")[: rng.randint(1, 3)]]
        quotas = {flavor: [rng.choice((0, 1000, 2000)) for _ in leaves] for flavor in FLAVORS}
        tenants.append(Tenant(
            id=str(domain), domain=domain, fair_weight=rng.choice((1, 1, 2)),
            quotas=tuple(Quota(
                flavor=flavor, nominal_millis=sum(quotas[flavor]) + rng.choice((0, 1000)),
                lending_limit_millis=rng.choice(("unlimited", "unlimited", 0, 1000)) if sum(quotas[flavor]) >= 1000
                else "unlimited",
                borrowing_limit_millis=rng.choice(("unlimited", "unlimited", 1000)),
            ) for flavor in FLAVORS),
            floor_millis=tuple((flavor, min(1000, sum(quotas[flavor]))) for flavor in FLAVORS),
        ))  # fmt: skip
        for index, leaf in enumerate(leaves):
            tenants.append(Tenant(
                id=leaf, domain=domain, parent=str(domain), fair_weight=rng.choice((0, 1, 1, 2, 7)),
                quotas=tuple(Quota(flavor=flavor, nominal_millis=quotas[flavor][index]) for flavor in FLAVORS),
            ))  # fmt: skip
    overlays = (
        ModeOverlay(mode=OperatingMode.HEIGHTENED, fair_weights=(("defence", 3),)),
        ModeOverlay(mode=OperatingMode.CRISIS, fair_weights=(("defence", 9),), paused_classes=("batch",),
                    paused_tenants=("civil",), waived_floors=rng.choice(((), ("civil",)))),
    )  # fmt: skip
    bounds = Bounds(
        upgrade_hold_ms=4_000, scale_down_hold_ms=2_000, cooldown_ms=3_000, drain_deadline_ms=6_000,
        eviction_window_ms=5_000, evictions_per_window=rng.choice((2, 8, 32)), victim_hold_ms=15_000,
        idle_after_ms=4_000,
    )  # fmt: skip
    return Policy(
        revision="random", tenants=tuple(tenants), priority_classes=CLASSES, overlays=overlays, bounds=bounds
    )  # fmt: skip


def world(rng: Dice) -> World:
    made = World(policy=policy(rng), start_steps=rng.randint(1, 3))
    for flavor in FLAVORS:
        made.flavors[flavor] = Flavor(id=flavor, model=flavor, memory_mib=80_000)
    for host in range(rng.randint(1, 4)):
        node, flavor = f"n{host}", rng.choice(FLAVORS)
        made.nodes[node] = Node(id=node, cpu_millis=64_000, memory_mib=500_000)
        for index in range(rng.choice((1, 2, 4))):
            one = f"G{host}{index}"
            if rng.random() < 0.2:
                for part in ("a", "b"):
                    made.devices[one + part] = Device(
                        id=one + part, node=node, flavor=flavor, gpu=one, memory_mib=40_000
                    )
            else:
                made.devices[one] = Device(id=one, node=node, flavor=flavor, gpu=one, memory_mib=80_000)
    return made


def shape(rng: Dice) -> Shape:
    devices = rng.choice((1, 1, 1, 2, 4))
    millis = 1000 if devices > 1 else rng.choice((1000, 1000, 500, 250))
    flavors = rng.choice(((), ("A",), ("B", "A")))
    return Shape(
        flavors=flavors, devices=devices, gpu_millis=millis, memory_mib=rng.choice((0, 10_000, 30_000)),
        variant=f"v{rng.randint(0, 9)}-{devices}-{millis}",
    )  # fmt: skip


def claim(rng: Dice, number: int, tenants: list[str], now_ms: int) -> Claim:
    tenant = rng.choice(tenants)
    least = rng.choice((0, 1, 1, 1, 2, 3))
    most = least + rng.randint(0, 3)
    ladder, seen = [], set()
    for _ in range(rng.choice((1, 1, 2, 3))):
        one = shape(rng)
        if one.variant not in seen:
            seen.add(one.variant)
            ladder.append(one)
    return Claim(
        id=f"{tenant}:c{number}", tenant=tenant, kind=rng.choice((ClaimKind.SERVING, ClaimKind.JOB)),
        ladder=tuple(ladder), min_replicas=least, desired_replicas=rng.randint(least, most), max_replicas=most,
        priority_class=rng.choice(("critical", "standard", "standard", "batch", "pinned")), submitted_at_ms=now_ms,
        spread=rng.random() < 0.1, duration_s=rng.choice((None, 20)),
        deadline_ms=rng.choice((None, None, now_ms + 60_000)),
        expires_at_ms=rng.choice((None, None, None, now_ms + 40_000)),
    )  # fmt: skip


def event(rng: Dice, made: World, number: int) -> str:
    """Change the world in one way; return what was done, in words."""
    tenants = [tenant.id for tenant in made.policy.tenants if tenant.parent]
    kind = rng.choice(("arrive", "arrive", "arrive", "leave", "demand", "demand", "sick", "well", "cordon", "mode",
                       "gap", "seen", "stuck", "idle", "suspend", "adopt", "crash", "fail", "reserve"))  # fmt: skip
    if kind == "arrive":
        one = claim(rng, number, tenants, made.now_ms)
        made.claims[one.id] = one
    elif kind == "leave" and made.claims:
        made.claims.pop(rng.choice(sorted(made.claims)))
    elif kind == "demand" and made.claims:
        made.demands[rng.choice(sorted(made.claims))] = rng.randint(0, 5)
    elif kind in ("sick", "well"):
        one = rng.choice(sorted(made.devices))
        health = (
            rng.choice((DeviceHealth.SUSPECT, DeviceHealth.QUARANTINED)) if kind == "sick" else DeviceHealth.HEALTHY
        )
        made.devices[one] = replace(made.devices[one], health=health)
    elif kind == "cordon":
        one = rng.choice(sorted(made.nodes))
        made.nodes[one] = replace(made.nodes[one], schedulable=rng.random() < 0.7)
    elif kind == "mode":
        mode = rng.choice((OperatingMode.HEIGHTENED, OperatingMode.CRISIS))
        made.policy = replace(made.policy, declaration=ModeDeclaration(
            mode=mode, declared_at_ms=made.now_ms, expires_at_ms=made.now_ms + 10_000, approvers=("ana", "ben"),
        ))  # fmt: skip
    else:
        _event_of_sight(rng, made, kind)
    return kind


def _event_of_sight(rng: Dice, made: World, kind: str) -> None:
    if kind == "gap":
        choices = (
            (GapKind.NODE, sorted(made.nodes)), (GapKind.DEVICE, sorted(made.devices)),
            (GapKind.CLUSTER, ["civil", "defence"]), (GapKind.GATEWAY, ["civil", "defence"]),
        )  # fmt: skip
        which, subjects = rng.choice(choices)
        made.gaps = [Gap(kind=which, subject=rng.choice(subjects), cause="timeout", since_ms=made.now_ms)]
    elif kind == "seen":
        made.gaps, made.adopting = [], ()
    elif kind == "adopt":
        made.adopting = (rng.choice(list(SecurityDomain)),)
    elif kind == "stuck" and made.groups:
        made.in_flight[rng.choice(sorted(made.groups))] = 50
    elif kind == "idle" and made.groups:
        one = rng.choice(sorted(made.groups))
        made.groups[one] = replace(made.groups[one], usage=UsageState.TRULY_IDLE)
    elif kind == "suspend" and made.claims:
        one = rng.choice(sorted(made.claims))
        made.claims[one] = replace(made.claims[one], suspended=rng.random() < 0.6)
    elif kind == "fail" and made.groups:
        one = rng.choice(sorted(made.groups))
        made.groups[one] = replace(
            made.groups[one], state=GroupState.FAILED, running=0, routed=False, since_ms=made.now_ms
        )  # fmt: skip
    elif kind == "reserve":
        _reserve(rng, made)
    elif kind == "crash":
        made.memory = type(made.memory)()


def _reserve(rng: Dice, made: World) -> None:
    """Keep up to all devices of a flavor for somebody, now or soon; of each tenant one reservation is left."""
    tenant = rng.choice([tenant.id for tenant in made.policy.tenants])
    begins = made.now_ms + rng.choice((0, 5_000, 60_000))
    one = Reservation(
        id=f"{tenant}:r", tenant=tenant, flavor=rng.choice(FLAVORS), gpu_millis=rng.choice((500, 1000, 2000, 4000)),
        starts_at_ms=begins, ends_at_ms=begins + rng.choice((10_000, 100_000)),
    )  # fmt: skip
    made.reservations = [*(other for other in made.reservations if other.tenant != tenant), one]
