"""A situation as if one thing about it were different: what a change that is only thought of would make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from policies.fleet.board import UNBOUNDED
from policies.model.decision import Change, FurtherChange
from policies.model.inventory import Device, DeviceHealth, Node, ScrubState
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import Quota, Tenant
from policies.model.units import UNLIMITED, WHOLE_GPU_MILLIS, ClaimId, DeviceId, FlavorId, NodeId, TenantId
from policies.model.workload import Claim, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The arguments of one decision."""

    snapshot: Snapshot
    policy: Policy
    memory: Memory
    now_ms: int


def applied(situation: Situation, change: Change) -> Situation:
    """Return the situation as if the change had been made. Raises ``KeyError`` for a kind that is none."""
    for one in (change, *(_alone(further) for further in change.also)):
        situation = _APPLY[one.kind](situation, one)
    return situation


def _alone(further: FurtherChange) -> Change:
    return Change(
        kind=further.kind, subject=further.subject, amount_millis=further.amount_millis, value=further.value
    )  # fmt: skip


def alone(situation: Situation, is_own: Callable[[ClaimId], bool]) -> Situation:
    """Return the situation as if nobody else had claims here: what follows from it may be told to the owner.

    Policy, hosts, the health of devices and what is not seen stay: they are no secret.
    """
    seen, memory = situation.snapshot, situation.memory
    groups = tuple(group for group in seen.groups if is_own(group.claim))
    mine = {group.worker for group in groups}
    workers = tuple(worker for worker in seen.workers if worker.id in mine)
    held = {device for worker in workers for device in worker.devices}
    devices = tuple(
        one if one.id in held or one.scrub is ScrubState.FAILED else replace(one, domain=None, scrub=ScrubState.CLEAN)
        for one in seen.devices
    )
    snapshot = replace(
        seen, groups=groups, workers=workers, devices=devices, reservations=(), traffic=(),
        claims=tuple(one for one in seen.claims if is_own(one.id)),
        demands=tuple(one for one in seen.demands if is_own(one.claim)),
    )  # fmt: skip
    kept = Memory(
        claims=tuple(one for one in memory.claims if is_own(one.claim)),
        drains=tuple(one for one in memory.drains if one.group in {group.id for group in groups}),
        holds=tuple(one for one in memory.holds if is_own(one.claim)),
    )
    return replace(situation, snapshot=snapshot, memory=kept)


def _of_claim(situation: Situation, change: Change, made: Callable[[Claim], Claim]) -> Situation:
    claims = tuple(made(one) if one.id == change.subject else one for one in situation.snapshot.claims)
    return replace(situation, snapshot=replace(situation.snapshot, claims=claims))


def _fix(situation: Situation, change: Change) -> Situation:
    return _of_claim(situation, change, lambda one: replace(one, suspended=False))


def _class(situation: Situation, change: Change) -> Situation:
    return _of_claim(situation, change, lambda one: replace(one, priority_class=change.value))


def _flavor(situation: Situation, change: Change) -> Situation:
    def made(one: Claim) -> Claim:
        also = FlavorId(change.value)
        return replace(one, ladder=tuple(replace(shape, flavors=(*shape.flavors, also)) for shape in one.ladder))

    return _of_claim(situation, change, made)


def _replicas(situation: Situation, change: Change) -> Situation:
    return _of_claim(situation, change, lambda one: replace(one, min_replicas=int(change.value)))


def _rung(situation: Situation, change: Change) -> Situation:
    devices, _, millis = change.value.partition("x")

    def made(one: Claim) -> Claim:
        smaller: Shape = replace(one.ladder[-1], devices=int(devices), gpu_millis=int(millis))
        return replace(one, ladder=(*one.ladder, smaller))

    return _of_claim(situation, change, made)


def _release(situation: Situation, change: Change) -> Situation:
    claims = tuple(one for one in situation.snapshot.claims if one.id != change.subject)
    return replace(situation, snapshot=replace(situation.snapshot, claims=claims))


def _reservation(situation: Situation, change: Change) -> Situation:
    kept = tuple(one for one in situation.snapshot.reservations if one.id != change.subject)
    return replace(situation, snapshot=replace(situation.snapshot, reservations=kept))


def _mode(situation: Situation, _change: Change) -> Situation:
    return replace(situation, policy=replace(situation.policy, declaration=None))


def _wait(situation: Situation, change: Change) -> Situation:
    """Let time pass in which nothing happens and everything goes on being seen."""
    passed = int(change.value)
    seen = situation.snapshot
    demands = tuple(replace(one, observed_at_ms=one.observed_at_ms + passed) for one in seen.demands)
    later = replace(seen, observed_at_ms=seen.observed_at_ms + passed, demands=demands)
    return replace(situation, snapshot=later, now_ms=situation.now_ms + passed)


