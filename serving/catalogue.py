"""The models that can be shared out: data in serving/models/*.yaml, each figure with where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from policies.model.catalogue import Model, Variant
from policies.model.codec import from_plain
from policies.model.workload import Shape
from serving.errors import CatalogueFault, UnknownModel

SHIPPED = Path(__file__).parent / "models"
DEFAULT_MODEL = "smollm2-135m-instruct"
MEASURED = ".measured.yaml"
ABOUT = ("family", "licence_source", "source", "architecture", "tokenizer", "published")
"""Keys of a model in a file that are not of ``Model``."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the weights of a model come from when they are made on this machine."""

    package: str
    """Distribution, installed from the package index, that holds the file."""
    file: str
    """Path of the file inside the distribution."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What memory follows from, as published."""

    parameters_millions: int
    source: str
    layers: int = 0
    """0 if not known."""
    kv_heads: int = 0
    head_dim: int = 0
    latent_dim: int = 0
    """Values that one layer keeps of a token where attention is compressed; 0 elsewhere."""

    def cached_values(self) -> int:
        """Return how many numbers one token of context holds; 0 if not known."""
        return self.layers * (self.latent_dim or 2 * self.kv_heads * self.head_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the catalogue and, if its weights are made here, from what."""

    model: Model
    family: str = ""
    licence_source: str = ""
    """Where the licence was read."""
    source: Source | None = None
    """None: the site brings the weights."""
    architecture: Architecture | None = None
    tokenizer: str = ""
    """Tokenizer in mistral-common that counts for this model; empty if none of them does."""
    published: tuple[str, ...] = ()
    """Figures of others about this model, each with its source; measured ones stand in the variants."""


def entries(*places: Path) -> tuple[Entry, ...]:
    """Return every model described in YAML files: the shipped ones, or those of the given folders and files.

    A file named ``<model>.measured.yaml`` replaces that model's entry with figures measured at this site. In order of
    place, then file name, then file. Raises ``CatalogueFault`` if a file does not describe models or two share a name.
    """
    files = [file for place in places or (SHIPPED,) for file in _files(place)]
    measured = {str(e.model.id): e for file in files if file.name.endswith(MEASURED) for e in _read(file)}
    found = [entry for file in files if not file.name.endswith(MEASURED) for entry in _read(file)]
    _require_unique(found, " and ".join(str(place) for place in places or (SHIPPED,)))
    return tuple(measured.get(str(entry.model.id), entry) for entry in found)


def require_complete(among: Iterable[Entry]) -> None:
    """Return if each variant with weights names an accepted format and has a SHA-256. Raises ``CatalogueFault``."""
    for entry in among:
        for variant in entry.model.variants:
            if variant.weights and not _SHA256.fullmatch(variant.sha256):
                raise CatalogueFault(str(variant.id), "a site's weights need their sha256 of 64 hex digits")


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.glob("*.yaml"))


def find(model: str, among: Iterable[Entry]) -> Entry:
    """Return the entry of this model. Raises ``UnknownModel``."""
    known = {str(entry.model.id): entry for entry in among}
    if model not in known:
        raise UnknownModel(model, tuple(sorted(known)))
    return known[model]


def find_variant(variant: str, among: Iterable[Entry]) -> Variant:
    """Return the variant of this name. Raises ``UnknownModel`` with the names of all variants."""
    known = {str(each.id): each for entry in among for each in entry.model.variants}
    if variant not in known:
        raise UnknownModel(variant, tuple(sorted(known)))
    return known[variant]


def _read(file: Path) -> tuple[Entry, ...]:
    try:
        documents = yaml.safe_load(file.read_text(encoding="utf-8"))
        return tuple(_entry(document) for document in documents)
    except (yaml.YAMLError, ValidationError, TypeError, KeyError) as fault:
        raise CatalogueFault(str(file), str(fault)) from fault


def _entry(document: dict[str, Any]) -> Entry:
    about = {key: document.pop(key) for key in ABOUT if key in document}
    model = from_plain(Model, document)
    return from_plain(Entry, about | {"model": replace(model, variants=tuple(_named(v) for v in model.variants))})


def _named(variant: Variant) -> Variant:
    """Write the variant's name into its shapes, so that a rung of a ladder says what it runs."""
    return replace(variant, shapes=tuple(_rung(shape, variant) for shape in variant.shapes))


def _rung(shape: Shape, variant: Variant) -> Shape:
    return replace(shape, variant=variant.id)


def _require_unique(found: list[Entry], where: str) -> None:
    names = [str(entry.model.id) for entry in found] + [str(v.id) for entry in found for v in entry.model.variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogueFault(where, f"{', '.join(twice)} named twice")
