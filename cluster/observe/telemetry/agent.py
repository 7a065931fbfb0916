"""One round of looking at the node: every device at the same time, none able to hold up another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from cluster.observe.nvml import OPEN_TIMEOUT_S, Enumerated, close_nvml, enumerate_devices, open_nvml
from cluster.observe.telemetry.events import EventWatch
from cluster.observe.telemetry.lane import Lane
from cluster.observe.telemetry.processes import ProcessTable
from cluster.observe.telemetry.sampler import GpuSampler, Target, blind_sample
from cluster.ports import Clock
from policies.model.telemetry import (
    DeviceFacts,
    DeviceSample,
    HealthEvent,
    Missing,
    MissingCause,
    NodeReport,
)
from policies.model.units import DeviceId, NodeId

MAX_UNACKNOWLEDGED = 256
MAX_VANISHED = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """How long to wait for what."""

    head_start_ms: int = 2
    """The next device is begun when this one is done, or this much later. Beside one another from the first moment,
    eight quick devices would cost several times eight: their threads would wait for each other at every call."""
    round_ms: int = 2_000
    """Longest wait for a device in one round. A driver that takes longer for any one call is hung."""
    list_again_ms: int = 60_000
    """Devices are listed again this often, and at once when the MIG layout changes."""
    open_again_ms: int = 10_000
    """Pause between two attempts to reach a driver that does not answer."""


@dataclass(slots=True)
class _Gpu(Generic[T]):
    """A physical GPU under observation."""

    sampler: GpuSampler
    lane: Lane[T]
    facts: tuple[DeviceFacts, ...]


class Agent:
    """Watches the node's devices. One thread calls ``look``; the driver is called from a lane per GPU.

    A GPU once seen stays in every report: when it vanishes it is missing, not forgotten.
    """

    def __init__(self, node: NodeId, boot: str, clock: Clock, limits: AgentLimits | None = None) -> None:
        self._node = node
        self._boot = boot
        self._clock = clock
        self._limits = limits or AgentLimits()
        self._table = ProcessTable()
        self._node_lane: Lane[Enumerated | Missing] = Lane(f"nvml-{node}")
        self._gpus: dict[DeviceId, _Gpu[tuple[DeviceSample, ...]]] = {}
        self._vanished: dict[DeviceId, tuple[DeviceFacts, Missing]] = {}
        self._events: list[HealthEvent] = []
        self._event_count = 0
        self._watch: EventWatch | None = None
        self._listed: Enumerated | None = None
        self._listed_at_ms: int | None = None
        self._open = False
        self._problem: Missing | None = None
        self._sequence = 0

    @property
    def restart_needed(self) -> bool:
        """Whether only a new process can reach the driver again; the liveness probe fails on it."""
        return self._problem is not None and self._problem.cause is MissingCause.RESTART_NEEDED

    def look(self) -> NodeReport:
        """Return what is seen now. Never raises for a fault of driver or device; takes at most the limits' time."""
        self._list_if_due()
        samples = self._sample_all()
        self._collect_events()
        self._sequence += 1
        listed = self._listed
        facts = [fact for gpu in self._gpus.values() for fact in gpu.facts]
        facts += [fact for fact, _ in self._vanished.values()]
        return NodeReport(
            node=self._node,
            boot=self._boot,
            sequence=self._sequence,
            at_ms=self._clock.now_ms(),
            driver=listed.driver if listed else "",
            cuda=listed.cuda if listed else "",
            facts=tuple(sorted(facts, key=lambda fact: fact.device)),
            samples=tuple(sorted(samples, key=lambda sample: sample.device)),
            events=tuple(self._events),
            missing=self._problem,
        )

    def acknowledged(self, event_sequence: int) -> None:
        """Stop repeating events up to this one: the control plane has them."""
        self._events = [event for event in self._events if event.sequence > event_sequence]

    def close(self) -> None:
        """Give the driver back."""
        self._drop_gpus(tuple(self._gpus))
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._open:
            close_nvml()
            self._open = False
        self._node_lane.close()

    # -- listing ---------------------------------------------------------------------------------------------------

    def _list_if_due(self) -> None:
        now_ms = self._clock.monotonic_ms()
        pause_ms = self._limits.list_again_ms if self._problem is None else self._limits.open_again_ms
        if self._listed_at_ms is not None and now_ms - self._listed_at_ms < pause_ms:
            return
        first = self._listed_at_ms is None
        self._listed_at_ms = now_ms
        self._node_lane.begin(self._open_and_list)
        answer = self._node_lane.result(OPEN_TIMEOUT_S if first else self._limits.round_ms / 1000)
        if isinstance(answer, Missing):
            self._problem = answer
            return
        self._problem = None
        self._adopt(answer)

    def _open_and_list(self) -> Enumerated | Missing:
        """Run in the node's lane. What cannot be listed is opened anew next time: the driver may have been reloaded."""
        if not self._open:
            problem = open_nvml()
            if problem is not None:
                return problem
            self._open = True
        answer = enumerate_devices(self._node)
        if isinstance(answer, Missing):
            close_nvml()
            self._open = False
        return answer

    def _adopt(self, listed: Enumerated) -> None:
        """Watch what is listed now. Identity is the UUID alone: another order or another handle is the same device."""
        before = {fact.device: fact for gpu in self._gpus.values() for fact in gpu.facts}
        groups = _by_gpu(listed.facts)
        changed = [gpu for gpu, known in self._gpus.items() if _layout(groups.get(gpu, ())) != _layout(known.facts)]
        self._drop_gpus(tuple(changed))
        for gpu, facts in groups.items():
            whole, instances = _targets(facts, listed)
            if gpu in self._gpus:
                # Handles may be new after a restart of the driver, although the device is the same.
                self._gpus[gpu].sampler.aim(whole, instances)
                continue
            sampler = GpuSampler(whole, instances, self._clock, self._table)
            self._gpus[gpu] = _Gpu(sampler=sampler, lane=Lane(f"gpu-{whole.fact.index}"), facts=facts)
        now = {fact.device for fact in listed.facts}
        for device in now & set(self._vanished):
            del self._vanished[device]
        for device, fact in before.items():
            if device not in now:
                self._vanished[device] = (fact, _why_vanished(fact, groups, listed))
        self._vanished = dict(list(self._vanished.items())[-MAX_VANISHED:])
        if self._watch is None or changed or self._listed is None:
            self._listen({gpu: listed.handles[gpu] for gpu in groups})
        self._listed = listed

    def _listen(self, handles: dict[DeviceId, object]) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = EventWatch(handles)

    def _drop_gpus(self, gpus: tuple[DeviceId, ...]) -> None:
        for gpu in gpus:
            gone = self._gpus.pop(gpu)
            gone.lane.begin(_closing(gone.sampler))
            # Buffers go back before the driver does; a hung lane keeps its own, for it may still write to them.
            self._result(gone, self._limits.round_ms / 1000)
            gone.lane.close()

    # -- sampling --------------------------------------------------------------------------------------------------

    def _sample_all(self) -> list[DeviceSample]:
        give_up_ms = self._clock.monotonic_ms() + self._limits.round_ms
        slow: list[_Gpu[tuple[DeviceSample, ...]]] = []
        samples: list[DeviceSample] = []
        for gpu in self._gpus.values():
            gpu.lane.begin(gpu.sampler.sample)
            if gpu.lane.done_within(self._limits.head_start_ms / 1000):
                samples += self._result(gpu, 0.0)
            else:
                slow.append(gpu)
        for gpu in slow:
            samples += self._result(gpu, (give_up_ms - self._clock.monotonic_ms()) / 1000)
        at_ms = self._clock.now_ms()
        samples += [blind_sample(fact, at_ms, why) for fact, why in self._vanished.values()]
        self._table.forget_all_but(_pids(samples))
        return samples

    def _result(self, gpu: _Gpu[tuple[DeviceSample, ...]], wait_s: float) -> tuple[DeviceSample, ...]:
        try:
            answer = gpu.lane.result(wait_s)
        except Exception as error:  # noqa: BLE001 - one device's surprise must not blind the node to the others
            answer = Missing(MissingCause.FAILED, f"{type(error).__name__}: {error}")
        if not isinstance(answer, Missing):
            return answer
        if answer.cause is MissingCause.HUNG:
            answer = replace(answer, detail=gpu.sampler.gate.calling)
        return tuple(blind_sample(fact, self._clock.now_ms(), answer) for fact in gpu.facts)

    def _collect_events(self) -> None:
        if self._watch is None:
            return
        found = self._watch.poll(self._clock.now_ms(), self._event_count)
        self._event_count += len(found)
        self._events = [*self._events, *found][-MAX_UNACKNOWLEDGED:]
        if any(event.kind == "mig_changed" for event in found):
            self._listed_at_ms = None


