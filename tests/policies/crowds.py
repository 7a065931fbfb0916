"""Crowded fleets in the middle of things: random but repeatable arguments of one decision, most devices in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby

from hypothesis import settings

from policies.decide import decide
from policies.model.decision import Decision
from policies.model.inventory import (
    Device,
    DeviceHealth,
    Flavor,
    Group,
    GroupState,
    Node,
    ScrubState,
    UsageState,
    Worker,
    WorkerState,
)
from policies.model.memory import ClaimMemory, Drain, Hold, Memory
from policies.model.naming import group_id, worker_id
from policies.model.policy import Policy
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, Demand, Job, Reservation
from tests.simulation.generate import FLAVORS, Dice, claim, policy

NOW_MS = 1_000_000
CROWDS = 250
DEPTH = max(1, settings().max_examples // 100)
MOMENTS = (0, 1_000, 3_000, 5_000, 6_000, 15_000, 100_000)
"""How long ago things happened; among these are the limits of the policies that ``policy`` makes."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What one decision is taken on."""

    snapshot: Snapshot
    policy: Policy
    memory: Memory


def in_every_crowd(test: Callable[[int], None]) -> Callable[[], None]:
    """The test on as many crowds as are tried; all tests look at the same ones, each decided on once."""

    def run() -> None:
        for seed in range(CROWDS * DEPTH):
            test(seed)

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


@cache
def decided(seed: int) -> tuple[Crowd, Decision]:
    """A crowd, and what is decided on it."""
    here = crowd(seed)
    return here, decide(here.snapshot, here.policy, here.memory, NOW_MS)


@cache
def crowd(seed: int) -> Crowd:
    dice = Dice(seed)
    rules = policy(dice)
    tenants = [tenant.id for tenant in rules.tenants if tenant.parent]
    claims = {one.id: one for one in (_claim(dice, number, tenants) for number in range(dice.randint(4, 12)))}
    devices = _devices(dice)
    workers, groups = _standing(dice, list(claims.values()), devices)
    gone = [dice.choice(sorted(claims))] if dice.random() < 0.2 else []
    names = sorted(claims)
    snapshot = Snapshot(
        generation=1, observed_at_ms=NOW_MS, flavors=tuple(Flavor(id=f, model=f, memory_mib=80_000) for f in FLAVORS),
        nodes=tuple(
            Node(id=node, cpu_millis=64_000, memory_mib=500_000, schedulable=dice.random() < 0.9)
            for node in sorted({one.node for one in devices})
        ),
        devices=tuple(_bound(dice, devices, workers)), workers=tuple(workers), groups=tuple(groups),
        claims=tuple(one for one in claims.values() if one.id not in gone),
        demands=tuple(
            Demand(claim=name, replicas=dice.randint(0, 4), observed_at_ms=NOW_MS - dice.choice((0, 0, 15_000, 15_001)),
                   queued=dice.choice((0, 0, 1)), in_flight=dice.choice((0, 0, 1)))
            for name in names if dice.random() < 0.4
        ),
        reservations=_reservations(dice, rules), gaps=_gaps(dice, devices),
        adopting=(dice.choice(list(SecurityDomain)),) if dice.random() < 0.05 else (),
    )  # fmt: skip
    return Crowd(snapshot, rules, _memory(dice, names, groups, devices))


def _claim(dice: Dice, number: int, tenants: list[str]) -> Claim:
    one = claim(dice, number, tenants, NOW_MS - number)
    has_program = one.kind == "job" and dice.random() < 0.3
    return replace(one, job=Job(command=("/bin/train",)) if has_program else None, suspended=dice.random() < 0.05)


def _devices(dice: Dice) -> list[Device]:
    found = []
    for host in range(dice.randint(1, 2)):
        flavor = dice.choice(FLAVORS)
        for index in range(dice.choice((2, 4))):
            gpu, health = f"G{host}{index}", DeviceHealth.HEALTHY
            if dice.random() < 0.1:
                health = dice.choice((DeviceHealth.SUSPECT, DeviceHealth.QUARANTINED))
            parts = ("a", "b") if dice.random() < 0.15 else ("",)
            found += [
                Device(id=gpu + part, node=f"n{host}", flavor=flavor, gpu=gpu, memory_mib=80_000 // len(parts),
                       health=health) for part in parts
            ]  # fmt: skip
    return found


@dataclass(slots=True)
class _Floor:
    """Where claims have been placed so far."""

    devices: list[Device]
    free: dict[str, list[int]]
    owner: dict[str, SecurityDomain] = field(default_factory=dict)
    """Of each GPU: of one GPU all parts are of one domain."""
    workers: dict[tuple[str, ...], Worker] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)


def _standing(dice: Dice, claims: list[Claim], devices: list[Device]) -> tuple[list[Worker], list[Group]]:
    """Place claims at random where they fit."""
    floor = _Floor(devices, {one.id: [1000, one.memory_mib] for one in devices})
    for one in claims:
        rung = dice.randint(0, len(one.ladder) - 1)
        for _ in range(dice.randint(0, max(1, one.desired_replicas))):
            _place(dice, one, rung, floor)
    return list(floor.workers.values()), list(floor.groups.values())


