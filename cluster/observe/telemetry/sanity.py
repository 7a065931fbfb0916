"""Readings held against one another and against the round before: what cannot be true together is not true."""

from __future__ import annotations

from dataclasses import replace

from policies.model.telemetry import DeviceFacts, DeviceSample, Load, Missing, MissingCause, Reading

FROZEN_AFTER_MS = 10_000
"""A powered board uses energy all the time, so an energy counter that stands still this long is not being read."""
BUSY_PERMILLE = 50
SLACK_MIB = 64
"""Used and free memory are read at slightly different moments and rounded."""


class Sanity:
    """Remembers of one device what is needed to notice that it stands still."""

    def __init__(self) -> None:
        self._energy: int | None = None
        self._moved_at_ms = 0

    def checked(self, sample: DeviceSample, fact: DeviceFacts) -> DeviceSample:
        """Return the sample with every impossible reading replaced by a Missing that says why.

        A frozen device is missing as a whole: nothing of it can be believed.
        """
        load = _power_under_load(_memory_within(sample.load, fact))
        if self._stands_still(load.energy_mj, load.power_mw, sample.at_ms):
            frozen = Missing(MissingCause.FROZEN, f"energy_mj={self._energy}")
            return replace(sample, load=Load(), processes=frozen, missing=frozen)
        return sample if load is sample.load else replace(sample, load=load)

    def _stands_still(self, energy: Reading, power: Reading, at_ms: int) -> bool:
        if isinstance(energy, Missing):
            self._energy = None
            return False
        if energy != self._energy:
            self._energy, self._moved_at_ms = energy, at_ms
            return False
        return isinstance(power, int) and power > 0 and at_ms - self._moved_at_ms >= FROZEN_AFTER_MS


def _memory_within(load: Load, fact: DeviceFacts) -> Load:
    used, free = load.memory_used_mib, load.memory_free_mib
    most = fact.memory_total_mib + SLACK_MIB
    if isinstance(used, int) and used > most:
        used = Missing(MissingCause.IMPOSSIBLE, f"used {used} MiB of {fact.memory_total_mib}")
    if isinstance(free, int) and free > most:
        free = Missing(MissingCause.IMPOSSIBLE, f"free {free} MiB of {fact.memory_total_mib}")
    if isinstance(used, int) and isinstance(free, int) and used + free > most:
        used = free = Missing(MissingCause.IMPOSSIBLE, f"used {used} and free {free} MiB of {fact.memory_total_mib}")
    if used is load.memory_used_mib and free is load.memory_free_mib:
        return load
    return replace(load, memory_used_mib=used, memory_free_mib=free)


def _power_under_load(load: Load) -> Load:
    activity = load.activity_permille()
    if load.power_mw == 0 and isinstance(activity, int) and activity >= BUSY_PERMILLE:
        return replace(load, power_mw=Missing(MissingCause.IMPOSSIBLE, "power_mw=0 under load"))
    return load
