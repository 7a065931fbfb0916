"""Models and their variants, as scheduler and gateway both see them. serving/catalogue.py makes them from its files."""

from __future__ import annotations

from dataclasses import dataclass

from policies.model.units import ModelId, VariantId
from policies.model.workload import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a model: precision, engine, shapes."""

    id: VariantId
    engine: str
    """Name in ``serving.engines.ENGINES``."""
    precision: str
    weights: str
    """File or folder of the weights below the cache; empty for engines without weights."""
    weights_mib: int
    sha256: str = ""
    shapes: tuple[Shape, ...] = ()
    """Acceptable shapes, best first; each becomes a rung of the ladder."""
    cold_start_ms: int = 10_000
    """Measured or published time from start to the first answer."""
    tokens_per_s: int = 0
    """Output tokens per second of one request; 0 if not known."""
    kv_bytes_per_token: int = 0
    """GPU memory that one token of context holds; 0 if not known."""
    provenance: str = ""
    """Where the figures come from: ``measured``, or the published source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A language model that tenants ask for by name, with its variants, best quality first."""

    id: ModelId
    variants: tuple[Variant, ...]
    context_tokens: int
    modalities: tuple[str, ...] = ("text",)
    licence: str = ""

    def ladder(self) -> tuple[Shape, ...]:
        """Return the shapes of all variants, best variant first: the ladder of a serving claim."""
        return tuple(shape for variant in self.variants for shape in variant.shapes)
