"""Nouns by name that change by few at a time, told in the order of their names again and again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

N = TypeVar("N")
K = TypeVar("K", bound=str)

MUCH = 16
"""If more than one in so many came or went, all are sorted again; if so many were exchanged, all are looked up."""


@dataclass(slots=True)
class Register(Generic[K, N]):
    """Nouns by name. Names are sorted once; afterwards only those that came or went are looked for."""

    known: dict[K, N] = field(default_factory=dict)
    """To be read; changed by ``put_all`` and ``drop`` alone."""
    _names: list[K] = field(default_factory=list)
    _told: tuple[N, ...] = ()
    """In the order of ``_names``."""
    _unsorted: set[K] = field(default_factory=set)
    """Names that came or went since then."""
    _renewed: set[K] = field(default_factory=set)
    """Names whose noun was exchanged since then."""

    def put_all(self, nouns: Mapping[K, N]) -> None:
        """Add or exchange all of them."""
        if not self.known and not self._told:
            self.known.update(nouns)
            return
        known = self.known
        for name, noun in nouns.items():
            before = known.get(name)
            if before is not noun:
                (self._unsorted if before is None else self._renewed).add(name)
                known[name] = noun

    def drop(self, name: K) -> None:
        """Take the noun of that name out, if there is one."""
        if name in self.known:
            del self.known[name]
            self._unsorted.add(name)

    def told(self) -> tuple[N, ...]:
        """Return the nouns, sorted by name: the same tuple as before if nothing changed.

        Cost: sorting what came or went, and a search for what was exchanged.
        """
        if len(self._unsorted) * MUCH > len(self.known) or not self._names:
            self._names = sorted(self.known)
            self._told = tuple(map(self.known.__getitem__, self._names))
        elif self._unsorted or self._renewed:
            names, nouns = self._brought_up(sorted(self._unsorted))
            if len(self._renewed) * MUCH > len(names):
                nouns = list(map(self.known.__getitem__, names))
            else:
                for name in self._renewed - self._unsorted:
                    nouns[bisect_left(names, name)] = self.known[name]
            self._names, self._told = names, tuple(nouns)
        self._unsorted.clear()
        self._renewed.clear()
        return self._told

    def _brought_up(self, changed: Iterable[K]) -> tuple[list[K], list[N]]:
        """Return names and nouns after these changes, the stretches between them as they were."""
        before, at = self._names, 0
        names: list[K] = []
        nouns: list[N] = []
        for name in changed:
            place = bisect_left(before, name, at)
            names += before[at:place]
            nouns += self._told[at:place]
            at = place + (place < len(before) and before[place] == name)
            if name in self.known:
                names.append(name)
                nouns.append(self.known[name])
        return names + before[at:], [*nouns, *self._told[at:]]
