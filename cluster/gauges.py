"""Gauges computed from the latest turn at the moment of reading: they can be neither stale nor left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from cluster.loop import Turn
from policies.fleet.isolation import price_of_isolation
from policies.model.decision import Entitlement
from policies.model.naming import tenant_of
from policies.model.policy import OperatingMode, Policy
from policies.model.snapshot import GapKind, Snapshot
from policies.model.tenancy import Quota
from policies.model.units import TenantId

CLAIMS_LABELLED = 2_000
"""Claims with series of their own; the counts by state hold all of them."""
PARTS = ("guaranteed", "entitled", "held", "demand", "borrowed", "lent")


def gauges(turn: Turn, policy: Policy, deficit_since_ms: dict[str, int]) -> Iterator[Metric]:
    """Yield every gauge of the turn. ``deficit_since_ms`` says since when a tenant is below its floor."""
    yield from _shares(turn, policy)
    yield from _floors(turn, policy, deficit_since_ms)
    yield from _claims(turn)
    yield from _waits(turn)
    yield from _inventory(turn.snapshot)
    yield _isolation(turn, policy)
    yield from _gaps(turn)
    yield from _scheduler(turn, policy)


def coresident(snapshot: Snapshot) -> list[str]:
    """Return the physical GPUs on which workers of two domains are bound, sorted; empty is the promise."""
    gpu_of = {device.id: device.gpu for device in snapshot.devices}
    holders: dict[str, set[str]] = {}
    for worker in snapshot.workers:
        for device in worker.devices:
            holders.setdefault(gpu_of.get(device, device), set()).add(worker.domain)
    return sorted(gpu for gpu, domains in holders.items() if len(domains) > 1)


def deficits(turn: Turn, policy: Policy) -> dict[tuple[str, str], int]:
    """Return by how much each tenant and flavor is below what floor and demand promise; only those above zero."""
    floors = {(tenant.id, flavor): amount for tenant in policy.tenants for flavor, amount in tenant.floor_millis}
    found: dict[tuple[str, str], int] = {}
    for entry in turn.decision.entitlements:
        promised = min(floors.get((entry.tenant, entry.flavor), 0), entry.demand_millis)
        if entry.held_millis < promised:
            found[(entry.tenant, entry.flavor)] = promised - entry.held_millis
    return found


def jain(entitlements: Iterable[Entitlement]) -> float:
    """Return Jain's index of held against entitled, where there is an entitlement: 1 is fair, 1/n: one has all."""
    ratios = [entry.held_millis / entry.entitled_millis for entry in entitlements if entry.entitled_millis > 0]
    squares = sum(ratio * ratio for ratio in ratios)
    return sum(ratios) ** 2 / (len(ratios) * squares) if squares else 1.0


def _shares(turn: Turn, policy: Policy) -> Iterator[Metric]:
    shares = GaugeMetricFamily(
        "partage_share_gpu_millis", "Thousandths of devices by part.", labels=["domain", "tenant", "flavor", "part"]
    )
    quotas = {(tenant.id, quota.flavor): quota for tenant in policy.tenants for quota in tenant.quotas}
    for entry in turn.decision.entitlements:
        labels = [_domain(entry.tenant), entry.tenant, entry.flavor]
        for part in PARTS:
            shares.add_metric([*labels, part], getattr(entry, f"{part}_millis"))
        none = Quota(flavor=entry.flavor, nominal_millis=0)
        shares.add_metric([*labels, "nominal"], quotas.get((entry.tenant, entry.flavor), none).nominal_millis)
    yield shares
    fairness = GaugeMetricFamily("partage_fairness_jain", "Jain's index of held against entitled.")
    fairness.add_metric([], jain(turn.decision.entitlements))
    yield fairness


def _floors(turn: Turn, policy: Policy, since_ms: dict[str, int]) -> Iterator[Metric]:
    missing = GaugeMetricFamily(
        "partage_floor_deficit_gpu_millis",
        "What is missing to floor and demand.",
        labels=["domain", "tenant", "flavor"],
    )
    late = GaugeMetricFamily("partage_floor_deficit_seconds", "Since when.", labels=["domain", "tenant"])
    deadline = GaugeMetricFamily(
        "partage_reclaim_deadline_seconds", "Promised time back to the floor.", labels=["domain", "tenant"]
    )
    found = deficits(turn, policy)
    for tenant in policy.tenants:
        labels = [tenant.domain, tenant.id]
        deadline.add_metric(labels, tenant.reclaim_deadline_s)
        began = since_ms.get(tenant.id)
        late.add_metric(labels, (turn.decision.decided_at_ms - began) / 1000 if began is not None else 0)
        for flavor, _ in tenant.floor_millis:
            missing.add_metric([*labels, flavor], found.get((tenant.id, flavor), 0))
    yield from (missing, late, deadline)


