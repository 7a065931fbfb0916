"""How seldom Python looks for garbage that refers to itself: decisions make many values and little of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_VALUES = 200_000
"""Values made before the youngest are looked through; Python's own figure is 700, a hundred times a decision."""


def collect_seldom() -> None:
    """Look for cyclic garbage a few times per decision at most. Everything else is freed at once, as ever."""
    gc.set_threshold(YOUNG_VALUES, 20, 20)


@contextmanager
def not_collecting() -> Iterator[None]:
    """Look for no cyclic garbage inside; it is looked for again afterwards if it was before.

    A decision keeps nearly all that it makes and leaves no such garbage, so that looking through it is in vain: a
    tenth of the time of a decision from nothing, and more when the values of the one before are looked through too.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
