"""What should be, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.memory import Memory
from policies.model.units import (
    ClaimId,
    DeviceId,
    FlavorId,
    GroupId,
    NodeId,
    SecurityDomain,
    TenantId,
    VariantId,
    WorkerId,
)


class PendingReason(StrEnum):
    """Why a claim has less than it wants, first that applies. A closed list."""

    DEACTIVATED = "DEACTIVATED"
    """The end that its owner announced has passed."""
    ON_HOLD = "ON_HOLD"
    """Its last starts failed; it waits before it is tried again."""
    MISCONFIGURED = "MISCONFIGURED"
    """It cannot be read: what is wrong is said in the sentence."""
    DOMAIN_FORBIDDEN = "DOMAIN_FORBIDDEN"
    """It reaches into the other domain."""
    NO_MATCHING_FLAVOR = "NO_MATCHING_FLAVOR"
    """No device here is of a flavor that it accepts, with enough memory."""
    SUSPENDED = "SUSPENDED"
    """Its owner suspended it, or a mode pauses its class."""
    EXCEEDS_MAX_QUOTA = "EXCEEDS_MAX_QUOTA"
    """Its minimum is more than its tenant may ever hold."""
    CAPACITY_LOST = "CAPACITY_LOST"
    """Devices were lost or their hosts are closed, and the rest does not cover every quota."""
    WAITING_FOR_QUOTA = "WAITING_FOR_QUOTA"
    """Nothing that its tenant may hold is free now."""
    RESERVATION_AHEAD = "RESERVATION_AHEAD"
    """It might still run when a reservation begins."""
    TOPOLOGY_UNSATISFIED = "TOPOLOGY_UNSATISFIED"
    """There is quota, but no free place of the shape that it needs."""
    WAITING_FOR_SCRUB = "WAITING_FOR_SCRUB"
    """It has a device, which is being cleaned and bound."""
    WAITING_FOR_VICTIMS = "WAITING_FOR_VICTIMS"
    """Others make room for it, or may be asked to later."""
    TELEMETRY_STALE = "TELEMETRY_STALE"
    """What it needs was not seen; what runs is held."""
    STARTING = "STARTING"
    """Its replicas are starting."""
    SEARCH_INCOMPLETE = "SEARCH_INCOMPLETE"
    """The search for a place ended before everything was tried; it goes on in the next decision."""
    PENDING_EVALUATION = "PENDING_EVALUATION"
    """No decision was taken on it yet; said where a claim is shown, never by a decision."""


class EvictionReason(StrEnum):
    """Why a group loses its place."""

    RECLAIM = "RECLAIM"
    """Its owner, under nominal quota, takes back what was lent; for nobody where it only does not lend it any more."""
    PREEMPT = "PREEMPT"
    """A higher priority of the same tenant."""
    REBALANCE = "REBALANCE"
    """It borrowed or shared, and somebody with a better right to it comes, or nothing allows it any more."""
    CONSOLIDATE = "CONSOLIDATE"
    """It moves to another place, to make room for a larger one."""
    DRAIN = "DRAIN"
    """It failed, or its device or worker is lost or taken out of use."""
    MODE_CHANGE = "MODE_CHANGE"
    """A declared mode pauses its class."""
    IDLE = "IDLE"
    """It does nothing, and somebody asks for what it holds."""
    EXPIRED = "EXPIRED"
    """The end that its claim's owner announced has passed."""
    RELEASED = "RELEASED"
    """Its own claim wants fewer replicas or was deleted."""
    RUNG_CHANGE = "RUNG_CHANGE"
    """Its own claim moved to another rung of its ladder."""


