"""What there is: flavors, nodes, devices, workers bound to devices, groups of replicas on workers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.units import (
    ClaimId,
    DeviceId,
    FlavorId,
    GroupId,
    ModelId,
    NodeId,
    SecurityDomain,
    VariantId,
    WorkerId,
)


class SharingMode(StrEnum):
    """How a device may be divided."""

    EXCLUSIVE = "exclusive"
    """Not at all: one worker has all of it."""
    MIG = "mig"
    """Into parts that the hardware keeps apart."""
    MPS = "mps"
    """Between processes that compute at the same time."""
    TIME_SLICE = "time_slice"
    """Between processes that take turns."""


class DeviceHealth(StrEnum):
    """Whether a device may be used. Only HEALTHY devices count as capacity for new work."""

    HEALTHY = "healthy"
    """Sound, as far as was seen."""
    SUSPECT = "suspect"
    """It showed signs of a fault: what runs stays, nothing new starts."""
    QUARANTINED = "quarantined"
    """Broken or not proven clean: what runs leaves."""
    RETIRED = "retired"
    """Taken out of use for good."""


class ScrubState(StrEnum):
    """Where a device stands between two domains. Only CLEAN devices may be bound."""

    CLEAN = "clean"
    """Never bound, or scrubbed and verified since the last domain held it."""
    DIRTY = "dirty"
    """A domain holds it or held it last; binding to the same domain needs no scrub."""
    SCRUBBING = "scrubbing"
    """Its memory is being overwritten."""
    FAILED = "failed"
    """Residual data could not be excluded: quarantined until a person acts."""


class UsageState(StrEnum):
    """What telemetry and queues together say of a group."""

    ACTIVE = "active"
    """It computes, or requests are inside or wait."""
    IDLE_HELD = "idle_held"
    """Memory is held, nothing computes, nothing waits."""
    TRULY_IDLE = "truly_idle"
    """Hardly any memory is held, nothing computes, nothing waits."""
    UNKNOWN = "unknown"
    """Not seen, or seen too long ago: may hold a move, never cause one."""


class WorkerState(StrEnum):
    """Life of a worker."""

    STARTING = "starting"
    """Asked for; it carries nothing yet."""
    READY = "ready"
    """It may carry groups."""
    STOPPING = "stopping"
    """It is being ended."""
    LOST = "lost"
    """It ended without being asked to, or is not heard of any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """A kind of device."""

    id: FlavorId
    """Identifier, unique in its kind."""
    model: str
    """Product name as NVML prints it."""
    memory_mib: int
    """GPU memory of one device."""
    sharing: SharingMode = SharingMode.EXCLUSIVE
    """How one device may be divided."""
    mig_profile: str | None = None
    """Such as ``3g.40gb``; None for whole devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A host."""

    id: NodeId
    """Identifier, unique in its kind."""
    cpu_millis: int
    """Thousandths of a processor core."""
    memory_mib: int
    """Memory of the host."""
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted pairs, as the platform calls them."""
    taints: tuple[str, ...] = ()
    """Marks that keep ordinary work away."""
    schedulable: bool = True
    """False once cordoned: holds what it has, receives nothing."""
    rack: str = ""
    """Hosts with the same text are behind one leaf switch; empty if not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU or MIG instance."""

    id: DeviceId
    """Identifier, unique in its kind."""
    node: NodeId
    """Host that it is in."""
    flavor: FlavorId
    """Kind of device."""
    gpu: DeviceId
    """UUID of the physical GPU: equal to ``id`` unless this is a MIG instance."""
    memory_mib: int
    """Usable, that is without the driver's reserve."""
    domain: SecurityDomain | None = None
    """Domain that holds it, or held it last while it is not CLEAN; None if never bound or scrubbed since."""
    health: DeviceHealth = DeviceHealth.HEALTHY
    """Whether it may be used."""
    scrub: ScrubState = ScrubState.CLEAN
    """Where it stands between two domains."""
    simulated: bool = False
    """Whether no real device stands behind it."""
    warm_models: tuple[ModelId, ...] = ()
    """Models whose weights are in the host's cache: they start faster here."""
    island: str = ""
    """Devices of one host with the same text reach each other over NVLink; empty if not known or not linked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One Ray node bound to a fixed set of devices of one host, in one domain."""

    id: WorkerId
    """Identifier, unique in its kind."""
    domain: SecurityDomain
    """Security domain."""
    node: NodeId
    """Host."""
    devices: tuple[DeviceId, ...]
    """Sorted; at least one."""
    state: WorkerState
    """Where its life stands."""
    ray_node_id: str | None = None
    """Known once the worker has joined its cluster."""
    since_ms: int = 0
    """When it was started."""


class GroupState(StrEnum):
    """Life of a group."""

    STARTING = "starting"
    """Its replicas are loaded."""
    RUNNING = "running"
    """Its replicas run."""
    STOPPING = "stopping"
    """It is being ended."""
    FAILED = "failed"
    """The engine gave up; ``message`` of the group says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The replicas of one claim on one worker: one Serve application with one deployment."""

    id: GroupId
    """Identifier, unique in its kind."""
    claim: ClaimId
    """Claim concerned."""
    worker: WorkerId
    """Worker that carries it."""
    rung: int
    """Index into the claim's ladder of shapes, 0 the best."""
    variant: VariantId | None
    """Model variant that it runs; None for jobs."""
    devices: tuple[DeviceId, ...]
    """Devices of the worker that it uses, sorted."""
    replicas: int
    """Replicas asked for."""
    running: int = 0
    """Replicas seen RUNNING: the only measure of progress."""
    state: GroupState = GroupState.STARTING
    """Where its life stands."""
    routed: bool = False
    """Whether the gateway, by its last acknowledged table, sends requests here."""
    in_flight: int | None = None
    """Requests inside, by the gateway's count; None if not seen."""
    since_ms: int = 0
    """When it was started."""
    usage: UsageState = UsageState.UNKNOWN
    """What telemetry and queues say of it."""
    cold_start_ms: int = 0
    """Measured or, before the first start, expected time from start to RUNNING."""
    checkpoint_ms: int | None = None
    """When its work was last saved; None if it keeps none (serving)."""
    message: str = ""
    """What the engine said last; empty if nothing."""
    size: tuple[int, int] | None = None
    """Thousandths and MiB of each device that one replica was started with; None if not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """A node or device that an operator took out of use."""

    subject: str
    kind: str
    """``node`` or ``device``."""
    reason: str
    actor: str
    since_ms: int
