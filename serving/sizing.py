"""Devices that a load needs on each variant of a model: the formula first, then a rehearsal, request by request."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from random import Random  # noqa: TID251  # seeded by the caller's number: the same question has the same answer
from typing import Any

import yaml

from policies.capacity import Load, NoSize, Promise, Sizing, Speed, Tokens, size
from policies.model.catalogue import Model, Variant
from policies.model.codec import from_plain
from policies.model.workload import Shape
from serving.errors import ServingError

REHEARSED_REQUESTS = 20_000
"""Requests of one rehearsal: a thousand of them lie above the ninety-fifth percentile."""
MOST_STEPS = 60
"""Times that a rehearsal that breaks the promise is repeated with more replicas."""
READING_PERMILLE = 400
"""Part of the data sheet's arithmetic that reading prompts reaches, where nobody measured it. An assumption."""
BYTES = {"f32": 4.0, "bf16": 2.0, "f16": 2.0, "fp8": 1.0, "q8_0": 1.0, "q4_0": 0.5, "awq": 0.5, "nvfp4": 0.5}


class UnknownWorkload(ServingError):
    """No shipped workload has this name."""

    code = "unknown_workload"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(name, tuple(known))
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        return f"there is no workload {self.name!r}; choose one of {', '.join(self.known)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A load to plan with; policies/profiles/workloads.yaml."""

    id: str
    title: str
    variation_permille: int
    prompt: Tokens
    answer: Tokens
    promise: Promise
    peak_permille: int
    """Busiest hour, in thousandths of the mean one."""
    provenance: tuple[str, ...]
    per_user_per_year: int = 0
    busy_hours_per_year: int = 8760
    """Hours over which a year's requests are spread."""
    requests_per_hour: int = 0
    """Mean, for loads that do not grow with a number of users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A kind of device; policies/profiles/accelerators.yaml."""

    id: str
    dense_teraflops: int
    watts: int
    dollars: tuple[int, int]
    """Prices that others state, from and to."""
    provenance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one variant needs for the load; ``refusal`` says why it can't carry it."""

    variant: str
    quality: int
    refusal: str = ""
    formula_replicas: int = 0
    replicas: int = 0
    """With which the rehearsal kept the promise."""
    gpu_millis: int = 0
    busy_permille: int = 0
    first_token_p95_ms: int = 0
    """In the rehearsal."""
    watts: int = 0
    dollars: tuple[int, int] = (0, 0)
    """For whole devices."""
    assumptions: tuple[str, ...] = ()


def workloads() -> dict[str, Workload]:
    """Return the shipped workloads by name."""
    return {one.id: one for one in (from_plain(Workload, row) for row in _shipped("workloads.yaml"))}


def accelerators() -> dict[str, Accelerator]:
    """Return the known kinds of device by flavor."""
    return {one.id: one for one in (from_plain(Accelerator, row) for row in _shipped("accelerators.yaml"))}


def workload(name: str) -> Workload:
    """Return the shipped workload of this name. Raises ``UnknownWorkload``."""
    known = workloads()
    if name not in known:
        raise UnknownWorkload(name, sorted(known))
    return known[name]


