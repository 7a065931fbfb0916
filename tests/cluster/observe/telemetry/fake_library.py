"""A Python object in the place of libnvidia-ml.so.1: the real bindings call it as they would the driver's library."""
# ruff: noqa: N802 - the functions have the names that the driver gives them

from __future__ import annotations

import ctypes
from collections import Counter
from functools import partial
from typing import Any

import pynvml as nv

from tests.cluster.observe.telemetry.fake_node import MIB, FakeGpu, FakeInstance, FakeNode, FakeProcess

OK = nv.NVML_SUCCESS
WHOLE_NODE = {
    "nvmlInitWithFlags", "nvmlShutdown", "nvmlErrorString", "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetHandleByUUID", "nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlEventSetFree",
    "nvmlGpmSampleAlloc", "nvmlGpmSampleFree", "nvmlGpmMetricsGet",
}  # fmt: skip


def value(argument: Any) -> Any:
    return getattr(argument, "value", argument)


def put(reference: Any, amount: Any) -> None:
    reference._obj.value = amount


def point(reference: Any, address: int) -> None:
    ctypes.cast(reference, ctypes.POINTER(ctypes.c_size_t))[0] = address


def text(buffer: Any, words: str) -> None:
    buffer.value = words.encode()


class FakeLibrary:
    """Answers from a FakeNode. Handles are 1 + 1000 * GPU + MIG slot."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.opened = 0
        self.calls: Counter[str] = Counter()
        self.device_calls: Counter[str] = Counter()
        self.gpm_targets: dict[int, tuple[FakeGpu | FakeInstance, int]] = {}
        self.buffers = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self.node.absent or not hasattr(type(self), f"do_{name}"):
            raise AttributeError(name)
        return partial(self.call, name)

    def call(self, name: str, *arguments: Any) -> Any:
        self.calls[name] += 1
        if name not in {"nvmlInitWithFlags", "nvmlErrorString"} and not self.opened:
            return nv.NVML_ERROR_UNINITIALIZED
        gpu = None if name in WHOLE_NODE else self.target(arguments[0])[0]
        code = OK if gpu is None else self.fault(gpu, name)
        return code or getattr(self, f"do_{name}")(*arguments)

    def fault(self, gpu: FakeGpu, name: str) -> int:
        """Return the scripted code once the device has answered so many calls, and for ever after."""
        self.device_calls[gpu.uuid] += 1
        if name in gpu.hangs:
            self.node.released.wait(60)
        code, after = gpu.fails.get(name) or gpu.fails.get("*") or (OK, 0)
        return code if self.device_calls[gpu.uuid] > after else OK

    def target(self, handle: Any) -> tuple[FakeGpu, FakeInstance | None]:
        number = (ctypes.cast(handle, ctypes.c_void_p).value or 1) - 1
        gpu = self.node.gpus[number // 1000]
        return gpu, (gpu.mig or [])[number % 1000 - 1] if number % 1000 else None

    def device(self, handle: Any) -> FakeGpu | FakeInstance:
        gpu, instance = self.target(handle)
        return instance or gpu

    # -- node --------------------------------------------------------------------------------------------------------

    def do_nvmlInitWithFlags(self, _flags: int) -> int:
        self.opened += self.node.init_code == OK
        return self.node.init_code

    def do_nvmlShutdown(self) -> int:
        self.opened -= 1
        return OK

    def do_nvmlErrorString(self, code: int) -> bytes:
        return f"error {value(code)}".encode()

    def do_nvmlSystemGetDriverVersion(self, buffer: Any, _size: Any) -> int:
        text(buffer, self.node.driver)
        return OK

    def do_nvmlSystemGetCudaDriverVersion_v2(self, out: Any) -> int:
        put(out, self.node.cuda)
        return OK

    def do_nvmlDeviceGetCount_v2(self, out: Any) -> int:
        put(out, len(self.node.gpus))
        return OK

    def do_nvmlDeviceGetHandleByIndex_v2(self, index: Any, out: Any) -> int:
        if not 0 <= value(index) < len(self.node.gpus):
            return nv.NVML_ERROR_INVALID_ARGUMENT
        code = self.fault(self.node.gpus[value(index)], "nvmlDeviceGetHandleByIndex_v2")
        point(out, 1 + 1000 * value(index))
        return code

    def do_nvmlDeviceGetHandleByUUID(self, uuid: Any, out: Any) -> int:
        wanted = value(uuid)
        wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
        for index, gpu in enumerate(self.node.gpus):
            if gpu.uuid == wanted:
                point(out, 1 + 1000 * index)
                return self.fault(gpu, "nvmlDeviceGetHandleByUUID")
        return nv.NVML_ERROR_NOT_FOUND

    # -- facts -------------------------------------------------------------------------------------------------------

    def do_nvmlDeviceGetUUID(self, handle: Any, buffer: Any, _size: Any) -> int:
        text(buffer, self.device(handle).uuid)
        return OK

    def do_nvmlDeviceGetName(self, handle: Any, buffer: Any, _size: Any) -> int:
        text(buffer, self.target(handle)[0].name)
        return OK

    def do_nvmlDeviceGetPciInfo_v3(self, handle: Any, out: Any) -> int:
        out._obj.busId = f"00000000:{9 + self.node.gpus.index(self.target(handle)[0]):02X}:00.0".encode()
        return OK

    def do_nvmlDeviceGetMinorNumber(self, handle: Any, out: Any) -> int:
        put(out, self.node.gpus.index(self.target(handle)[0]))
        return OK

    def do_nvmlDeviceGetArchitecture(self, handle: Any, out: Any) -> int:
        put(out, self.target(handle)[0].architecture)
        return OK

    def memory(self, handle: Any) -> tuple[int, int, int]:
        device = self.device(handle)
        if isinstance(device, FakeInstance):
            return device.memory_mib * MIB, 0, device.used_mib * MIB
        return device.total_mib * MIB, device.reserved_mib * MIB, device.used_mib * MIB

    def do_nvmlDeviceGetMemoryInfo(self, handle: Any, out: Any) -> int:
        total, reserved, used = self.memory(handle)
        out._obj.total, out._obj.used, out._obj.free = total, used + reserved, max(total - used - reserved, 0)
        return OK

    def do_nvmlDeviceGetMemoryInfo_v2(self, handle: Any, out: Any) -> int:
        total, reserved, used = self.memory(handle)
        out._obj.total, out._obj.reserved, out._obj.used = total, reserved, used
        out._obj.free = max(total - used - reserved, 0)
        return OK

    def do_nvmlDeviceGetMigMode(self, handle: Any, current: Any, pending: Any) -> int:
        gpu = self.target(handle)[0]
        if gpu.architecture == 8 and gpu.nvlinks == 0:
            return nv.NVML_ERROR_NOT_SUPPORTED
        put(current, int(gpu.mig is not None))
        put(pending, int(gpu.mig is not None))
        return OK

    def do_nvmlDeviceGetGpuInstanceProfileInfoV(self, handle: Any, profile: Any, out: Any) -> int:
        gpu = self.target(handle)[0]
        known = gpu.offers.get(value(profile))
        if known is None:
            return nv.NVML_ERROR_NOT_SUPPORTED
        if out._obj.version != nv.nvmlGpuInstanceProfileInfo_v2:
            return nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
        name, slices, most, size, sms = known
        out._obj.sliceCount, out._obj.instanceCount = slices, most
        out._obj.memorySizeMB, out._obj.multiprocessorCount = size, sms
        out._obj.name = name.encode()
        return OK

    def do_nvmlDeviceGetMaxMigDeviceCount(self, _handle: Any, out: Any) -> int:
        put(out, 7)
        return OK

    def do_nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, slot: Any, out: Any) -> int:
        gpu = self.target(handle)[0]
        if value(slot) >= len(gpu.mig or []):
            return nv.NVML_ERROR_NOT_FOUND
        point(out, 1 + 1000 * self.node.gpus.index(gpu) + value(slot) + 1)
        return OK

    def do_nvmlDeviceGetGpuInstanceId(self, handle: Any, out: Any) -> int:
        put(out, self.target(handle)[1].gpu_instance)  # type: ignore[union-attr] # only asked of instances
        return OK

    def do_nvmlDeviceGetComputeInstanceId(self, _handle: Any, out: Any) -> int:
        put(out, 0)
        return OK

    def do_nvmlDeviceGetAttributes_v2(self, handle: Any, out: Any) -> int:
        instance = self.target(handle)[1]
        if instance is None:
            return nv.NVML_ERROR_INVALID_ARGUMENT
        out._obj.multiprocessorCount, out._obj.memorySizeMB = instance.sm_count, instance.memory_mib
        out._obj.gpuInstanceSliceCount = out._obj.computeInstanceSliceCount = instance.slices
        return OK

    def do_nvmlDeviceGetNvLinkState(self, handle: Any, link: Any, out: Any) -> int:
        links = self.target(handle)[0].nvlinks
        if value(link) >= links:
            return nv.NVML_ERROR_INVALID_ARGUMENT if links else nv.NVML_ERROR_NOT_SUPPORTED
        put(out, 1)
        return OK

    def do_nvmlDeviceGetP2PStatus(self, one: Any, other: Any, _index: Any, out: Any) -> int:
        first, second = self.target(one)[0], self.target(other)[0]
        is_linked = first.nvlinks and second.nvlinks and first.bridge == second.bridge
        put(out, nv.NVML_P2P_STATUS_OK if is_linked else nv.NVML_P2P_STATUS_NOT_SUPPORTED)
        return OK

    def do_nvmlDeviceGetTopologyCommonAncestor(self, _one: Any, _other: Any, out: Any) -> int:
        put(out, nv.NVML_TOPOLOGY_HOSTBRIDGE)
        return OK

    # -- load --------------------------------------------------------------------------------------------------------

    def do_nvmlDeviceGetUtilizationRates(self, handle: Any, out: Any) -> int:
        gpu, instance = self.target(handle)
        if instance is not None or gpu.mig is not None:
            return nv.NVML_ERROR_NOT_SUPPORTED
        out._obj.gpu, out._obj.memory = gpu.util, gpu.memory_util
        return OK

    def do_nvmlDeviceGetPowerUsage(self, handle: Any, out: Any) -> int:
        put(out, self.target(handle)[0].power_mw)
        return OK

    def do_nvmlDeviceGetEnforcedPowerLimit(self, handle: Any, out: Any) -> int:
        put(out, self.target(handle)[0].power_limit_mw)
        return OK

    def do_nvmlDeviceGetTemperature(self, handle: Any, _sensor: Any, out: Any) -> int:
        put(out, self.target(handle)[0].temperature)
        return OK

    def do_nvmlDeviceGetClockInfo(self, handle: Any, kind: Any, out: Any) -> int:
        gpu = self.target(handle)[0]
        put(out, gpu.sm_clock if value(kind) == nv.NVML_CLOCK_SM else gpu.memory_clock)
        return OK

    def do_nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, out: Any) -> int:
        put(out, self.target(handle)[0].throttle)
        return OK

    def do_nvmlDeviceGetPcieThroughput(self, _handle: Any, _counter: Any, out: Any) -> int:
        put(out, 2048)
        return OK

    def do_nvmlDeviceGetFieldValues(self, handle: Any, count: Any, out: Any) -> int:
        known = self.target(handle)[0].field_values()
        for position in range(value(count)):
            field = out._obj[position]
            code, kind, number = known.get(field.fieldId, (nv.NVML_ERROR_NOT_SUPPORTED, 0, 0))
            field.nvmlReturn, field.valueType = code, kind
            member = {0: "dVal", 1: "uiVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}[kind]
            setattr(field.value, member, number)
        return OK

    def processes(self, handle: Any) -> list[FakeProcess]:
        return self.device(handle).processes

    def do_nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, out: Any) -> int:
        running = self.processes(handle)
        room, count._obj.value = count._obj.value, len(running)
        if room < len(running):
            return nv.NVML_ERROR_INSUFFICIENT_SIZE
        for position, process in enumerate(running):
            out[position].pid = process.pid
            none = nv.NVML_VALUE_NOT_AVAILABLE_ulonglong.value
            out[position].usedGpuMemory = none if process.memory_mib is None else process.memory_mib * MIB
        return OK

    def do_nvmlDeviceGetGraphicsRunningProcesses_v3(self, _handle: Any, count: Any, _out: Any) -> int:
        count._obj.value = 0
        return OK

    def do_nvmlDeviceGetProcessUtilization(self, handle: Any, out: Any, count: Any, _since: Any) -> int:
        busy = [process for process in self.processes(handle) if process.sm]
        if not busy:
            return nv.NVML_ERROR_NOT_FOUND
        if out is None:
            count._obj.value = len(busy)
            return nv.NVML_ERROR_INSUFFICIENT_SIZE
        for position, process in enumerate(busy):
            out[position].pid, out[position].smUtil = process.pid, process.sm
        return OK

    # -- GPM ---------------------------------------------------------------------------------------------------------

    def do_nvmlGpmQueryDeviceSupport(self, handle: Any, out: Any) -> int:
        out._obj.isSupportedDevice = int(self.target(handle)[0].gpm)
        return OK

    def do_nvmlGpmSampleAlloc(self, out: Any) -> int:
        self.buffers += 1
        point(out, self.buffers * 16)
        return OK

    def do_nvmlGpmSampleFree(self, _buffer: Any) -> int:
        return OK

    def fill(self, buffer: Any, source: FakeGpu | FakeInstance) -> int:
        self.gpm_targets[ctypes.cast(buffer, ctypes.c_void_p).value or 0] = (source, 0)
        return OK

    def do_nvmlGpmSampleGet(self, handle: Any, buffer: Any) -> int:
        return self.fill(buffer, self.target(handle)[0])

    def do_nvmlGpmMigSampleGet(self, handle: Any, instance: Any, buffer: Any) -> int:
        found = [one for one in self.target(handle)[0].mig or [] if one.gpu_instance == value(instance)]
        return self.fill(buffer, found[0]) if found else nv.NVML_ERROR_INVALID_ARGUMENT

    def do_nvmlGpmMetricsGet(self, request: Any) -> int:
        wanted = request._obj
        source = self.gpm_targets[ctypes.cast(wanted.sample2, ctypes.c_void_p).value or 0][0]
        numbers = {1: source.sm_util, 2: source.sm_util, 20: 2.0, 21: 4.0}
        if isinstance(source, FakeGpu):
            numbers |= {5: source.tensor_util, 10: source.dram_util}
        for position in range(wanted.numMetrics):
            metric = wanted.metrics[position]
            metric.nvmlReturn = OK if metric.metricId in numbers else nv.NVML_ERROR_NOT_SUPPORTED
            metric.value = numbers.get(metric.metricId, 0.0)
        return OK

    # -- events ------------------------------------------------------------------------------------------------------

    def do_nvmlEventSetCreate(self, out: Any) -> int:
        point(out, 1)
        return OK

    def do_nvmlEventSetFree(self, _set: Any) -> int:
        return OK

    def do_nvmlDeviceGetSupportedEventTypes(self, _handle: Any, out: Any) -> int:
        put(out, nv.nvmlEventTypeXidCriticalError | nv.nvmlEventTypeDoubleBitEccError | nv.nvmlEventMigConfigChange)
        return OK

    def do_nvmlDeviceRegisterEvents(self, _handle: Any, _mask: Any, _set: Any) -> int:
        return OK

    def do_nvmlEventSetWait_v2(self, _set: Any, out: Any, _wait: Any) -> int:
        if not self.node.events:
            return nv.NVML_ERROR_TIMEOUT
        gpu, kind, data, instance = self.node.events.pop(0)
        point(ctypes.byref(out._obj, type(out._obj).device.offset), 1 + 1000 * gpu)
        out._obj.eventType, out._obj.eventData, out._obj.gpuInstanceId = kind, data, instance
        return OK
