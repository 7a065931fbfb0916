"""Who is offered free capacity next: down the tree, the branch that borrows least for its weight."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence

from policies.model.units import FlavorId, TenantId
from policies.reclaim import Lot
from policies.working import Allocation, first_option

SHARE_SCALE = 1_000_000
"""Parts of a borrowed milli, so that division by a large weight does not round a share down to nothing."""

Rank = tuple[tuple[bool, int, int, TenantId], ...]


def in_fair_order(work: Allocation, lots: Sequence[Lot]) -> Iterator[Lot]:
    """Yield the lots, each next one of the tenant that borrows least at that moment.

    Tenants are compared from the top of the tree: first their domains, then what is below. Of equal borrowers the
    lighter user of the past goes first, then the smaller id; weight zero comes last. Inside a tenant the given order is
    kept.
    A tenant that was offered something and took nothing borrows as little as before: it stays the next.
    Cost: ranks only grow while capacity is handed out, so a heap with ranks checked on leaving it is exact.
    """
    waiting: dict[TenantId, deque[Lot]] = {}
    for lot in lots:
        queue = waiting.get(lot.ask.tenant.id)
        if queue is None:
            queue = waiting[lot.ask.tenant.id] = deque()
        queue.append(lot)
    past = {(one.tenant, one.flavor): one.milli_seconds for one in work.memory.usage}
    heap = [(_rank(work, queue[0], past), tenant) for tenant, queue in waiting.items()]
    heapq.heapify(heap)
    while heap:
        rank, tenant = heapq.heappop(heap)
        queue = waiting[tenant]
        now = _rank(work, queue[0], past)
        if now != rank:
            heapq.heappush(heap, (now, tenant))
            continue
        counts, flavor = work.counts, first_option(queue[0]).flavor
        yield queue.popleft()
        while queue and work.counts == counts and first_option(queue[0]).flavor == flavor:
            yield queue.popleft()
        if queue:
            heapq.heappush(heap, (_rank(work, queue[0], past), tenant))


def _rank(work: Allocation, lot: Lot, past: dict[tuple[TenantId, FlavorId], int]) -> Rank:
    flavor, path = first_option(lot).flavor, []
    at: TenantId | None = lot.ask.tenant.id
    while at is not None and at in work.survey.tenants:
        tenant = work.survey.tenants[at]
        share = work.shares[flavor].get(at)
        over = max(0, work.used.get((at, flavor), 0) - (share.nominal if share else 0)) * SHARE_SCALE
        path.append((tenant.fair_weight == 0, over // max(1, tenant.fair_weight), past.get((at, flavor), 0), at))
        at = tenant.parent
    return tuple(reversed(path))
