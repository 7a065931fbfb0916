"""What differs between two snapshots, found by identity first: what an observer hands on unchanged costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Generic, TypeVar

N = TypeVar("N")
K = TypeVar("K")

FEW = 16
"""If more than one in so many differ after going through both lists in order, these are compared by identity."""
STEP = 128
"""Places compared at a time."""
NEAR = 4
"""How far ahead the next object of both lists is looked for at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[K, N]):
    """What became of one list of nouns, by key."""

    gone: dict[K, N]
    """As they were: those that are no more, and those that are now different."""
    new: dict[K, N]
    """As they are: those that were not there, and those that were different."""

    def __bool__(self) -> bool:
        """Say whether anything changed."""
        return bool(self.gone or self.new)

    def leaves(self, count: int, known: Container[K]) -> int:
        """Return how many keys there are once it is applied to so many known ones."""
        came = sum(1 for key in self.new if key not in known)
        return count - len(self.gone.keys() - self.new.keys()) + came

    def apply(self, known: dict[K, N]) -> None:
        """Bring a dictionary of the nouns up to date."""
        for key in self.gone.keys() - self.new.keys():
            del known[key]
        known.update(self.new)


def between(before: Sequence[N], after: Sequence[N], key: Callable[[N], K]) -> Change[K, N]:
    """Return what changed from one list to the other. Keys must be unique in each.

    Nouns that are equal count as unchanged, whether they are the same object or not. Cost: a few milliseconds for each
    hundred thousand, and a comparison for each object that is not the same.
    """
    if before is after:
        return Change(gone={}, new={})
    old, new = _by_steps(before, after)
    if (len(old) + len(new)) * FEW > len(before) + len(after):
        old, new = _by_identity(old, new)
    gone, fresh = {key(one): one for one in old}, {key(one): one for one in new}
    for name in [name for name, one in fresh.items() if name in gone and (gone[name] is one or gone[name] == one)]:
        del gone[name], fresh[name]
    return Change(gone=gone, new=fresh)


def _by_steps(before: Sequence[N], after: Sequence[N]) -> tuple[list[N], list[N]]:
    """Return what is left of each list when what is the same object in both is taken out, in the order of both.

    What only stands elsewhere is left in both. Cost: a step over each stretch that is the same, and a look at as many
    others as differ in one place.
    """
    old: list[N] = []
    new: list[N] = []
    here = there = 0
    while here < len(before) and there < len(after):
        same = _alike(before[here : here + STEP], after[there : there + STEP])
        here, there = here + same, there + same
        if same < STEP and here < len(before) and there < len(after):
            gone, came = _apart(before, here, after, there)
            old += before[here : here + gone]
            new += after[there : there + came]
            here, there = here + gone, there + came
    return [*old, *before[here:]], [*new, *after[there:]]


def _alike(before: Sequence[N], after: Sequence[N]) -> int:
    """Return at how many places from the first on both hold the same object."""
    same = list(map(is_, before, after))
    return same.index(False) if False in same else len(same)


def _apart(before: Sequence[N], here: int, after: Sequence[N], there: int) -> tuple[int, int]:
    """Return how many of each list come before the next object that both have, looked for in ever wider sight."""
    sight = NEAR
    while True:
        place = {id(one): index for index, one in enumerate(after[there : there + sight])}
        for index, one in enumerate(before[here : here + sight]):
            if id(one) in place:
                return index, place[id(one)]
        if here + sight >= len(before) and there + sight >= len(after):
            return len(before) - here, len(after) - there
        sight *= 2


def _by_identity(before: Sequence[N], after: Sequence[N]) -> tuple[list[N], list[N]]:
    old, new = dict(zip(map(id, before), before, strict=True)), dict(zip(map(id, after), after, strict=True))
    return [old[one] for one in old.keys() - new.keys()], [new[one] for one in new.keys() - old.keys()]
