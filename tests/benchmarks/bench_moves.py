"""``python -m tests.benchmarks.bench_moves``: a variant is changed, grown and shrunk under load; every request counted.

Starts a Ray cluster of its own for about a minute. Prints the requests answered in each step; fails if one was lost.
With ``--figure`` the answers a second are drawn.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

LIMIT_S = 300
BUCKET_MS = 500
NAMES = {"steady": "steady", "another variant": "changed", "grown": "grown", "shrunk": "shrunk"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="PNG of the answers a second, needs matplotlib")
    options = parser.parse_args()
    told = tell()
    for line in lines_of(told):
        print(line)
    if options.figure:
        draw(told, options.figure)
    return 1 if told["failed"] else 0


def tell() -> dict[str, Any]:
    """Return what the clients saw."""
    command = [sys.executable, "-m", "tests.serving.moves", str(_free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def lines_of(told: dict[str, Any]) -> list[str]:
    """Return one line a step, and the count of failures."""
    lines, before = [], 0
    for step in told["steps"]:
        total = sum(step["answered"].values())
        took = f"{total - before:5} answered until {step['at_ms'] / 1000:5.1f} s"
        lines.append(f"{NAMES[step['step']]:8} {took}, {step['failed']} failed")
        before = total
    lines.append(f"{before} requests answered, {len(told['failed'])} failed, through a change, a growth and a shrink")
    return lines


def draw(told: dict[str, Any], file: Path) -> None:
    """Write the answers a second of each variant as a PNG."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    last_ms = max(at for at, _ in told["ended"])
    times = range(0, last_ms, BUCKET_MS)
    for variant in sorted({variant for _, variant in told["ended"]}):
        counts = Counter(at // BUCKET_MS for at, name in told["ended"] if name == variant)
        rate = [counts[at // BUCKET_MS] * 1000 / BUCKET_MS for at in times]
        axes.step([at / 1000 for at in times], rate, where="post", label=variant or "failed")
    for step in told["steps"]:
        axes.axvline(step["at_ms"] / 1000, color="grey", linestyle=":")
        axes.annotate(NAMES[step["step"]], (step["at_ms"] / 1000, 0), rotation=90, ha="right", va="bottom", fontsize=8)
    axes.set(xlabel="s", ylabel="answers a second", title=f"{len(told['failed'])} failed requests")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) // 10 * 10 + 3


if __name__ == "__main__":
    sys.exit(main())
