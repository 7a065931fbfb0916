"""The devices of this machine: NVML's, or simulated ones where there is no driver."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.observe import nvml
from policies.model.inventory import Device, Flavor, Node
from policies.model.snapshot import Gap, GapKind
from policies.model.telemetry import MissingCause
from policies.model.units import DeviceId, FlavorId, NodeId

H100 = Flavor(id=FlavorId("H100-80GB"), model="NVIDIA H100 80GB HBM3", memory_mib=81_559)
"""What a simulated device claims to be."""
NO_DRIVER = frozenset({MissingCause.LIBRARY_NOT_FOUND, MissingCause.DRIVER_NOT_LOADED})
_NAMESPACE = uuid.UUID("6f1a4f0e-3c1b-5a83-9d4b-3f6a3d1f8f55")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What this machine has."""

    node: Node
    flavors: tuple[Flavor, ...]
    devices: tuple[Device, ...]
    """Sorted. Domain and scrub state are the ledger's to say."""
    gaps: tuple[Gap, ...] = ()
    simulated: bool = False


def this_node() -> Node:
    """Return this host, with all of its CPUs and memory."""
    return Node(
        id=NodeId(platform.node() or "localhost"),
        cpu_millis=(os.cpu_count() or 1) * 1000,
        memory_mib=_total_memory_mib(),
    )


def simulated_inventory(node: Node, count: int) -> Inventory:
    """Return so many simulated devices; the same host always has the same ones."""
    named = sorted(DeviceId(f"GPU-{uuid.uuid5(_NAMESPACE, f'{node.id}/{number}')}") for number in range(count))
    devices = tuple(
        Device(id=name, node=node.id, flavor=H100.id, gpu=name, memory_mib=H100.memory_mib, simulated=True)
        for name in named
    )
    return Inventory(node=node, flavors=(H100,), devices=devices, simulated=True)


def read_inventory(
    node: Node, simulate: int, read: Callable[[NodeId], nvml.Inventory | Gap] = nvml.inventory
) -> Inventory:
    """Return the devices that NVML lists, or so many simulated ones where this machine has no driver.

    A driver that is there and does not answer is a gap: real devices are never replaced by simulated ones.
    """
    seen = read(node.id)
    if isinstance(seen, Gap):
        if seen.cause in NO_DRIVER:
            return simulated_inventory(node, simulate)
        return Inventory(node=node, flavors=(), devices=(), gaps=(seen,))
    return Inventory(node=node, flavors=seen.flavors, devices=seen.devices, gaps=seen.gaps)


def kept(before: Inventory, cause: str, seen_ms: int) -> Inventory:
    """Return the earlier inventory with a gap for each device: known to exist, not seen now."""
    gaps = tuple(Gap(kind=GapKind.DEVICE, subject=d.id, cause=cause, since_ms=seen_ms) for d in before.devices)
    return replace(before, gaps=gaps)


def _total_memory_mib() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0
