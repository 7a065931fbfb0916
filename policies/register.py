"""Nouns by name that change by few at a time, told in the order of their names again and again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

N = TypeVar("N")
K = TypeVar("K", bound=str)


@dataclass(slots=True)
class Register(Generic[K, N]):
    """Nouns by name. Names are sorted once; afterwards only those that came or went are looked for."""

    known: dict[K, N] = field(default_factory=dict)
    """To be read; changed by ``put`` and ``drop`` alone."""
    _names: list[K] = field(default_factory=list)
    _unsorted: set[K] = field(default_factory=set)
    """Names that came or went since the names were sorted."""

    def put(self, name: K, noun: N) -> None:
        """Add the noun, or exchange that of its name."""
        if name not in self.known:
            self._unsorted.add(name)
        self.known[name] = noun

    def put_all(self, nouns: Mapping[K, N]) -> None:
        """Add or exchange all of them."""
        for name, noun in nouns.items():
            self.put(name, noun)

    def drop(self, name: K) -> None:
        """Take the noun of that name out, if there is one."""
        if name in self.known:
            del self.known[name]
            self._unsorted.add(name)

    def told(self) -> tuple[N, ...]:
        """Return the nouns, sorted by name. Cost: a look-up for each, and sorting what came or went."""
        if self._unsorted:
            self._names = self._sorted(sorted(self._unsorted))
            self._unsorted.clear()
        return tuple(map(self.known.__getitem__, self._names))

    def _sorted(self, changed: Iterable[K]) -> list[K]:
        before, at = self._names, 0
        names: list[K] = []
        for name in changed:
            place = bisect_left(before, name, at)
            names += before[at:place]
            at = place + (place < len(before) and before[place] == name)
            if name in self.known:
                names.append(name)
        return names + before[at:]
