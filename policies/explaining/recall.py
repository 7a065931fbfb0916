"""What the next decision must know of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policies.evidence.survey import Survey
from policies.fleet.board import Seat
from policies.granting.avoiding import failures, spoilt
from policies.granting.reclaim import Lot
from policies.granting.working import Allocation
from policies.model.building import builder
from policies.model.decision import Eviction, EvictionReason
from policies.model.memory import ClaimMemory, Drain, Hold, Memory, Spoilt, UsageRecord
from policies.model.units import ClaimId, DeviceId, GroupId
from policies.shares.usage import advanced
from policies.wishes.admission import FAILED, NEW, Ask

COUNTED = frozenset({
    EvictionReason.RECLAIM, EvictionReason.PREEMPT, EvictionReason.REBALANCE, EvictionReason.CONSOLIDATE,
    EvictionReason.IDLE,
})  # fmt: skip
"""Evictions that the budget limits: made for others, not wished by the owner nor forced by a loss."""


def remember(work: Allocation, claims: tuple[ClaimMemory, ...], gone: Sequence[Eviction]) -> Memory:
    """Return the memory for the next decision; every list sorted, nothing kept of what no longer exists."""
    survey, before = work.survey, work.memory
    window = survey.policy.bounds.eviction_window_ms
    return Memory(
        usage=_usage(work),
        drains=_drains(survey, before, gone),
        holds=_holds(work),
        claims=claims,
        evictions_ms=tuple(at for at in before.evictions_ms if survey.now_ms - at < window)
        + (survey.now_ms,) * len(_newly(work, gone)),
    )


def evicted_now(work: Allocation, gone: Sequence[Eviction]) -> frozenset[ClaimId]:
    """Return the claims from which something is taken for others, for the first time in this decision.

    Not those whose idle replicas are lent: these come back at once with the next request, without a cool-down.
    """
    return frozenset(one.claim for one in _newly(work, gone) if one.reason is not EvictionReason.IDLE)


def _newly(work: Allocation, gone: Sequence[Eviction]) -> list[Eviction]:
    known = {drain.group for drain in work.memory.drains}
    return [one for one in gone if one.group not in known and one.reason in COUNTED]


def _usage(work: Allocation) -> tuple[UsageRecord, ...]:
    survey, half_life = work.survey, work.survey.policy.bounds.usage_half_life_s
    records = {(one.tenant, one.flavor): advanced(one, survey.now_ms, half_life) for one in work.memory.usage}
    for (tenant, flavor), held in work.used.items():
        empty = UsageRecord(tenant=tenant, flavor=flavor, milli_seconds=0, at_ms=survey.now_ms)
        records[tenant, flavor] = replace(records.get((tenant, flavor), empty), rate_millis=held)
    for key, record in records.items():
        if key not in work.used:
            records[key] = replace(record, rate_millis=0)
    kept = (one for one in records.values() if one.tenant in survey.tenants and (one.milli_seconds or one.rate_millis))
    return tuple(sorted(kept, key=lambda one: (one.tenant, one.flavor)))


def _drains(survey: Survey, before: Memory, gone: Sequence[Eviction]) -> tuple[Drain, ...]:
    """Return since when each group that should go receives no requests; one that is still routed has not begun."""
    since = {drain.group: drain.since_ms for drain in before.drains}
    leaving = [one.group for one in gone]
    return tuple(Drain(group=group, since_ms=_since(survey, since, group)) for group in sorted(leaving))


def _since(survey: Survey, since: dict[GroupId, int], group: GroupId) -> int:
    return survey.now_ms if survey.groups[group].routed else since.get(group, survey.now_ms)


def _holds(work: Allocation) -> tuple[Hold, ...]:
    """Return the devices kept for replicas that have not started on them, and those kept for large claims."""
    survey = work.survey
    before = {(hold.device, hold.claim): hold.expires_at_ms for hold in work.memory.holds}
    fresh = survey.now_ms + survey.policy.bounds.victim_hold_ms
    found: dict[tuple[DeviceId, ClaimId], Hold] = {}
    for device, claim in work.kept_for.items():
        found[device, claim] = Hold(device=device, claim=claim, expires_at_ms=fresh)
    placed = {seat.claim for seat in work.board.moved if seat.group is None}
    lots = [lot for claim in placed for lot in work.of_claim[claim] if lot.is_kept]
    for lot in sorted(lots, key=lambda lot: (lot.ask.tenant.id, lot.order)):
        for seat in lot.seats:
            if seat.group is None:
                for device in seat.devices:
                    expires = before.get((device, seat.claim), fresh)
                    found[device, seat.claim] = Hold(device=device, claim=seat.claim, expires_at_ms=expires)
    return tuple(hold for _, hold in sorted(found.items()) if survey.now_ms < hold.expires_at_ms)


def of_claim(work: Allocation, wish: Ask, lots: Sequence[Lot], evicted: frozenset[ClaimId]) -> ClaimMemory | None:
    """Return what to remember of the claim: what was known if nothing changed, None if there is nothing to remember.

    ``lots`` are its own; ``evicted`` are the claims from which something is taken for the first time.
    """
    survey, claim = work.survey, wish.claim.id
    before = survey.remembered.get(claim)
    granted = [seat for lot in lots if lot.is_kept for seat in lot.seats]
    running = sum([1 for seat in granted if seat.group is not None and seat.group.running])
    was = before or NEW
    failed, failed_at = failures(survey, wish, was)
    now = (
        granted[0].rung if granted else None, work.better_since.get(claim), wish.seen_lower_since_ms,
        wish.idle_since_ms, failed_at, survey.now_ms if claim in evicted else was.evicted_at_ms,
        (was.waiting_since_ms or survey.now_ms) if running < wish.wanted else None, failed,
        spoilt(survey, wish, was),
    )  # fmt: skip
    if now == _NOTHING:
        return None
    if before is not None and now == _known(before):
        return before
    return _remembered(
        claim=claim, rung=now[0], better_since_ms=now[1], lower_since_ms=now[2], idle_since_ms=now[3],
        failed_at_ms=now[4], evicted_at_ms=now[5], waiting_since_ms=now[6], failures=failed,
        spoilt=now[8],
    )  # fmt: skip


def of_running(work: Allocation, wish: Ask, lots: Sequence[Lot], seat: Seat) -> ClaimMemory | None:
    """Return what to remember of a claim whose one replica runs and from which nothing is taken: as ``of_claim``."""
    claim = wish.claim.id
    before = work.survey.remembered.get(claim)
    is_simple = wish.seen_lower_since_ms is wish.idle_since_ms is None and claim not in work.better_since
    if before is None and is_simple and wish.held[0].state is not FAILED:
        return _remembered(claim, seat.rung)
    if before is not None and is_simple and before.rung == seat.rung and is_quiet(before):
        return before
    return of_claim(work, wish, lots, frozenset())


def is_quiet(one: ClaimMemory) -> bool:
    """Say whether nothing is remembered but the rung."""
    return (
        one.waiting_since_ms is None
        and one.better_since_ms is None
        and one.lower_since_ms is None
        and one.idle_since_ms is None
        and one.failed_at_ms is None
        and one.evicted_at_ms is None
        and not one.failures
        and not one.spoilt
    )


def waits_on(survey: Survey, wish: Ask, lot: Lot, now: ClaimMemory | None) -> bool:
    """Say whether the claim has nothing, and what is remembered of it now is so as long as it has nothing."""
    return (
        now is not None
        and not lot.is_kept
        and bool(now.waiting_since_ms)
        and now.rung is None
        and not now.spoilt
        and now.better_since_ms is None
        and now.lower_since_ms == wish.seen_lower_since_ms
        and now.idle_since_ms == wish.idle_since_ms
        and wish.claim.id not in survey.groups_of
    )


_remembered = builder(ClaimMemory)
_NOTHING = (None, None, None, None, None, None, None, 0, ())


def _known(one: ClaimMemory) -> tuple[int | tuple[Spoilt, ...] | None, ...]:
    return (
        one.rung, one.better_since_ms, one.lower_since_ms, one.idle_since_ms, one.failed_at_ms, one.evicted_at_ms,
        one.waiting_since_ms, one.failures, one.spoilt,
    )  # fmt: skip
