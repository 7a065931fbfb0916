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
STEP = 64
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
        came = len(self.new) - sum(map(known.__contains__, self.new))
        return count - len(self.gone.keys() - self.new.keys()) + came

    def apply(self, known: dict[K, N]) -> None:
        """Bring a dictionary of the nouns up to date."""
        for key in self.gone.keys() - self.new.keys():
            del known[key]
        known.update(self.new)


def between(before: Sequence[N], after: Sequence[N], key: Callable[[N], K]) -> Change[K, N]:
    """Return what changed from one list to the other. Keys must be unique in each.

    Nouns that are equal count as unchanged, whether they are the same object or not. Cost: a few milliseconds for each
    hundred thousand, and a comparison for each object that is not the same. Lists in another order cost more.
    """
    if before is after:
        return Change(gone={}, new={})
    old, new = _by_steps(before, after, key)
    if old and new and (len(old) + len(new)) * FEW > len(before) + len(after):
        old, new = _by_identity(old, new)
    gone, fresh = {key(one): one for one in old}, {key(one): one for one in new}
    for name in [name for name, one in fresh.items() if name in gone and (gone[name] is one or gone[name] == one)]:
        del gone[name], fresh[name]
    return Change(gone=gone, new=fresh)


def _by_steps(before: Sequence[N], after: Sequence[N], key: Callable[[N], K]) -> tuple[list[N], list[N]]:
    """Return what is left of each list when what is equal in both is taken out, in the order of both.

    What only stands elsewhere is left in both, and all the rest once that is much. Cost: a step over each stretch that
    is the same, and a look at as many others as differ in one place.
    """
    old: list[N] = []
    new: list[N] = []
    here = there = 0
    many = (len(before) + len(after)) // FEW
    while here < len(before) and there < len(after) and len(old) + len(new) <= many:
        same = _alike(before[here : here + STEP], after[there : there + STEP], key)
        here, there = here + same, there + same
        if same < STEP and here < len(before) and there < len(after):
            gone, came = _apart(before, here, after, there, key)
            old += before[here : here + gone]
            new += after[there : there + came]
            here, there = here + gone, there + came
    return [*old, *before[here:]], [*new, *after[there:]]


def _alike(before: Sequence[N], after: Sequence[N], key: Callable[[N], K]) -> int:
    """Return at how many places from the first on both hold the same object, or one that is equal."""
    if before == after:  # goes by identity first, and takes no step of Python where objects are the same
        return len(before)
    same = list(map(is_, before, after))
    if False not in same:
        return len(same)
    first = same.index(False)
    rest = zip(before[first:], after[first:], strict=False)  # whoever came or went differs in its key already
    apart = (index for index, (one, other) in enumerate(rest) if key(one) != key(other) or one != other)
    return first + next(apart, len(same) - first)


def _apart(before: Sequence[N], here: int, after: Sequence[N], there: int, key: Callable[[N], K]) -> tuple[int, int]:
    """Return how many of each list come before the next key that both have, looked for in ever wider sight.

    Where both begin with the same key and differ, it is these two. Most often one went or came, which is seen at once.
    """
    if key(before[here]) == key(after[there]):
        return 1, 1
    if here + 1 < len(before) and before[here + 1] is after[there]:
        return 1, 0
    if there + 1 < len(after) and before[here] is after[there + 1]:
        return 0, 1
    sight = NEAR
    while True:
        place = {key(one): index for index, one in enumerate(after[there : there + sight])}
        for index, one in enumerate(before[here : here + sight]):
            if key(one) in place:
                return index, place[key(one)]
        if here + sight >= len(before) and there + sight >= len(after):
            return len(before) - here, len(after) - there
        sight *= 2


def _by_identity(before: Sequence[N], after: Sequence[N]) -> tuple[list[N], list[N]]:
    old, new = set(map(id, before)), set(map(id, after))
    return [one for one in before if id(one) not in new], [one for one in after if id(one) not in old]
