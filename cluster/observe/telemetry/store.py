"""What the control plane knows of every device: the last sample, a short history, health, usage, meters."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cluster.observe.telemetry.attribution import Attributed, attribute, foreign
from cluster.observe.telemetry.meters import Account, Meters, Total
from cluster.observe.telemetry.sampler import blind_sample
from cluster.ports import Clock
from policies.evidence.health import HealthBounds, HealthMemory, adopted, first_verdict, judge, release
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import (
    DeviceFacts,
    DeviceSample,
    HealthEvent,
    HealthVerdict,
    Missing,
    MissingCause,
    NodeReport,
    Reading,
    WorkerHolding,
)
from policies.model.units import DeviceId, NodeId

GRAVE = frozenset({DeviceHealth.QUARANTINED, DeviceHealth.RETIRED})
MAX_NODES = 1_024
MAX_ABSENT = 64
"""Devices per node that are remembered although they are no longer listed."""
HISTORY = 120
"""Samples kept per device: two minutes at one a second."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is kept of an older sample."""

    at_ms: int
    activity_permille: Reading
    memory_used_mib: Reading
    power_mw: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """What the agent is told."""

    sequence: int
    """Highest report known of this run of the agent."""
    event_sequence: int
    """Highest event known: earlier ones need not be sent again."""
    duplicate: bool = False
    released: tuple[DeviceId, ...] = ()
    """GPUs that the agent still holds out of use, and a person has released since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest picture of one device."""

    fact: DeviceFacts
    sample: DeviceSample
    received_ms: int
    """By the control plane's clock: the agent's clock is not trusted for ages."""
    lag_ms: int
    """How old the sample was, by the agent's clock, when it was sent."""
    last_read_ms: int
    """When it could last be read, by the control plane's clock; 0 if never."""
    processes: Attributed = ()
    last_xid: int = 0

    def age_ms(self, now_ms: int) -> int:
        """Return how old the sample is."""
        return max(0, now_ms - self.received_ms) + self.lag_ms


@dataclass(slots=True)
class _Node:
    boot: str
    sequence: int
    event_sequence: int
    received_ms: int
    missing: Missing | None
    lost_reports: int = 0
    """Numbers that never came."""
    devices: dict[DeviceId, Seen] = field(default_factory=dict)


