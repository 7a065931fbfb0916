"""An observer around another: the same picture, with what telemetry knows of health, use and blindness put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from cluster.observe.telemetry.attribution import Attributed
from cluster.observe.telemetry.energy_book import EnergyBook
from cluster.observe.telemetry.gate import DEVICE_GONE
from cluster.observe.telemetry.store import Seen, TelemetryStore
from cluster.ports import Observer
from policies.evidence.health import HealthMemory
from policies.evidence.usage_state import UsageBounds, UsageEvidence, UsageMemory, forget_if_stale, weigh
from policies.model.inventory import Device, DeviceHealth, Group, UsageState, Worker
from policies.model.naming import tenant_of
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.telemetry import (
    NOT_READ,
    GroupShare,
    HealthVerdict,
    Missing,
    MissingCause,
    Reading,
    WorkerHolding,
)
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, GroupId, NodeId, WorkerId

WORST_LAST = (DeviceHealth.HEALTHY, DeviceHealth.SUSPECT, DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)


class ReleaseBook(Protocol):
    """Where releases are on record, so that a restart does not lose what an agent has not heard yet."""

    def pending(self) -> Mapping[DeviceId, str]:
        """Return the releases that have not ended, with the reason that each lifted."""
        ...

    def ended(self, device: DeviceId) -> None:
        """Record that one has: the agent followed, or something new spoke against the device."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """How a worker's processes are recognised."""

    pid: int | None = None
    pod: str = ""
    jobs: tuple[int, ...] = ()
    """Processes of its jobs, which do not descend from the worker's own."""


class TelemetryObserver:
    """Wraps an observer of real devices. Simulated devices pass through untouched."""

    def __init__(
        self,
        inner: Observer,
        store: TelemetryStore,
        roots: Callable[[], dict[WorkerId, Root]],
        *,
        max_age_ms: int = 15_000,
        bounds: UsageBounds | None = None,
        keep: Callable[[tuple[HealthMemory, ...]], None] | None = None,
    ) -> None:
        self._inner = inner
        self.store = store
        self._keep = keep
        self.book: EnergyBook | None = None
        """Where energy is written down, if it is."""
        self._kept: tuple[HealthVerdict, ...] = ()
        self._releases: ReleaseBook | None = None
        self._released: frozenset[DeviceId] = frozenset()
        self._roots = roots
        self._max_age_ms = max_age_ms
        self._bounds = bounds or UsageBounds()
        self._usage: dict[GroupId, UsageMemory] = {}

    def follow(self, releases: ReleaseBook) -> None:
        """Go on telling agents of the releases on record there, and record their ends from now on."""
        pending = releases.pending()
        self.store.resume(pending)
        self._releases, self._released = releases, frozenset(pending)

    def observe(self) -> Snapshot:
        """Return the inner picture with health, usage states and a gap for every device whose readings are missing."""
        seen = self._inner.observe()
        self.store.hold(holdings(seen, self._roots()))
        pictures = {one.fact.device: one for one in self.store.devices()}
        verdicts = {device.gpu: self.store.verdict(device.gpu) for device in seen.devices}
        nodes = {device.node: self.store.node_missing(device.node) for device in seen.devices}
        self._keep_verdicts()
        self._keep_releases()
        if self.book is not None:
            with suppress(OSError):  # a full disk delays the book and never a decision
                self.book.note(self.store.totals)
        gaps = blind_spots(seen, pictures, nodes, self._max_age_ms)
        blind = frozenset(gap.subject for gap in (*seen.gaps, *gaps))
        return replace(
            seen,
            devices=tuple(judged(device, verdicts.get(device.gpu)) for device in seen.devices),
            groups=self._weighed(seen, pictures, blind),
            gaps=(*seen.gaps, *gaps),
        )

    def _keep_verdicts(self) -> None:
        """Save what must survive a restart, whenever a verdict has changed."""
        memories = self.store.memories()
        verdicts = tuple(memory.verdict for memory in memories)
        if self._keep is not None and verdicts != self._kept:
            self._keep(memories)
            self._kept = verdicts

    def _keep_releases(self) -> None:
        """Record the end of every release that needs no more telling."""
        if self._releases is None:
            return
        now = self.store.released()
        for gpu in sorted(self._released - now):
            self._releases.ended(gpu)
        self._released = now

    def _weighed(self, seen: Snapshot, pictures: dict[DeviceId, Seen], blind: frozenset[str]) -> tuple[Group, ...]:
        queued = {demand.claim: demand.queued for demand in seen.demands}
        real = {device.id for device in seen.devices if not device.simulated}
        known = self._usage
        self._usage = {}
        weighed: list[Group] = []
        for group in seen.groups:
            if not real.issuperset(group.devices):
                weighed.append(group)
                continue
            memory = known.get(group.id) or UsageMemory(group=group.id, since_ms=seen.observed_at_ms)
            if blind.isdisjoint(group.devices) and pictures.keys() >= set(group.devices):
                memory = weigh(memory, evidence_of(group, pictures, queued.get(group.claim)), self._bounds)
            memory = forget_if_stale(memory, seen.observed_at_ms, self._bounds)
            self._usage[group.id] = memory
            weighed.append(replace(group, usage=_surest(group, memory)))
        return tuple(weighed)


def _surest(group: Group, memory: UsageMemory) -> UsageState:
    """Return the state; a request inside, by the gateway's count, is work whatever telemetry could see."""
    return UsageState.ACTIVE if group.in_flight else memory.state


