"""What an owner announced of time: when a claim is over, when what runs has ended, how urgent that makes it."""

from __future__ import annotations

from collections.abc import Collection

from policies.model.inventory import Group
from policies.model.workload import Claim, ClaimKind

DEADLINE_BOOST = 100
"""Added to the class value of a job that must start now to meet its deadline; falls to 0 at twice its duration."""
THE_END_HAS_PASSED = "the end that its owner announced has passed: it wants a later one, or to be deleted"


def has_expired(claim: Claim, now_ms: int) -> bool:
    """Say whether the end that the claim's owner announced has passed."""
    return claim.expires_at_ms is not None and now_ms >= claim.expires_at_ms


def ends_by(claim: Claim, begun_ms: int) -> int | None:
    """Return when what begins then has ended at the latest, by what its owner announced; None if nothing was."""
    if claim.duration_s is None or claim.kind is not ClaimKind.JOB:
        return claim.expires_at_ms
    length = begun_ms + claim.duration_s * 1000
    return length if claim.expires_at_ms is None else min(length, claim.expires_at_ms)


def boost(claim: Claim, now_ms: int, held: Collection[Group]) -> int:
    """Return what is added to the class value of a job as its deadline comes near; all of it once it runs."""
    if claim.deadline_ms is None or claim.duration_s is None:
        return 0
    if held:
        return DEADLINE_BOOST
    slack = claim.deadline_ms - now_ms - claim.duration_s * 1000
    span = max(1, 2 * claim.duration_s * 1000)
    return DEADLINE_BOOST - min(DEADLINE_BOOST, max(0, slack) * DEADLINE_BOOST // span)
