"""What a placement score knows beside the fleet: the mix of work that is expected, and what capacity is worth to it."""

from __future__ import annotations

from dataclasses import dataclass

from policies.fleet.placement import Expected
from policies.model.units import FlavorId
from policies.packing.arrays import GPU_CELL


@dataclass(frozen=True, slots=True)
class Tables:
    """Worth of capacity in millionths of a GPU, as plain integers; see ``policies.packing.worth``."""

    holes: dict[FlavorId, list[int]]
    """By idle millis of one device."""
    scarcity: dict[FlavorId, int]
    """Premium of one idle milli."""
    stranded: list[list[int]]
    """By idle GPU cells and free CPU cells: what the CPUs cannot serve."""
    blocks: list[list[int]]
    """By fully idle devices and free CPU cells: premium of the room for multi-device work."""
    cpu_cell: int

    def together(self, flavor: FlavorId, idle: int, whole: int, cpu_millis: int) -> int:
        """Return the worth of what is idle on one host beside the worth of each single device.

        Where more stands than there is room for, since its claim asks for more than it did, nothing is idle.
        """
        gpu, cpu = max(0, min(idle // GPU_CELL, len(self.stranded) - 1)), cpu_millis // self.cpu_cell
        stranded = self.stranded[gpu]
        blocks = self.blocks[min(whole, len(self.blocks) - 1)]
        cpu = max(0, min(cpu, len(stranded) - 1))
        return idle * self.scarcity[flavor] - stranded[cpu] + blocks[cpu]


@dataclass(frozen=True, slots=True)
class Market:
    """The same for one whole decision."""

    expected: tuple[Expected, ...]
    """The mix, the commonest first; the shares sum to 1."""
    tables: Tables
