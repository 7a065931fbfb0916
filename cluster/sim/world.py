"""A simulated platform: devices, workers and groups that take their time, in virtual time, without chance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from policies.model.inventory import (
    Device,
    DeviceHealth,
    Flavor,
    Group,
    GroupState,
    Node,
    UsageState,
    Worker,
    WorkerState,
)
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, NodeId, SecurityDomain, WorkerId

H100 = Flavor(id=FlavorId("H100-80GB"), model="NVIDIA H100 80GB HBM3", memory_mib=81_559)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take."""

    worker_start_ms: int = 3_000
    worker_stop_ms: int = 500
    group_start_ms: int = 4_000
    group_stop_ms: int = 500
    drain_ms: int = 1_500
    """Until the last request inside a group has ended, once no new one comes."""
    scrub_ms: int = 1_000


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Measured demand for one claim."""

    replicas: int
    observed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrub:
    """A scrub that runs."""

    device: DeviceId
    from_domain: SecurityDomain
    to_domain: SecurityDomain
    since_ms: int
    fencing: int


@dataclass(slots=True)
class World:
    """Mutable state of the simulated platform. ``advance`` completes what is due."""

    pace: Pace = field(default_factory=Pace)
    flavors: tuple[Flavor, ...] = (H100,)
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    devices: dict[DeviceId, Device] = field(default_factory=dict)
    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    groups: dict[GroupId, Group] = field(default_factory=dict)
    traffic: dict[ClaimId, Traffic] = field(default_factory=dict)
    due: list[tuple[int, str, str]] = field(default_factory=list)
    """When, what and to whom; kept sorted by the order of ``advance``."""
    shares: dict[GroupId, int] = field(default_factory=dict)
    """Thousandths of each device that one replica of a group takes, as it was started."""
    scrubs: dict[DeviceId, Scrub] = field(default_factory=dict)
    """Scrubs that run."""
    hidden: set[DeviceId] = field(default_factory=set)
    """Devices that telemetry does not see."""
    failing_scrubs: set[DeviceId] = field(default_factory=set)
    cramped: set[DeviceId] = field(default_factory=set)
    """Devices that say they are free and have no room: what starts there runs out of memory."""

    def add_node(self, name: str, devices: int, flavor: Flavor = H100) -> None:
        """Add a host with so many devices, named ``GPU-<node>-<n>``."""
        node = NodeId(name)
        self.nodes[node] = Node(id=node, cpu_millis=64_000, memory_mib=1_048_576)
        for number in range(devices):
            uuid = DeviceId(f"GPU-{name}-{number}")
            self.devices[uuid] = Device(
                id=uuid, node=node, flavor=flavor.id, gpu=uuid, memory_mib=flavor.memory_mib, simulated=True
            )

    def later(self, at_ms: int, what: str, whom: str) -> None:
        """Plan a change; the same change twice happens once."""
        if not any(item[1:] == (what, whom) for item in self.due):
            self.due.append((at_ms, what, whom))

    def advance(self, now_ms: int) -> list[DeviceId]:
        """Complete what is due and return the devices whose scrub ended."""
        ready = sorted(item for item in self.due if item[0] <= now_ms)
        self.due = [item for item in self.due if item[0] > now_ms]
        for at_ms, what, whom in ready:
            self._complete(at_ms, what, whom)
        return [DeviceId(whom) for _, what, whom in ready if what == "scrubbed"]

    def lose(self, device: DeviceId) -> None:
        """Let a device fall off the bus: quarantined, and what ran on it is gone."""
        self.devices[device] = replace(self.devices[device], health=DeviceHealth.QUARANTINED)
        for group in [group for group in self.groups.values() if device in group.devices]:
            self.groups[group.id] = replace(group, running=0, state=GroupState.FAILED, message="device lost")

    def repair(self, device: DeviceId) -> None:
        """Put a lost device back."""
        self.devices[device] = replace(self.devices[device], health=DeviceHealth.HEALTHY)

    def _complete(self, at_ms: int, what: str, whom: str) -> None:
        match what:
            case "worker_ready" if WorkerId(whom) in self.workers:
                worker = self.workers[WorkerId(whom)]
                if worker.state is WorkerState.STARTING:
                    ray_id = f"ray-{whom}"
                    self.workers[worker.id] = replace(worker, state=WorkerState.READY, ray_node_id=ray_id)
            case "group_running" if GroupId(whom) in self.groups:
                self._run(self.groups[GroupId(whom)], at_ms)
            case "drained" if GroupId(whom) in self.groups:
                group = self.groups[GroupId(whom)]
                if not group.routed:
                    self.groups[group.id] = replace(group, in_flight=0)
            case "group_gone":
                self.groups.pop(GroupId(whom), None)
            case _:
                return

    def _run(self, group: Group, at_ms: int) -> None:
        if not self.cramped.isdisjoint(group.devices):
            self.groups[group.id] = replace(
                group, running=0, state=GroupState.FAILED, message="CUDA out of memory while loading the weights"
            )
            return
        if group.state in {GroupState.STARTING, GroupState.RUNNING}:
            self.groups[group.id] = replace(
                group, running=group.replicas, state=GroupState.RUNNING, since_ms=at_ms, usage=UsageState.ACTIVE
            )
