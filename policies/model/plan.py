"""What to do now. Each action is idempotent and leaves nothing to choose when it is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from policies.model.units import (
    ClaimId,
    DeviceId,
    GroupId,
    ModelId,
    NodeId,
    SecurityDomain,
    VariantId,
    WorkerId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRouting:
    """The gateway sends no new request to the group."""

    kind: Literal["stop_routing"] = "stop_routing"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    group: GroupId
    """Group concerned."""
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopGroup:
    """The group's application is gone. Only planned once drained or past its drain deadline."""

    kind: Literal["stop_group"] = "stop_group"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    group: GroupId
    """Group concerned."""
    reason: str
    """Why, in a few words."""
    in_flight_lost: int = 0
    """Requests still inside when the deadline passed; 0 when drained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorker:
    """The worker's process or pod is gone. Only planned once it carries no group."""

    kind: Literal["stop_worker"] = "stop_worker"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    worker: WorkerId
    """Worker concerned."""
    devices: tuple[DeviceId, ...]
    """Devices concerned, sorted."""
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubDevice:
    """The device is wiped, verified and proved clean. Only planned once no worker holds it."""

    kind: Literal["scrub_device"] = "scrub_device"
    """Names the action."""
    device: DeviceId
    """Device concerned."""
    node: NodeId
    """Host."""
    from_domain: SecurityDomain
    """Domain that held the device last."""
    to_domain: SecurityDomain
    """Domain that it is made ready for."""
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorker:
    """A worker of the domain is bound to the devices. Only planned once each is clean or this domain held it last."""

    kind: Literal["start_worker"] = "start_worker"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    worker: WorkerId
    """Worker concerned."""
    node: NodeId
    """Host."""
    devices: tuple[DeviceId, ...]
    """Devices concerned, sorted."""
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGroup:
    """The group's application exists on its worker with this many replicas."""

    kind: Literal["start_group"] = "start_group"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    group: GroupId
    """Group concerned."""
    claim: ClaimId
    """Claim concerned."""
    worker: WorkerId
    """Worker concerned."""
    model: ModelId | None
    """Model served; None for jobs."""
    variant: VariantId | None
    """Model variant; None for jobs."""
    devices: tuple[DeviceId, ...]
    """Devices concerned, sorted."""
    gpu_millis: int
    """Share of each device per replica."""
    memory_mib: int
    """GPU memory per replica on each device."""
    replicas: int
    """Number of replicas."""
    concurrency: int
    """Requests that one replica answers at once."""
    reason: str
    """Why, in a few words."""
    rung: int = 0
    """Index into the claim's ladder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleGroup:
    """The group has this many replicas."""

    kind: Literal["scale_group"] = "scale_group"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    group: GroupId
    """Group concerned."""
    replicas: int
    """Number of replicas."""
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRouting:
    """The gateway sends requests to the group. Only planned once a replica runs."""

    kind: Literal["start_routing"] = "start_routing"
    """Names the action."""
    domain: SecurityDomain
    """Security domain."""
    group: GroupId
    """Group concerned."""
    reason: str
    """Why, in a few words."""


Action = StopRouting | StopGroup | StopWorker | ScrubDevice | StartWorker | StartGroup | ScaleGroup | StartRouting


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The actions that are safe now, give back before take. Later steps follow from later observations."""

    id: str
    """Digest of what it was made from: the same input makes the same plan."""
    snapshot_generation: int
    """Snapshot that it was made from; another one in force refuses it."""
    fencing_generation: int
    """Leadership under which it was made; stores and actuators refuse an older one."""
    decided_at_ms: int
    """The time of its decision."""
    actions: tuple[Action, ...]
    """In the order in which they are begun."""


class OutcomeStatus(StrEnum):
    """What became of an action."""

    ACCEPTED = "accepted"
    """Begun or already true; later observations show progress."""
    REFUSED = "refused"
    """The world or the leadership had moved on."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionOutcome:
    """What became of one action, in the plan's order."""

    action: Action
    status: OutcomeStatus
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a plan."""

    plan: str
    results: tuple[ActionOutcome, ...]
    finished_at_ms: int
