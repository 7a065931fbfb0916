"""The smallest change that would admit a waiting claim, found by deciding again as if it had been made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from policies.board import UNBOUNDED
from policies.decide import decide
from policies.model.decision import Change, PendingReason, Reason
from policies.model.inventory import Device, Node
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import Quota, Tenant
from policies.model.units import UNLIMITED, WHOLE_GPU_MILLIS, ClaimId, DeviceId, FlavorId, NodeId, TenantId
from policies.model.workload import Claim

MOST_UNITS = 64
"""Largest change considered, in units of one replica."""
RELEASES_TRIED = 16
"""Claims of the same tenant whose release is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The arguments of one decision."""

    snapshot: Snapshot
    policy: Policy
    memory: Memory
    now_ms: int


def unblocking(situation: Situation, claim: ClaimId) -> Change | None:
    """Return the smallest change that admits the claim; None if it is served or no change tried here helps.

    What is returned was tried: ``applied`` with the change, decided again, grants the claim more than now. Kinds are
    compared by millis, then in the order fix, rung, release, borrowing limit, quota, capacity.
    """
    before = _reason(situation, claim)
    if before is None or before.granted_replicas >= before.wanted_replicas > 0:
        return None
    found = [change for change in _candidates(situation, claim, before) if change is not None]
    return min(found, key=lambda change: change.amount_millis, default=None)


def applied(situation: Situation, change: Change) -> Situation:
    """Return the situation as if the change had been made."""
    return _APPLY[change.kind](situation, change)


def _reason(situation: Situation, claim: ClaimId) -> Reason | None:
    decision = decide(situation.snapshot, situation.policy, situation.memory, situation.now_ms)
    return next((reason for reason in decision.reasons if reason.claim == claim), None)


def _helps(situation: Situation, claim: ClaimId, change: Change, before: Reason) -> bool:
    after = _reason(applied(situation, change), claim)
    return after is not None and after.granted_replicas > before.granted_replicas


def _candidates(situation: Situation, claim: ClaimId, before: Reason) -> Iterator[Change | None]:
    asked = next(one for one in situation.snapshot.claims if one.id == claim)
    if before.code is PendingReason.SUSPENDED and asked.suspended:
        yield _checked(situation, claim, before, Change(kind="fix", subject=claim, sentence="its owner resumes it"))
        return
    if before.code is PendingReason.MISCONFIGURED:
        return
    for other in _same_tenant(situation, asked):
        amount = sum(shape.gpu_millis * shape.devices for shape in other.ladder[:1]) * max(1, other.min_replicas)
        change = Change(kind="release", subject=other.id, amount_millis=amount, sentence=f"{other.id} is released")
        yield _checked(situation, claim, before, change)
    for flavor in dict.fromkeys(one for shape in asked.ladder for one in (shape.flavors or _flavors(situation))):
        for kind, subject, said in (
            ("borrowing_limit", f"{asked.tenant} {flavor}", "may borrow {0} millis more"),
            ("quota", f"{asked.tenant} {flavor}", "has a nominal quota of {0} millis more"),
            ("capacity", str(flavor), "has {0} millis more healthy devices on one host"),
        ):
            yield _smallest(situation, claim, before, Change(kind=kind, subject=subject, sentence=said))


def _same_tenant(situation: Situation, asked: Claim) -> list[Claim]:
    running = {group.claim for group in situation.snapshot.groups}
    own = [one for one in situation.snapshot.claims if one.tenant == asked.tenant and one.id in running]
    return sorted((one for one in own if one.id != asked.id), key=lambda one: one.id)[:RELEASES_TRIED]


def _flavors(situation: Situation) -> tuple[FlavorId, ...]:
    return tuple(sorted({device.flavor for device in situation.snapshot.devices}))


def _checked(situation: Situation, claim: ClaimId, before: Reason, change: Change) -> Change | None:
    return change if _helps(situation, claim, change, before) else None


def _smallest(situation: Situation, claim: ClaimId, before: Reason, form: Change) -> Change | None:
    """Return the change of this form with the fewest millis that helps, found by halving: more never helps less."""

    def at(units: int) -> Change:
        amount = units * WHOLE_GPU_MILLIS
        sentence = f"{form.subject} {form.sentence.format(amount)}"
        return replace(form, amount_millis=amount, sentence=sentence)

    high = 1
    while not _helps(situation, claim, at(high), before):
        high *= 2
        if high > MOST_UNITS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _helps(situation, claim, at(middle), before) else (middle, high)
    return at(high)


def _fix(situation: Situation, change: Change) -> Situation:
    claims = tuple(
        replace(one, suspended=False) if one.id == change.subject else one for one in situation.snapshot.claims
    )
    return replace(situation, snapshot=replace(situation.snapshot, claims=claims))


def _release(situation: Situation, change: Change) -> Situation:
    claims = tuple(one for one in situation.snapshot.claims if one.id != change.subject)
    return replace(situation, snapshot=replace(situation.snapshot, claims=claims))


def _borrowing_limit(situation: Situation, change: Change) -> Situation:
    return _quotas(situation, change, _borrows_more)


def _quota(situation: Situation, change: Change) -> Situation:
    return _quotas(situation, change, _owns_more)


def _borrows_more(quota: Quota, amount: int) -> Quota:
    limit = quota.borrowing_limit_millis
    return quota if limit == UNLIMITED else replace(quota, borrowing_limit_millis=limit + amount)


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
    "release": _release,
    "borrowing_limit": _borrowing_limit,
    "quota": _quota,
    "capacity": _capacity,
}
