"""Compile a numeric function to machine code without losing its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as machine code, made at its first call and kept on disk for the next program.

    The arithmetic stays as written (no fast-math), so results equal those of the interpreter. Numba sees changes of
    the file that holds a function, not of others that it calls: functions that call each other share a file.
    """
    try:
        made = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # nowhere to keep it: an installation that may not be written to
        made = numba.njit(nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", made)
