"""The models that can be shared out: data in serving/models/*.yaml, each figure with where it comes from."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the weights of a model come from when they are made on this machine."""

    package: str
    """Distribution, installed from the package index, that holds the file."""
    file: str
    """Path of the file inside the distribution."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the catalogue and, if its weights are made here, from what."""

    model: Model
    family: str = ""
    source: Source | None = None
    """None: the site brings the weights."""
    published: tuple[str, ...] = ()
    """Figures of others about this model, each with its source; measured ones stand in the variants."""


def entries(folder: Path = SHIPPED) -> tuple[Entry, ...]:
    """Return every model described in the folder's YAML files, by file name, then in file order.

    Raises ``CatalogueFault`` if a file does not describe models or two models share a name.
    """
    found = tuple(entry for file in sorted(folder.glob("*.yaml")) for entry in _read(file))
    _require_unique(found, folder)
    return found


def find(model: str, among: Iterable[Entry]) -> Entry:
    """Return the entry of this model. Raises ``UnknownModel``."""
    known = {str(entry.model.id): entry for entry in among}
    if model not in known:
        raise UnknownModel(model, tuple(sorted(known)))
    return known[model]


def _read(file: Path) -> tuple[Entry, ...]:
    try:
        documents = yaml.safe_load(file.read_text(encoding="utf-8"))
        return tuple(_entry(document) for document in documents)
    except (yaml.YAMLError, ValidationError, TypeError, KeyError) as fault:
        raise CatalogueFault(str(file), str(fault)) from fault


def _entry(document: dict[str, Any]) -> Entry:
    about = {key: document.pop(key) for key in ("family", "source", "published") if key in document}
    model = from_plain(Model, document)
    return from_plain(Entry, about | {"model": replace(model, variants=tuple(_named(v) for v in model.variants))})


def _named(variant: Variant) -> Variant:
    """Write the variant's name into its shapes, so that a rung of a ladder says what it runs."""
    return replace(variant, shapes=tuple(_rung(shape, variant) for shape in variant.shapes))


def _rung(shape: Shape, variant: Variant) -> Shape:
    return replace(shape, variant=variant.id)


def _require_unique(found: tuple[Entry, ...], folder: Path) -> None:
    names = [str(entry.model.id) for entry in found] + [str(v.id) for entry in found for v in entry.model.variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogueFault(str(folder), f"{', '.join(twice)} named twice")
