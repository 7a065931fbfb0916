"""Routing tables: who may reach which group, made from claims, keys, promises and the groups that run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.ray_rest import ServeApp
from cluster.serve_apps import record_of
from policies.canary import trials, with_canary
from policies.model.policy import Policy
from policies.model.routing import KeyRecord, Route, RoutedGroup, RoutingTable, TenantShare
from policies.model.units import GroupId, SecurityDomain
from policies.model.workload import Claim, ClaimKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What people asked for, as far as one domain's gateway must know it."""

    domain: SecurityDomain
    claims: tuple[Claim, ...]
    keys: tuple[KeyRecord, ...]
    shares: tuple[TenantShare, ...]
    simulated: bool
    usage_retention_days: int | None = None


def promises(
    domain: SecurityDomain,
    policy: Policy | None,
    claims: tuple[Claim, ...],
    keys: tuple[KeyRecord, ...],
    *,
    simulated: bool,
) -> Promises:
    """Return the part of it all that concerns the domain. Without a policy nobody has a share."""
    tenants = {tenant.id: tenant for tenant in policy.tenants if tenant.domain is domain} if policy else {}
    classes = {each.name: each.value for each in policy.priority_classes} if policy else {}
    own = tuple(claim for claim in claims if claim.tenant in tenants)
    return Promises(
        domain=domain,
        claims=own,
        keys=keys,
        shares=tuple(
            TenantShare(
                tenant=tenant.id,
                weight=max(tenant.fair_weight, 1),
                priority=max(
                    (classes.get(claim.priority_class, 0) for claim in own if claim.tenant == tenant.id), default=0
                ),
                requests_per_minute=tenant.limits.requests_per_minute,
                tokens_per_minute=tenant.limits.tokens_per_minute,
                tokens_per_day=tenant.limits.tokens_per_day,
                tokens_per_month=tenant.limits.tokens_per_month,
            )
            for tenant in sorted(tenants.values(), key=lambda tenant: tenant.id)
        ),
        simulated=simulated,
        usage_retention_days=policy.usage_retention_days if policy else None,
    )


def next_table(
    current: RoutingTable, known: Promises, apps: Mapping[str, ServeApp], routed: frozenset[GroupId]
) -> RoutingTable:
    """Return the table that should be in force: ``current`` itself if it says so already, else one generation on.

    A group is listed with the replicas seen running, so that the gateway never sends more than can be answered at once.
    """
    wanted = RoutingTable(
        generation=current.generation,
        domain=known.domain,
        routes=_routes(known.claims, apps, routed),
        keys=known.keys,
        shares=known.shares,
        simulated=known.simulated,
        usage_retention_days=known.usage_retention_days,
    )
    return current if wanted == current else replace(wanted, generation=current.generation + 1)


def _routes(claims: tuple[Claim, ...], apps: Mapping[str, ServeApp], routed: frozenset[GroupId]) -> tuple[Route, ...]:
    """Return a route for each serving claim; a canary's groups stand in the route of the claim that it is tried for."""
    serving = [claim for claim in claims if claim.kind is ClaimKind.SERVING and claim.model is not None]
    own = {claim.id: _route(claim, apps, routed) for claim in sorted(serving, key=lambda claim: claim.id)}
    for main, trial in trials(serving).items():
        if trial.canary is not None:
            own[main] = with_canary(own[main], own.pop(trial.id), trial.canary)
    return tuple(own.values())


def _route(claim: Claim, apps: Mapping[str, ServeApp], routed: frozenset[GroupId]) -> Route:
    if claim.model is None:
        raise ValueError(claim.id)  # callers route serving claims only
    return Route(
        claim=claim.id,
        tenant=claim.tenant,
        model=claim.model,
        groups=tuple(
            group
            for name in sorted(routed)
            if (app := apps.get(name)) is not None and (group := _group(app, claim)) is not None
        ),
        min_replicas=claim.min_replicas,
        max_replicas=claim.max_replicas,
        shared_with=claim.access.shared_with,
        aliases=claim.access.aliases,
        fallback=claim.access.fallback,
    )


def _group(app: ServeApp, claim: Claim) -> RoutedGroup | None:
    record = record_of(app)
    if record is None or record.claim != claim.id:
        return None
    return RoutedGroup(
        group=record.group,
        variant=record.variant,
        rung=record.rung,
        replicas=max(min(app.running, app.target), 1),
        concurrency=record.concurrency,
        gpu_millis=record.gpu_millis * len(record.devices),
    )
