"""From what was seen to a score: pure, so that it can be argued about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.drills.recorder import Noted
from cluster.drills.scenario import Drill

FULL = 100
DETECT_POINTS, MEND_POINTS = 30, 70
HARM_POINTS = 20
"""Lost for each harm."""
SLOW = 3
"""From so many times the practised time on, a part earns nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How it went."""

    detect_ms: int | None
    """None if it was never looked at."""
    mend_ms: int | None
    harms: tuple[str, ...]
    points: int
    """0 to 100."""


def score(drill: Drill, began_ms: int, mended_ms: int | None, notes: Sequence[Noted]) -> Score:
    """Return the score of one run. ``notes`` are the trainee's requests, oldest first."""
    own = [noted for noted in notes if noted.at_ms >= began_ms]
    looked = next((noted.at_ms for noted in own if noted.path.startswith(drill.looks)), None)
    detect_ms = None if looked is None else looked - began_ms
    mend_ms = None if mended_ms is None else mended_ms - began_ms
    harms = tuple(dict.fromkeys(found for noted in own if (found := drill.harms(noted))))
    earned = _part(detect_ms, drill.detect_s, DETECT_POINTS) + _part(mend_ms, drill.mend_s, MEND_POINTS)
    points = max(0, earned - HARM_POINTS * len(harms))
    return Score(detect_ms=detect_ms, mend_ms=mend_ms, harms=harms, points=points)


def _part(took_ms: int | None, practised_s: int, worth: int) -> int:
    """Return all points up to the practised time, none from ``SLOW`` times it on, and a straight line between."""
    if took_ms is None:
        return 0
    practised_ms = practised_s * 1000
    late_ms = max(0, took_ms - practised_ms)
    return max(0, worth - worth * late_ms // (practised_ms * (SLOW - 1)))
