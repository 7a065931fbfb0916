"""From readings and events to a verdict on each device, with hysteresis in time. The caller brings memory and time.

A verdict gets worse at once and better only after quiet. Worse than SUSPECT it gets better only with evidence: the
driver's own advice is gone, the device was reset, or a person released it. What was not seen changes no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from policies.evidence.xid import XidAction, classify
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import DeviceSample, HealthEvent, HealthVerdict, Missing, MissingCause
from policies.model.units import DeviceId

HW_SLOWDOWN, HW_THERMAL, HW_POWER_BRAKE = 0x8, 0x40, 0x80
HARDWARE_THROTTLE = HW_SLOWDOWN | HW_THERMAL | HW_POWER_BRAKE

RECOVERY = {1: "reset", 2: "reboot", 3: "drain", 4: "reset", 5: "reset", 6: "reset", 7: "reboot"}
"""NVML's recovery action to what is to be done."""
ORDER = (DeviceHealth.HEALTHY, DeviceHealth.SUSPECT, DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthBounds:
    """How patient to be."""

    quiet_ms: int = 60_000
    """A suspect device must give no further sign for this long before it is healthy again."""
    relapses: int = 4
    """Times that a device may become suspect within the window before it is quarantined as flapping."""
    relapse_window_ms: int = 3_600_000
    foreign_ms: int = 5_000
    """A process that no worker started must be there this long to count: a new worker's are seen before it is known."""
    throttle_ms: int = 30_000
    """Hardware throttling must last this long to count: short brakes are normal at load steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that speaks against a device."""

    health: DeviceHealth
    reason: str
    remedy: str
    latched: bool = False
    """Stays until the device was reset or a person released it, even when no longer seen."""
    flaps: bool = True
    """Whether coming and going speaks against the device itself, and not against whoever uses it."""


THROTTLED = Signal(health=DeviceHealth.SUSPECT, reason="hardware_throttle", remedy="inform")
FOREIGN = Signal(health=DeviceHealth.SUSPECT, reason="foreign_process", remedy="inform", flaps=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMemory:
    """What the next verdict on a device needs to know of earlier ones. Saved with the control plane's state."""

    verdict: HealthVerdict
    last_sign_ms: int = 0
    """When something last spoke against it."""
    latched: Signal | None = None
    relapses_ms: tuple[int, ...] = ()
    throttled_since_ms: int | None = None
    foreign_since_ms: int | None = None
    energy_mj: int | None = None
    """Counter at the last sample: if it falls, the device or its driver was started anew."""
    counters: tuple[int | None, int | None] = (None, None)
    """Uncorrected ECC errors and NVLink errors at the last sample: only a rise is news."""


def first_verdict(device: DeviceId, now_ms: int) -> HealthMemory:
    """Return the memory of a device never seen before: healthy until something speaks against it."""
    verdict = HealthVerdict(device=device, health=DeviceHealth.HEALTHY, reason="", since_ms=now_ms)
    return HealthMemory(verdict=verdict)


def adopted(verdict: HealthVerdict) -> HealthMemory:
    """Return the memory of a device of which only the verdict of somebody else is known: it is kept as it is."""
    grave = verdict.health in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)
    latched = Signal(health=verdict.health, reason=verdict.reason, remedy=verdict.remedy, latched=True)
    return HealthMemory(verdict=verdict, last_sign_ms=verdict.since_ms, latched=latched if grave else None)


def judge(
    memory: HealthMemory,
    sample: DeviceSample,
    events: tuple[HealthEvent, ...],
    *,
    foreign: int,
    bounds: HealthBounds,
) -> HealthMemory:
    """Return the verdict after one more sample of the device, taken at the sample's time.

    ``events`` are those of the physical GPU since the last call; ``foreign`` counts processes that no worker started.
    """
    now_ms = sample.at_ms
    was_reset = _was_reset(memory, sample)
    throttled_since = _throttled_since(memory, sample)
    foreign_since = (memory.foreign_since_ms or now_ms) if foreign else None
    signals = [
        *(_of_event(event) for event in events),
        *_of_sample(memory, sample),
        _lasting(throttled_since, now_ms, bounds.throttle_ms, THROTTLED),
        _lasting(foreign_since, now_ms, bounds.foreign_ms, FOREIGN),
    ]
    kept = None if was_reset and _healed_by_reset(memory.latched) else memory.latched
    latched = _worst([signal for signal in (kept, *signals) if signal is not None and signal.latched])
    against = _worst([signal for signal in (latched, *signals) if signal is not None])
    remembered = replace(
        memory,
        latched=latched,
        throttled_since_ms=throttled_since,
        foreign_since_ms=foreign_since,
        energy_mj=_seen(sample.load.energy_mj, memory.energy_mj),
        counters=(
            _seen(sample.wear.ecc_uncorrected, memory.counters[0]),
            _seen(sample.wear.nvlink_errors, memory.counters[1]),
        ),
    )
    if against is None:
        return _quiet(remembered, sample, bounds)
    return _spoken_against(remembered, against, now_ms, bounds)


def signs(sample: DeviceSample, events: Iterable[HealthEvent] = ()) -> tuple[Signal, ...]:
    """Return what this one sample and these events say against the device, worst first. No verdict: that takes time."""
    found = [*(_of_event(event) for event in events), *_of_sample(first_verdict(sample.device, sample.at_ms), sample)]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: -ORDER.index(one.health)))


