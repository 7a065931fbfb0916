"""Who may hold capacity: tenants in a tree, their quotas, priority classes."""

from __future__ import annotations

from dataclasses import dataclass

from policies.model.units import UNLIMITED, FlavorId, Limit, SecurityDomain, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one tenant may hold of one flavor. ``hard_reserve`` is nominal minus the lending limit."""

    flavor: FlavorId
    """Flavor this quota counts."""
    nominal_millis: int
    """Entitlement in thousandths of a device; lendable while unused, unless the lending limit says less."""
    lending_limit_millis: Limit = UNLIMITED
    """Largest part of the nominal quota lent to others; zero lends nothing, unlimited lends all of it."""
    borrowing_limit_millis: Limit = UNLIMITED
    """Largest holding above nominal; zero never borrows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """What a tenant may send through its domain's gateway with its own keys; tenants below it have their own limits."""

    requests_per_minute: int | None = None
    """Requests let in within a minute; None: no limit."""
    tokens_per_minute: int | None = None
    """Tokens in and out within a minute; None: no limit."""
    tokens_per_day: int | None = None
    """Budget of tokens by calendar day in UTC; None: no budget."""
    tokens_per_month: int | None = None
    """Budget of tokens by calendar month in UTC; None: no budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """An organisation in a security domain. Inner nodes of the tree share out to their children."""

    id: TenantId
    """Path, such as ``civil/justice``; its first part names the domain."""
    domain: SecurityDomain
    """Domain whose cluster runs this tenant's replicas."""
    parent: TenantId | None = None
    """Tenant above, None for the domain itself."""
    quotas: tuple[Quota, ...] = ()
    """At most one per flavor; a flavor left out has nominal zero and may only be borrowed."""
    fair_weight: int = 1
    """Weight for surplus among siblings, >= 0; weight zero receives surplus only when nobody else wants it."""
    floor_millis: tuple[tuple[FlavorId, int], ...] = ()
    """Promise per flavor: with demand, usage returns to this within the reclaim deadline."""
    reclaim_deadline_s: int = 120
    """Seconds within which the floor is recovered while healthy capacity exists."""
    limits: GatewayLimits = GatewayLimits()
    """What it may send through its gateway; unlimited unless said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityClass:
    """Order among claims of one tenant, and what others may do to them."""

    name: str
    """Name that claims use."""
    value: int
    """Higher goes first."""
    preemptible: bool = True
    """Whether a higher class of the same tenant, or the owner of lent capacity, may take its devices."""
    min_runtime_s: int = 0
    """Seconds for which a group, once running, is protected from eviction, except by the floor of another tenant."""
    preemption_delay_s: int = 0
    """Seconds a claim of this class waits before it may evict."""
