"""Why a claim with a right to a place waits although others could leave for it, and when it may ask them to."""

from __future__ import annotations

from dataclasses import dataclass

from policies.evidence.survey import Survey
from policies.granting.reclaim import Lot, Tier, may_displace
from policies.granting.working import Allocation
from policies.model.units import ClaimId


@dataclass(frozen=True, slots=True, eq=False)
class Later:
    """What keeps others from leaving now.

    Compared by identity: what is told of equal claims is looked up by it, once for each claim that waits.
    """

    sentence: str
    at_ms: int | None = None
    """When that is over; None if nobody knows."""
    assumption: str = ""


NOBODY_MAY_LEAVE = Later("others use what it has a right to, and none of them may leave yet")


def asks_later(work: Allocation, lot: Lot) -> Later | None:
    """Return why nobody leaves for the lot now; None for one without a right to what others use.

    The budget of evictions, its own rest after it made room itself, the delay of its class, and what protects others
    are told apart, in this order.
    """
    if lot.tier > Tier.ENTITLED:
        return None
    claim, survey = lot.ask.claim.id, work.survey
    if claim in work.victims.refused_by_budget:
        return _after_the_budget(work)
    if may_displace(work.victims, lot, lot.tier):
        return NOBODY_MAY_LEAVE
    return _after_its_rest(survey, claim) or _after_its_delay(survey, lot)


def _after_the_budget(work: Allocation) -> Later:
    bounds, now = work.survey.policy.bounds, work.survey.now_ms
    most, window = bounds.evictions_per_window, bounds.eviction_window_ms
    recent = [at for at in work.memory.evictions_ms if now - at < window]
    return Later(
        f"others may not leave for it yet: {most} groups may make room for others in {window // 1000} s",
        min(recent, default=now) + window, "the budget of evictions is free again",
    )  # fmt: skip


def _after_its_rest(survey: Survey, claim: ClaimId) -> Later | None:
    remembered, rest = survey.remembered.get(claim), survey.policy.bounds.cooldown_ms
    evicted_at = remembered.evicted_at_ms if remembered is not None else None
    if evicted_at is None or survey.now_ms - evicted_at >= rest:
        return None
    return Later(
        f"it made room for others itself lately: it asks nobody to leave within {rest // 1000} s of that",
        evicted_at + rest, "others may leave for it then",
    )  # fmt: skip


def _after_its_delay(survey: Survey, lot: Lot) -> Later:
    remembered, delay = survey.remembered.get(lot.ask.claim.id), lot.ask.rank.preemption_delay_s
    since = remembered.waiting_since_ms if remembered is not None else None
    return Later(
        f"its class {lot.ask.rank.name} waits {delay} s before it asks others to leave",
        (survey.now_ms if since is None else since) + delay * 1000, "others may leave for it then",
    )  # fmt: skip
