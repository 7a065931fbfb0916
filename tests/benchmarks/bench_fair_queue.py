"""``python -m tests.benchmarks.bench_fair_queue``: what the fair queue is worth, in virtual time.

First a flood of growing size, from a tenant of the same class and of a higher one, beside a modest tenant; then the
recorded arrivals (Azure 2023 conversation and code, Mooncake conversation) of three tenants of different classes at one
model, compressed until they ask for a given part of what the model can do. Each is told with the fair queue and with
one queue in order of arrival. What the class that gains least pays, and for what, is told by taking away one rule at a
time. With ``--figure`` the flood is drawn.
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
from typing import Any

from serving.gateway.dispatch import Dispatcher, Order
from serving.gateway.errors import Overloaded
from serving.gateway.fair import PATIENCE_MS, RESERVED_PART
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


@dataclass(frozen=True)
class Rules:
    """Which rules order the queue."""

    tenants: bool = True
    """False: one queue in order of arrival."""
    classes: bool = True
    weights: bool = True
    by_time: bool = False
    """A request is charged with its time in a place, not with its tokens."""


FAIR, ARRIVAL = Rules(), Rules(tenants=False)
ONE_LESS = {
    "as it is": FAIR,
    "all of equal weight": Rules(weights=False),
    "charged by time, not tokens": Rules(by_time=True),
    "all of one class": Rules(classes=False),
    "in order of arrival": ARRIVAL,
}


def requests_at(load: float) -> list[Recorded]:
    """Return the requests of all three, a third of the load each, until the first recording ends."""
    parts = [scaled(each, load / len(CLASSES)) for each in recordings()]
    ends_ms = min(part[-1].at_ms for part in parts)
    return sorted((r for part in parts for r in part if r.at_ms <= ends_ms), key=lambda r: r.at_ms)


def replay(load: float, rules: Rules) -> dict[str, Kept]:
    return virtual.run(_replay(requests_at(load), rules))


async def _replay(requests: list[Recorded], rules: Rules) -> dict[str, Kept]:
    kept = {each.tenant: Kept() for each in CLASSES}
    dispatcher = Dispatcher(virtual.now_ms)
    dispatcher.apply(table(route(group("g1", concurrency=PLACES), shared_with=(TAX, DEFENCE))))
    line = dispatcher.line(JUSTICE, MODEL)
    classes = {each.tenant: each for each in CLASSES}

    async def one(request: Recorded) -> None:
        own = classes[request.tenant]
        cost = max(1, request.service_ms) if rules.by_time else request.prompt + request.answer
        order = Order(
            tenant=request.tenant if rules.tenants else "everyone",
            cost=cost,
            wait_ms=60_000,
            weight=own.weight if rules.tenants and rules.weights else 1,
            priority=own.priority if rules.tenants and rules.classes else 0,
        )
        began = virtual.now_ms()
        try:
            lease = await dispatcher.lease(line, order)
        except Overloaded:
            kept[request.tenant].shed += 1
            return
        kept[request.tenant].waits_ms.append(virtual.now_ms() - began)
        await asyncio.sleep(request.service_ms / 1000)
        dispatcher.give_back(lease, used=cost)

    async with asyncio.TaskGroup() as running:
        for request in requests:
            await asyncio.sleep(max(0.0, request.at_ms / 1000 - asyncio.get_running_loop().time()))
            running.create_task(one(request))
    return kept


def flooded(figure: Path | None) -> list[str]:
    """Return a modest tenant's p99 for each size of flood, beside what is promised; draw it if asked."""
    alone = flood(0, slots=SLOTS // 2).p99_ms()
    promised = alone + 2 * LONGEST_MS
    quarter = flood(0, slots=SLOTS // RESERVED_PART).p99_ms()
    from_above = PATIENCE_MS + quarter + 2 * LONGEST_MS
    lines = [
        f"p99 of a modest tenant, ms; {alone} with its share of the places to itself, promised {promised};",
        f"beside a flood of a higher class promised {from_above}: {PATIENCE_MS} of patience, then as with a quarter",
        f"of the places to itself ({quarter})",
    ]
    rows = [Flooded(times, *(_p99(times, **how) for how in FLOODED)) for times in FLOODS]
    for row in rows:
        kept = "kept" if row.fair <= promised and row.above <= from_above else "BROKEN"
        lines.append(
            f"  flood {row.times:5} times the capacity   fair {row.fair:6}   from a higher class {row.above:6} "
            f"{kept}   in order of arrival {row.arrival:6}"
        )
    if figure:
        draw(rows, (promised, from_above), figure)
    return lines


@dataclass(frozen=True)
class Flooded:
    """p99 of the modest tenant in ms, beside a flood of so many times the capacity."""

    times: float
    fair: int
    above: int
    arrival: int


FLOODED: tuple[dict[str, Any], ...] = ({}, {"priority": 10}, {"fair": False})


def _p99(times: float, **how: Any) -> int:
    return flood(times * CAPACITY_PER_S, **how).p99_ms()


def replayed(figure: Path | None) -> list[str]:
    """Return how many requests of each class found a place in time, with the fair queue and without, and why."""
    if not DATA.exists():
        return [f"no recordings at {DATA}: the replay is left out"]
    lines = [f"requests that wait at most {PROMISE_MS} ms for a place"]
    told = {(load, rules): replay(load, rules) for load in LOADS for rules in (FAIR, ARRIVAL)}
    for load in LOADS:
        for each in CLASSES:
            ours, theirs = (told[load, rules][each.tenant].attainment() for rules in (FAIR, ARRIVAL))
            lines.append(f"  load {load:3}  {each.name:32} fair {ours:7.1%}   in order of arrival {theirs:7.1%}")
    if figure:
        draw_replay(told, figure)
    return lines + brought(LOADS[0]) + one_less(LOADS[0])


def brought(load: float) -> list[str]:
    """Return what part of the tokens and of the time in places each class asks for, and what it is promised."""
    requests = requests_at(load)
    lines = ["what each asks for, and how it is ranked"]
    tokens, time_ms = sum(r.prompt + r.answer for r in requests), sum(r.service_ms for r in requests)
    for each in CLASSES:
        own = [r for r in requests if r.tenant == each.tenant]
        of_tokens, of_time = sum(r.prompt + r.answer for r in own) / tokens, sum(r.service_ms for r in own) / time_ms
        lines.append(
            f"  {each.name:32} {len(own):5} requests  {of_tokens:6.1%} of the tokens  {of_time:6.1%} of the time in "
            f"places   class {each.priority:2}, weight {each.weight}"
        )
    return lines


def one_less(load: float) -> list[str]:
    """Return the attainment of all classes with one rule of the queue taken away at a time."""
    lines = [f"at load {load}, with one rule changed at a time"]
    for name, rules in ONE_LESS.items():
        kept = replay(load, rules)
        each = "   ".join(f"{one.name.split()[0]} {kept[one.tenant].attainment():6.1%}" for one in CLASSES)
        lines.append(f"  {name:28} {each}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="PNG of the flood, needs matplotlib")
    options = parser.parse_args()
    for line in flooded(options.figure) + replayed(None):
        print(line)


def draw_replay(told: dict[tuple[float, Rules], dict[str, Kept]], file: Path) -> None:
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(1, len(CLASSES), figsize=(9, 3.5), sharey=True)
    for axes, each in zip(all_axes, CLASSES, strict=True):
        for rules, style, label in ((FAIR, "o-", "fair queue"), (ARRIVAL, "s--", "in order of arrival")):
            axes.plot(LOADS, [told[load, rules][each.tenant].attainment() * 100 for load in LOADS], style, label=label)
        axes.set(title=each.name, xlabel="load, parts of the capacity")
    all_axes[0].set_ylabel(f"% with a place within {PROMISE_MS} ms")
    all_axes[0].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def draw(rows: list[Flooded], promised_ms: tuple[int, int], file: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    times = [row.times for row in rows]
    axes.plot(times, [row.fair / 1000 for row in rows], "o-", color="C0", label="fair queue, flood of the same class")
    axes.plot(times, [row.above / 1000 for row in rows], "^-", color="C2", label="fair queue, flood of a higher class")
    axes.plot(times, [row.arrival / 1000 for row in rows], "s--", color="C1", label="one queue in order of arrival")
    for bound_ms, color in zip(promised_ms, ("C0", "C2"), strict=True):
        axes.axhline(bound_ms / 1000, color=color, linestyle=":", label=f"promised, {bound_ms / 1000:.1f} s")
    axes.set(xlabel="flood of another tenant, times the capacity", ylabel="p99 of a modest tenant, s", yscale="log")
    axes.legend(loc="center right", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
