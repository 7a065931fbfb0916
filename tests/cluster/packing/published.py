"""Where the published trace and results lie, if they are beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

FGD = Path(__file__).parents[4] / "shared" / "data" / "fgd"
NODES = FGD / "csv" / "openb_node_list_gpu_node.csv"
INPUTS = FGD / "exact_inputs.jsonl.xz"

NAMES = {
    "FGD": "fgd",
    "BestFit": "best_fit",
    "DotProd": "dot_prod",
    "GpuPacking": "gpu_packing",
    "GpuClustering": "gpu_clustering",
    "Random": "random",
}
"""Names of the scores in the published results, and here."""

needs_published = pytest.mark.skipif(
    not FGD.is_dir(), reason="the published trace is not beside the repository (../shared/data/fgd)"
)


def tasks_of(trace: str) -> Path:
    """Return the task file of a trace."""
    return FGD / "csv" / f"openb_pod_list_{trace}.csv.gz"
