"""What differs between two snapshots, found by identity first: what an observer hands on unchanged costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

N = TypeVar("N")
K = TypeVar("K")

FEW = 16
"""One in so many may stand at another place before the two lists are compared by identity instead of place by place."""


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
    old, new = _by_place(before, after) or _by_identity(before, after)
    gone, fresh = {key(one): one for one in old}, {key(one): one for one in new}
    for name in [name for name, one in fresh.items() if name in gone and gone[name] == one]:
        del gone[name], fresh[name]
    return Change(gone=gone, new=fresh)


def _by_place(before: Sequence[N], after: Sequence[N]) -> tuple[list[N], list[N]] | None:
    if len(before) != len(after):
        return None
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old is not new]
    if len(pairs) * FEW > len(after) + FEW:
        return None
    return [old for old, _ in pairs], [new for _, new in pairs]


def _by_identity(before: Sequence[N], after: Sequence[N]) -> tuple[list[N], list[N]]:
    old, new = dict(zip(map(id, before), before, strict=True)), dict(zip(map(id, after), after, strict=True))
    return [old[one] for one in old.keys() - new.keys()], [new[one] for one in new.keys() - old.keys()]
