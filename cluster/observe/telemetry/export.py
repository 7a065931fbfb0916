"""Telemetry as metrics, with the names and labels of DCGM's exporter, so that panels and joins work with either.

What is missing has no series. Every device, claim and reading comes from a bounded store, so the number of series is
bounded too: about 25 per device, 2 per claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.registry import Collector

from cluster.observe.telemetry.attribution import foreign
from cluster.observe.telemetry.observer import WORST_LAST, why_blind
from cluster.observe.telemetry.store import Seen, TelemetryStore
from cluster.ports import Clock
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import DeviceSample, Load, Missing, MissingCause, Reading, Wear, WorkerHolding
from policies.model.units import DeviceId

OPENMETRICS = "application/openmetrics-text"
CONTENT_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "hostname", "GPU_I_PROFILE", "GPU_I_ID")
"""DCGM's exporter writes the host's name with a small letter since its release 4, with a large one before."""
OWNER_LABELS = ("tenant", "domain", "claim")
SEVERAL = "several"
"""Stands where more than one claim shares the device: one series per device and reading, never one per pair."""
SILENT = frozenset({MissingCause.NOT_SUPPORTED, MissingCause.NOT_READ, MissingCause.FUNCTION_NOT_FOUND})
"""Causes that say nothing new from one day to the next; they have no series in the count of missing readings."""


Family = CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily
FAMILIES: dict[str, Callable[..., Family]] = {
    "counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "unknown": UnknownMetricFamily,
}  # fmt: skip


class Names(StrEnum):
    """Which families to export."""

    OWN_AND_DCGM = "own_and_dcgm"
    OWN = "own"
    """Where DCGM's own exporter runs beside us: its names would be there twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One reading under the name that DCGM's exporter gives it."""

    name: str
    kind: str
    """``gauge``; ``counter``, whose name gets the suffix ``_total``; ``unknown`` for a counter that keeps its name."""
    text: str
    read: Callable[[DeviceSample], Reading]
    per: int = 1
    """Our unit is this many times smaller than DCGM's."""
    times: int = 1
    """Our unit is this many times larger than DCGM's."""


def _load(name: str) -> Callable[[DeviceSample], Reading]:
    def read(sample: DeviceSample) -> Reading:
        reading: Reading = getattr(sample.load, name)
        return reading

    return read


def _wear(name: str) -> Callable[[DeviceSample], Reading]:
    def read(sample: DeviceSample) -> Reading:
        reading: Reading = getattr(sample.wear, name)
        return reading

    return read


def _both(one: Callable[[DeviceSample], Reading], other: Callable[[DeviceSample], Reading]) -> Callable[..., Reading]:
    def read(sample: DeviceSample) -> Reading:
        first, second = one(sample), other(sample)
        if isinstance(first, Missing):
            return first
        return second if isinstance(second, Missing) else first + second

    return read


def _gauge(name: str, text: str, read: Callable[[DeviceSample], Reading], per: int = 1) -> Exported:
    return Exported(name=f"DCGM_FI_{name}", kind="gauge", text=text, read=read, per=per)


def _counter(name: str, text: str, read: Callable[[DeviceSample], Reading], per: int = 1) -> Exported:
    # Of the type counter OpenMetrics would have it end in _total, and no panel made for DCGM's exporter would find it.
    return Exported(name=f"DCGM_FI_{name}", kind="unknown", text=text, read=read, per=per)


DCGM: tuple[Exported, ...] = (
    _gauge("DEV_SM_CLOCK", "SM clock (MHz).", _load("sm_clock_mhz")),
    _gauge("DEV_MEM_CLOCK", "Memory clock (MHz).", _load("memory_clock_mhz")),
    _gauge("DEV_GPU_TEMP", "GPU temperature (C).", _load("temperature_c")),
    _gauge("DEV_MEMORY_TEMP", "Memory temperature (C).", _load("memory_temperature_c")),
    _gauge("DEV_POWER_USAGE", "Power draw (W).", _load("power_mw"), 1000),
    _counter("DEV_TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded (mJ).", _load("energy_mj")),
    _gauge("DEV_GPU_UTIL", "Time with a kernel resident (%).", _load("busy_percent")),
    _gauge("DEV_MEM_COPY_UTIL", "Time with memory at work (%).", _load("memory_busy_percent")),
    _gauge("DEV_FB_USED", "Framebuffer used (MiB).", _load("memory_used_mib")),
    _gauge("DEV_FB_FREE", "Framebuffer free (MiB).", _load("memory_free_mib")),
    _counter("DEV_PCIE_REPLAY_COUNTER", "PCIe retries.", _wear("pcie_replays")),
    _gauge("DEV_CORRECTABLE_REMAPPED_ROWS", "Rows remapped for correctable errors.", _wear("rows_corrected")),
    _gauge("DEV_UNCORRECTABLE_REMAPPED_ROWS", "Rows remapped for uncorrectable errors.", _wear("rows_uncorrected")),
    _gauge("DEV_ROW_REMAP_FAILURE", "Whether remapping of a row failed.", _wear("rows_failed")),
    _counter("DEV_ECC_SBE_VOL_TOTAL", "Corrected ECC errors since driver load.", _wear("ecc_corrected")),
    _counter("DEV_ECC_DBE_VOL_TOTAL", "Uncorrected ECC errors since driver load.", _wear("ecc_uncorrected")),
    _gauge("DEV_CLOCKS_EVENT_REASONS", "Clock event reasons (bits).", _wear("throttle_bits")),
    _gauge("PROF_SM_ACTIVE", "Share of the SMs at work (0 to 1).", _load("sm_activity_permille"), 1000),
    _gauge("PROF_GR_ENGINE_ACTIVE", "Time with the engine at work (0 to 1).", _load("engine_activity_permille"), 1000),
    _gauge("PROF_PIPE_TENSOR_ACTIVE", "Tensor pipes at work (0 to 1).", _load("tensor_activity_permille"), 1000),
    _gauge("PROF_DRAM_ACTIVE", "Memory bandwidth in use (0 to 1).", _load("dram_activity_permille"), 1000),
    replace(_gauge("PROF_PCIE_TX_BYTES", "Sent over PCIe (bytes/s).", _load("pcie_tx_kib_s")), times=1024),
    replace(_gauge("PROF_PCIE_RX_BYTES", "Received over PCIe (bytes/s).", _load("pcie_rx_kib_s")), times=1024),
)
"""Readings that DCGM's exporter has under the same name, unit and labels."""

