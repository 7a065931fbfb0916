"""Bounds against reality: whatever a real device was captured to say is believed."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import pytest

from cluster.observe.telemetry.flavors import flavor_of
from cluster.observe.telemetry.readings import plausible
from policies.model.telemetry import Missing

CAPTURES = Path(__file__).parents[5] / "shared" / "data" / "telemetry" / "nvidia_smi_captures"
COLUMNS: dict[str, tuple[str, float]] = {
    "memory.total": ("memory_total_mib", 1),
    "memory.used": ("memory_used_mib", 1),
    "memory.free": ("memory_free_mib", 1),
    "utilization.gpu": ("busy_percent", 1),
    "utilization.memory": ("memory_busy_percent", 1),
    "temperature.gpu": ("temperature_c", 1),
    "temperature.memory": ("memory_temperature_c", 1),
    "power.draw": ("power_mw", 1000),
    "power.limit": ("power_limit_mw", 1000),
    "clocks.current.sm": ("sm_clock_mhz", 1),
    "clocks.current.memory": ("memory_clock_mhz", 1),
    "remapped_rows.correctable": ("rows_corrected", 1),
    "ecc.errors.corrected.volatile.total": ("ecc_corrected", 1),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected", 1),
}
"""Column of nvidia-smi to our reading and how many of our units one of its is."""

EXCERPT = {
    "NVIDIA H100 80GB HBM3": [
        {"memory.total": 81559, "memory.used": 0, "utilization.gpu": 0, "temperature.gpu": 41, "power.draw": 69.85},
        {
            "memory.total": 81559,
            "memory.used": 71018,
            "utilization.gpu": 100,
            "power.draw": 632.0,
            "power.limit": 700.0,
        },
    ],
    "NVIDIA L40S": [{"memory.total": 46068, "utilization.gpu": 100, "power.draw": 145.0, "power.limit": 350.0}],
}
"""A few figures of the captures, for where the captures are not at hand."""


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of every --query-gpu section of one capture, by column."""
    found = []
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("timestamp, driver_version"):
            names = [re.sub(r" \[.*\]$", "", name.strip()) for name in line.split(",")]
            following = csv.reader(lines[place + 1 : place + 9], skipinitialspace=True)
            found += [dict(zip(names, row, strict=True)) for row in following if len(row) == len(names)]
    return found


def number(cell: str) -> float | None:
    match = re.match(r"^-?\d+(\.\d+)?", cell.strip())
    return float(match.group(0)) if match else None


def believed(row: dict[str, float | None]) -> int:
    count = 0
    for column, (name, units) in COLUMNS.items():
        value = row.get(column)
        if value is not None:
            reading = plausible(name, value * units)
            assert not isinstance(reading, Missing), (column, value, reading)
            count += 1
    return count


@pytest.mark.parametrize("product", EXCERPT)
def test_figures_of_real_devices_are_believed(product: str) -> None:
    assert flavor_of(product, 1).id in {"H100-80GB", "L40S"}
    for row in EXCERPT[product]:
        assert believed(dict(row)) == len(row)


@pytest.mark.elsewhere
@pytest.mark.skipif(not CAPTURES.exists(), reason="the captures are not at hand; an excerpt of them is tested above")
def test_every_figure_of_every_capture_is_believed() -> None:
    seen = 0
    for path in sorted(CAPTURES.glob("*.gz")):
        found = rows(gzip.decompress(path.read_bytes()).decode(errors="replace"))
        assert found, path.name
        for row in found:
            assert flavor_of(row["name"], 1).id
            seen += believed({column: number(cell) for column, cell in row.items()})
    assert seen > 100
