"""Names made from what they name, so that every component derives the same one and a crash loses none."""

from __future__ import annotations

import hashlib
import re

from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, TenantId, WorkerId

DIGITS = 12
"""Of a name's hash: with 48 bits, 100,000 workers share a name once in 50,000 sites."""


def tenant_of(claim: str) -> TenantId:
    """Return whose a claim, or a reservation, is by its name; the whole name where it has no colon."""
    return TenantId(claim.partition(":")[0])


def worker_id(domain: SecurityDomain, devices: tuple[DeviceId, ...]) -> WorkerId:
    """Return the name of the worker of this domain on exactly these devices; their order has no effect."""
    return WorkerId(f"{domain}-{_short(*sorted(devices))}")


def group_id(claim: ClaimId, worker: WorkerId, rung: int, edition: int = 0) -> GroupId:
    """Return the name of the claim's group on this worker at this rung; usable as a Serve application and DNS label.

    ``edition`` tells it from groups that stand there still and run what the rung asked for before it was changed.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", claim.lower()).strip("-")[:32].strip("-")
    return GroupId(f"{readable}-r{rung}-{_short(claim, worker, str(rung), *(str(each) for each in range(edition)))}")


def job_name(claim: ClaimId) -> str:
    """Return the name of the claim's process: one, so that a job never runs twice at a time."""
    readable = re.sub(r"[^a-z0-9]+", "-", claim.lower()).strip("-")[:32].strip("-")
    return f"job-{readable}-{_short(claim)}"


def _short(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:DIGITS]