def _closing(sampler: GpuSampler) -> Callable[[], tuple[DeviceSample, ...]]:
    def close() -> tuple[DeviceSample, ...]:
        sampler.close()
        return ()

    return close


def _by_gpu(facts: tuple[DeviceFacts, ...]) -> dict[DeviceId, tuple[DeviceFacts, ...]]:
    groups: dict[DeviceId, tuple[DeviceFacts, ...]] = {}
    for fact in facts:
        groups[fact.gpu] = (*groups.get(fact.gpu, ()), fact)
    return groups


def _targets(facts: tuple[DeviceFacts, ...], listed: Enumerated) -> tuple[Target, tuple[Target, ...]]:
    """Return the physical GPU and its MIG instances."""
    targets = [Target(fact, listed.handles[fact.device]) for fact in facts]
    whole = next(target for target in targets if target.fact.device == target.fact.gpu)
    return whole, tuple(target for target in targets if target is not whole)


def _layout(facts: tuple[DeviceFacts, ...]) -> frozenset[tuple[DeviceId, bool]]:
    return frozenset((fact.device, fact.mig_enabled) for fact in facts)


def _why_vanished(fact: DeviceFacts, groups: dict[DeviceId, tuple[DeviceFacts, ...]], listed: Enumerated) -> Missing:
    if fact.gpu in groups:
        return Missing(MissingCause.LAYOUT_CHANGED, "MIG layout changed")
    causes = [missing for _, missing in listed.unseen]
    return causes[0] if len(causes) == 1 else Missing(MissingCause.GPU_IS_LOST, "no longer listed")


def _pids(samples: list[DeviceSample]) -> set[int]:
    return {
        process.pid for sample in samples if not isinstance(sample.processes, Missing) for process in sample.processes
    }