class ClaimState(StrEnum):
    """Where a claim stands."""

    SERVED = "served"
    """It has all that it asks for."""
    DEGRADED = "degraded"
    """Served, with fewer replicas than wanted or on a lower rung."""
    WAITING = "waiting"
    """It has nothing."""
    HELD = "held"
    """It asks for nothing now, or what it has was not seen and stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """How much a tenant may hold of a flavor now, and how it comes to that."""

    tenant: TenantId
    """Tenant concerned; ``<tenant>/.`` is what a tenant with others below it asks for by claims of its own."""
    flavor: FlavorId
    """Kind of device."""
    guaranteed_millis: int
    """Part covered by its own nominal quota and its demand."""
    entitled_millis: int
    """Guaranteed plus its share of surplus."""
    held_millis: int
    """Granted in this decision."""
    demand_millis: int
    """Asked for, at the best rung of each claim."""
    borrowed_millis: int
    """Held above the nominal quota."""
    lent_millis: int
    """Part of the nominal quota that others use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A worker that should exist."""

    worker: WorkerId
    """Worker concerned."""
    domain: SecurityDomain
    """Security domain."""
    node: NodeId
    """Host."""
    devices: tuple[DeviceId, ...]
    """Devices concerned, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A group that should exist."""

    group: GroupId
    """Group concerned."""
    claim: ClaimId
    """Claim concerned."""
    worker: WorkerId
    """Worker concerned."""
    rung: int
    """Index into the ladder of shapes, 0 the best."""
    variant: VariantId | None
    """Model variant; None for jobs."""
    devices: tuple[DeviceId, ...]
    """Devices concerned, sorted."""
    replicas: int
    """Number of replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """A group that should go, for whom and why."""

    group: GroupId
    """Group concerned."""
    claim: ClaimId
    """Claim concerned."""
    reason: EvictionReason
    """Why it goes."""
    beneficiary: ClaimId | None
    """Claim that it makes room for; None if nobody."""
    cost: int
    """Measured cost of the move, in request-milliseconds; see ``reclaim.cost``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherChange:
    """What has to be changed too: without it the first change would not admit the claim, nor would it alone."""

    kind: str
    """As of the first change."""
    subject: str
    """What it concerns, as of the first change."""
    amount_millis: int = 0
    """How much it takes, in thousandths of a device; 0 where it takes none from anybody."""
    value: str = ""
    """What is set; empty where there is no choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A smallest change that would admit the claim; data that simulation can apply."""

    kind: str
    """``fix``, ``wait``, ``sight``, ``uncordon``, ``mode``, ``class``, ``flavor``, ``repair``, ``rung``, ``replicas``,
    ``release``, ``reservation``, ``borrowing_limit``, ``lending_limit``, ``quota`` or ``capacity``."""
    subject: str
    """Claim, device, host, domain, mode or reservation that it concerns; for limits and quotas tenant and flavor."""
    amount_millis: int = 0
    """How much it takes, in thousandths of a device; 0 where it takes none from anybody."""
    value: str = ""
    """What is set: milliseconds, class, flavor, replicas, or devices x millis; empty where there is no choice."""
    sentence: str = ""
    """The change in plain language, with what has to be changed too."""
    also: tuple[FurtherChange, ...] = ()
    """What has to be changed too, where no single change was found that admits the claim; at most one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who holds devices of a flavor."""

    flavor: FlavorId
    """Flavor concerned."""
    claims: tuple[ClaimId, ...]
    """The first few, those with the weakest right first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one claim is where it is: exactly one per claim."""

    claim: ClaimId
    """Claim that it is about."""
    state: ClaimState
    """Where the claim stands."""
    code: PendingReason | None
    """None when fully served."""
    sentence: str
    """Plain language, only from data that the claim's own tenant may see."""
    position: int | None = None
    """Place in its tenant's queue, 1 first; None if not waiting. Given on reading, see ``queueing``: never stored."""
    eta_ms: int | None = None
    """When it is expected to be served; None if unknown."""
    eta_assumption: str = ""
    """What the ETA rests on; empty without one."""
    granted_replicas: int = 0
    """Replicas that have a place."""
    wanted_replicas: int = 0
    """Replicas asked for now."""
    rung: int | None = None
    """Rung of the ladder granted, 0 the best; None if nothing is."""
    score_terms: tuple[tuple[str, int], ...] = ()
    """What its place in the order is made of, the higher class first: ``class`` and ``deadline``, its value and what a
    near deadline adds; ``right``, the strength of its right, 1 the strongest, 0 if nothing is open; ``stays`` for what
    runs and nobody may preempt, ``beyond_minimum`` for what has its minimum, ``runs`` for what has some replicas; and
    on reading ``waited_s``, since when it is there."""
    blockers: tuple[ClaimId, ...] = ()
    """Claims that hold what it needs; the tenant's view shows only its own. Given on reading, like its position."""
    unblocking: Change | None = None
    """Smallest change that would admit it; None if not looked for or none is known."""
    lacks: tuple[FlavorId, ...] = ()
    """Flavors that would do for what has no place yet, the preferred first; empty if it lacks nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained(Reason):
    """A reason as it is told to who asks for what would change it."""

    search: PendingReason | None = None
    """``SEARCH_INCOMPLETE`` if not every change, or every two, could be tried: others, or smaller ones, may do as well;
    None if all were, or none was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What should be, why, and what to remember."""

    snapshot_generation: int
    """Snapshot that it was made from."""
    decided_at_ms: int
    """The time that the decision was given."""
    policy_digest: str
    """SHA-256 of the policy that was applied."""
    mode: str
    """Operating mode in force."""
    entitlements: tuple[Entitlement, ...]
    """Shares of every tenant and flavor, sorted."""
    bindings: tuple[Binding, ...]
    """Workers that should exist, sorted by id."""
    placements: tuple[Placement, ...]
    """Groups that should exist, sorted by id."""
    evictions: tuple[Eviction, ...]
    """Groups that should go, sorted by id."""
    reasons: tuple[Reason, ...]
    """Exactly one per claim, sorted by claim."""
    memory: Memory
    """What the next decision must be given."""
    held_by_gaps: tuple[str, ...] = ()
    """What was not seen and therefore holds moves, and which, one sentence each."""
    search_steps: int = 0
    """Places looked at; a measure of the work done."""
    holders: tuple[Holders, ...] = ()
    """Who stands in the way of those that wait, by flavor, sorted."""
