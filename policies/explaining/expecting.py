"""When the turn of a claim in its tenant's queue comes, by what owners announced of the ends of their own claims."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence

from policies.granting.reclaim import Lot
from policies.granting.working import Allocation, first_option
from policies.model.units import ClaimId, FlavorId
from policies.wishes.ends import ends_by

ASSUMPTION = "its tenant's running claims, and those ahead of it in its queue, end as announced"
LOOKED_AHEAD = 1_000
"""Lots of one tenant's queue for which a time is found; so far ahead it would be a guess."""
_End = tuple[int, int]
"""When something ends, and the millis that it leaves."""


def turns(work: Allocation) -> dict[ClaimId, int]:
    """Return when each waiting claim is expected to be served, from the ends of its own tenant's claims alone.

    The queue is gone through in order: each takes what the next ends leave, and leaves it again by its own end. Left
    out is who is still waiting when all announced ends have passed. Cost: of a tenant that announced any, its queue.
    """
    found: dict[ClaimId, int] = {}
    starting_ms = work.survey.now_ms + work.survey.policy.bounds.worker_start_ms
    for tenant, count in work.layout.queues.ending.items():
        if count and tenant in work.open:
            found.update(_of_queue(work, _ends(work.layout.queues.of(tenant), starting_ms), work.open[tenant]))
    return found


def _ends(lots: Sequence[Lot], starting_ms: int) -> dict[FlavorId, list[_End]]:
    """Return when what runs ends, and what has a place and does not run yet, which begins at the given time."""
    found: defaultdict[FlavorId, list[_End]] = defaultdict(list)
    for lot in lots:
        for seat in lot.seats if lot.is_kept else ():
            end = ends_by(lot.ask.claim, starting_ms if seat.group is None else seat.group.since_ms)
            if end is not None:
                found[seat.flavor].append((end, seat.charge))
    for ends in found.values():
        heapq.heapify(ends)
    return found


def _of_queue(work: Allocation, ends: dict[FlavorId, list[_End]], lots: Sequence[Lot]) -> dict[ClaimId, int]:
    start_ms, now_ms = work.survey.policy.bounds.worker_start_ms, work.survey.now_ms
    found: dict[ClaimId, int] = {}
    free: defaultdict[FlavorId, int] = defaultdict(int)
    never: set[ClaimId] = set()
    for lot in [one for one in lots if not one.is_kept and one.missing][:LOOKED_AHEAD]:
        option, claim = first_option(lot), lot.ask.claim
        need, queue, at = option.charge * lot.missing, ends.get(option.flavor, []), now_ms
        while free[option.flavor] < need and queue:
            at, left = heapq.heappop(queue)
            free[option.flavor] += left
        if free[option.flavor] < need:
            never.add(claim.id)
            continue
        free[option.flavor] -= need
        found[claim.id] = begun = max(at, now_ms, found.get(claim.id, 0) - start_ms) + start_ms
        end = ends_by(claim, begun)
        if end is not None:
            heapq.heappush(ends.setdefault(option.flavor, []), (end, need))
    return {claim: at for claim, at in found.items() if claim not in never}
