"""Measured figures in place of published ones: an engine is opened here and asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from policies.model.catalogue import Model, Variant
from serving.engines import open_engine
from serving.engines.protocol import Call, Engine, EngineSpec, PieceKind

PROMPTS = (
    "Explain in two sentences why the sky is blue.",
    "List three rules for writing a clear letter to a citizen.",
    "Summarise: the council met on Monday and agreed to repair the bridge before winter.",
    "What is the capital of Luxembourg, and which languages are spoken there?",
)
ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one variant does on this machine."""

    variant: str
    cold_start_ms: int
    """From opening the verified weights to the first token."""
    first_token_ms: int
    """Median, uncached prompt, one request at a time."""
    tokens_per_s: int
    """Of one request."""
    concurrent_tokens_per_s: int
    """Of as many requests as the shape's concurrency, together."""
    same_as_best_permille: int
    """Thousandths of the words, answer for answer from the start, that are those of the model's best variant."""


Clock = Callable[[], int]
"""Monotonic nanoseconds."""


def measure(model: Model, cache: Path, clock: Clock, threads: int = 1) -> tuple[Measured, ...]:
    """Return the figures of each variant in the ladder's order, one after another. Minutes on a CPU."""
    found: list[Measured] = []
    reference: list[str] = []
    for variant in model.variants:
        figures, said = asyncio.run(_measure(model, variant, cache, (clock, threads)))
        reference = reference or said
        found.append(replace(figures, same_as_best_permille=_agreement(reference, said)))
    return tuple(found)


async def _measure(model: Model, variant: Variant, cache: Path, how: tuple[Clock, int]) -> tuple[Measured, list[str]]:
    clock, threads = how
    concurrency = max((shape.concurrency for shape in variant.shapes), default=1)
    spec = EngineSpec(
        group="bench",
        model=model.id,
        variant=variant.id,
        engine=variant.engine,
        weights=cache / variant.weights if variant.weights else None,
        sha256=variant.sha256,
        context=model.context_tokens,
        concurrency=concurrency,
        threads=threads,
    )
    began = clock()
    engine = open_engine(spec)
    try:
        await engine.start()
        await _ask(engine, PROMPTS[0], clock, tokens=1)
        cold_ms = (clock() - began) // 1_000_000
        alone = [await _ask(engine, prompt, clock) for prompt in PROMPTS]
        began = clock()
        together = await asyncio.gather(*(_ask(engine, f"{n}. {PROMPTS[0]}", clock) for n in range(concurrency)))
        together_s = (clock() - began) / 1e9
    finally:
        await engine.close()
    firsts = sorted(first for _, first, _, _ in alone)
    speed = sum(count for _, _, count, _ in alone) * 1_000 / max(1, sum(rest for _, _, _, rest in alone))
    figures = Measured(
        variant=variant.id,
        cold_start_ms=cold_ms,
        first_token_ms=firsts[len(firsts) // 2],
        tokens_per_s=round(speed),
        concurrent_tokens_per_s=round(sum(count for _, _, count, _ in together) / together_s),
        same_as_best_permille=0,
    )
    return figures, [said for said, _, _, _ in alone]


async def _ask(engine: Engine, prompt: str, clock: Clock, tokens: int = ANSWER_TOKENS) -> tuple[str, int, int, int]:
    """Return what was said, ms to the first chunk, tokens after it, and ms that these took."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0, "stream": True}
    began, first, said, count = clock(), 0, "", 0
    async for piece in engine.answer(Call(operation="chat", body=body)):
        if piece.kind == PieceKind.DATA:
            text = json.loads(piece.payload)["choices"][0]["delta"].get("content") or ""
            first = first or (clock() if text else 0)
            said += text
        elif piece.kind == PieceKind.USAGE:
            count = json.loads(piece.payload)["completion_tokens"]
    first = first or clock()
    return said, (first - began) // 1_000_000, max(0, count - 1), (clock() - first) // 1_000_000


def _agreement(reference: list[str], said: list[str]) -> int:
    same = total = 0
    for ours, theirs in zip(reference, said, strict=True):
        words, others = ours.split(), theirs.split()
        total += len(words)
        for word, other in zip(words, others, strict=False):
            if word != other:
                break
            same += 1
    return same * 1_000 // max(1, total)


def written_back(model: Model, figures: tuple[Measured, ...], provenance: str) -> Model:
    """Return the model with measured speed and cold start in place of what stood there, and saying so."""
    by_name = {each.variant: each for each in figures}
    return replace(model, variants=tuple(_with(v, by_name.get(v.id), provenance) for v in model.variants))


def _with(variant: Variant, figures: Measured | None, provenance: str) -> Variant:
    if figures is None:
        return variant
    return replace(
        variant, tokens_per_s=figures.tokens_per_s, cold_start_ms=figures.cold_start_ms, provenance=provenance
    )