def judged(device: Device, verdict: HealthVerdict | None) -> Device:
    """Return the device with the worse of its health and the verdict on its GPU."""
    if device.simulated or verdict is None:
        return device
    return replace(device, health=max(device.health, verdict.health, key=WORST_LAST.index))


def blind_spots(
    seen: Snapshot, pictures: dict[DeviceId, Seen], nodes: dict[NodeId, Missing | None], max_age_ms: int
) -> tuple[Gap, ...]:
    """Return a gap for every real device that was not read, or too long ago, or whose GPU is being divided anew."""
    already = {gap.subject for gap in seen.gaps}
    listed = [device for device in seen.devices if not device.simulated and device.id not in already]
    changing = {
        pictures[device.id].fact.gpu
        for device in listed
        if device.id in pictures and _cause(pictures[device.id]) is MissingCause.LAYOUT_CHANGED
    }
    gaps = []
    for device in listed:
        picture = pictures.get(device.id)
        missing = nodes.get(device.node) or why_blind(picture, seen.observed_at_ms, max_age_ms)
        if missing is None and device.gpu in changing:
            missing = Missing(MissingCause.LAYOUT_CHANGED)
        if missing is not None:
            since_ms = 0 if picture is None else picture.last_read_ms
            gaps.append(Gap(kind=GapKind.DEVICE, subject=device.id, cause=missing.cause.value, since_ms=since_ms))
    return tuple(gaps)


def why_blind(picture: Seen | None, now_ms: int, max_age_ms: int) -> Missing | None:
    """Return why the device's readings cannot be used; None if they can, or if they say that it is broken.

    A driver that reports the device lost, or in need of a reset, was heard: its health says so, and work may leave it.
    """
    if picture is None:
        return NOT_READ
    if picture.age_ms(now_ms) > max_age_ms:
        return Missing(MissingCause.STALE)
    missing = picture.sample.missing
    return None if missing is not None and missing.cause in DEVICE_GONE else missing


def _cause(picture: Seen) -> MissingCause | None:
    return None if picture.sample.missing is None else picture.sample.missing.cause


def holdings(seen: Snapshot, roots: dict[WorkerId, Root]) -> tuple[WorkerHolding, ...]:
    """Return who may be seen on which devices, by worker."""
    return tuple(_holding(worker, seen, roots.get(worker.id, Root())) for worker in seen.workers)


def _holding(worker: Worker, seen: Snapshot, root: Root) -> WorkerHolding:
    groups = [group for group in seen.groups if group.worker == worker.id]
    shares = tuple(
        GroupShare(
            group=group.id,
            claim=group.claim,
            tenant=tenant_of(group.claim),
            gpu_millis=_share(group, groups, seen),
            devices=group.devices,
        )
        for group in groups
    )
    return WorkerHolding(
        worker=worker.id,
        domain=worker.domain,
        devices=worker.devices,
        root_pid=root.pid,
        job_pids=root.jobs,
        pod=root.pod,
        groups=shares,
    )


def _share(group: Group, groups: list[Group], seen: Snapshot) -> int:
    """Return what the group holds of each of its devices: as claimed, or where the claim is not seen an equal part."""
    claim = next((claim for claim in seen.claims if claim.id == group.claim), None)
    if claim is not None and 0 <= group.rung < len(claim.ladder):
        millis = claim.ladder[group.rung].gpu_millis
        return millis if millis == WHOLE_GPU_MILLIS else min(WHOLE_GPU_MILLIS, millis * group.replicas)
    beside = [one for one in groups if set(one.devices) & set(group.devices)]
    return WHOLE_GPU_MILLIS // max(1, len(beside))


def evidence_of(group: Group, pictures: dict[DeviceId, Seen], queued: int | None) -> UsageEvidence:
    """Return what was seen of the group: its own processes where they are known on every device, else its devices."""
    seen = [pictures[device] for device in group.devices]
    # Jobs have no gateway in front of them: nothing waits, their load alone speaks.
    inside = 0 if group.variant is None and group.in_flight is None else group.in_flight
    waiting = None if inside is None else inside + (queued or 0)
    own = [_own(group.id, picture.processes) for picture in seen]
    activity = [
        mine[0] if mine is not None else picture.sample.load.activity_permille()
        for mine, picture in zip(own, seen, strict=True)
    ]
    memory = [
        mine[1] if mine is not None else picture.sample.load.memory_used_mib
        for mine, picture in zip(own, seen, strict=True)
    ]
    return UsageEvidence(
        group=group.id,
        at_ms=min((one.received_ms - one.lag_ms for one in seen), default=0),
        activity_permille=_most(activity),
        memory_mib=_most(memory),
        waiting=waiting,
    )


def _own(group: GroupId, processes: Attributed) -> tuple[Reading, Reading] | None:
    """Return activity and memory of the group's own processes; None where others' work cannot be told apart."""
    mine = [process for process, owner in processes if owner is not None and owner.group == group]
    if not mine or len(mine) == len(processes):
        return None
    sm = [one.sm_percent for one in mine]
    memory = [one.memory_mib for one in mine]
    return _sum(sm, times=10), _sum(memory, times=1)


def _sum(readings: list[Reading], times: int) -> Reading:
    total = 0
    for reading in readings:
        if isinstance(reading, Missing):
            return reading
        total += reading
    return total * times


def _most(readings: list[Reading]) -> Reading:
    """Return the largest; Missing if one is: an unseen device may be the busy one."""
    most = 0
    for reading in readings:
        if isinstance(reading, Missing):
            return reading
        most = max(most, reading)
    return most
