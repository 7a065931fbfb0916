"""The picture of the world that a decision is taken from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.inventory import Device, Flavor, Group, Node, Worker
from policies.model.routing import VariantLoad
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, Demand, Reservation


class GapKind(StrEnum):
    """What could not be seen."""

    NODE = "node"
    """A host, with all that is on it."""
    DEVICE = "device"
    """One device."""
    CLUSTER = "cluster"
    """All workers and groups of a domain."""
    GATEWAY = "gateway"
    """The requests of a domain."""
    DEMAND = "demand"
    """The requests for one claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that was not seen, and why. A gap is never read as zero."""

    kind: GapKind
    """What sort of thing was not seen."""
    subject: str
    """Identifier of the device, node, domain or claim."""
    cause: str
    """Short, stable text such as ``timeout`` or ``gpu_is_lost``."""
    since_ms: int
    """When it was last seen; 0 if never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was observed, with its age. Can be saved, mailed and replayed."""

    generation: int
    """Grows by one per observation; a plan made from an older one is refused."""
    observed_at_ms: int
    """When it was put together."""
    flavors: tuple[Flavor, ...] = ()
    """Kinds of device."""
    nodes: tuple[Node, ...] = ()
    """Hosts."""
    devices: tuple[Device, ...] = ()
    """Every device of the inventory."""
    workers: tuple[Worker, ...] = ()
    """Workers that exist."""
    groups: tuple[Group, ...] = ()
    """Groups that exist."""
    claims: tuple[Claim, ...] = ()
    """What is asked for."""
    demands: tuple[Demand, ...] = ()
    """Measured traffic."""
    reservations: tuple[Reservation, ...] = ()
    """Capacity kept for windows of time."""
    gaps: tuple[Gap, ...] = ()
    """What was not seen."""
    adopting: tuple[SecurityDomain, ...] = ()
    """Domains whose state is not yet known after a restart: they hold and adopt what runs, nothing is evicted."""
    traffic: tuple[VariantLoad, ...] = ()
    """How each claim's variants have answered; shown to people, never decided from."""
