"""The models on offer, read from the file that preparing the weights leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from policies.model.catalogue import Model
from policies.model.codec import from_plain


class Catalogue:
    """Callable that returns the models; reads the file again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, tuple[Model, ...]] = (0, ())

    def __call__(self) -> tuple[Model, ...]:
        """Return the models, or none while there is no file."""
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        if self._read[0] != changed:
            self._read = (changed, models_in(self._path.read_text()))
        return self._read[1]


def models_in(text: str) -> tuple[Model, ...]:
    """Return the models of a catalogue document: a list, or an object with the list under ``models``."""
    found = json.loads(text)
    listed = found["models"] if isinstance(found, dict) else found
    return tuple(from_plain(Model, model) for model in listed)
