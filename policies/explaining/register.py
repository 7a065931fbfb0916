"""Nouns by name that change by few at a time, told in the order of their names again and again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

N = TypeVar("N")
K = TypeVar("K", bound=str)

MUCH = 8
"""If more than one in so many came, went or was exchanged, all are sorted again."""
STRETCH = 256
"""Names that lie together at first; a stretch that grew to twice as many is divided."""


@dataclass(slots=True)
class Register(Generic[K, N]):
    """Nouns by name. Names are sorted once; afterwards only those that changed are looked for."""

    known: dict[K, N] = field(default_factory=dict)
    """To be read; changed by ``exchange`` and ``drop`` alone."""
    _names: list[list[K]] = field(default_factory=list)
    """Sorted, in stretches, so that one that comes or goes moves only its neighbours."""
    _nouns: list[list[N]] = field(default_factory=list)
    """Of these names."""
    _least: list[K] = field(default_factory=list)
    """Of each stretch: all of its names and none of those before it are as great, but in the first one."""
    _told: tuple[N, ...] = ()
    """All of them, in order."""
    _changed: set[K] = field(default_factory=set)
    """Names that came or went since then, or whose noun was exchanged."""

    def exchange(self, gone: Iterable[K], nouns: Mapping[K, N]) -> None:
        """Take out those of these names, where there are any, then add or exchange all of the nouns."""
        for name in gone:
            self.drop(name)
        if not self.known and not self._told:
            self.known.update(nouns)
            return
        known = self.known
        for name, noun in nouns.items():
            if known.get(name) is not noun:
                self._changed.add(name)
                known[name] = noun

    def drop(self, name: K) -> None:
        """Take the noun of that name out, if there is one."""
        if name in self.known:
            del self.known[name]
            self._changed.add(name)

    def told(self) -> tuple[N, ...]:
        """Return the nouns, sorted by name: the same tuple as before if nothing changed.

        Cost: a search for each that changed, and a copy of the list.
        """
        if len(self._changed) * MUCH > len(self.known) or not self._names:
            self._sort()
        elif self._changed:
            for name in sorted(self._changed):
                self._bring_up(name)
            self._told = tuple(chain.from_iterable(self._nouns))
        self._changed.clear()
        return self._told

    def _sort(self) -> None:
        names = sorted(self.known)
        self._told = tuple(map(self.known.__getitem__, names))
        places = range(0, len(names), STRETCH)
        self._names = [names[place : place + STRETCH] for place in places]
        self._nouns = [list(self._told[place : place + STRETCH]) for place in places]
        self._least = [some[0] for some in self._names]

    def _bring_up(self, name: K) -> None:
        at = max(0, bisect_right(self._least, name) - 1)
        names, nouns = self._names[at], self._nouns[at]
        place = bisect_left(names, name)
        is_there = place < len(names) and names[place] == name
        if name not in self.known:
            if is_there:
                del names[place], nouns[place]
        elif is_there:
            nouns[place] = self.known[name]
        else:
            names.insert(place, name)
            nouns.insert(place, self.known[name])
            if len(names) > 2 * STRETCH:
                self._divide(at)

    def _divide(self, at: int) -> None:
        names, nouns = self._names[at], self._nouns[at]
        self._names[at : at + 1] = [names[:STRETCH], names[STRETCH:]]
        self._nouns[at : at + 1] = [nouns[:STRETCH], nouns[STRETCH:]]
        self._least.insert(at + 1, names[STRETCH])
