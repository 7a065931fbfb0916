"""Running totals per claim, from one report to the next."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.observe.telemetry.attribution import Attributed, holders
from policies.evidence.metering import Usage, energy_between, meter, split
from policies.model.telemetry import DeviceSample, Missing, NodeReport, Reading, WorkerHolding
from policies.model.units import ClaimId, DeviceId, TenantId

LONGEST_STEP_MS = 60_000
"""A report speaks for no more time than this: what happened in a longer silence is not known."""
MAX_ACCOUNTS = 20_000
"""Claims with a total of their own; further ones are added up under the claim ``other`` of their tenant."""
OTHER = ClaimId("other")

Account = tuple[TenantId, ClaimId]


@dataclass(slots=True)
class Total:
    """What one claim has used since the control plane started."""

    milli_seconds: int = 0
    memory_mib_seconds: int = 0
    energy_mj: int = 0
    energy_gaps: int = 0
    """Intervals whose energy is not known: the total is too low by what they used."""


class Meters:
    """Adds up what each claim used. Not thread-safe: the store holds its lock."""

    def __init__(self) -> None:
        self.totals: dict[Account, Total] = {}
        self._last: dict[DeviceId, DeviceSample] = {}

    def add(
        self, report: NodeReport, processes: dict[DeviceId, Attributed], holdings: tuple[WorkerHolding, ...]
    ) -> None:
        """Add what was used since the last report of the same devices."""
        facts = {fact.device: fact for fact in report.facts}
        for board in (sample for sample in report.samples if sample.device == sample.gpu):
            before = self._last.get(board.device)
            self._last[board.device] = board
            if before is None or board.missing is not None:
                continue
            interval_ms = min(max(0, board.at_ms - before.at_ms), LONGEST_STEP_MS)
            shared = [one for one in report.samples if one.gpu == board.gpu and one.device != board.gpu]
            parts = shared or [board]
            weights = tuple(_weight(one, facts[one.device].sm_count) for one in parts)
            for one, energy in zip(parts, _divided(energy_between(before, board), weights), strict=True):
                rows = meter(
                    one.device, interval_ms, energy, holders(one.device, holdings), processes.get(one.device, ())
                )
                for row in rows:
                    self._book(row)

    def _book(self, row: Usage) -> None:
        account = (row.tenant, row.claim)
        if account not in self.totals and len(self.totals) >= MAX_ACCOUNTS:
            account = (row.tenant, OTHER)
        total = self.totals.setdefault(account, Total())
        total.milli_seconds += row.milli_seconds
        total.memory_mib_seconds += row.memory_mib_seconds
        if isinstance(row.energy_mj, Missing):
            total.energy_gaps += 1
        else:
            total.energy_mj += row.energy_mj


def _weight(sample: DeviceSample, sm_count: Reading) -> int:
    """Return the work of a device beside its siblings on the board; at rest its size, so that idle power is shared."""
    activity = sample.load.activity_permille()
    size = sm_count if isinstance(sm_count, int) else 1
    return size * (1 + (activity if isinstance(activity, int) else 0))


def _divided(energy: Reading, weights: tuple[int, ...]) -> tuple[Reading, ...]:
    return tuple(energy for _ in weights) if isinstance(energy, Missing) else split(energy, weights)
