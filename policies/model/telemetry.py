"""What a node says of its devices. Every reading is a number or the reason why there is none, never a stand-in zero."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.model.inventory import DeviceHealth
from policies.model.units import ClaimId, DeviceId, GroupId, NodeId, SecurityDomain, TenantId, WorkerId


class MissingCause(StrEnum):
    """Why there is no number. A closed list; the text is stable and ends up in ``Gap.cause``."""

    NOT_READ = "not_read"
    """Not asked for yet, or only asked for now and then."""
    NOT_SUPPORTED = "not_supported"
    """This device or driver will never say: learnt once, not asked again."""
    FUNCTION_NOT_FOUND = "function_not_found"
    """The driver is older than the call: learnt once, not asked again."""
    NO_PERMISSION = "no_permission"
    TIMEOUT = "timeout"
    """The driver gave up."""
    HUNG = "hung"
    """The driver did not come back within our own deadline."""
    GPU_IS_LOST = "gpu_is_lost"
    RESET_REQUIRED = "reset_required"
    DRIVER_NOT_LOADED = "driver_not_loaded"
    LIBRARY_NOT_FOUND = "library_not_found"
    LIBRARY_MISMATCH = "library_mismatch"
    """Library and driver, or library and bindings, are of different releases."""
    RESTART_NEEDED = "restart_needed"
    """NVML failed with its unknown error on start: only a restart of the container heals it."""
    SENTINEL = "sentinel"
    """A value that means no value."""
    IMPOSSIBLE = "impossible"
    """Outside what the physical quantity can be, or at odds with another reading."""
    FROZEN = "frozen"
    """Has not moved where it must have."""
    COUNTER_RESET = "counter_reset"
    """The counter went back: the difference across it is unknown."""
    LAYOUT_CHANGED = "layout_changed"
    """The MIG instance is gone, or its GPU is being divided anew."""
    STALE = "stale"
    """Older than the policy allows."""
    NO_DATA = "no_data"
    FAILED = "failed"
    """Any other answer of the driver; the detail has its number."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A reading that is not there."""

    cause: MissingCause
    detail: str = ""
    """The call, value or number behind it."""


Reading = int | Missing
"""A number in the unit its name ends with, or the reason why there is none."""