def release(memory: HealthMemory, now_ms: int) -> HealthMemory:
    """Return the memory after a person has looked at the device: suspect, and healthy once it has been quiet."""
    verdict = replace(memory.verdict, health=DeviceHealth.SUSPECT, reason="released", remedy="inform", since_ms=now_ms)
    return replace(memory, verdict=verdict, latched=None, last_sign_ms=now_ms, relapses_ms=())


def _spoken_against(memory: HealthMemory, against: Signal, now_ms: int, bounds: HealthBounds) -> HealthMemory:
    relapses = memory.relapses_ms
    if memory.verdict.health is DeviceHealth.HEALTHY and against.flaps:
        relapses = (*(at for at in relapses if now_ms - at < bounds.relapse_window_ms), now_ms)
    if len(relapses) > bounds.relapses:
        flapping = Signal(
            health=DeviceHealth.QUARANTINED, reason=f"flapping_{against.reason}", remedy="inform", latched=True
        )
        against = max(against, flapping, key=_gravity)
        memory = replace(memory, latched=max(memory.latched or flapping, flapping, key=_gravity))
    verdict = memory.verdict
    if (against.health, against.reason) != (verdict.health, verdict.reason):
        since_ms = verdict.since_ms if against.health is verdict.health else now_ms
        verdict = replace(
            verdict, health=against.health, reason=against.reason, remedy=against.remedy, since_ms=since_ms
        )
    return replace(memory, verdict=verdict, last_sign_ms=now_ms, relapses_ms=relapses)


def _quiet(memory: HealthMemory, sample: DeviceSample, bounds: HealthBounds) -> HealthMemory:
    """Nothing speaks against it. Quiet counts only while the device is seen."""
    verdict, now_ms = memory.verdict, sample.at_ms
    if verdict.health is DeviceHealth.HEALTHY:
        return memory
    if sample.missing is not None:
        return replace(memory, last_sign_ms=now_ms)
    if verdict.health is not DeviceHealth.SUSPECT:
        verdict = replace(verdict, health=DeviceHealth.SUSPECT, since_ms=now_ms, remedy="inform")
        return replace(memory, verdict=verdict, last_sign_ms=now_ms)
    if now_ms - memory.last_sign_ms < bounds.quiet_ms:
        return memory
    healthy = replace(verdict, health=DeviceHealth.HEALTHY, reason="", remedy="", since_ms=now_ms)
    return replace(memory, verdict=healthy)


