"""When a claim is over, and when what runs of it has ended, by what its owner announced."""

from __future__ import annotations

from policies.model.workload import Claim, ClaimKind

OVER = "the end that its owner announced has passed: it wants a later one, or to be deleted"


def has_expired(claim: Claim, now_ms: int) -> bool:
    """Say whether the end that the claim's owner announced has passed."""
    return claim.expires_at_ms is not None and now_ms >= claim.expires_at_ms


def ends_by(claim: Claim, begun_ms: int) -> int | None:
    """Return when what begins then has ended at the latest, by what its owner announced; None if nothing was."""
    if claim.duration_s is None or claim.kind is not ClaimKind.JOB:
        return claim.expires_at_ms
    length = begun_ms + claim.duration_s * 1000
    return length if claim.expires_at_ms is None else min(length, claim.expires_at_ms)
