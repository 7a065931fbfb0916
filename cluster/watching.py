"""Telemetry around a platform's observer: where readings come from, where verdicts are kept, how devices are wiped."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cluster.actuate.scrub import ScrubbedDevice
from cluster.clock import SystemClock
from cluster.observe.nvml import Inventory, inventory
from cluster.observe.telemetry.agent import Agent
from cluster.observe.telemetry.daemon import Daemon
from cluster.observe.telemetry.energy_book import EnergyBook
from cluster.observe.telemetry.observer import Root, TelemetryObserver
from cluster.observe.telemetry.saved import load, save
from cluster.observe.telemetry.scrub_device import NvmlDevice
from cluster.observe.telemetry.store import TelemetryStore
from cluster.ports import Clock, Observer
from policies.model.telemetry import Missing, MissingCause
from policies.model.units import DeviceId, NodeId, WorkerId

Roots = Callable[[], dict[WorkerId, Root]]


class DeviceNotListed(Exception):
    """A device is to be scrubbed that NVML does not list now."""

    code = "device_not_listed"

    def __init__(self, device: DeviceId, cause: str) -> None:
        super().__init__(device, cause)
        self.device, self.cause = device, cause

    def __str__(self) -> str:
        return f"NVML does not list {self.device} ({self.cause}), so it cannot be scrubbed; look at the node's driver"


def watch_here(inner: Observer, node: NodeId, home: Path, clock: Clock, roots: Roots) -> TelemetryObserver:
    """Return the observer with telemetry of this machine's devices; a thread reads them once a second from now on."""
    store = TelemetryStore(clock)
    Daemon(Agent(node, uuid.uuid4().hex[:12], clock), store, clock).start()
    return watch_reports(inner, store, home, roots)


def watch_reports(inner: Observer, store: TelemetryStore, home: Path, roots: Roots) -> TelemetryObserver:
    """Return the observer with telemetry from what agents report to the store. Verdicts are kept below ``home``."""
    path = home / "telemetry" / "verdicts.jsonl"
    store.restore(load(path))
    watching = TelemetryObserver(inner, store, roots, keep=partial(save, path))
    watching.book = EnergyBook(home / "energy", SystemClock().now_ms)
    return watching


def device_here(device: DeviceId, node: NodeId) -> ScrubbedDevice:
    """Return a device of this machine as scrubbing needs it. Raises ``DeviceNotListed``."""
    seen = inventory(node)
    if not isinstance(seen, Inventory):
        raise DeviceNotListed(device, seen.cause)
    fact = next((one for one in seen.facts if one.device == device), None)
    if fact is None:
        raise DeviceNotListed(device, "unknown")
    # Where the driver's reserve is not told apart, an empty device cannot be told from a used one.
    told_apart = isinstance(fact.memory_reserved_mib, int)
    baseline = 0 if told_apart else Missing(MissingCause.NOT_SUPPORTED, "driver before 510")
    return NvmlDevice(fact, seen.facts, baseline)