NOT_READ = Missing(MissingCause.NOT_READ)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigOffer:
    """A kind of MIG instance that the driver would make on a GPU."""

    name: str
    """Such as ``1g.10gb``, with media engines ``1g.10gb+me``."""
    most: int
    """Instances of this kind on an empty GPU."""
    memory_mib: int
    sm_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What does not change while the driver runs and the MIG layout stays."""

    device: DeviceId
    gpu: DeviceId
    """UUID of the physical GPU; equal to ``device`` unless this is a MIG instance."""
    node: NodeId
    index: int
    """Place in NVML's order on this start. For labels and eyes only: it moves across reboots."""
    name: str
    """Product name as NVML prints it, of the physical GPU."""
    memory_total_mib: int
    memory_reserved_mib: Reading = NOT_READ
    """Kept by the driver: no claim can have it."""
    pci_bus_id: str = ""
    minor: Reading = NOT_READ
    """Number of ``/dev/nvidiaN``."""
    architecture: Reading = NOT_READ
    mig_enabled: bool = False
    mig_profile: str | None = None
    mig_offers: tuple[MigOffer, ...] = ()
    """What the GPU could be divided into, the largest first; empty for an instance and where MIG is not known."""
    gpu_instance: int | None = None
    compute_instance: int | None = None
    sm_count: Reading = NOT_READ
    nvlinks_active: Reading = NOT_READ
    peers: tuple[tuple[DeviceId, str], ...] = ()
    """Other GPUs of the node and the closest thing shared with them: ``nvlink``, ``pcie_switch``, ``host_bridge``..."""

    @property
    def schedulable(self) -> bool:
        """Whether claims can be placed on it: not on a GPU that MIG has divided."""
        return self.mig_profile is not None or not self.mig_enabled


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy a device is and what that costs."""

    memory_used_mib: Reading = NOT_READ
    """Without the driver's reserve."""
    memory_free_mib: Reading = NOT_READ
    sm_activity_permille: Reading = NOT_READ
    """Share of the SMs at work, by GPM. The only reading fit for a decision about sharing."""
    engine_activity_permille: Reading = NOT_READ
    tensor_activity_permille: Reading = NOT_READ
    dram_activity_permille: Reading = NOT_READ
    busy_percent: Reading = NOT_READ
    """Time with any kernel resident: one busy SM of 132 reads as 100."""
    memory_busy_percent: Reading = NOT_READ
    power_mw: Reading = NOT_READ
    power_limit_mw: Reading = NOT_READ
    energy_mj: Reading = NOT_READ
    """Since the driver was loaded."""
    temperature_c: Reading = NOT_READ
    memory_temperature_c: Reading = NOT_READ
    sm_clock_mhz: Reading = NOT_READ
    memory_clock_mhz: Reading = NOT_READ
    pcie_tx_kib_s: Reading = NOT_READ
    pcie_rx_kib_s: Reading = NOT_READ
    nvlink_tx_kib: Reading = NOT_READ
    """Counter over all links."""
    nvlink_rx_kib: Reading = NOT_READ

    def activity_permille(self) -> Reading:
        """Return SM activity, or where it is missing the coarser busy time."""
        if isinstance(self.sm_activity_permille, int) or isinstance(self.busy_percent, Missing):
            return self.sm_activity_permille
        return self.busy_percent * 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """What the driver says of the device's condition. Counters since driver load unless said otherwise."""

    recovery_action: Reading = NOT_READ
    """NVML's own advice: 0 none, 1 reset, 2 reboot node, 3 drain peers, 4 drain and reset, 5 IMEX, 6 bus, 7 reboot."""
    throttle_bits: Reading = NOT_READ
    """Clock event reasons of NVML."""
    ecc_corrected: Reading = NOT_READ
    ecc_uncorrected: Reading = NOT_READ
    rows_corrected: Reading = NOT_READ
    """Remapped rows, over the device's life."""
    rows_uncorrected: Reading = NOT_READ
    rows_pending: Reading = NOT_READ
    rows_failed: Reading = NOT_READ
    pages_retired: Reading = NOT_READ
    pages_pending: Reading = NOT_READ
    nvlink_errors: Reading = NOT_READ
    pcie_replays: Reading = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """One process on one device, with what is needed to find out whom it works for."""

    pid: int
    """Of the host, as NVML says."""
    device: DeviceId
    memory_mib: Reading = NOT_READ
    sm_percent: Reading = NOT_READ
    user: str = ""
    """Name or number of the user; empty if the process was gone before it was looked at."""
    command: str = ""
    """Name of the program, cut and cleaned. Words of the process itself: shown, never trusted."""
    pod: str = ""
    """Kubernetes pod UID, from the control group's path; empty outside a pod."""
    container: str = ""
    application: str = ""
    """Serve application that a Ray replica names in its title; a hint among the groups of one worker."""
    ancestors: tuple[int, ...] = ()
    """Host PIDs of parent, grandparent and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShare:
    """A group on a worker and the part of each of its devices that it holds."""

    group: GroupId
    claim: ClaimId
    tenant: TenantId
    gpu_millis: int
    devices: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHolding:
    """Who may be seen on which devices: what attribution compares processes with."""

    worker: WorkerId
    domain: SecurityDomain
    devices: tuple[DeviceId, ...]
    root_pid: int | None = None
    """Process that all of the worker's processes descend from; None where pods are used."""
    job_pids: tuple[int, ...] = ()
    """Further processes that the worker's processes descend from: those of jobs beside it."""
    pod: str = ""
    """Pod UID; empty where processes are used."""
    groups: tuple[GroupShare, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom a process works for."""

    worker: WorkerId
    domain: SecurityDomain
    group: GroupId | None = None
    """None where the worker is known but not which of its groups."""
    claim: ClaimId | None = None
    tenant: TenantId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthEvent:
    """Something the driver reported of a device, once."""

    device: DeviceId
    """Of the physical GPU."""
    kind: str
    """``xid``, ``ecc_uncorrected``, ``ecc_storm``, ``mig_changed``, ``unavailable``, ``recovery``, ``poison``."""
    code: int
    """XID number; 0 where the kind says it all."""
    at_ms: int
    sequence: int
    """Counts the events of one run of the agent; sent again until acknowledged."""
    gpu_instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSample:
    """One device at one moment."""

    device: DeviceId
    gpu: DeviceId
    at_ms: int
    load: Load = Load()
    wear: Wear = Wear()
    processes: tuple[ProcessUse, ...] | Missing = NOT_READ
    missing: Missing | None = None
    """Why the whole device could not be read; its readings are then those taken before, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthVerdict:
    """What to think of a device, and why."""

    device: DeviceId
    health: DeviceHealth
    reason: str
    """Short, stable text such as ``xid_79``; empty while healthy."""
    since_ms: int
    remedy: str = ""
    """What a person or the platform should do: ``reset``, ``reboot``, ``replace``, ``drain``, ``inform``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What one agent saw in one round."""

    node: NodeId
    boot: str
    """Name of the agent's run: sequence numbers count within it."""
    sequence: int
    at_ms: int
    driver: str = ""
    cuda: str = ""
    facts: tuple[DeviceFacts, ...] = ()
    """Sorted by device; a GPU divided by MIG is here beside its instances."""
    samples: tuple[DeviceSample, ...] = ()
    """Sorted by device."""
    events: tuple[HealthEvent, ...] = ()
    verdicts: tuple[HealthVerdict, ...] = ()
    """What the agent thinks of GPUs that are not healthy, for a control plane that does not know them yet."""
    missing: Missing | None = None
    """Why the node could not be read at all."""
    simulated: bool = False
