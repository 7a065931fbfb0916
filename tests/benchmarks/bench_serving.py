"""``make bench-gateway``: everything that is promised of the serving side, measured in one go.

The flood and the replay in virtual time, a variant changed and a device moved between the domains under load, then the
gateway beside bare Ray Serve and LiteLLM's proxy. Writes ``docs/serving.md`` with its figures; fails if a request was
lost, a bound broken or a ratio missed. ``--parts`` measures some of it again and leaves the rest of the page.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import bench_domain_moves, bench_fair_queue, bench_moves

PAGE = Path("docs/serving.md")
PICTURES = Path("docs/serving")
HEAD = """# Serving, measured

Written by `make bench-gateway`: {cores} cores, {system}, Python {python}, load {load} before it began, {minutes}
minutes in all. Programs that share the machine change the last part, not the first.

"""
HEADING = "## "
FLOOD, REPLAY = "A tenant in flood, beside a modest one", "Recorded arrivals"
CHANGE = "A variant is changed, grown and shrunk under load"
BETWEEN = "A device goes from one domain to the other under load, and back"
BESIDE = "Beside bare Ray Serve and LiteLLM"
WHO_PAYS = """A queue makes no places: what one class waits less, others wait more. In order of arrival the storms
of triage are paid by triage, since its own requests stand behind each other. Its class takes it to the front, and the
two below it wait in its place; that is what the class is for. The last table says that this alone is what the documents
pay: with the class taken away they stand about where order of arrival puts them, while neither their weight nor the way
their long prompts are charged makes much difference, since the two lower tenants seldom wait for each other. The price
is bounded: whoever of a lower class has waited for ten seconds is late, and the late get a quarter of the tokens
served, however long the storm (the flood of a higher class, above).

"""


@dataclass(frozen=True)
class Part:
    """A part of the page: its headings, and what measures it: the text and how many promises were not kept."""

    headings: tuple[str, ...]
    measure: Callable[[argparse.Namespace], tuple[str, int]]


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever stops this does not leave a platform behind
    PICTURES.mkdir(exist_ok=True)
    began_s, load = time.monotonic(), _load()
    head, kept = sections(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "")
    texts, missed = [], 0
    for name, part in PARTS.items():
        if name in options.parts:
            before = _load()
            text, failed = part.measure(options)
            texts.append(f"{text.rstrip()}\n\nLoad {before} before this part began, {_load()} at its end.\n")
            missed += failed
        else:
            texts += [kept[heading] for heading in part.headings if heading in kept]
    minutes = f"{(time.monotonic() - began_s) / 60:.1f}"
    about = {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(), "load": load}
    if not head or set(options.parts) == set(PARTS):
        head = HEAD.format(cores=os.cpu_count(), minutes=minutes, **about)
    PAGE.write_text(head.rstrip() + "\n\n" + "\n".join(text.rstrip() + "\n" for text in texts), encoding="utf-8")
    print(f"written to {PAGE}; {minutes} minutes")
    return 1 if missed else 0


def sections(page: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first heading of a page, and its sections by heading, each with its heading."""
    head, *rest = page.split(f"\n{HEADING}")
    return head, {section.partition("\n")[0].strip(): HEADING + section for section in rest}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration-s", type=float, default=4.0, help="of each load of the last part")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-gateway"))
    parser.add_argument("--sides", nargs="+", default=[], help="only these of the last part")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="measure only these again")
    return parser.parse_args()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _fair_queue(_: argparse.Namespace) -> tuple[str, int]:
    lines = bench_fair_queue.flooded(PICTURES / "flood.png")
    replayed = bench_fair_queue.replayed(PICTURES / "replay.png")
    print("\n".join(lines + replayed), flush=True)
    picture = "![attainment](serving/replay.png)\n\n" if (PICTURES / "replay.png").exists() else ""
    text = f"{HEADING}{FLOOD}\n{_block(lines)}![flood](serving/flood.png)\n\n"
    text += f"{HEADING}{REPLAY}\n{_block(replayed)}{WHO_PAYS}{picture}"
    return text, sum("BROKEN" in line for line in lines)


def _moves(_: argparse.Namespace) -> tuple[str, int]:
    told = bench_moves.tell()
    lines = bench_moves.lines_of(told)
    print("\n".join(lines), flush=True)
    bench_moves.draw(told, PICTURES / "moves.png")
    return f"{HEADING}{CHANGE}\n{_block(lines)}![moves](serving/moves.png)\n", len(told["failed"])


def _domain_moves(_: argparse.Namespace) -> tuple[str, int]:
    told = bench_domain_moves.tell()
    lines = bench_domain_moves.lines_of(told)
    print("\n".join(lines), flush=True)
    bench_domain_moves.draw(told, PICTURES / "domain-moves.png")
    return f"{HEADING}{BETWEEN}\n{_block(lines)}![domain moves](serving/domain-moves.png)\n", len(told.lost())


def _beside_others(options: argparse.Namespace) -> tuple[str, int]:
    rows, ratios, missed = _gateway(options)
    return f"{HEADING}{BESIDE}\n{_block(rows)}{_block(ratios)}", missed


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


PARTS = {
    "queue": Part((FLOOD, REPLAY), _fair_queue),
    "moves": Part((CHANGE,), _moves),
    "domain-moves": Part((BETWEEN,), _domain_moves),
    "gateway": Part((BESIDE,), _beside_others),
}
"""In the order of the page."""


if __name__ == "__main__":
    sys.exit(main())