def _place(dice: Dice, one: Claim, rung: int, floor: _Floor) -> None:
    shape, domain = one.ladder[rung], SecurityDomain(one.tenant.split("/")[0])
    for _, some in groupby(floor.devices, key=lambda device: (device.node, device.flavor)):
        here = [
            device for device in some
            if (not shape.flavors or device.flavor in shape.flavors)
            and floor.owner.get(device.gpu, domain) == domain
            and floor.free[device.id][0] >= shape.gpu_millis and floor.free[device.id][1] >= shape.memory_mib
            and all(device.id not in place or len(place) == shape.devices == 1 for place in floor.workers)
        ][: shape.devices]  # fmt: skip
        if len(here) == shape.devices and dice.random() < 0.8:
            break
    else:
        return
    place = tuple(sorted(device.id for device in here))
    worker = floor.workers.setdefault(place, Worker(
        id=worker_id(domain, place), domain=domain, node=here[0].node, devices=place,
        state=WorkerState.READY if dice.random() < 0.9 else WorkerState.STARTING,
    ))  # fmt: skip
    name = group_id(one.id, worker.id, rung)
    if name in floor.groups:
        return
    for device in here:
        left = floor.free[device.id]
        floor.free[device.id] = [left[0] - shape.gpu_millis, left[1] - shape.memory_mib]
        floor.owner[device.gpu] = domain
    floor.groups[name] = _group(dice, name, one, worker, rung)


def _group(dice: Dice, name: str, one: Claim, worker: Worker, rung: int) -> Group:
    runs = dice.random() < 0.85
    since_ms = NOW_MS - dice.choice(MOMENTS)
    state = GroupState.RUNNING if runs else dice.choice((GroupState.STARTING, GroupState.FAILED, GroupState.STOPPING))
    return Group(
        id=name, claim=one.id, worker=worker.id, rung=rung, variant=one.ladder[rung].variant, devices=worker.devices,
        replicas=1, running=int(runs), state=state, routed=runs and dice.random() < 0.9, since_ms=since_ms,
        in_flight=dice.choice((None, 0, 0, 1, 9)), cold_start_ms=dice.choice((0, 5_000, 60_000)),
        usage=dice.choice((UsageState.ACTIVE, UsageState.ACTIVE, UsageState.TRULY_IDLE, UsageState.UNKNOWN)),
        checkpoint_ms=dice.choice((None, since_ms)) if one.kind == "job" else None,
    )  # fmt: skip


def _bound(dice: Dice, devices: list[Device], workers: list[Worker]) -> list[Device]:
    """Return the devices as those who run on them left them; some free ones are not wiped yet."""
    held = {one: worker.domain for worker in workers for one in worker.devices}
    found = []
    for one in devices:
        if one.id in held:
            found.append(replace(one, domain=held[one.id], scrub=ScrubState.DIRTY))
        elif dice.random() < 0.3 and one.id == one.gpu:
            scrub = dice.choice((ScrubState.DIRTY, ScrubState.DIRTY, ScrubState.SCRUBBING, ScrubState.FAILED))
            found.append(replace(one, domain=dice.choice(list(SecurityDomain)), scrub=scrub))
        else:
            found.append(one)
    return found


def _reservations(dice: Dice, rules: Policy) -> tuple[Reservation, ...]:
    if dice.random() < 0.8:
        return ()
    begins = NOW_MS + dice.choice((-1_000, 4_000, 60_000))
    return (Reservation(
        id="r", tenant=dice.choice([one.id for one in rules.tenants]), flavor=dice.choice(FLAVORS),
        gpu_millis=dice.choice((1000, 2000)), starts_at_ms=begins, ends_at_ms=begins + 50_000,
    ),)  # fmt: skip


def _gaps(dice: Dice, devices: list[Device]) -> tuple[Gap, ...]:
    if dice.random() < 0.85:
        return ()
    kind, subject = dice.choice((
        (GapKind.NODE, devices[0].node), (GapKind.DEVICE, devices[-1].id), (GapKind.CLUSTER, "civil"),
        (GapKind.GATEWAY, "defence"),
    ))  # fmt: skip
    return (Gap(kind=kind, subject=subject, cause="timeout", since_ms=NOW_MS),)


def _memory(dice: Dice, names: list[str], groups: list[Group], devices: list[Device]) -> Memory:
    def ago() -> int | None:
        return NOW_MS - dice.choice(MOMENTS) if dice.random() < 0.5 else None

    on = {}
    for group in groups:
        on.setdefault(group.claim, group.rung)
    return Memory(
        claims=tuple(
            ClaimMemory(claim=name, rung=on.get(name), waiting_since_ms=ago(),
                        evicted_at_ms=ago() if dice.random() < 0.3 else None,
                        idle_since_ms=ago() if name in on and dice.random() < 0.3 else None,
                        lower_since_ms=ago() if name in on and dice.random() < 0.3 else None)
            for name in names if dice.random() < 0.6
        ),
        drains=tuple(
            Drain(group=one.id, since_ms=NOW_MS - dice.choice(MOMENTS))
            for one in sorted(groups, key=lambda group: group.id) if dice.random() < (0.05 if one.routed else 0.8)
        ),
        holds=tuple(
            Hold(device=one.id, claim=dice.choice(names), expires_at_ms=NOW_MS + dice.choice((0, 1, 10_000)))
            for one in devices if dice.random() < 0.08
        ),
        evictions_ms=tuple(sorted(NOW_MS - dice.choice(MOMENTS) for _ in range(dice.choice((0, 0, 1, 2))))),
    )  # fmt: skip