def _of_event(event: HealthEvent) -> Signal | None:
    if event.kind != "xid":
        return _OTHER_EVENTS.get(event.kind)
    found = classify(event.code)
    reason = f"xid_{event.code}"
    if found.action is XidAction.INFORM:
        return None
    if found.action is XidAction.WATCH:
        return Signal(health=DeviceHealth.SUSPECT, reason=reason, remedy="inform")
    health = DeviceHealth.RETIRED if found.action is XidAction.REPLACE else DeviceHealth.QUARANTINED
    return Signal(health=health, reason=reason, remedy=found.action.value, latched=True)


def _quarantine(reason: str, remedy: str) -> Signal:
    return Signal(health=DeviceHealth.QUARANTINED, reason=reason, remedy=remedy, latched=True)


_OTHER_EVENTS = {
    "ecc_uncorrected": _quarantine("ecc_uncorrected", "reset"),
    "ecc_storm": Signal(health=DeviceHealth.SUSPECT, reason="ecc_storm", remedy="inform"),
    "poison": _quarantine("fatal_poison", "reset"),
    "unavailable": _quarantine("gpu_unavailable", "reboot"),
    "retirement_failed": Signal(health=DeviceHealth.RETIRED, reason="row_remap_failed", remedy="replace", latched=True),
}


def _of_sample(memory: HealthMemory, sample: DeviceSample) -> list[Signal | None]:
    wear, missing = sample.wear, sample.missing
    found: list[Signal | None] = []
    if missing is not None and missing.cause is MissingCause.GPU_IS_LOST:
        found.append(_quarantine("gpu_is_lost", "reboot"))
    if missing is not None and missing.cause is MissingCause.RESET_REQUIRED:
        found.append(_quarantine("reset_required", "reset"))
    if _positive(wear.recovery_action):
        action = wear.recovery_action
        remedy = RECOVERY.get(action, "inform") if isinstance(action, int) else "inform"
        found.append(Signal(health=DeviceHealth.QUARANTINED, reason=f"recovery_action_{action}", remedy=remedy))
    if _positive(wear.rows_failed):
        found.append(Signal(health=DeviceHealth.RETIRED, reason="row_remap_failed", remedy="replace", latched=True))
    if _positive(wear.rows_pending) and _positive(wear.rows_uncorrected):
        found.append(Signal(health=DeviceHealth.QUARANTINED, reason="row_remap_pending", remedy="reset"))
    elif _positive(wear.rows_pending) or _positive(wear.pages_pending):
        found.append(Signal(health=DeviceHealth.SUSPECT, reason="remap_pending", remedy="reset"))
    if _risen(memory.counters[0], wear.ecc_uncorrected):
        found.append(_quarantine("ecc_uncorrected", "reset"))
    if _risen(memory.counters[1], wear.nvlink_errors):
        found.append(Signal(health=DeviceHealth.SUSPECT, reason="nvlink_errors", remedy="inform"))
    return found


def _lasting(since_ms: int | None, now_ms: int, least_ms: int, signal: Signal) -> Signal | None:
    return signal if since_ms is not None and now_ms - since_ms >= least_ms else None


def _throttled_since(memory: HealthMemory, sample: DeviceSample) -> int | None:
    bits = sample.wear.throttle_bits
    if isinstance(bits, Missing):
        return memory.throttled_since_ms
    if not bits & HARDWARE_THROTTLE:
        return None
    return sample.at_ms if memory.throttled_since_ms is None else memory.throttled_since_ms


def _was_reset(memory: HealthMemory, sample: DeviceSample) -> bool:
    energy = sample.load.energy_mj
    return isinstance(energy, int) and memory.energy_mj is not None and energy < memory.energy_mj


def _healed_by_reset(latched: Signal | None) -> bool:
    return latched is not None and latched.remedy in ("reset", "reboot")


def _positive(reading: object) -> bool:
    return isinstance(reading, int) and reading > 0


def _risen(before: int | None, now: object) -> bool:
    return before is not None and isinstance(now, int) and now > before


def _seen(now: object, before: int | None) -> int | None:
    return now if isinstance(now, int) else before


def _worst(signals: list[Signal]) -> Signal | None:
    return max(signals, key=_gravity, default=None)


def _gravity(signal: Signal) -> tuple[int, bool]:
    return ORDER.index(signal.health), signal.latched
