"""From measured requests to the replicas that they ask for. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

RISE_MS = 1_000
"""Time in which most of a rise is believed: short, since waiting tenants hold a promise."""
FALL_MS = 10_000
"""Time in which most of a fall is believed: longer, so that a pause between two requests frees nothing."""
STEP_MS = 100
"""Shorter spans are added up first: smoothing in integers would round them away."""
MILLIS = 1_000
NOTHING_MILLIS = 50
"""Below a twentieth of a request there is no demand: smoothing approaches zero without reaching it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests inside and waiting: exact since the last step, smoothed before it."""

    at_ms: int
    requests: int = 0
    """Inside and waiting now."""
    stepped_at_ms: int = 0
    area: int = 0
    """Request-milliseconds since the last step."""
    level_millis: int = 0
    """Smoothed thousandths of a request."""


def changed(before: Demand, requests: int, now_ms: int) -> Demand:
    """Return the demand from now on with ``requests`` inside and waiting; time that goes back counts as none."""
    area = before.area + before.requests * max(0, now_ms - before.at_ms)
    span = now_ms - before.stepped_at_ms
    if span < STEP_MS:
        return Demand(now_ms, requests, before.stepped_at_ms, area, before.level_millis)
    gap = area * MILLIS // span - before.level_millis
    window = RISE_MS if gap > 0 else FALL_MS
    return Demand(now_ms, requests, now_ms, 0, before.level_millis + gap * span // (span + window))


def replicas(demand: Demand, concurrency: int) -> int:
    """Return how many replicas answer the demand, each ``concurrency`` requests at once; 0 for none."""
    if demand.level_millis < NOTHING_MILLIS:
        return 0
    return -(-demand.level_millis // (MILLIS * max(1, concurrency)))