OWN: tuple[Exported, ...] = (
    Exported(
        name="partage_device_pcie_kib_per_second",
        kind="gauge",
        text="PCIe traffic, both ways (KiB/s).",
        read=_both(_load("pcie_tx_kib_s"), _load("pcie_rx_kib_s")),
    ),
    Exported(
        name="partage_device_nvlink_kib",
        kind="counter",
        text="NVLink traffic, both ways (KiB).",
        read=_both(_load("nvlink_tx_kib"), _load("nvlink_rx_kib")),
    ),
    Exported(
        name="partage_device_nvlink_errors",
        kind="counter",
        text="NVLink errors of all kinds.",
        read=_wear("nvlink_errors"),
    ),
    Exported(
        name="partage_device_recovery_action",
        kind="gauge",
        text="NVML's recovery advice; 0 is none.",
        read=_wear("recovery_action"),
    ),
)


class TelemetryCollector(Collector):
    """Makes the families anew at each reading: they can be neither stale nor left behind."""

    def __init__(self, store: TelemetryStore, clock: Clock, names: Names, max_age_ms: int = 15_000) -> None:
        self._store = store
        self._clock = clock
        self._names = names
        self._max_age_ms = max_age_ms

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the families are known once devices are."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return every family."""
        devices = self._store.devices()
        now_ms = self._clock.now_ms()
        holdings = self._store.holdings()
        owners = {seen.fact.device: owner_labels(seen, holdings or ()) for seen in devices}
        readable = [seen for seen in devices if why_blind(seen, now_ms, self._max_age_ms) is None]
        shown = (*DCGM, *OWN) if self._names is Names.OWN_AND_DCGM else OWN
        for exported in shown:
            yield _family(exported, readable, owners)
        if self._names is Names.OWN_AND_DCGM:
            yield _xids(devices, owners)
            yield _reserved(devices, owners)
        yield from _about(devices, owners, now_ms)
        if holdings is not None:
            yield _strangers(devices)
        yield self._health(devices)
        yield _missing(devices)
        yield from self._meters()
        yield self._lost()

    def _health(self, devices: tuple[Seen, ...]) -> Metric:
        family = GaugeMetricFamily(
            "partage_device_health", "0 healthy, 1 suspect, 2 quarantined, 3 retired.", labels=[*LABELS, "reason"]
        )
        for seen in devices:
            verdict = self._store.verdict(seen.fact.gpu)
            health = verdict.health if verdict else DeviceHealth.HEALTHY
            family.add_metric([*labels(seen), verdict.reason if verdict else ""], WORST_LAST.index(health))
        return family

    def _meters(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily(
            "partage_tenant_gpu_seconds", "Device time held (s, a whole device counts 1).", labels=OWNER_LABELS[::2]
        )
        energy = CounterMetricFamily("partage_tenant_energy_joules", "Energy used (J).", labels=OWNER_LABELS[::2])
        for (tenant, claim), total in self._store.totals():
            seconds.add_metric([tenant, claim], total.milli_seconds / 1000)
            energy.add_metric([tenant, claim], total.energy_mj / 1000)
        yield seconds
        yield energy

    def _lost(self) -> Metric:
        family = CounterMetricFamily("partage_telemetry_lost_reports", "Reports that never came.", labels=["Hostname"])
        for node, lost in self._store.lost_reports().items():
            family.add_metric([node], lost)
        return family


def exposition(store: TelemetryStore, clock: Clock, names: Names = Names.OWN_AND_DCGM) -> bytes:
    """Return everything as OpenMetrics text."""
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(store, clock, names))
    text: bytes = openmetrics(registry)  # type: ignore[no-untyped-call] # the library leaves it untyped
    return text


