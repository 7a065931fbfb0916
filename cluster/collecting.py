"""How seldom Python looks for garbage that refers to itself: decisions make many values and little of it."""

from __future__ import annotations

import gc

YOUNG_VALUES = 200_000
"""Values made before the youngest are looked through; Python's own figure is 700, a hundred times a decision."""


def collect_seldom() -> None:
    """Look for cyclic garbage a few times per decision at most. Everything else is freed at once, as ever."""
    gc.set_threshold(YOUNG_VALUES, 20, 20)
