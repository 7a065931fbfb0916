"""What a well-formed policy or claim may still get wrong. Each fault has the path of the value that is at fault."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from policies.fleet.placement import SCORES
from policies.model.policy import OperatingMode, Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import Quota, Tenant
from policies.model.units import UNLIMITED, WHOLE_GPU_MILLIS, FlavorId, TenantId
from policies.model.workload import Claim, ClaimKind
from policies.modes import APPROVERS_REQUIRED

Fault = tuple[tuple[str | int, ...], str]
_TENANT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(/[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


MOST_LEVELS = 32
"""Tenants above each other; domain, organisation and team are three."""
MOST_REPLICAS = 10_000
"""Replicas of one claim: each is decided upon, so a slip of the pen must not stop the platform."""
MOST_VALUE = 10**9
"""Value of a priority class, above zero or below: what is added to it for deadlines must stay far from any limit."""


def faults_of_policy(policy: Policy) -> Iterator[Fault]:
    """Yield every fault, in the order of the document."""
    if not policy.revision.strip():
        yield ("revision",), "a revision has a name"
    if not policy.tenants:
        yield ("tenants",), "a policy names at least one tenant"
    yield from _twice("tenants", [tenant.id for tenant in policy.tenants])
    yield from _twice("priority_classes", [cls.name for cls in policy.priority_classes])
    known = {tenant.id: tenant for tenant in policy.tenants}
    for index, tenant in enumerate(policy.tenants):
        yield from ((("tenants", index, *path), fault) for path, fault in _tenant(tenant, known))
    yield from _sums(policy)
    yield from _classes(policy)
    yield from _modes(policy, known)
    yield from _bounds(policy)
    yield from _choices(policy)


def _twice(field: str, names: list[str]) -> Iterator[Fault]:
    for name, count in Counter(names).items():
        if count > 1:
            second = [index for index, one in enumerate(names) if one == name][1]
            yield (field, second), f"{name} occurs twice"


def _tenant(tenant: Tenant, known: dict[TenantId, Tenant]) -> Iterator[Fault]:
    if not _TENANT.fullmatch(tenant.id):
        yield ("id",), f"{tenant.id!r} is not a path of small letters, digits and hyphens"
    if tenant.id.split("/")[0] != tenant.domain:
        yield ("domain",), f"the first part of {tenant.id} names another domain than {tenant.domain}"
    yield from _parent(tenant, known)
    if tenant.fair_weight < 0:
        yield ("fair_weight",), f"{tenant.fair_weight} is negative"
    for name in type(tenant.limits).__dataclass_fields__:
        limit = getattr(tenant.limits, name)
        if limit is not None and limit < 0:
            yield ("limits", name), f"{limit} is negative; leave it out for no limit"
    if tenant.reclaim_deadline_s < 1:
        yield ("reclaim_deadline_s",), "a floor needs at least one second to be recovered"
    for index, quota in enumerate(tenant.quotas):
        yield from ((("quotas", index, *path), fault) for path, fault in _quota(quota))
    yield from _twice("quotas", [quota.flavor for quota in tenant.quotas])
    yield from _floors(tenant)


def _parent(tenant: Tenant, known: dict[TenantId, Tenant]) -> Iterator[Fault]:
    seen, at = {tenant.id}, tenant
    while at.parent is not None:
        if at.parent not in known:
            yield ("parent",), f"{at.parent} is not a tenant of this policy"
            return
        if at.parent in seen:
            yield ("parent",), f"{tenant.id} is, through {at.id}, above itself"
            return
        at = known[at.parent]
        seen.add(at.id)
        if len(seen) > MOST_LEVELS:
            yield ("parent",), f"{tenant.id} has more than {MOST_LEVELS - 1} tenants above it"
            return
    if at.domain != tenant.domain:
        yield ("parent",), f"{at.id} is of another domain"
        return
    parts = tenant.id.split("/")
    named = next((one for end in range(len(parts) - 1, 0, -1) if (one := "/".join(parts[:end])) in known), None)
    if tenant.parent != named:
        yield ("parent",), f"by its path {tenant.id} is {f'below {named}' if named else 'below no other tenant'}"


def _quota(quota: Quota) -> Iterator[Fault]:
    if quota.nominal_millis < 0:
        yield ("nominal_millis",), f"{quota.nominal_millis} is negative"
    for name in ("lending_limit_millis", "borrowing_limit_millis"):
        limit = getattr(quota, name)
        if limit != UNLIMITED and limit < 0:
            yield (name,), f"{limit} is negative"
    if quota.lending_limit_millis != UNLIMITED and quota.lending_limit_millis > max(0, quota.nominal_millis):
        yield ("lending_limit_millis",), "more than the nominal quota cannot be lent"


def _floors(tenant: Tenant) -> Iterator[Fault]:
    nominal = {quota.flavor: quota.nominal_millis for quota in tenant.quotas}
    yield from _twice("floor_millis", [flavor for flavor, _ in tenant.floor_millis])
    for index, (flavor, amount) in enumerate(tenant.floor_millis):
        if amount < 0:
            yield ("floor_millis", index), f"{amount} is negative"
        elif amount > nominal.get(flavor, 0):
            yield ("floor_millis", index), f"a floor of {amount} is above the nominal quota of {nominal.get(flavor, 0)}"


def _sums(policy: Policy) -> Iterator[Fault]:
    nominal = {(tenant.id, quota.flavor): quota.nominal_millis for tenant in policy.tenants for quota in tenant.quotas}
    below: Counter[tuple[TenantId, FlavorId]] = Counter()
    for tenant in policy.tenants:
        for quota in tenant.quotas:
            if tenant.parent is not None:
                below[tenant.parent, quota.flavor] += quota.nominal_millis
    for index, tenant in enumerate(policy.tenants):
        for flavor in sorted({flavor for parent, flavor in below if parent == tenant.id}):
            own = nominal.get((tenant.id, flavor))
            if own is not None and below[tenant.id, flavor] > own:
                fault = f"its children are promised {below[tenant.id, flavor]} of {flavor}, more than its own {own}"
                yield ("tenants", index, "quotas"), fault


def _classes(policy: Policy) -> Iterator[Fault]:
    if not policy.priority_classes:
        yield ("priority_classes",), "a policy names at least one priority class"
    for index, cls in enumerate(policy.priority_classes):
        if not cls.name.strip():
            yield ("priority_classes", index, "name"), "a priority class has a name"
        if abs(cls.value) > MOST_VALUE:
            yield ("priority_classes", index, "value"), f"{cls.value} is beyond {MOST_VALUE}, which orders any classes"
        for name in ("min_runtime_s", "preemption_delay_s"):
            if getattr(cls, name) < 0:
                yield ("priority_classes", index, name), "time cannot be negative"


def _modes(policy: Policy, known: dict[TenantId, Tenant]) -> Iterator[Fault]:
    yield from _twice("overlays", [overlay.mode for overlay in policy.overlays])
    classes = {cls.name for cls in policy.priority_classes}
    for index, overlay in enumerate(policy.overlays):
        if overlay.mode is OperatingMode.NORMAL:
            yield ("overlays", index, "mode"), "normal is the policy itself; nothing overlays it"
        once = _twice("fair_weights", [tenant for tenant, _ in overlay.fair_weights])
        yield from ((("overlays", index, *path), fault) for path, fault in once)
        named = [*(tenant for tenant, _ in overlay.fair_weights), *overlay.paused_tenants, *overlay.waived_floors]
        for tenant in sorted(set(named) - set(known)):
            yield ("overlays", index), f"{tenant} is not a tenant of this policy"
        for name in sorted(set(overlay.paused_classes) - classes):
            yield ("overlays", index, "paused_classes"), f"{name} is not a priority class of this policy"
        for tenant, weight in overlay.fair_weights:
            if weight < 0:
                yield ("overlays", index, "fair_weights"), f"the weight {weight} of {tenant} is negative"
    declaration = policy.declaration
    if declaration is not None and len({one.strip() for one in declaration.approvers} - {""}) < APPROVERS_REQUIRED:
        yield ("declaration", "approvers"), f"a mode needs {APPROVERS_REQUIRED} distinct approvers"
    if declaration is not None and declaration.expires_at_ms <= declaration.declared_at_ms:
        yield ("declaration", "expires_at_ms"), "a mode ends after it begins"


def _bounds(policy: Policy) -> Iterator[Fault]:
    for name in type(policy.bounds).__dataclass_fields__:
        if getattr(policy.bounds, name) < 0:
            yield ("bounds", name), "a bound cannot be negative"


def _choices(policy: Policy) -> Iterator[Fault]:
    """Yield names that stand for nothing: a score that does not exist, quotas for flavors that are not in use."""
    if policy.scoring not in SCORES:
        yield ("scoring",), f"{policy.scoring!r} is no placement score; choose one of {', '.join(sorted(SCORES))}"
    if policy.usage_retention_days is not None and policy.usage_retention_days < 0:
        yield ("usage_retention_days",), f"{policy.usage_retention_days} is negative"
    yield from _twice("flavors", list(policy.flavors))
    for index, tenant in enumerate(policy.tenants if policy.flavors else ()):
        for place, quota in enumerate(tenant.quotas):
            if quota.flavor not in policy.flavors:
                yield ("tenants", index, "quotas", place, "flavor"), f"{quota.flavor} is not among the policy's flavors"


def faults_of_claim(claim: Claim) -> Iterator[Fault]:
    """Yield every fault of a claim as its owner wrote it, in the order of the document."""
    tenant, _, name = claim.id.partition(":")
    if tenant != claim.tenant or not _CLAIM.fullmatch(name):
        yield ("id",), f"{claim.id!r} is not {claim.tenant}:<name>"
    if not claim.ladder and (claim.kind is ClaimKind.JOB or claim.model is None):
        yield ("ladder",), "a ladder has at least one shape; only a serving claim with a model may leave it out"
    if not 0 <= claim.min_replicas <= claim.desired_replicas <= claim.max_replicas:
        yield ("min_replicas",), "replicas are in the order 0 <= min_replicas <= desired_replicas <= max_replicas"
    elif claim.max_replicas > MOST_REPLICAS:
        yield ("max_replicas",), f"{claim.max_replicas} is more than the {MOST_REPLICAS} that one claim may have"
    for index, shape in enumerate(claim.ladder):
        if shape.devices < 1 or not 1 <= shape.gpu_millis <= WHOLE_GPU_MILLIS:
            yield ("ladder", index), "devices are at least 1 and gpu_millis 1 to 1000"
        if shape.devices > 1 and shape.gpu_millis < WHOLE_GPU_MILLIS:
            yield ("ladder", index, "gpu_millis"), "a part of a device cannot be asked for on several devices"
        if min(shape.memory_mib, shape.cpu_millis, shape.host_memory_mib) < 0 or shape.concurrency < 1:
            yield ("ladder", index), "amounts are not negative and concurrency is at least 1"
    yield from _times(claim)


def _times(claim: Claim) -> Iterator[Fault]:
    if claim.duration_s is not None and claim.duration_s < 1:
        yield ("duration_s",), "a duration is at least one second"
    if claim.expires_at_ms is not None and claim.expires_at_ms < 1:
        yield ("expires_at_ms",), "an end is a time in milliseconds since 1970"


def faults_of_snapshot(snapshot: Snapshot) -> Iterator[Fault]:
    """Yield what no observer would write down; what an observer may see, however odd, is for ``decide`` to judge."""
    lists = ("flavors", "nodes", "devices", "workers", "groups", "claims", "reservations")
    for name in lists:
        yield from _twice(name, [one.id for one in getattr(snapshot, name)])
    yield from _twice("demands", [one.claim for one in snapshot.demands])
    for name, of in (("flavors", "memory_mib"), ("nodes", "cpu_millis"), ("nodes", "memory_mib"),
                     ("devices", "memory_mib"), ("groups", "rung"), ("demands", "replicas")):  # fmt: skip
        for index, one in enumerate(getattr(snapshot, name)):
            if getattr(one, of) < 0:
                yield (name, index, of), f"{getattr(one, of)} is negative"
    for index, group in enumerate(snapshot.groups):
        if not group.devices or group.replicas < 0:
            yield ("groups", index), "a group is on at least one device, with replicas that are not negative"
    for index, one in enumerate(snapshot.reservations):
        if one.gpu_millis < 1:
            yield ("reservations", index, "gpu_millis"), "a reservation keeps at least one thousandth of a device"
        if one.ends_at_ms <= one.starts_at_ms:
            yield ("reservations", index, "ends_at_ms"), "a reservation ends after it begins"