def _claims(turn: Turn) -> Iterator[Metric]:
    classes = {claim.id: claim.priority_class for claim in turn.snapshot.claims}
    replicas = GaugeMetricFamily(
        "partage_claim_replicas", "Replicas granted and wanted.", labels=["domain", "tenant", "claim", "part"]
    )
    for reason in turn.decision.reasons[:CLAIMS_LABELLED]:
        tenant = tenant_of(reason.claim)
        replicas.add_metric([_domain(tenant), tenant, reason.claim, "granted"], reason.granted_replicas)
        replicas.add_metric([_domain(tenant), tenant, reason.claim, "wanted"], reason.wanted_replicas)
    yield replicas
    yield counted(
        "partage_claims",
        "Claims by state and reason.",
        ["domain", "tenant", "class", "state", "reason"],
        (
            (
                _domain(reason.claim),
                tenant_of(reason.claim),
                classes.get(reason.claim, ""),
                reason.state.value,
                reason.code.value if reason.code else "",
            )
            for reason in turn.decision.reasons
        ),
    )


def _waits(turn: Turn) -> Iterator[Metric]:
    waiting = {memory.claim: memory.waiting_since_ms for memory in turn.decision.memory.claims}
    classes = {claim.id: claim.priority_class for claim in turn.snapshot.claims}
    oldest: dict[tuple[str, TenantId, str], float] = {}
    for reason in turn.decision.reasons:
        tenant = tenant_of(reason.claim)
        began = waiting.get(reason.claim)
        key = (_domain(tenant), tenant, classes.get(reason.claim, ""))
        waited = (turn.decision.decided_at_ms - began) / 1000 if began is not None else 0
        oldest[key] = max(oldest.get(key, 0), waited)
    family = GaugeMetricFamily(
        "partage_claim_oldest_wait_seconds", "Longest wait of a claim.", labels=["domain", "tenant", "class"]
    )
    for key, seconds in sorted(oldest.items()):
        family.add_metric(list(key), seconds)
    yield family


def _inventory(snapshot: Snapshot) -> Iterator[Metric]:
    yield counted(
        "partage_devices",
        "Devices by flavor, domain, health and scrub state.",
        ["flavor", "domain", "health", "scrub", "simulated"],
        (
            (d.flavor, d.domain.value if d.domain else "", d.health.value, d.scrub.value, str(d.simulated).lower())
            for d in snapshot.devices
        ),
    )
    yield counted(
        "partage_workers",
        "Workers by domain and state.",
        ["domain", "state"],
        ((worker.domain.value, worker.state.value) for worker in snapshot.workers),
    )
    yield counted("partage_groups", "Groups by state.", ["state"], ((group.state.value,) for group in snapshot.groups))
    yield _single(
        "partage_coresident_devices", "GPUs held by two domains at once: 0, or a breach.", len(coresident(snapshot))
    )


def _isolation(turn: Turn, policy: Policy) -> Metric:
    price = GaugeMetricFamily(
        "partage_isolation_price_gpu_millis",
        "Idle thousandths of devices that the domain waits for and may not use beside another domain.",
        labels=["domain", "flavor"],
    )
    for (domain, flavor), amount in price_of_isolation(turn.snapshot, turn.decision, policy).items():
        price.add_metric([domain.value, flavor], amount)
    return price


def _gaps(turn: Turn) -> Iterator[Metric]:
    snapshot = turn.snapshot
    counts = GaugeMetricFamily("partage_gaps", "Things that are not seen.", labels=["kind"])
    for kind in GapKind:
        counts.add_metric([kind.value], sum(gap.kind is kind for gap in snapshot.gaps))
    yield counts
    ages = GaugeMetricFamily(
        "partage_gap_age_seconds", "How long it has not been seen; -1 if never.", labels=["kind", "subject"]
    )
    for gap in snapshot.gaps:
        age_s = (snapshot.observed_at_ms - gap.since_ms) / 1000 if gap.since_ms else -1
        ages.add_metric([gap.kind.value, gap.subject], age_s)
    yield ages
    yield _single("partage_held_by_gaps", "Moves not made because of a gap.", len(turn.decision.held_by_gaps))


def _scheduler(turn: Turn, policy: Policy) -> Iterator[Metric]:
    decision = turn.decision
    mode = GaugeMetricFamily("partage_mode", "1 for the mode in force.", labels=["mode"])
    for known in OperatingMode:
        mode.add_metric([known.value], int(decision.mode == known.value))
    yield mode
    info = GaugeMetricFamily("partage_policy_info", "The policy in force.", labels=["revision", "digest"])
    info.add_metric([policy.revision, decision.policy_digest], 1)
    yield info
    yield _single("partage_search_steps", "Victim sets tried in the latest decision.", decision.search_steps)
    yield _single("partage_search_budget_steps", "Most victim sets tried.", policy.bounds.search_steps)
    yield _single("partage_last_decision_timestamp_seconds", "When it was last decided.", decision.decided_at_ms / 1000)
    yield _single("partage_fencing_generation", "Leadership of this process.", turn.plan.fencing_generation)


def counted(name: str, text: str, labels: list[str], keys: Iterable[tuple[str, ...]]) -> Metric:
    """Return a gauge that says how often each combination of labels occurs."""
    family = GaugeMetricFamily(name, text, labels=labels)
    counts: dict[tuple[str, ...], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    for key, count in sorted(counts.items()):
        family.add_metric(list(key), count)
    return family


def _single(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _domain(tenant: str) -> str:
    return tenant.partition("/")[0].partition(":")[0]
