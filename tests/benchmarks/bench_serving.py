"""``make bench-gateway``: everything that is promised of the serving side, measured in one go.

The flood and the replay in virtual time, a variant changed and a device moved between the domains under load, then the
gateway beside bare Ray Serve and LiteLLM's proxy. Writes ``docs/serving.md`` with its figures; fails if a request was
lost or a ratio is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import bench_domain_moves, bench_fair_queue, bench_moves

PAGE = Path("docs/serving.md")
PICTURES = Path("docs/serving")
HEAD = """# Serving, measured

Written by `make bench-gateway`: {cores} cores, {system}, Python {python}, load {load} before it began, {minutes}
minutes in all. Programs that share the machine change the last part, not the first.

"""
WHO_PAYS = """A queue makes no places: what one class waits less, others wait more. In order of arrival the storms
of triage are paid by triage, since its own requests stand behind each other. Its class takes it to the front, and the
two below it wait in its place; that is what the class is for. The last table says that this alone is what the documents
pay: with the class taken away they stand about where order of arrival puts them, while neither their weight nor the way
their long prompts are charged makes much difference, since the two lower tenants seldom wait for each other. The price
is bounded: whoever of a lower class has waited for ten seconds is late, and the late get a quarter of the tokens
served, however long the storm (the flood of a higher class, above).

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration-s", type=float, default=4.0, help="of each load of the last part")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-gateway"))
    parser.add_argument("--sides", nargs="+", default=[], help="only these of the last part")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    began_s, load = time.monotonic(), f"{os.getloadavg()[0]:.1f}"
    parts = [_fair_queue()]
    moved, failed = _moves()
    rows, lines, missed = _gateway(options)
    parts += [moved, "## Beside bare Ray Serve and LiteLLM\n" + _block(rows) + _block(lines)]
    minutes = f"{(time.monotonic() - began_s) / 60:.1f}"
    about = {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(), "load": load}
    head = HEAD.format(cores=os.cpu_count(), minutes=minutes, **about)
    PAGE.write_text(head + "\n".join(parts), encoding="utf-8")
    print(f"written to {PAGE}; {minutes} minutes")
    return 1 if failed or missed else 0


def _fair_queue() -> str:
    lines = bench_fair_queue.flooded(PICTURES / "flood.png")
    replayed = bench_fair_queue.replayed(PICTURES / "replay.png")
    print("\n".join(lines + replayed), flush=True)
    picture = "![attainment](serving/replay.png)\n\n" if (PICTURES / "replay.png").exists() else ""
    return (
        "## A tenant in flood, beside a modest one\n"
        + _block(lines)
        + "![flood](serving/flood.png)\n\n## Recorded arrivals\n"
        + _block(replayed)
        + WHO_PAYS
        + picture
    )


def _moves() -> tuple[str, int]:
    told = bench_moves.tell()
    lines = bench_moves.lines_of(told)
    print("\n".join(lines), flush=True)
    bench_moves.draw(told, PICTURES / "moves.png")
    page = "## A variant is changed, grown and shrunk under load\n" + _block(lines) + "![moves](serving/moves.png)\n\n"
    between = bench_domain_moves.tell()
    lines = bench_domain_moves.lines_of(between)
    print("\n".join(lines), flush=True)
    bench_domain_moves.draw(between, PICTURES / "domain-moves.png")
    page += "## A device goes from one domain to the other under load, and back\n" + _block(lines)
    return page + "![domain moves](serving/domain-moves.png)\n", len(told["failed"]) + len(between.lost())


def _gateway(options: argparse.Namespace) -> tuple[list[str], list[str], int]:
    """Return the table, the ratios, and whether one was missed. Runs in a process of its own: it starts many."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_gateway", "--folder", str(options.folder)]
    command += ["--duration-s", str(options.duration_s)]
    command += ["--sides", *options.sides] if options.sides else []
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    ratios = [line for line in lines if " times " in line]
    return [line for line in lines if line not in ratios], ratios, int(running.returncode or 0)


def _block(lines: list[str]) -> str:
    return "\n```\n" + "\n".join(lines) + "\n```\n\n"


if __name__ == "__main__":
    sys.exit(main())
