"""What the owners of the platform decided: tenants, classes, modes and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.tenancy import PriorityClass, Tenant
from policies.model.units import FlavorId, TenantId


class OperatingMode(StrEnum):
    """A declared, time-boxed change of policy."""

    NORMAL = "normal"
    """The policy as it is written."""
    HEIGHTENED = "heightened"
    """More is expected to be needed: other weights, nothing paused unless the policy says so."""
    CRISIS = "crisis"
    """What the policy names is paused, other weights are in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeDeclaration:
    """A mode in force from approval to expiry."""

    mode: OperatingMode
    """Mode declared."""
    declared_at_ms: int
    """When it begins."""
    expires_at_ms: int
    """Excluded; afterwards the effective policy is the baseline again."""
    approvers: tuple[str, ...]
    """At least two distinct people, sorted."""
    reason: str = ""
    """Why, in the words of those who declared it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeOverlay:
    """What a mode changes while it lasts."""

    mode: OperatingMode
    """Mode that this describes."""
    fair_weights: tuple[tuple[TenantId, int], ...] = ()
    """Weights for surplus that hold instead, by tenant."""
    paused_classes: tuple[str, ...] = ()
    """Priority classes whose preemptible claims are paused."""
    paused_tenants: tuple[TenantId, ...] = ()
    """Subtrees to which the pause is limited; empty means every tenant."""
    waived_floors: tuple[TenantId, ...] = ()
    """Tenants, named one by one, whose floor does not hold during the mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of the decision itself, each in time or count."""

    telemetry_max_age_ms: int = 15_000
    """Samples older than this may hold a move, never cause one."""
    drain_deadline_ms: int = 30_000
    """Longest wait for in-flight requests before a group is stopped."""
    upgrade_hold_ms: int = 60_000
    """Capacity for a better rung must have been there this long before a claim moves up."""
    downgrade_hold_ms: int = 0
    """Scarcity must have lasted this long before a claim moves down a rung; 0 moves at once."""
    scale_down_hold_ms: int = 10_000
    """Demand must have been lower this long before replicas are taken away."""
    cooldown_ms: int = 30_000
    """A claim that was evicted does not evict or borrow again before this has passed."""
    victim_hold_ms: int = 120_000
    """Freed capacity is held this long for the claim it was freed for."""
    evictions_per_window: int = 32
    """Most groups taken from their places for others inside one window; floors are not counted."""
    eviction_window_ms: int = 60_000
    """Length of the window in which evictions are counted."""
    search_steps: int = 20_000
    """Victim sets tried per decision; beyond it a negative answer says SEARCH_INCOMPLETE."""
    usage_half_life_s: int = 86_400
    """Half-life of remembered usage; recent heavy borrowers wait behind light ones."""
    scrub_time_ms: int = 2_000
    """Expected scrub and verification, used by the floor certificate and ETAs."""
    worker_start_ms: int = 10_000
    """Expected start of a worker, used by the floor certificate, ETAs and the back-off after failed starts."""
    idle_after_ms: int = 300_000
    """A group idle this long may be reclaimed by any claim that waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One revision of the rules. Decisions name its digest.

    In a file it stands under `spec`, beside `apiVersion: partage/v1` and `kind: Policy`; as JSON it may stand alone.
    """

    revision: str
    """Name of this revision, for people."""
    tenants: tuple[Tenant, ...]
    """All tenants, parents and children."""
    priority_classes: tuple[PriorityClass, ...]
    """Classes that claims may name."""
    overlays: tuple[ModeOverlay, ...] = ()
    """What each mode changes."""
    declaration: ModeDeclaration | None = None
    """Mode declared, None in normal times."""
    bounds: Bounds = Bounds()
    """Limits of the decision itself."""
    flavors: tuple[FlavorId, ...] = ()
    """Flavors in use; empty means those of the snapshot."""
    scoring: str = "partage"
    """Name of the placement score."""
    usage_retention_days: int | None = None
    """Whole days that a gateway keeps its ledger, also the audit record of requests; None keeps all."""
