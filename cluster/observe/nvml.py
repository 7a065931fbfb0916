"""The devices of this node, known by UUID, as NVML sees them now."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace

import pynvml

from cluster.observe.telemetry.flavors import flavor_of
from cluster.observe.telemetry.gate import Gate, Unanswered
from cluster.observe.telemetry.lane import within
from cluster.observe.telemetry.readings import mebibytes, plausible
from cluster.observe.telemetry.topology import islands, peers
from policies.model.inventory import Device, Flavor, ScrubState
from policies.model.snapshot import Gap, GapKind
from policies.model.telemetry import NOT_READ, DeviceFacts, MigOffer, Missing, MissingCause, Reading
from policies.model.units import DeviceId, NodeId

OPEN_TIMEOUT_S = 20.0
"""Longest wait for the driver to come up; loading it without persistence mode takes seconds on an 8-GPU host."""
MAX_GPUS = 64
MAX_NVLINKS = 18

Handle = ctypes.c_void_p


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerated:
    """What NVML listed: facts with the handles to ask about them, valid until the MIG layout or the driver changes."""

    driver: str
    cuda: str
    facts: tuple[DeviceFacts, ...]
    """Sorted: whole GPUs, and beside those divided by MIG their instances."""
    handles: dict[DeviceId, Handle]
    unseen: tuple[tuple[int, Missing], ...] = ()
    """Indices whose GPU did not say who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The devices of this node, in the nouns of the snapshot."""

    driver: str
    cuda: str
    flavors: tuple[Flavor, ...]
    devices: tuple[Device, ...]
    facts: tuple[DeviceFacts, ...]
    gaps: tuple[Gap, ...]


def inventory(node: NodeId) -> Inventory | Gap:
    """Return the node's devices, sorted by UUID, or a Gap that says why there is no telling.

    A machine without a driver is a Gap with the cause ``library_not_found`` or ``driver_not_loaded``. Takes
    milliseconds, seconds where the driver has to be loaded first, and never more than ``OPEN_TIMEOUT_S``.
    """
    seen = within(OPEN_TIMEOUT_S, "nvml-inventory", lambda: _open_and_enumerate(node))
    if isinstance(seen, Missing):
        return Gap(kind=GapKind.NODE, subject=node, cause=seen.cause, since_ms=0)
    return in_snapshot_nouns(node, seen)


def _open_and_enumerate(node: NodeId) -> Enumerated | Missing:
    return open_nvml() or enumerate_devices(node)


def in_snapshot_nouns(node: NodeId, seen: Enumerated) -> Inventory:
    """Return what was enumerated as devices and flavors. Health, domain and scrub state are for others to say."""
    usable = [fact for fact in seen.facts if fact.schedulable]
    flavors = {fact.device: flavor_of(fact.name, fact.memory_total_mib, fact.mig_profile) for fact in usable}
    island = islands(usable)
    devices = tuple(
        Device(
            id=fact.device,
            node=node,
            flavor=flavors[fact.device].id,
            gpu=fact.gpu,
            memory_mib=usable_mib(fact),
            scrub=ScrubState.CLEAN,
            island=island.get(fact.device, ""),
        )
        for fact in usable
    )
    return Inventory(
        driver=seen.driver,
        cuda=seen.cuda,
        flavors=tuple(sorted(set(flavors.values()), key=lambda flavor: flavor.id)),
        devices=devices,
        facts=seen.facts,
        gaps=tuple(
            Gap(kind=GapKind.DEVICE, subject=f"{node}/gpu{index}", cause=missing.cause, since_ms=0)
            for index, missing in seen.unseen
        ),
    )


def usable_mib(fact: DeviceFacts) -> int:
    """Return the memory that claims can have: the total without the driver's reserve."""
    reserved = fact.memory_reserved_mib if isinstance(fact.memory_reserved_mib, int) else 0
    return fact.memory_total_mib - reserved


def open_nvml() -> Missing | None:
    """Load and start NVML; None once it runs. Calls are counted by NVML: each needs one ``close_nvml``."""
    gate = Gate()
    answer = gate.ask(pynvml.nvmlInit)
    if isinstance(answer, Missing):
        if str(pynvml.NVML_ERROR_UNKNOWN) in answer.detail:
            return Missing(MissingCause.RESTART_NEEDED, answer.detail)
        return answer
    return None


def close_nvml() -> None:
    """Give NVML back."""
    Gate().ask(pynvml.nvmlShutdown)


def enumerate_devices(node: NodeId) -> Enumerated | Missing:
    """Return every GPU and MIG instance of the node. NVML must be open."""
    gate = Gate()
    count = gate.ask(pynvml.nvmlDeviceGetCount)
    if isinstance(count, Missing):
        return count
    facts: list[DeviceFacts] = []
    handles: dict[DeviceId, Handle] = {}
    unseen: list[tuple[int, Missing]] = []
    for index in range(min(count, MAX_GPUS)):
        try:
            # A gate of its own: what one GPU does not support, its neighbour may.
            facts += _gpu_and_instances(Gate(), node, index, handles)
        except Unanswered as refusal:
            unseen.append((index, refusal.missing))
    driver = gate.ask(pynvml.nvmlSystemGetDriverVersion)
    return Enumerated(
        driver="" if isinstance(driver, Missing) else driver,
        cuda=_cuda_version(gate),
        facts=peers(sorted(facts, key=lambda fact: fact.device), handles),
        handles=handles,
        unseen=tuple(unseen),
    )


def _gpu_and_instances(gate: Gate, node: NodeId, index: int, handles: dict[DeviceId, Handle]) -> list[DeviceFacts]:
    """Return the GPU, or its MIG instances where MIG is on, and add their handles."""
    handle = gate.require(pynvml.nvmlDeviceGetHandleByIndex, index)
    gpu = _gpu(gate, node, index, handle)
    handles[gpu.device] = handle
    return [gpu, *_instances(gate, gpu, handle, handles)] if gpu.mig_enabled else [gpu]


