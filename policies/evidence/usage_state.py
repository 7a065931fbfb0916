"""Whether a group works, holds memory without working, or does nothing: evidence over time, from load and queue.

A change point is found by a cumulative sum (Page, 1954): each sample adds how far activity lies below (or above) the
threshold, times how long it lasted, and the state changes when the sum passes a bound. One sample can never do it,
short bursts of work undo much idleness, and lost samples add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policies.model.inventory import UsageState
from policies.model.telemetry import Missing, Reading
from policies.model.units import GroupId


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageBounds:
    """What counts as work, and how sure to be."""

    idle_below_permille: int = 20
    """Activity under this speaks for idleness, over it for work. A model server at rest polls at well under 1 %."""
    idle_evidence_ms: int = 60_000
    """Time of complete idleness that makes a group idle; partial idleness counts in proportion."""
    busy_evidence_ms: int = 2_000
    """Time of activity at twice the threshold that makes a group active."""
    least_samples: int = 3
    """Samples that must agree, however long each is held to speak for."""
    longest_step_ms: int = 5_000
    """A sample speaks for no more time than this, however long ago the one before was."""
    stale_ms: int = 15_000
    """Without complete evidence for this long nothing is known."""
    held_mib: int = 512
    """Memory beyond this is held: a bare CUDA context is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvidence:
    """What was seen of one group at one moment."""

    group: GroupId
    at_ms: int
    activity_permille: Reading
    """Of its processes where known, else of its devices."""
    memory_mib: Reading
    waiting: int | None
    """Requests in flight and queued for it, by the gateway's count; None if the gateway was not heard. Jobs have 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageMemory:
    """What the next state of a group needs to know of earlier evidence."""

    group: GroupId
    state: UsageState = UsageState.UNKNOWN
    since_ms: int = 0
    evidence_at_ms: int | None = None
    """Time of the last complete evidence."""
    idle_sum: int = 0
    busy_sum: int = 0
    """Thousandths times milliseconds."""
    idle_samples: int = 0
    busy_samples: int = 0


def weigh(memory: UsageMemory, seen: UsageEvidence, bounds: UsageBounds) -> UsageMemory:
    """Return the group's state after one more look.

    A request inside or waiting makes it ACTIVE at once: that is a count, not a measurement. All else takes time.
    """
    if seen.waiting is None or isinstance(seen.activity_permille, Missing) or isinstance(seen.memory_mib, Missing):
        return forget_if_stale(memory, seen.at_ms, bounds)
    if seen.waiting > 0:
        return _enter(replace(memory, idle_sum=0, idle_samples=0, evidence_at_ms=seen.at_ms), UsageState.ACTIVE, seen)
    if memory.evidence_at_ms is not None and seen.at_ms <= memory.evidence_at_ms:
        return memory
    summed = _add(memory, seen.activity_permille, seen.at_ms, bounds)
    idle = UsageState.IDLE_HELD if seen.memory_mib >= bounds.held_mib else UsageState.TRULY_IDLE
    if _idle_enough(summed, bounds):
        return _enter(summed, idle, seen)
    if _busy_enough(summed, bounds):
        return _enter(summed, UsageState.ACTIVE, seen)
    return summed


def forget_if_stale(memory: UsageMemory, now_ms: int, bounds: UsageBounds) -> UsageMemory:
    """Return the memory, or an empty one in state UNKNOWN if the last complete evidence is too old."""
    if memory.evidence_at_ms is not None and now_ms - memory.evidence_at_ms <= bounds.stale_ms:
        return memory
    since_ms = memory.since_ms if memory.state is UsageState.UNKNOWN else now_ms
    return UsageMemory(group=memory.group, since_ms=since_ms)


def _add(memory: UsageMemory, activity: int, now_ms: int, bounds: UsageBounds) -> UsageMemory:
    last_ms = memory.evidence_at_ms
    step_ms = 0 if last_ms is None else max(0, min(now_ms - last_ms, bounds.longest_step_ms))
    below = (bounds.idle_below_permille - activity) * step_ms
    idle_sum = min(max(0, memory.idle_sum + below), _idle_bound(bounds))
    busy_sum = min(max(0, memory.busy_sum - below), _busy_bound(bounds))
    return replace(
        memory,
        evidence_at_ms=now_ms,
        idle_sum=idle_sum,
        busy_sum=busy_sum,
        idle_samples=memory.idle_samples + 1 if idle_sum else 0,
        busy_samples=memory.busy_samples + 1 if busy_sum else 0,
    )


def _idle_bound(bounds: UsageBounds) -> int:
    return bounds.idle_below_permille * bounds.idle_evidence_ms


def _busy_bound(bounds: UsageBounds) -> int:
    return bounds.idle_below_permille * bounds.busy_evidence_ms


def _idle_enough(memory: UsageMemory, bounds: UsageBounds) -> bool:
    return memory.idle_sum >= _idle_bound(bounds) and memory.idle_samples >= bounds.least_samples


def _busy_enough(memory: UsageMemory, bounds: UsageBounds) -> bool:
    return memory.busy_sum >= _busy_bound(bounds) and memory.busy_samples >= bounds.least_samples


def _enter(memory: UsageMemory, state: UsageState, seen: UsageEvidence) -> UsageMemory:
    if memory.state is state:
        return memory
    return replace(memory, state=state, since_ms=seen.at_ms)