class TelemetryStore:
    """Takes reports in, gives pictures out. Safe for use from several threads; its size is bounded by ``MAX_NODES``."""

    def __init__(self, clock: Clock, bounds: HealthBounds | None = None) -> None:
        self._clock = clock
        self._bounds = bounds or HealthBounds()
        self._lock = threading.RLock()
        self._nodes: dict[NodeId, _Node] = {}
        self._health: dict[DeviceId, HealthMemory] = {}
        self._free: dict[DeviceId, str] = {}
        """GPUs that a person has released and whose agent has not followed yet, with the reason that was lifted."""
        self._history: dict[DeviceId, deque[Point]] = {}
        self._holdings: tuple[WorkerHolding, ...] | None = None
        self._meters = Meters()

    # -- in ----------------------------------------------------------------------------------------------------------

    def accept(self, report: NodeReport) -> Acknowledgement:
        """Take the report in and say what is known now. The same report again changes nothing.

        Reports that come out of order are not applied; the numbers that are missing are counted. Beyond ``MAX_NODES``
        reports of further nodes are not kept.
        """
        with self._lock:
            node = self._nodes.get(report.node)
            if node is not None and node.boot == report.boot and report.sequence <= node.sequence:
                return _acknowledged(node, duplicate=True)
            if node is None and len(self._nodes) >= MAX_NODES:
                return Acknowledgement(sequence=report.sequence, event_sequence=0)
            node = self._renewed(node, report)
            self._nodes[report.node] = node
            fresh = tuple(event for event in report.events if event.sequence > node.event_sequence)
            self._take_devices(node, report, fresh)
            node.event_sequence = max([node.event_sequence, *(event.sequence for event in fresh)])
            return replace(_acknowledged(node, duplicate=False), released=self._released(report))

    def hold(self, holdings: tuple[WorkerHolding, ...]) -> None:
        """Say who holds what from now on; processes are compared with it. Until then none is called foreign."""
        with self._lock:
            self._holdings = holdings

    def release(self, gpu: DeviceId) -> HealthVerdict | None:
        """Record that a person has looked at the GPU and released it; None if it is not known."""
        with self._lock:
            memory = self._health.get(gpu)
            if memory is None:
                return None
            self._let_go(gpu, memory)
            return self._health[gpu].verdict

    def released(self) -> frozenset[DeviceId]:
        """Return the GPUs that a person has released and whose agent has not followed yet."""
        with self._lock:
            return frozenset(self._free)

    def forget(self, device: DeviceId) -> None:
        """Forget a device that is gone for good: exchanged, or a MIG instance of an older layout."""
        with self._lock:
            for node in self._nodes.values():
                node.devices.pop(device, None)
            self._health.pop(device, None)
            self._free.pop(device, None)
            self._history.pop(device, None)

    def restore(self, memories: tuple[HealthMemory, ...]) -> None:
        """Go on from verdicts saved before a restart; what was seen since then stands."""
        with self._lock:
            for memory in memories:
                self._health.setdefault(memory.verdict.device, memory)

    def resume(self, released: Mapping[DeviceId, str]) -> None:
        """Go on from releases made before a restart, each with the reason that it lifted.

        What speaks against a device for another reason came later, and stands.
        """
        with self._lock:
            for gpu, lifted in released.items():
                memory = self._health.get(gpu)
                if memory is None or memory.verdict.health not in GRAVE:
                    self._free[gpu] = lifted
                elif memory.verdict.reason == lifted:
                    self._let_go(gpu, memory)

    # -- out ---------------------------------------------------------------------------------------------------------

    def devices(self) -> tuple[Seen, ...]:
        """Return the newest picture of every device, sorted by device."""
        with self._lock:
            found = [seen for node in self._nodes.values() for seen in node.devices.values()]
        return tuple(sorted(found, key=lambda seen: seen.fact.device))

    def verdict(self, gpu: DeviceId) -> HealthVerdict | None:
        """Return the verdict on the physical GPU; None if it was never seen."""
        with self._lock:
            memory = self._health.get(gpu)
            return None if memory is None else memory.verdict

    def verdicts(self) -> tuple[HealthVerdict, ...]:
        """Return the verdict on every GPU, sorted by device."""
        with self._lock:
            return tuple(self._health[gpu].verdict for gpu in sorted(self._health))

    def memories(self) -> tuple[HealthMemory, ...]:
        """Return what must be saved to survive a restart, sorted by device."""
        with self._lock:
            return tuple(self._health[gpu] for gpu in sorted(self._health))

    def history(self, device: DeviceId) -> tuple[Point, ...]:
        """Return the last samples, oldest first; empty if the device is not known."""
        with self._lock:
            return tuple(self._history.get(device, ()))

    def node_missing(self, node: NodeId) -> Missing | None:
        """Return why the node could not be read at its last report; None if it was, or never reported."""
        with self._lock:
            found = self._nodes.get(node)
            return None if found is None else found.missing

    def holdings(self) -> tuple[WorkerHolding, ...] | None:
        """Return who holds what, as last said; None if it was never said: an agent does not know."""
        with self._lock:
            return self._holdings

    def totals(self) -> tuple[tuple[Account, Total], ...]:
        """Return what each claim has used since the start, sorted by tenant and claim."""
        with self._lock:
            return tuple((account, replace(total)) for account, total in sorted(self._meters.totals.items()))

    def lost_reports(self) -> dict[NodeId, int]:
        """Return per node how many reports never came."""
        with self._lock:
            return {name: node.lost_reports for name, node in sorted(self._nodes.items())}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _let_go(self, gpu: DeviceId, memory: HealthMemory) -> None:
        self._free[gpu] = self._free.get(gpu) or memory.verdict.reason
        self._health[gpu] = release(memory, self._clock.now_ms())

    def _renewed(self, node: _Node | None, report: NodeReport) -> _Node:
        now_ms = self._clock.now_ms()
        if node is None or node.boot != report.boot:
            kept = {} if node is None else node.devices
            lost = 0 if node is None else node.lost_reports
            return _Node(report.boot, report.sequence, 0, now_ms, report.missing, lost, kept)
        node.lost_reports += report.sequence - node.sequence - 1
        node.sequence, node.received_ms, node.missing = report.sequence, now_ms, report.missing
        return node

    def _take_devices(self, node: _Node, report: NodeReport, events: tuple[HealthEvent, ...]) -> None:
        report = _with_absent(node, report)
        facts = {fact.device: fact for fact in report.facts}
        known = self._holdings or ()
        processes = {sample.device: attribute(sample, known) for sample in report.samples}
        for sample in (one for one in report.samples if one.device in facts):
            fact = facts[sample.device]
            before = node.devices.get(sample.device)
            mine = tuple(event for event in events if event.device == sample.device)
            if sample.device == sample.gpu:
                here = [processes[one.device] for one in report.samples if one.gpu == sample.gpu]
                self._adopt(report, sample.gpu)
                self._judge(sample, mine, self._strangers(here))
            node.devices[sample.device] = self._seen(before, fact, sample, report, processes[sample.device], mine)
            self._remember(sample)
        self._meters.add(report, processes, known)

    def _seen(
        self,
        before: Seen | None,
        fact: DeviceFacts,
        sample: DeviceSample,
        report: NodeReport,
        processes: Attributed,
        events: tuple[HealthEvent, ...],
    ) -> Seen:
        now_ms = self._clock.now_ms()
        xids = [event.code for event in events if event.kind == "xid"]
        last_read_ms = now_ms if sample.missing is None else (before.last_read_ms if before else 0)
        return Seen(
            fact=fact,
            sample=sample,
            received_ms=now_ms,
            lag_ms=max(0, report.at_ms - sample.at_ms),
            last_read_ms=last_read_ms,
            processes=processes,
            last_xid=xids[-1] if xids else (before.last_xid if before else 0),
        )

    def _strangers(self, processes: list[Attributed]) -> int:
        return 0 if self._holdings is None else sum(len(foreign(one)) for one in processes)

    def _adopt(self, report: NodeReport, gpu: DeviceId) -> None:
        """Begin with the agent's verdict on a GPU that is new here: another control plane may have known better."""
        told = next((verdict for verdict in report.verdicts if verdict.device == gpu), None)
        if told is not None and gpu not in self._health:
            self._health[gpu] = adopted(told)
            if self._free.get(gpu) == told.reason:
                self._let_go(gpu, self._health[gpu])

    def _released(self, report: NodeReport) -> tuple[DeviceId, ...]:
        """Return the GPUs that the agent still holds out of use and a person has released here.

        Clocks of two machines are not compared: a release stands until the agent follows it or a new sign comes.
        """
        held = {told.device for told in report.verdicts if told.health in GRAVE}
        here = {fact.gpu for fact in report.facts}
        for gpu in here & self._free.keys():
            if gpu not in held or self._health[gpu].verdict.health in GRAVE:
                del self._free[gpu]
        return tuple(sorted(self._free.keys() & here))

    def _judge(self, sample: DeviceSample, events: tuple[HealthEvent, ...], intruders: int) -> None:
        memory = self._health.get(sample.gpu) or first_verdict(sample.gpu, sample.at_ms)
        self._health[sample.gpu] = judge(memory, sample, events, foreign=intruders, bounds=self._bounds)

    def _remember(self, sample: DeviceSample) -> None:
        history = self._history.setdefault(sample.device, deque(maxlen=HISTORY))
        load = sample.load
        history.append(Point(sample.at_ms, load.activity_permille(), load.memory_used_mib, load.power_mw))


def _with_absent(node: _Node, report: NodeReport) -> NodeReport:
    """Return the report with the devices that were there before and are no longer listed, as missing.

    An agent that was restarted knows nothing of a GPU that fell off the bus before; the control plane does.
    """
    if report.missing is not None:
        return report
    listed = {fact.device for fact in report.facts}
    gone = [seen.fact for device, seen in sorted(node.devices.items()) if device not in listed][:MAX_ABSENT]
    gpus = {fact.gpu for fact in report.facts}
    samples = tuple(blind_sample(fact, report.at_ms, _why_absent(fact, gpus)) for fact in gone)
    return replace(report, facts=(*report.facts, *gone), samples=(*report.samples, *samples))


def _why_absent(fact: DeviceFacts, gpus: set[DeviceId]) -> Missing:
    cause = MissingCause.LAYOUT_CHANGED if fact.gpu in gpus else MissingCause.GPU_IS_LOST
    return Missing(cause, "no longer listed")


def _acknowledged(node: _Node, *, duplicate: bool) -> Acknowledgement:
    return Acknowledgement(sequence=node.sequence, event_sequence=node.event_sequence, duplicate=duplicate)