def busiest(load: Workload, users: int, requests_per_hour: int | None) -> Load:
    """Return the load of the busiest hour; ``requests_per_hour`` is the mean, instead of the workload's own."""
    mean = requests_per_hour or load.requests_per_hour or users * load.per_user_per_year // load.busy_hours_per_year
    return Load(
        requests_per_hour=max(1, mean * load.peak_permille // 1000),
        variation_permille=load.variation_permille,
        prompt=load.prompt,
        answer=load.answer,
    )


def needs(model: Model, load: Load, promise: Promise, *, least: int = 1, seed: int = 1) -> list[Need]:
    """Return what each variant of the model needs, best quality first; one of unknown speed is refused."""
    known = accelerators()
    found: list[Need] = []
    for variant in (one for one in model.variants if one.shapes):
        device = next((known[flavor] for flavor in variant.shapes[0].flavors if flavor in known), None)
        found.append(_need(variant, device, (load, promise), least, seed))
    return found


def rehearse(load: Load, speed: Speed, replicas: int, seed: int) -> int:
    """Return the first-token time in ms that 95 of 100 of ``REHEARSED_REQUESTS`` requests did not exceed.

    First come, first served; times between requests are gamma, lengths lognormal, all drawn from ``seed``.
    """
    chance = Random(seed)  # noqa: S311  # lengths of prompts, not a secret
    shape = 1_000_000 / max(1, load.variation_permille) ** 2
    between = 3_600_000 / load.requests_per_hour / shape
    free = [0.0] * (replicas * speed.slots)
    now, waited = 0.0, []
    for _ in range(REHEARSED_REQUESTS):
        now += chance.gammavariate(shape, between)
        reading = _drawn(chance, load.prompt) * 1000 / speed.prompt_tokens_per_s
        writing = _drawn(chance, load.answer) * 1000 / speed.answer_tokens_per_s
        begins = max(now, free[0])
        heapq.heapreplace(free, begins + reading + writing)
        waited.append(begins - now + reading)
    return int(sorted(waited)[len(waited) * 95 // 100]) + 1


def _need(variant: Variant, device: Accelerator | None, asked: tuple[Load, Promise], least: int, seed: int) -> Need:
    shape, (load, promise) = variant.shapes[0], asked
    if not variant.tokens_per_s:
        return _refused(
            variant, shape, "its speed is not known: `partage model bench` measures it, `--tokens-per-s` says it"
        )
    speed, assumptions = _speed(variant, shape, device)
    if speed is None:
        return _refused(variant, shape, "how fast it reads prompts is not known for any of its devices")
    found = size(load, promise, speed, least)
    if isinstance(found, NoSize):
        return _refused(variant, shape, found.sentence)
    kept = _kept(load, promise, speed, found, seed)
    if kept is None:
        return _refused(variant, shape, "no rehearsal kept the promise: the load comes in bursts too large for a queue")
    replicas, first_ms = kept
    millis = replicas * shape.gpu_millis * shape.devices
    whole = -(-millis // 1000)
    return Need(
        variant=variant.id, quality=shape.quality, formula_replicas=found.replicas, replicas=replicas,
        gpu_millis=millis,
        busy_permille=found.busy_permille * found.replicas // replicas, first_token_p95_ms=first_ms,
        watts=whole * device.watts if device else 0, assumptions=assumptions,
        dollars=(whole * device.dollars[0], whole * device.dollars[1]) if device else (0, 0),
    )  # fmt: skip


def _kept(load: Load, promise: Promise, speed: Speed, start: Sizing, seed: int) -> tuple[int, int] | None:
    """Return the least number of replicas from the formula's on with which the rehearsal kept the promise."""
    replicas = start.replicas
    for _ in range(MOST_STEPS):
        first_ms = rehearse(load, speed, replicas, seed)
        if first_ms <= promise.first_token_ms:
            return replicas, first_ms
        replicas += max(1, replicas // 8)
    return None


def _speed(variant: Variant, shape: Shape, device: Accelerator | None) -> tuple[Speed | None, tuple[str, ...]]:
    width = BYTES.get(variant.precision)
    if device is None or width is None or not variant.weights_mib:
        return None, ()
    parameters = variant.weights_mib * 1_048_576 / width
    flops = device.dense_teraflops * 1e12 * READING_PERMILLE / 1000 * shape.devices * shape.gpu_millis / 1000
    reading = max(1, int(flops / (2 * parameters)))
    said = (
        f"reads {reading} prompt tokens a second: {READING_PERMILLE // 10} % of its devices' arithmetic",
        f"writes {variant.tokens_per_s} tokens a second in each of {shape.concurrency} requests ({variant.provenance})",
    )
    return Speed(slots=shape.concurrency, answer_tokens_per_s=variant.tokens_per_s, prompt_tokens_per_s=reading), said


def _refused(variant: Variant, shape: Shape, why: str) -> Need:
    return Need(variant=variant.id, quality=shape.quality, refusal=why)


def _drawn(chance: Random, length: Tokens) -> float:
    return max(1, length.p50) * float(chance.lognormvariate(0, length.sigma)) if length.sigma else max(1, length.p50)


def _shipped(name: str) -> list[Any]:
    rows: list[Any] = yaml.safe_load((resources.files("policies") / "profiles" / name).read_text(encoding="utf-8"))
    return rows
