"""What a number from a device can be at all. Anything else is a gap with its cause, never a value."""

from __future__ import annotations

import math

from policies.evidence.metering import MOST_POWER_MW
from policies.model.telemetry import Missing, MissingCause, Reading

SENTINELS_FROM = 0x7FFF_FFFF_FFFF_FFF0
"""DCGM's and NVML's blank 64-bit values lie here and above; no counter of a device gets there."""
SENTINELS_32 = frozenset({0xFFFF_FFFF, 0x7FFF_FFF0, 0x7FFF_FFF1, 0x7FFF_FFF2, 0x7FFF_FFF3})

MOST = {
    "memory_total_mib": 2_097_152,
    "memory_used_mib": 2_097_152,
    "memory_free_mib": 2_097_152,
    "sm_activity_permille": 1000,
    "engine_activity_permille": 1000,
    "tensor_activity_permille": 1000,
    "dram_activity_permille": 1000,
    "busy_percent": 100,
    "memory_busy_percent": 100,
    "sm_percent": 100,
    "power_mw": MOST_POWER_MW,
    "power_limit_mw": MOST_POWER_MW,
    "temperature_c": 130,
    "memory_temperature_c": 130,
    "sm_clock_mhz": 10_000,
    "memory_clock_mhz": 50_000,
    "pcie_tx_kib_s": 512 * 1024 * 1024,
    "pcie_rx_kib_s": 512 * 1024 * 1024,
    "recovery_action": 255,
    "throttle_bits": 0xFFFF,
    "ecc_corrected": 1 << 48,
    "ecc_uncorrected": 1 << 48,
    "rows_corrected": 1 << 20,
    "rows_uncorrected": 1 << 20,
    "rows_pending": 1,
    "rows_failed": 1,
    "pages_single": 1 << 20,
    "pages_double": 1 << 20,
    "pages_pending": 1,
    "energy_mj": 1 << 53,
    "pcie_replays": 1 << 48,
    "nvlink_tx_kib": 1 << 60,
    "nvlink_rx_kib": 1 << 60,
    "nvlink_flit": 1 << 48,
    "nvlink_data": 1 << 48,
    "nvlink_replay": 1 << 48,
    "nvlink_recovery": 1 << 48,
}
"""Largest value that the quantity can have: 1 << 53 mJ are 57 years at the largest power named here, 1 << 60 KiB are
decades of the fastest links. Beyond it a counter is not being read, and its differences would be charged to somebody.
"""
LEAST = {"temperature_c": 1, "memory_temperature_c": 1, "memory_total_mib": 1, "power_limit_mw": 1}
"""Smallest value; 0 where left out. Nothing here runs below freezing, and a GPU without memory is none."""


def plausible(name: str, value: float | Missing) -> Reading:
    """Return the value as an integer if it can be true of this quantity, else why not. Fractions are rounded."""
    least, most = LEAST.get(name, 0), MOST[name]
    if type(value) is int and least <= value <= most and value not in SENTINELS_32:
        return value
    if isinstance(value, Missing):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return Missing(MissingCause.IMPOSSIBLE, f"{name}={value}")
        value = round(value)
    if value >= SENTINELS_FROM or value in SENTINELS_32 or value == -1:
        return Missing(MissingCause.SENTINEL, f"{name}={value}")
    if not least <= value <= most:
        return Missing(MissingCause.IMPOSSIBLE, f"{name}={value}")
    return value


def mebibytes(amount: int) -> int:
    """Return bytes as whole MiB; sentinels stay what they are, so that ``plausible`` sees them."""
    return amount if amount >= SENTINELS_FROM else amount >> 20
