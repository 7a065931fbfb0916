"""NVML field values: many readings in one call, each with its own return code."""

from __future__ import annotations

from ctypes import Structure
from typing import Any, Final

import pynvml

from cluster.observe.telemetry.gate import LEARNT_ONCE, Gate, cause_of
from cluster.observe.telemetry.readings import plausible
from policies.model.telemetry import NOT_READ, Missing, Reading

ALL_LINKS = 0xFFFF_FFFF

FIELDS: dict[str, tuple[int, int]] = {
    "energy_mj": (pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 0),
    "memory_temperature_c": (pynvml.NVML_FI_DEV_MEMORY_TEMP, 0),
    "recovery_action": (pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 0),
    "ecc_corrected": (pynvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL, 0),
    "ecc_uncorrected": (pynvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL, 0),
    "rows_corrected": (pynvml.NVML_FI_DEV_REMAPPED_COR, 0),
    "rows_uncorrected": (pynvml.NVML_FI_DEV_REMAPPED_UNC, 0),
    "rows_pending": (pynvml.NVML_FI_DEV_REMAPPED_PENDING, 0),
    "rows_failed": (pynvml.NVML_FI_DEV_REMAPPED_FAILURE, 0),
    "pages_single": (pynvml.NVML_FI_DEV_RETIRED_SBE, 0),
    "pages_double": (pynvml.NVML_FI_DEV_RETIRED_DBE, 0),
    "pages_pending": (pynvml.NVML_FI_DEV_RETIRED_PENDING, 0),
    "nvlink_flit": (pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, 0),
    "nvlink_data": (pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, 0),
    "nvlink_replay": (pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, 0),
    "nvlink_recovery": (pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, 0),
    "pcie_replays": (pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER, 0),
    "nvlink_tx_kib": (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, ALL_LINKS),
    "nvlink_rx_kib": (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, ALL_LINKS),
}
"""Reading to field number and scope."""

_MEMBER = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


member_of: Final = Structure.__getattribute__
"""Reads a member of one of NVML's structures. Their own look-up is made for text and takes five times as long."""


class FieldReader:
    """Reads the fields of one device; those it does not have are asked for once."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._never: dict[str, Missing] = {}
        self._wanted = dict(FIELDS)

    def forget(self) -> None:
        """Ask for every field again: the MIG layout or the driver has changed."""
        self._never.clear()
        self._wanted = dict(FIELDS)

    def read(self, handle: Any) -> dict[str, Reading]:
        """Return every field by its name."""
        answer = self._gate.ask(pynvml.nvmlDeviceGetFieldValues, handle, list(self._wanted.values()))
        readings: dict[str, Reading] = dict(self._never)
        if isinstance(answer, Missing):
            return readings | dict.fromkeys(self._wanted, answer)
        for name, field in zip(self._wanted, answer, strict=True):
            readings[name] = self._value(name, field)
        if len(self._never) + len(self._wanted) > len(FIELDS):
            self._wanted = {name: field for name, field in FIELDS.items() if name not in self._never}
        return readings

    def _value(self, name: str, field: Structure) -> Reading:
        code = member_of(field, "nvmlReturn")
        if code != pynvml.NVML_SUCCESS:
            missing = cause_of(code, name)
            if missing.cause in LEARNT_ONCE:
                self._never[name] = missing
            return missing
        member = _MEMBER.get(member_of(field, "valueType"))
        return NOT_READ if member is None else plausible(name, getattr(member_of(field, "value"), member))


def total(*readings: Reading) -> Reading:
    """Return the sum of those that are numbers; the first one's cause if none is."""
    numbers = [reading for reading in readings if isinstance(reading, int)]
    return sum(numbers) if numbers else readings[0]
