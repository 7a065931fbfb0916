"""What the next decision needs to know of earlier ones. Lost memory delays moves, it never evicts."""

from __future__ import annotations

from dataclasses import dataclass

from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """Decayed use of one flavor by one tenant, exact at any sampling interval."""

    tenant: TenantId
    """Tenant concerned."""
    flavor: FlavorId
    """Kind of device."""
    milli_seconds: int
    """Thousandths of a device times seconds, decayed to ``at_ms``."""
    at_ms: int
    """When it was last brought up to date."""
    rate_millis: int = 0
    """Held since ``at_ms``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """A group that no longer receives requests and is about to stop."""

    group: GroupId
    """Group concerned."""
    since_ms: int
    """Since when it receives no requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A device freed for a claim and kept for it until it is placed or the hold expires."""

    device: DeviceId
    """Device concerned."""
    claim: ClaimId
    """Claim that the device is kept for."""
    expires_at_ms: int
    """When it is kept no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoilt:
    """A device on which a start failed: it may say that it is free and have no room."""

    device: DeviceId
    """Device concerned."""
    rung: int
    """Rung that did not start."""
    since_ms: int
    """When that was first seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMemory:
    """Hysteresis of one claim."""

    claim: ClaimId
    """Claim that this is remembered of."""
    rung: int | None = None
    """Rung last granted; None if none yet."""
    better_since_ms: int | None = None
    """Since when a better rung has been possible without a break."""
    lower_since_ms: int | None = None
    """Since when measured demand has been below the replicas held."""
    waiting_since_ms: int | None = None
    """Since when it has had fewer running replicas than it wants."""
    idle_since_ms: int | None = None
    """Since when everything that it holds has been idle without a break."""
    failed_at_ms: int | None = None
    """When a start of it last failed."""
    evicted_at_ms: int | None = None
    """When a group of it was last taken for others."""
    failures: int = 0
    """Failed starts in a row; each doubles the back-off."""
    spoilt: tuple[Spoilt, ...] = ()
    """Where its starts failed lately, sorted by device: it goes elsewhere while there is another place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """All of it; ``Memory()`` is a valid start."""

    usage: tuple[UsageRecord, ...] = ()
    """Past use, sorted by tenant and flavor."""
    drains: tuple[Drain, ...] = ()
    """Groups about to stop, sorted."""
    holds: tuple[Hold, ...] = ()
    """Devices kept for claims, sorted by device and claim."""
    claims: tuple[ClaimMemory, ...] = ()
    """What is known of single claims, sorted by claim."""
    evictions_ms: tuple[int, ...] = ()
    """Times of evictions inside the budget window, ascending."""
