"""``python -m tests.benchmarks.bench_domain_moves``: a device goes from one domain to the other and back, under load.

Brings up a platform of its own (two domains on real Ray, the embedded model, three tenants' clients, every second one
streaming), tells the story of ``partage demo`` on it, and takes it down: two to four minutes. Prints the answers of
each part and the moves; fails if one request of either domain was lost. With ``--figure`` they are drawn.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.client import Client
from cluster.clock import SystemClock
from cluster.demo.story import Stage, play, prepare
from cluster.demo.traffic import Asked, Traffic
from cluster.embedded.kept_ready import until_kept_ready
from cluster.embedded.platform import bring_up, take_down
from tests.e2e.bench import settings_in

BUCKET_MS, BUCKETS = 1_000, 60
"""Answers are counted in parts of a second at least, and in so many parts at most."""
SETTLED_MS = 5_000
"""Load goes on for so long after the last move."""
OLDEST_MOVE = "answering"


@dataclass(frozen=True)
class Told:
    """What happened, in ms from the story's begin."""

    asked: dict[str, list[tuple[int, Asked]]]
    """When each answer of a claim ended."""
    parts: list[tuple[int, str]]
    moves: list[dict[str, Any]]

    def lost(self) -> list[str]:
        """Return what became of each request that was not answered."""
        ended = (asked for of_claim in self.asked.values() for _, asked in of_claim)
        return [f"{each.claim}: {each.status} {each.detail}" for each in ended if not each.answered]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="PNG of the answers a second, needs matplotlib")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever stops this does not leave a platform behind
    told = tell()
    for line in lines_of(told):
        print(line)
    if options.figure:
        draw(told, options.figure)
    return 1 if told.lost() else 0


def tell() -> Told:
    """Return what the clients saw. Raises ``StoryStuck`` if a move does not come."""
    folder = Path(tempfile.mkdtemp(prefix="partage-moves-"))
    settings, said = settings_in(folder), list[str]()
    try:
        bring_up(settings, said.append)
        until_kept_ready(settings, said.append)
        client = Client(url=settings.api_url, token=settings.operator_token.read_text().strip())
        clock = SystemClock()
        lines, _ = prepare(client, settings)
        traffic = {line.claim: Traffic(line, clock) for line in lines}
        stage = Stage(client=client, clock=clock, traffic=traffic, began_ms=clock.monotonic_ms())
        play(stage)
        clock.sleep_ms(SETTLED_MS)
        for each in traffic.values():
            each.stop()
        moves = [move for move in client.get("/v1/moves") if move["stages"][-1]["name"] == OLDEST_MOVE]
        asked = {claim: [(_ended(one, stage), one) for one in each.asked()] for claim, each in traffic.items()}
        return Told(asked=asked, parts=stage.lines, moves=moves)
    finally:
        take_down(settings, said.append)
        shutil.rmtree(folder, ignore_errors=True)


def _ended(asked: Asked, stage: Stage) -> int:
    return asked.began_ms + asked.took_ms - stage.began_ms


def lines_of(told: Told) -> list[str]:
    """Return one line a part of the story, one a move, and the count of failures."""
    lines = []
    everything = [at for of_claim in told.asked.values() for at, _ in of_claim]
    parts = [*told.parts, (max(everything, default=0) + 1, "")]
    for (from_ms, sentence), (until_ms, _) in itertools.pairwise(parts):
        during = sum(from_ms <= at < until_ms for at in everything)
        lines.append(f"{from_ms / 1000:6.1f} s  {during:4} answered   {sentence}")
    for move in told.moves:
        took_ms = move["stages"][-1]["at_ms"] - move["stages"][0]["at_ms"]
        lines.append(f"a device moved from {move['from_domain']} to {move['to_domain']} in {took_ms / 1000:.1f} s")
    for claim, of_claim in sorted(told.asked.items()):
        took = sorted(asked.took_ms for _, asked in of_claim) or [0]
        lines.append(f"{claim:24} {len(of_claim):4} asked, median {took[len(took) // 2]} ms, longest {took[-1]} ms")
    lost = told.lost()
    lines.append(f"{len(everything)} requests asked in both domains, {len(lost)} lost")
    return lines + lost[:5]


def draw(told: Told, file: Path) -> None:
    """Write the answers a second of each claim as a PNG, with the parts of the story."""
    from matplotlib import pyplot as plt

    claims = sorted(told.asked)
    figure, panels = plt.subplots(len(claims), 1, figsize=(9, 7), sharex=True)
    last_ms = max((at for of_claim in told.asked.values() for at, _ in of_claim), default=0)
    bucket_ms = max(BUCKET_MS, last_ms // BUCKETS)
    for axes, claim in zip(panels, claims, strict=True):
        counts = Counter(at // bucket_ms for at, asked in told.asked[claim] if asked.answered)
        times = range(last_ms // bucket_ms)
        rates = [counts[number] * 1000 / bucket_ms for number in times]
        axes.fill_between([number * bucket_ms / 1000 for number in times], rates, step="post", alpha=0.5)
        lost = [at / 1000 for at, asked in told.asked[claim] if not asked.answered]
        axes.plot(lost, [0] * len(lost), "rx")
        axes.set(ylabel="answers a second", title=f"{claim}, {len(lost)} lost")
        axes.set_ylim(bottom=0)
        for at, _ in told.parts:
            axes.axvline(at / 1000, color="grey", linestyle=":", linewidth=0.8)
    for number, (at, sentence) in enumerate(told.parts, start=1):
        height = 1 - 0.14 * ((number - 1) % 3)
        panels[0].annotate(str(number), (at / 1000, height), xycoords=("data", "axes fraction"), va="top", fontsize=8)
        panels[-1].plot([], [], " ", label=f"{number}  {at / 1000:.0f} s: {sentence}")
    panels[-1].set(xlabel="s")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(0, -0.3), fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
