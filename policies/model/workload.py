"""What is asked for: shapes, claims, reservations, measured demand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.units import ClaimId, FlavorId, ModelId, TenantId, VariantId


class ClaimKind(StrEnum):
    """Serving claims follow demand; jobs run to an end."""

    SERVING = "serving"
    """Replicas of a model that answer requests, as many as demand needs."""
    JOB = "job"
    """Replicas of a program that run until it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one replica needs: whole devices, or a part of one device when ``gpu_millis`` is below 1000."""

    flavors: tuple[FlavorId, ...]
    """Acceptable flavors, best first; empty means any."""
    devices: int = 1
    """Devices of one worker used by one replica, >= 1."""
    gpu_millis: int = 1000
    """Share of each device, 1..1000; below 1000 only with one device."""
    memory_mib: int = 0
    """GPU memory on each device."""
    cpu_millis: int = 0
    """Thousandths of a processor core per replica."""
    host_memory_mib: int = 0
    """Host memory per replica."""
    variant: VariantId | None = None
    """Model variant that this rung of a serving ladder runs."""
    quality: int = 0
    """Quality score of the variant, in thousandths of the best; reported, never used to move."""
    concurrency: int = 1
    """Requests that one replica answers at once within its promise; used to turn demand into replicas."""


class TrialKind(StrEnum):
    """What becomes of the requests that a canary receives."""

    ANSWER = "answer"
    """It answers them."""
    SHADOW = "shadow"
    """It gets copies; the main claim answers, the copies' answers are thrown away and charged to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAccess:
    """Who may call a serving claim's model beside its own tenant, under which names, and what answers in its stead."""

    aliases: tuple[str, ...] = ()
    """Further names under which clients may ask for the model."""
    shared_with: tuple[TenantId, ...] = ()
    """Further tenants of the same domain that may call it; each is charged for what it uses."""
    fallback: ModelId | None = None
    """Model that answers while this one has no replica or sheds; the caller must be allowed to call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What makes a claim a trial: it answers a part of another claim's requests, with a variant of its own."""

    of: ClaimId
    """The main claim: of the same tenant, for the same model, itself no canary."""
    weight_percent: int = 0
    """Part of the main claim's requests that it answers while both have replicas, 0..100."""
    promoted: bool = False
    """Whether the main claim was given its ladder: it ends as soon as the main claim runs nothing else."""
    trial: TrialKind = TrialKind.ANSWER
    """Whether it answers its part, or is only sent copies of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The program of a job. It ends by itself; asked to leave before that, it is begun again later."""

    command: tuple[str, ...]
    """Program and arguments, given to it as they are: no shell reads them."""
    folder: str = ""
    """Where it runs, absolute; empty for a folder of its own that the platform keeps for the claim."""
    environment: tuple[tuple[str, str], ...] = ()
    """Names and values that it finds beside the platform's. Stored as they are: no place for secrets."""
    checkpoint: str = ""
    """Where it saves its work and looks for it when it begins, absolute; empty if it saves none."""
    attempts: int = 3
    """Times that it may fail in a row before the claim is suspended, >= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a tenant asks for: an ordered ladder of shapes and a number of replicas."""

    id: ClaimId
    """Identifier, unique in its kind."""
    tenant: TenantId
    """Tenant that asks and pays with its quota."""
    kind: ClaimKind
    """Whether it serves requests or is a job."""
    ladder: tuple[Shape, ...]
    """Best first, at least one. Scarcity moves down the ladder before it refuses service."""
    model: ModelId | None = None
    """Model that a serving claim answers for; None for jobs."""
    job: Job | None = None
    """Program of a job; None for serving claims, and for jobs that only keep devices for somebody."""
    min_replicas: int = 1
    """Fewer than this is no service: all of them or none (a gang when above one)."""
    desired_replicas: int = 1
    """Wanted when no demand is measured."""
    max_replicas: int = 1
    """Never more than this."""
    priority_class: str = "standard"
    """Name of a priority class of the policy."""
    submitted_at_ms: int = 0
    """When it was first asked for; the earlier of two equals goes first."""
    deadline_ms: int | None = None
    """When a job must have ended; priority rises as slack falls. None: no deadline."""
    duration_s: int | None = None
    """Expected run time of a job; None if unknown (a job without one never backfills)."""
    expires_at_ms: int | None = None
    """When it is over: from then on it asks for nothing, and what runs of it leaves. None: it lasts until deleted."""
    suspended: bool = False
    """Held by its owner: keeps its place, receives nothing."""
    spread: bool = False
    """Whether two replicas must be on two nodes."""
    generation: int = 1
    """Counts the owner's changes; used for optimistic concurrency."""
    canary: Canary | None = None
    """Set on a claim that tries a variant on part of another claim's requests; None for any other."""
    access: ModelAccess = ModelAccess()
    """How clients reach the model of a serving claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Replicas that measured traffic asks for."""

    claim: ClaimId
    """Claim that the traffic is for."""
    replicas: int
    """>= 0; clamped by decide to the claim's minimum and maximum."""
    observed_at_ms: int
    """When it was measured; too old a sample may only hold."""
    in_flight: int = 0
    """Requests being answered."""
    queued: int = 0
    """Requests that wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Capacity kept for a tenant in a window of time."""

    id: str
    """Identifier, unique in its kind."""
    tenant: TenantId
    """Tenant that it is kept for."""
    flavor: FlavorId
    """Kind of device that is kept."""
    gpu_millis: int
    """How much, in thousandths of a device."""
    starts_at_ms: int
    """When it begins; capacity is moved before."""
    ends_at_ms: int
    """Excluded; after it the reservation has no effect."""
