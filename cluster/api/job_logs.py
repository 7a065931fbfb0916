"""The end of a job's log: enough to see why it stopped, and never more than a page can carry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from policies.model.units import ClaimId

LINES_MAX = 5_000
BYTES_MAX = 1 << 20
"""Looked at from the end of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLog:
    """What a job wrote."""

    claim: ClaimId
    lines: tuple[str, ...]
    """The last ones, oldest first."""


def tail(path: Path, lines: int) -> tuple[str, ...] | None:
    """Return the last lines of the file, cut at ``BYTES_MAX``; None if there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - BYTES_MAX))
            text = file.read(BYTES_MAX).decode(errors="replace")
    except FileNotFoundError:
        return None
    return tuple(text.splitlines()[-lines:])
