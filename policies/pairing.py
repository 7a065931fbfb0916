"""Two changes that admit a claim together where no single one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

from policies.model.decision import Change, FurtherChange
from policies.trying import MOST_MILLIS, Test, Trial, least

PAIRED_OF_A_KIND = 2
"""Changes of each kind that are paired first, so that pairs of all kinds have their turn."""
KEPT_FOR_AMOUNTS = 8
"""One in so many of the decisions that may still be taken is kept for finding how little of a pair is enough."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of two changes."""

    change: Change
    """With the largest amount considered, where there may be more or less of it."""
    likely_millis: int
    """What it takes, or probably would."""
    form: Change | None = None
    """Without an amount, where there may be more or less of it."""


def first_pair(trial: Trial, parts: Iterable[Part]) -> Change | None:
    """Return the first two changes that admit the claim together, what probably takes least first; None if none do.

    Of what there may be more or less, each pair is tried with as much as there may be, and of the one that helps as
    little is named of one after the other as still does. Cost: at most as many decisions as may still be taken.
    """
    kept = trial.tries // KEPT_FOR_AMOUNTS
    for first, second in _pairs(tuple(parts)):
        if trial.tries <= kept:
            trial.is_cut = True
            return None
        if trial.helps(_both(first.change, second.change)):
            less = _least(first, partial(_helps_before, trial, second.change))
            return _both(less, _least(second, partial(_helps_after, trial, less)))
    return None


def _helps_before(trial: Trial, fixed: Change, one: Change) -> bool:
    return trial.helps(_both(one, fixed))


def _helps_after(trial: Trial, fixed: Change, one: Change) -> bool:
    return trial.helps(_both(fixed, one))


def _least(part: Part, helps: Test) -> Change:
    if part.form is None:
        return part.change
    return least(helps, part.form, MOST_MILLIS + 1, first=part.likely_millis) or part.change


def _pairs(parts: Sequence[Part]) -> Iterator[tuple[Part, Part]]:
    """Yield every two changes of different things: first of a few of each kind, then all others."""
    count: Counter[str] = Counter()
    few: set[int] = set()
    for index, one in enumerate(parts):
        count[one.change.kind] += 1
        few |= {index} if count[one.change.kind] <= PAIRED_OF_A_KIND else set()
    indexed = [two for two in combinations(range(len(parts)), 2) if _differ(parts[two[0]], parts[two[1]])]
    indexed.sort(key=lambda two: (not few.issuperset(two), sum(parts[one].likely_millis for one in two)))
    yield from ((parts[first], parts[second]) for first, second in indexed)


def _differ(first: Part, second: Part) -> bool:
    return (first.change.kind, first.change.subject) != (second.change.kind, second.change.subject)


def _both(first: Change, second: Change) -> Change:
    also = FurtherChange(
        kind=second.kind, subject=second.subject, amount_millis=second.amount_millis, value=second.value
    )  # fmt: skip
    return replace(first, also=(also,), sentence=f"{first.sentence}, and {second.sentence}")