def _sight(situation: Situation, change: Change) -> Situation:
    seen = situation.snapshot
    gaps = tuple(gap for gap in seen.gaps if gap.subject != change.subject)
    adopting = tuple(domain for domain in seen.adopting if domain != change.subject)
    return replace(situation, snapshot=replace(seen, gaps=gaps, adopting=adopting))


def _uncordon(situation: Situation, change: Change) -> Situation:
    nodes = tuple(
        replace(node, schedulable=True) if node.id == change.subject else node for node in situation.snapshot.nodes
    )
    return replace(situation, snapshot=replace(situation.snapshot, nodes=nodes))


def _repair(situation: Situation, change: Change) -> Situation:
    devices = tuple(
        replace(one, health=DeviceHealth.HEALTHY, scrub=ScrubState.CLEAN, domain=None)
        if one.id == change.subject else one
        for one in situation.snapshot.devices
    )  # fmt: skip
    return replace(situation, snapshot=replace(situation.snapshot, devices=devices))


def _borrowing_limit(situation: Situation, change: Change) -> Situation:
    return _quotas(situation, change, _borrows_more)


def _lending_limit(situation: Situation, change: Change) -> Situation:
    return _quotas(situation, change, _lends_more)


def _quota(situation: Situation, change: Change) -> Situation:
    return _quotas(situation, change, _owns_more)


def _borrows_more(quota: Quota, amount: int) -> Quota:
    limit = quota.borrowing_limit_millis
    return quota if limit == UNLIMITED else replace(quota, borrowing_limit_millis=limit + amount)


def _lends_more(quota: Quota, amount: int) -> Quota:
    limit = quota.lending_limit_millis
    return quota if limit == UNLIMITED else replace(quota, lending_limit_millis=limit + amount)


def _owns_more(quota: Quota, amount: int) -> Quota:
    return replace(quota, nominal_millis=quota.nominal_millis + amount)


def _quotas(situation: Situation, change: Change, more: Callable[[Quota, int], Quota]) -> Situation:
    """Change the quota of the tenant and of everything above it: otherwise its parent's would still bind."""
    name, _, flavor = change.subject.partition(" ")
    tenants = tuple(
        _with_quota(one, FlavorId(flavor), change.amount_millis, more) if _is_above(one.id, name) else one
        for one in situation.policy.tenants
    )
    return replace(situation, policy=replace(situation.policy, tenants=tenants))


def _is_above(tenant: TenantId, below: str) -> bool:
    return below == tenant or below.startswith(f"{tenant}/")


def _with_quota(tenant: Tenant, flavor: FlavorId, amount: int, more: Callable[[Quota, int], Quota]) -> Tenant:
    known = any(quota.flavor == flavor for quota in tenant.quotas)
    quotas = tenant.quotas if known else (*tenant.quotas, Quota(flavor=flavor, nominal_millis=0))
    return replace(tenant, quotas=tuple(more(one, amount) if one.flavor == flavor else one for one in quotas))


def _capacity(situation: Situation, change: Change) -> Situation:
    flavor = FlavorId(change.subject)
    known = [device.memory_mib for device in situation.snapshot.devices if device.flavor == flavor]
    listed = [one.memory_mib for one in situation.snapshot.flavors if one.id == flavor]
    node = Node(id=NodeId("added"), cpu_millis=UNBOUNDED, memory_mib=UNBOUNDED)
    added = tuple(
        Device(id=name, node=node.id, flavor=flavor, gpu=name, memory_mib=min(known or listed or [0]))
        for name in (DeviceId(f"added-{index}") for index in range(change.amount_millis // WHOLE_GPU_MILLIS))
    )
    snapshot = situation.snapshot
    changed = replace(snapshot, nodes=(*snapshot.nodes, node), devices=(*snapshot.devices, *added))
    return replace(situation, snapshot=changed)


_APPLY: dict[str, Callable[[Situation, Change], Situation]] = {
    "fix": _fix,
    "wait": _wait,
    "sight": _sight,
    "uncordon": _uncordon,
    "mode": _mode,
    "class": _class,
    "flavor": _flavor,
    "repair": _repair,
    "rung": _rung,
    "replicas": _replicas,
    "release": _release,
    "reservation": _reservation,
    "borrowing_limit": _borrowing_limit,
    "lending_limit": _lending_limit,
    "quota": _quota,
    "capacity": _capacity,
}
KINDS = tuple(_APPLY)
"""All kinds; of changes that take as much, the one named first here is preferred."""
