"""What the driver reports by itself: XIDs, memory errors, changes of the MIG layout."""

from __future__ import annotations

import ctypes
from typing import Any

import pynvml

from cluster.observe.telemetry.gate import Gate
from policies.model.telemetry import HealthEvent, Missing
from policies.model.units import DeviceId

KINDS = {
    pynvml.nvmlEventTypeXidCriticalError: "xid",
    pynvml.nvmlEventTypeDoubleBitEccError: "ecc_uncorrected",
    pynvml.nvmlEventTypeSingleBitEccErrorStorm: "ecc_storm",
    pynvml.nvmlEventMigConfigChange: "mig_changed",
    pynvml.nvmlEventTypeDramRetirementFailure: "retirement_failed",
    pynvml.nvmlEventTypeFatalPoisonError: "poison",
    pynvml.nvmlEventTypeGpuUnavailableError: "unavailable",
    pynvml.nvmlEventTypeGpuRecoveryAction: "recovery",
}
WANTED = sum(KINDS)
EVENTS_PER_ROUND = 64
"""A burst longer than this is read on in the next round: NVML keeps it."""
NO_INSTANCE = 0xFFFF_FFFF


class EventWatch:
    """Listens on every GPU of the node. Polled, never waited for: a waiting call could hang with the driver."""

    def __init__(self, handles: dict[DeviceId, Any]) -> None:
        self._gate = Gate()
        self._devices = {_address(handle): device for device, handle in handles.items()}
        self._set = self._gate.ask(pynvml.nvmlEventSetCreate)
        self.unheard: dict[DeviceId, Missing] = {}
        """GPUs whose events cannot be had, and why."""
        for device, handle in handles.items():
            self._register(device, handle)

    def poll(self, at_ms: int, sequence: int) -> tuple[HealthEvent, ...]:
        """Return the events since the last call in the order in which they came, numbered after ``sequence``."""
        found: list[HealthEvent] = []
        while not isinstance(self._set, Missing) and len(found) < EVENTS_PER_ROUND:
            data = self._gate.ask(pynvml.nvmlEventSetWait_v2, self._set, 0)
            if isinstance(data, Missing):
                # TIMEOUT is the normal end: nothing more is waiting.
                break
            device = self._devices.get(_address(data.device))
            if device is not None:
                found.append(_event(device, data, at_ms, sequence + len(found) + 1))
        self._gate.new_round()
        return tuple(found)

    def close(self) -> None:
        """Stop listening."""
        if not isinstance(self._set, Missing):
            self._gate.ask(pynvml.nvmlEventSetFree, self._set)

    def _register(self, device: DeviceId, handle: Any) -> None:
        self._gate.new_round()
        supported = self._gate.ask(pynvml.nvmlDeviceGetSupportedEventTypes, handle, key=device)
        answer = supported
        if not isinstance(self._set, Missing) and not isinstance(supported, Missing):
            mask = supported & WANTED
            answer = self._gate.ask(pynvml.nvmlDeviceRegisterEvents, handle, mask, self._set, key=device)
        if isinstance(answer, Missing):
            self.unheard[device] = answer


def _event(device: DeviceId, data: Any, at_ms: int, sequence: int) -> HealthEvent:
    kind = KINDS.get(data.eventType, "other")
    instance = int(data.gpuInstanceId)
    return HealthEvent(
        device=device,
        kind=kind,
        code=int(data.eventData) if kind == "xid" else 0,
        at_ms=at_ms,
        sequence=sequence,
        gpu_instance=None if instance == NO_INSTANCE else instance,
    )


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
