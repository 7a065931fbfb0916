"""The picture of the world that a decision is taken from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.inventory import Device, Flavor, Group, Node, Worker
from policies.model.units import SecurityDomain
from policies.model.workload import Claim, Demand, Reservation


class GapKind(StrEnum):
    """What could not be seen."""

    NODE = "node"
    DEVICE = "device"
    CLUSTER = "cluster"
    GATEWAY = "gateway"
    DEMAND = "demand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that was not seen, and why. A gap is never read as zero."""

    kind: GapKind
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
    flavors: tuple[Flavor, ...] = ()
    nodes: tuple[Node, ...] = ()
    devices: tuple[Device, ...] = ()
    workers: tuple[Worker, ...] = ()
    groups: tuple[Group, ...] = ()
    claims: tuple[Claim, ...] = ()
    demands: tuple[Demand, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    gaps: tuple[Gap, ...] = ()
    adopting: tuple[SecurityDomain, ...] = ()
    """Domains whose state is not yet known after a restart: they hold and adopt what runs, nothing is evicted."""