def _gpu(gate: Gate, node: NodeId, index: int, handle: Handle) -> DeviceFacts:
    uuid = DeviceId(gate.require(pynvml.nvmlDeviceGetUUID, handle))
    total, reserved = _memory(gate, handle)
    mode = gate.ask(pynvml.nvmlDeviceGetMigMode, handle)
    pci = gate.ask(pynvml.nvmlDeviceGetPciInfo, handle)
    return DeviceFacts(
        device=uuid,
        gpu=uuid,
        node=node,
        index=index,
        name=gate.require(pynvml.nvmlDeviceGetName, handle),
        memory_total_mib=total,
        memory_reserved_mib=reserved,
        pci_bus_id="" if isinstance(pci, Missing) else _text(pci.busId),
        minor=gate.ask(pynvml.nvmlDeviceGetMinorNumber, handle),
        architecture=gate.ask(pynvml.nvmlDeviceGetArchitecture, handle),
        mig_enabled=not isinstance(mode, Missing) and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        mig_offers=() if isinstance(mode, Missing) else _offers(gate, handle),
        nvlinks_active=_nvlinks_active(gate, handle),
    )


PROFILE_FORM = 2
"""Version of the question about profiles whose answer carries the profile's name."""
SUFFIXES = {
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1: "+me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1: "+me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_3_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME: "-me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME: "-me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME: "+me.all",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME: "+me.all",
}
"""Ends of the names of variants, where the driver does not say a name: media engines, graphics."""


def _offers(gate: Gate, handle: Handle) -> tuple[MigOffer, ...]:
    """Return the profiles that the driver knows for this GPU, whether or not MIG is on. Unknown ones are no gap."""
    found = []
    for number in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = gate.ask(
            pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, number, PROFILE_FORM, key=f"profile{number}"
        )
        if isinstance(info, Missing) or not info.instanceCount:
            continue
        name = (
            _text(info.name).removeprefix("MIG ")
            or f"{_size(info.sliceCount, info.memorySizeMB)}{SUFFIXES.get(number, '')}"
        )
        found.append(
            MigOffer(
                name=name, most=info.instanceCount, memory_mib=info.memorySizeMB, sm_count=info.multiprocessorCount
            )
        )
    return tuple(sorted(found, key=lambda offer: (-offer.sm_count, -offer.memory_mib, offer.name)))


def _size(slices: int, memory_mib: int) -> str:
    return f"{slices}g.{-(-memory_mib // 1024)}gb"


def _instances(gate: Gate, gpu: DeviceFacts, parent: Handle, handles: dict[DeviceId, Handle]) -> list[DeviceFacts]:
    """Return the MIG instances of the GPU and add their handles. Empty slots are no gap."""
    found: list[DeviceFacts] = []
    for slot in range(gate.require(pynvml.nvmlDeviceGetMaxMigDeviceCount, parent)):
        handle = gate.ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, slot, key=slot)
        if isinstance(handle, Missing):
            continue
        fact = _instance(gate, gpu, handle)
        handles[fact.device] = handle
        found.append(fact)
    return found


def _instance(gate: Gate, gpu: DeviceFacts, handle: Handle) -> DeviceFacts:
    total, reserved = _memory(gate, handle)
    attributes = gate.require(pynvml.nvmlDeviceGetAttributes_v2, handle)
    instance = gate.ask(pynvml.nvmlDeviceGetGpuInstanceId, handle)
    compute = gate.ask(pynvml.nvmlDeviceGetComputeInstanceId, handle)
    return replace(
        gpu,
        device=DeviceId(gate.require(pynvml.nvmlDeviceGetUUID, handle)),
        memory_total_mib=total,
        memory_reserved_mib=reserved,
        mig_profile=_profile(attributes),
        mig_offers=(),
        gpu_instance=None if isinstance(instance, Missing) else instance,
        compute_instance=None if isinstance(compute, Missing) else compute,
        sm_count=attributes.multiprocessorCount,
    )


def _memory(gate: Gate, handle: Handle) -> tuple[int, Reading]:
    """Return total and reserved MiB; drivers before 510 do not tell the reserve apart."""
    memory = gate.ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2, key=2)
    reserved: Reading = NOT_READ
    if isinstance(memory, Missing):
        memory = gate.require(pynvml.nvmlDeviceGetMemoryInfo, handle)
    else:
        reserved = plausible("memory_used_mib", mebibytes(memory.reserved))
    total = plausible("memory_total_mib", mebibytes(memory.total))
    if isinstance(total, Missing):
        raise Unanswered(total)
    return total, reserved


def _profile(attributes: ctypes.Structure) -> str:
    """Return the MIG profile's name: slices of compute, nominal GB of memory."""
    compute, slices = attributes.computeInstanceSliceCount, attributes.gpuInstanceSliceCount
    size = _size(slices, attributes.memorySizeMB)
    return size if compute == slices else f"{compute}c.{size}"


def _nvlinks_active(gate: Gate, handle: Handle) -> Reading:
    active = 0
    for link in range(MAX_NVLINKS):
        state = gate.ask(pynvml.nvmlDeviceGetNvLinkState, handle, link, key=f"link{link}")
        if isinstance(state, Missing):
            # Links count from 0 without holes: the first refusal is the end, or on link 0 the lack of NVLink.
            return active if link else state
        active += int(state == pynvml.NVML_FEATURE_ENABLED)
    return active


def _cuda_version(gate: Gate) -> str:
    version = gate.ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return "" if isinstance(version, Missing) else f"{version // 1000}.{version % 1000 // 10}"


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
