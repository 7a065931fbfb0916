"""One physical GPU, read once: its load, its wear, its processes, and those of its MIG instances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pynvml

from cluster.observe.telemetry.fields import FieldReader, total
from cluster.observe.telemetry.gate import Gate
from cluster.observe.telemetry.gpm import NAMES as GPM_NAMES
from cluster.observe.telemetry.gpm import Gpm
from cluster.observe.telemetry.processes import ProcessTable, uses
from cluster.observe.telemetry.readings import mebibytes, plausible
from cluster.observe.telemetry.sanity import Sanity
from cluster.ports import Clock
from policies.model.telemetry import (
    DeviceFacts,
    DeviceSample,
    Load,
    Missing,
    MissingCause,
    ProcessUse,
    Reading,
    Wear,
)

PCIE_EVERY_MS = 10_000
"""Without GPM, each PCIe reading makes the driver measure for 20 ms; so it is taken rarely and kept in between."""
LOST_RETRY_MS = 30_000
"""A GPU that did not answer as a whole is left alone for this long: no storm of calls into a broken driver."""
INSTANCE_ONLY = Missing(MissingCause.NOT_SUPPORTED, "known of the MIG instances only")
SPEECHLESS = frozenset(MissingCause) - {MissingCause.IMPOSSIBLE, MissingCause.SENTINEL, MissingCause.NOT_SUPPORTED}
"""Reasons for not reading memory that mean that nothing else can be trusted either."""
PARENT_ONLY = Missing(MissingCause.NOT_SUPPORTED, "known of the whole GPU only")
BOARD = (
    "power_mw", "power_limit_mw", "energy_mj", "temperature_c", "memory_temperature_c", "sm_clock_mhz",
    "memory_clock_mhz", "nvlink_tx_kib", "nvlink_rx_kib",
)  # fmt: skip
"""Readings of the load that a MIG instance does not have."""
BOARDS_WEAR = Wear(**dict.fromkeys(Wear.__slots__, PARENT_ONLY))


@dataclass(frozen=True, slots=True)
class Target:
    """A device to read: a GPU, or one of its MIG instances."""

    fact: DeviceFacts
    handle: Any


class GpuSampler:
    """Reads one physical GPU and its MIG instances. Used by one lane only."""

    def __init__(self, gpu: Target, instances: tuple[Target, ...], clock: Clock, table: ProcessTable) -> None:
        self._gpu = gpu
        self._instances = instances
        self._clock = clock
        self._table = table
        self.gate = Gate()
        self._fields = FieldReader(self.gate)
        self._gpm = {target.fact.device: Gpm(self.gate, target.fact.gpu_instance) for target in (gpu, *instances)}
        self._sanity = {target.fact.device: Sanity() for target in (gpu, *instances)}
        self._pcie: dict[str, Reading] = {}
        self._pcie_at_ms: int | None = None
        self._last_seen_us = 0
        self._gone: Missing | None = None
        self._retry_at_ms = 0

    def sample(self) -> tuple[DeviceSample, ...]:
        """Return a sample of the GPU and of each of its instances, taken now."""
        if self._gone is not None and self._clock.monotonic_ms() < self._retry_at_ms:
            return self._blind(self._gone)
        self.gate.new_round()
        samples = (self._whole(), *(self._instance(target) for target in self._instances))
        self._gone = self.gate.gone
        if self._gone is not None:
            self._retry_at_ms = self._clock.monotonic_ms() + LOST_RETRY_MS
            return self._blind(self._gone)
        return samples

    def aim(self, gpu: Target, instances: tuple[Target, ...]) -> None:
        """Read through these handles from now on: the same devices, listed anew."""
        self._gpu, self._instances = gpu, instances

    def close(self) -> None:
        """Give NVML's buffers back."""
        for gpm in self._gpm.values():
            gpm.close()

    def _blind(self, why: Missing) -> tuple[DeviceSample, ...]:
        at_ms = self._clock.now_ms()
        return tuple(blind_sample(target.fact, at_ms, why) for target in (self._gpu, *self._instances))

    def _whole(self) -> DeviceSample:
        at_ms = self._clock.now_ms()
        fields = self._fields.read(self._gpu.handle)
        wear = self._wear(fields)
        fact = self._gpu.fact
        load = self._load(self._gpu, self._board(fields))
        processes: tuple[ProcessUse, ...] | Missing = (
            () if fact.mig_enabled else self._processes(self._gpu, self._shares(at_ms))
        )
        sample = DeviceSample(device=fact.device, gpu=fact.gpu, at_ms=at_ms, load=load, wear=wear, processes=processes)
        return _seeing(self._sanity[fact.device].checked(sample, fact))

    def _instance(self, target: Target) -> DeviceSample:
        at_ms = self._clock.now_ms()
        load = self._load(target, dict.fromkeys(BOARD, PARENT_ONLY))
        sample = DeviceSample(
            device=target.fact.device,
            gpu=target.fact.gpu,
            at_ms=at_ms,
            load=load,
            wear=BOARDS_WEAR,
            processes=self._processes(target, PARENT_ONLY),
        )
        return _seeing(self._sanity[target.fact.device].checked(sample, target.fact))

    def _load(self, target: Target, board: dict[str, Reading]) -> Load:
        """Return memory and activity, which are known of whole GPUs and of instances, with what the board says.

        Where both have a reading, the board's counts.
        """
        used, free = self._memory(target)
        # GPM reads through the physical GPU; a GPU divided by MIG has no activity of its own.
        divided = target.fact.mig_enabled and target.fact.mig_profile is None
        activity = (
            dict.fromkeys(GPM_NAMES, INSTANCE_ONLY) if divided else self._gpm[target.fact.device].read(self._gpu.handle)
        )
        rates = self._rates(target) if not target.fact.mig_enabled else (PARENT_ONLY, PARENT_ONLY)
        return Load(
            memory_used_mib=used,
            memory_free_mib=free,
            busy_percent=rates[0],
            memory_busy_percent=rates[1],
            **(activity | board),
        )

    def _memory(self, target: Target) -> tuple[Reading, Reading]:
        device = target.fact.device
        memory = self.gate.ask(pynvml.nvmlDeviceGetMemoryInfo, target.handle, pynvml.nvmlMemory_v2, key=f"v2 {device}")
        if isinstance(memory, Missing):
            memory = self.gate.ask(pynvml.nvmlDeviceGetMemoryInfo, target.handle, key=device)
        if isinstance(memory, Missing):
            return memory, memory
        used = plausible("memory_used_mib", mebibytes(memory.used))
        return used, plausible("memory_free_mib", mebibytes(memory.free))

    def _rates(self, target: Target) -> tuple[Reading, Reading]:
        rates = self.gate.ask(pynvml.nvmlDeviceGetUtilizationRates, target.handle)
        if isinstance(rates, Missing):
            return rates, rates
        return plausible("busy_percent", rates.gpu), plausible("memory_busy_percent", rates.memory)

    def _board(self, fields: dict[str, Reading]) -> dict[str, Reading]:
        """Return what only the whole board has: power, heat, clocks, links."""
        ask, handle = self.gate.ask, self._gpu.handle
        readings = {
            "power_mw": ask(pynvml.nvmlDeviceGetPowerUsage, handle),
            "power_limit_mw": ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
            "temperature_c": ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            "sm_clock_mhz": ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM, key="sm"),
            "memory_clock_mhz": ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM, key="mem"),
        }
        board = {name: plausible(name, value) for name, value in readings.items()}
        for name in ("energy_mj", "memory_temperature_c", "nvlink_tx_kib", "nvlink_rx_kib"):
            board[name] = fields[name]
        return board | self._pcie_without_gpm()

    def _pcie_without_gpm(self) -> dict[str, Reading]:
        now_ms = self._clock.monotonic_ms()
        if self._gpm[self._gpu.fact.device].supported:
            return {}
        if self._pcie_at_ms is None or now_ms - self._pcie_at_ms >= PCIE_EVERY_MS:
            self._pcie_at_ms = now_ms
            for name, counter in (
                ("pcie_tx_kib_s", pynvml.NVML_PCIE_UTIL_TX_BYTES),
                ("pcie_rx_kib_s", pynvml.NVML_PCIE_UTIL_RX_BYTES),
            ):
                value = self.gate.ask(pynvml.nvmlDeviceGetPcieThroughput, self._gpu.handle, counter, key=name)
                self._pcie[name] = plausible(name, value)
        return self._pcie

    def _wear(self, fields: dict[str, Reading]) -> Wear:
        throttle = self.gate.ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, self._gpu.handle)
        plain = ("recovery_action", "ecc_corrected", "ecc_uncorrected", "rows_corrected", "rows_uncorrected")
        more = ("rows_pending", "rows_failed", "pages_pending", "pcie_replays")
        links = ("nvlink_flit", "nvlink_data", "nvlink_replay", "nvlink_recovery")
        return Wear(
            throttle_bits=plausible("throttle_bits", throttle),
            pages_retired=total(fields["pages_single"], fields["pages_double"]),
            nvlink_errors=total(*(fields[name] for name in links)),
            **{name: fields[name] for name in (*plain, *more)},
        )

    def _shares(self, at_ms: int) -> dict[int, int] | Missing:
        """Return each process's share of SM time since the last round, by PID."""
        since_us, self._last_seen_us = self._last_seen_us, at_ms * 1000
        seen = self.gate.ask(pynvml.nvmlDeviceGetProcessUtilization, self._gpu.handle, since_us)
        if not isinstance(seen, Missing):
            return {int(one.pid): int(one.smUtil) for one in seen}
        # "Not found" is NVML's word for: no process ran since then.
        return {} if seen.cause is MissingCause.NO_DATA else seen

    def _processes(self, target: Target, shares: dict[int, int] | Missing) -> tuple[ProcessUse, ...] | Missing:
        running = self.gate.ask(pynvml.nvmlDeviceGetComputeRunningProcesses, target.handle, key=target.fact.device)
        if isinstance(running, Missing):
            return running
        return uses(target.fact.device, running, shares, self._table)


def _seeing(sample: DeviceSample) -> DeviceSample:
    """Return the sample, missing as a whole if not even memory could be read: the driver does not speak of it."""
    used = sample.load.memory_used_mib
    speechless = isinstance(used, Missing) and used.cause in SPEECHLESS and sample.missing is None
    return replace(sample, missing=used) if speechless and isinstance(used, Missing) else sample


def blind_sample(fact: DeviceFacts, at_ms: int, why: Missing) -> DeviceSample:
    """Return the sample of a device that could not be read."""
    return DeviceSample(device=fact.device, gpu=fact.gpu, at_ms=at_ms, processes=why, missing=why)
