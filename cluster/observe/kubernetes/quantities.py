"""Kubernetes quantities and times as integers."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction

_BINARY: dict[str, int | Fraction] = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL: dict[str, int | Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": 10**3,
    "M": 10**6,
}
_DECIMAL |= {"G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
MEBIBYTE = 2**20


def quantity(text: str | int) -> Fraction:
    """Return the amount that a quantity such as ``1500m`` or ``2Gi`` stands for. Raises ``ValueError``."""
    word = str(text)
    for suffix, factor in (*_BINARY.items(), *_DECIMAL.items()):
        if word.endswith(suffix):
            return Fraction(word.removesuffix(suffix)) * factor
    return Fraction(word)


def millis(text: str | int) -> int:
    """Return the quantity in thousandths, rounded down."""
    return int(quantity(text) * 1000)


def mebibytes(text: str | int) -> int:
    """Return the quantity in MiB, rounded down."""
    return int(quantity(text) / MEBIBYTE)


def epoch_ms(text: str) -> int:
    """Return a time such as ``2026-11-23T02:00:00Z`` in milliseconds since the epoch; 0 for an empty text."""
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000) if text else 0
