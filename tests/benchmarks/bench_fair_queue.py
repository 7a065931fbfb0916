"""``python -m tests.benchmarks.bench_fair_queue``: what the fair queue is worth, in virtual time.

First a flood of growing size beside a modest tenant; then recorded arrivals (Azure 2023 conversation and code, Mooncake
conversation) of three tenants of different classes at one model, compressed until they ask for a given part of what the
model can do. Each is told with the fair queue and with one queue in order of arrival. With ``--figure`` it is drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from serving.gateway.dispatch import Dispatcher, Order
from serving.gateway.errors import Overloaded
from tests.serving import virtual
from tests.serving.fakes import JUSTICE, MODEL, TAX, group, route, table
from tests.serving.traffic import LONGEST_MS, SLOTS, flood

DATA = Path("../shared/data/llm_requests")
FLOODS = (0, 0.5, 1, 2, 4, 8, 16, 32)
CAPACITY_PER_S = SLOTS / 0.6

PLACES = 64
READ_TOKENS_PER_MS = 8
TOKEN_MS = 25
PROMISE_MS = 1_000
"""Longest wait for a place that keeps the promise of an interactive class."""
REQUESTS = 6_000
"""Of each recording."""
LOADS = (0.7, 0.9, 1.1)
DEFENCE = "defence/cyber"


@dataclass(frozen=True)
class Recorded:
    at_ms: int
    tenant: str
    prompt: int
    answer: int

    @property
    def service_ms(self) -> int:
        return self.prompt // READ_TOKENS_PER_MS + self.answer * TOKEN_MS


@dataclass(frozen=True)
class Class:
    name: str
    tenant: str
    weight: int
    priority: int


CLASSES = (
    Class("triage (Azure code)", DEFENCE, 2, 10),
    Class("assistant (Azure conversation)", JUSTICE, 2, 0),
    Class("documents (Mooncake)", TAX, 1, 0),
)


@dataclass
class Kept:
    """Waits of one class."""

    waits_ms: list[int] = field(default_factory=list)
    shed: int = 0

    def attainment(self) -> float:
        total = len(self.waits_ms) + self.shed
        return sum(wait <= PROMISE_MS for wait in self.waits_ms) / total if total else 1.0


def azure(file: str, tenant: str) -> Iterator[Recorded]:
    with gzip.open(DATA / file, "rt") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            yield Recorded(
                int(at.timestamp() * 1000), tenant, int(row["ContextTokens"]), max(1, int(row["GeneratedTokens"]))
            )


def mooncake(file: str, tenant: str) -> Iterator[Recorded]:
    with gzip.open(DATA / file, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            yield Recorded(int(row["timestamp"]), tenant, int(row["input_length"]), max(1, int(row["output_length"])))


def recordings() -> list[list[Recorded]]:
    found = (
        azure("AzureLLMInferenceTrace_code.csv.gz", DEFENCE),
        azure("AzureLLMInferenceTrace_conv.csv.gz", JUSTICE),
        mooncake("mooncake_conversation_trace.jsonl.gz", TAX),
    )
    return [list(islice(each, REQUESTS)) for each in found]


def scaled(of_tenant: list[Recorded], part: float) -> list[Recorded]:
    """Return the requests with their times stretched so that they ask for this part of the places."""
    first = of_tenant[0].at_ms
    span_ms = sum(each.service_ms for each in of_tenant) / (PLACES * part)
    stretch = span_ms / max(1, of_tenant[-1].at_ms - first)
    return [Recorded(int((r.at_ms - first) * stretch), r.tenant, r.prompt, r.answer) for r in of_tenant]


def replay(load: float, *, fair: bool) -> dict[str, Kept]:
    parts = [scaled(each, load / len(CLASSES)) for each in recordings()]
    ends_ms = min(part[-1].at_ms for part in parts)
    requests = sorted((r for part in parts for r in part if r.at_ms <= ends_ms), key=lambda r: r.at_ms)
    return virtual.run(_replay(requests, fair))


async def _replay(requests: list[Recorded], fair: bool) -> dict[str, Kept]:
    kept = {each.tenant: Kept() for each in CLASSES}
    dispatcher = Dispatcher(virtual.now_ms)
    dispatcher.apply(table(route(group("g1", concurrency=PLACES), shared_with=(TAX, DEFENCE))))
    line = dispatcher.line(JUSTICE, MODEL)
    classes = {each.tenant: each for each in CLASSES}

    async def one(request: Recorded) -> None:
        own = classes[request.tenant]
        order = Order(
            tenant=request.tenant if fair else "everyone",
            cost=request.prompt + request.answer,
            wait_ms=60_000,
            weight=own.weight if fair else 1,
            priority=own.priority if fair else 0,
        )
        began = virtual.now_ms()
        try:
            lease = await dispatcher.lease(line, order)
        except Overloaded:
            kept[request.tenant].shed += 1
            return
        kept[request.tenant].waits_ms.append(virtual.now_ms() - began)
        await asyncio.sleep(request.service_ms / 1000)
        dispatcher.give_back(lease, used=request.prompt + request.answer)

    async with asyncio.TaskGroup() as running:
        for request in requests:
            await asyncio.sleep(max(0.0, request.at_ms / 1000 - asyncio.get_running_loop().time()))
            running.create_task(one(request))
    return kept


def flooded(figure: Path | None) -> list[str]:
    """Return a modest tenant's p99 for each size of flood, beside what is promised; draw it if asked."""
    alone = flood(0, slots=SLOTS // 2).p99_ms()
    promised = alone + 2 * LONGEST_MS
    lines = [f"p99 of a modest tenant, ms; {alone} with its share of the places to itself, promised {promised}"]
    rows = [(times, *(flood(times * CAPACITY_PER_S, fair=fair).p99_ms() for fair in (True, False))) for times in FLOODS]
    for times, fair, unfair in rows:
        kept = "kept" if fair <= promised else "BROKEN"
        lines.append(f"  flood {times:5} times the capacity   fair {fair:6} {kept}   in order of arrival {unfair:6}")
    if figure:
        draw(rows, promised, figure)
    return lines


def replayed(figure: Path | None) -> list[str]:
    """Return how many requests of each class found a place in time, with the fair queue and without."""
    if not DATA.exists():
        return [f"no recordings at {DATA}: the replay is left out"]
    lines = [f"requests that wait at most {PROMISE_MS} ms for a place"]
    told = {(load, fair): replay(load, fair=fair) for load in LOADS for fair in (True, False)}
    for load in LOADS:
        for each in CLASSES:
            ours, theirs = (told[load, fair][each.tenant].attainment() for fair in (True, False))
            lines.append(f"  load {load:3}  {each.name:32} fair {ours:7.1%}   in order of arrival {theirs:7.1%}")
    if figure:
        draw_replay(told, figure)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="PNG of the flood, needs matplotlib")
    options = parser.parse_args()
    for line in flooded(options.figure) + replayed(None):
        print(line)


def draw_replay(told: dict[tuple[float, bool], dict[str, Kept]], file: Path) -> None:
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(1, len(CLASSES), figsize=(9, 3.5), sharey=True)
    for axes, each in zip(all_axes, CLASSES, strict=True):
        for fair, style, label in ((True, "o-", "fair queue"), (False, "s--", "in order of arrival")):
            axes.plot(LOADS, [told[load, fair][each.tenant].attainment() * 100 for load in LOADS], style, label=label)
        axes.set(title=each.name, xlabel="load, parts of the capacity")
    all_axes[0].set_ylabel(f"% with a place within {PROMISE_MS} ms")
    all_axes[0].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def draw(rows: list[tuple[float, int, int]], promised_ms: int, file: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    times = [row[0] for row in rows]
    axes.plot(times, [row[1] / 1000 for row in rows], "o-", label="fair queue")
    axes.plot(times, [row[2] / 1000 for row in rows], "s--", label="one queue in order of arrival")
    axes.axhline(promised_ms / 1000, color="grey", linestyle=":", label="promised bound")
    axes.set(xlabel="flood of another tenant, times the capacity", ylabel="p99 of a modest tenant, s", yscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