def answer(store: TelemetryStore, clock: Clock, names: Names, accept: str) -> tuple[bytes, str]:
    """Return everything in the format that the reader asked for, with its content type.

    Prometheus asks for OpenMetrics; a person with curl, or ``promtool check metrics``, reads the plain format.
    """
    if OPENMETRICS in accept:
        return exposition(store, clock, names), CONTENT_TYPE
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(store, clock, names))
    return generate_latest(registry), PLAIN


def labels(seen: Seen) -> list[str]:
    """Return the values of ``LABELS``, as DCGM's exporter has them: ``UUID`` is the physical GPU's, also for MIG."""
    fact = seen.fact
    return [
        str(fact.index),
        fact.gpu,
        fact.pci_bus_id,
        f"nvidia{fact.minor if isinstance(fact.minor, int) else fact.index}",
        fact.name,
        fact.node,
        fact.node,
        fact.mig_profile or "",
        "" if fact.gpu_instance is None else str(fact.gpu_instance),
    ]


def owner_labels(seen: Seen, holdings: tuple[WorkerHolding, ...]) -> list[str]:
    """Return tenant, domain and claim of the device; empty if nobody holds it, ``several`` where they differ."""
    here = [worker for worker in holdings if seen.fact.device in worker.devices]
    groups = [group for worker in here for group in worker.groups if seen.fact.device in group.devices]
    return [
        _one({group.tenant for group in groups}),
        _one({worker.domain.value for worker in here}),
        _one({group.claim for group in groups}),
    ]


def _one(found: Iterable[str]) -> str:
    values = sorted(found)
    return values[0] if len(values) == 1 else SEVERAL if values else ""


def _family(exported: Exported, devices: list[Seen], owners: dict[DeviceId, list[str]]) -> Metric:
    family = FAMILIES[exported.kind](exported.name, exported.text, labels=[*LABELS, *OWNER_LABELS])
    for seen in devices:
        reading = exported.read(seen.sample)
        if isinstance(reading, int):
            value = reading * exported.times if exported.per == 1 else reading / exported.per
            family.add_metric([*labels(seen), *owners[seen.fact.device]], value)
    return family


def _xids(devices: tuple[Seen, ...], owners: dict[DeviceId, list[str]]) -> Metric:
    family = GaugeMetricFamily(
        "DCGM_FI_DEV_XID_ERRORS", "Last XID reported; 0 if none.", labels=[*LABELS, *OWNER_LABELS]
    )
    for seen in devices:
        if seen.fact.device == seen.fact.gpu:
            family.add_metric([*labels(seen), *owners[seen.fact.device]], seen.last_xid)
    return family


def _reserved(devices: tuple[Seen, ...], owners: dict[DeviceId, list[str]]) -> Metric:
    family = GaugeMetricFamily(
        "DCGM_FI_DEV_FB_RESERVED", "Framebuffer kept by the driver (MiB).", labels=[*LABELS, *OWNER_LABELS]
    )
    for seen in devices:
        if isinstance(seen.fact.memory_reserved_mib, int):
            family.add_metric([*labels(seen), *owners[seen.fact.device]], seen.fact.memory_reserved_mib)
    return family


def _about(devices: tuple[Seen, ...], owners: dict[DeviceId, list[str]], now_ms: int) -> Iterator[Metric]:
    info = GaugeMetricFamily("partage_device_info", "Who holds the device.", labels=[*LABELS, *OWNER_LABELS])
    age = GaugeMetricFamily("partage_device_sample_age_seconds", "Age of the newest sample (s).", labels=LABELS)
    for seen in devices:
        info.add_metric([*labels(seen), *owners[seen.fact.device]], 1)
        age.add_metric(labels(seen), seen.age_ms(now_ms) / 1000)
    yield info
    yield age


def _strangers(devices: tuple[Seen, ...]) -> Metric:
    family = GaugeMetricFamily("partage_device_foreign_processes", "Processes that no worker started.", labels=LABELS)
    for seen in devices:
        if not isinstance(seen.sample.processes, Missing):
            family.add_metric(labels(seen), len(foreign(seen.processes)))
    return family


def _missing(devices: tuple[Seen, ...]) -> Metric:
    family = GaugeMetricFamily(
        "partage_device_missing_readings", "Readings that are not there, by cause.", labels=[*LABELS, "cause"]
    )
    for seen in devices:
        counts: dict[MissingCause, int] = {}
        for cause in _causes(seen.sample):
            counts[cause] = counts.get(cause, 0) + 1
        for cause, count in sorted(counts.items()):
            family.add_metric([*labels(seen), cause.value], count)
    return family


def _causes(sample: DeviceSample) -> Iterator[MissingCause]:
    if sample.missing is not None:
        yield sample.missing.cause
        return
    readings = [getattr(sample.load, name) for name in Load.__slots__]
    readings += [getattr(sample.wear, name) for name in Wear.__slots__]
    for reading in (*readings, sample.processes):
        if isinstance(reading, Missing) and reading.cause not in SILENT:
            yield reading.cause
