"""Draws the curves of the FGD paper: allocation and fragmentation against what has been asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.packing.bench import Result
from policies.packing.arrays import Floats

PANELS = (
    ("alloc_pct", "GPU capacity allocated (%)", (70.0, 100.0)),
    ("frag_pct_of_total", "Idle but fragmented (% of capacity)", (0.0, 16.0)),
)
"""Curve, label and range of each panel."""
FIRST_PERCENT = 60
COLOURS = ("#0b3d91", "#d1495b", "#66a182", "#edae49", "#8d5a97", "#2e4057", "#8c8c8c", "#00798c")


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write one PNG per trace into the folder and return their paths: a line per score, a band over the seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    traces = dict.fromkeys(result.trace for result in results)
    return [
        _draw_trace([one for one in results if one.trace == trace], folder / f"packing-{trace}.png") for trace in traces
    ]


def _draw_trace(results: Sequence[Result], path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 4.2), constrained_layout=True)
    for axis, (curve, label, limits) in zip(axes, PANELS, strict=True):
        for colour, policy in zip(COLOURS, dict.fromkeys(one.policy for one in results), strict=False):
            _draw_band(axis, [getattr(one.curves, curve) for one in results if one.policy == policy], policy, colour)
        axis.set(xlabel="GPU capacity asked for (% of fleet)", ylabel=label, xlim=(FIRST_PERCENT, 130), ylim=limits)
        axis.grid(visible=True, alpha=0.3)
    axes[0].legend(fontsize="small", loc="upper left")
    seeds = len({one.seed for one in results})
    figure.suptitle(f"{results[0].trace}: mean and range over {seeds} seeds, no migration unless said")
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    plt.close(figure)
    return path


def _draw_band(axis: Any, curves: Sequence[Floats], policy: str, colour: str) -> None:
    every = np.array(curves)[:, FIRST_PERCENT:]
    if np.isnan(every).all():
        return
    percent = np.arange(FIRST_PERCENT, FIRST_PERCENT + every.shape[1])
    axis.plot(
        percent, every.mean(axis=0), label=policy, color=colour, linewidth=2 if policy.startswith("partage") else 1
    )
    axis.fill_between(percent, every.min(axis=0), every.max(axis=0), color=colour, alpha=0.2, linewidth=0)
