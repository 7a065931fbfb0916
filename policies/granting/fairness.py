"""Who is offered free capacity next: down the tree, the branch that borrows least for its weight."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from policies.granting.working import Allocation
from policies.model.units import FlavorId, TenantId

SHARE_SCALE = 1_000_000
"""Parts of a borrowed milli, so that division by a large weight does not round a share down to nothing."""

Rank = tuple[tuple[bool, int, int, TenantId], ...]


def in_fair_order(
    work: Allocation, tenants: Iterable[TenantId], next_flavor: Callable[[TenantId], FlavorId | None]
) -> Iterator[tuple[TenantId, FlavorId]]:
    """Yield who is served next and with what, again and again: the tenant that borrows least at that moment.

    Tenants are compared from the top of the tree: first their domains, then what is below. Of equal borrowers the
    lighter user of the past goes first, then the smaller id; weight zero comes last. ``next_flavor`` is what the
    tenant's next lot counts by, None if it has no more; a tenant is served while that stays the same and nobody is
    granted anything.
    A tenant that was offered something and took nothing borrows as little as before: it stays the next.
    Cost: ranks only grow while capacity is handed out, so a heap with ranks checked on leaving it is exact.
    """
    past = {(one.tenant, one.flavor): one.milli_seconds for one in work.memory.usage}
    waiting = [(flavor, tenant) for tenant in tenants if (flavor := next_flavor(tenant)) is not None]
    heap = [(_rank(work, tenant, flavor, past), tenant) for flavor, tenant in waiting]
    heapq.heapify(heap)
    while heap:
        rank, tenant = heapq.heappop(heap)
        flavor = next_flavor(tenant)
        now = rank if flavor is None else _rank(work, tenant, flavor, past)
        if flavor is not None and now == rank:
            yield tenant, flavor
            flavor = next_flavor(tenant)
        if flavor is not None:
            heapq.heappush(heap, (_rank(work, tenant, flavor, past), tenant))


def _rank(work: Allocation, of: TenantId, flavor: FlavorId, past: dict[tuple[TenantId, FlavorId], int]) -> Rank:
    path = []
    at: TenantId | None = of
    while at is not None and at in work.survey.tenants:
        tenant = work.survey.tenants[at]
        share = work.shares[flavor].get(at)
        over = max(0, work.used.get((at, flavor), 0) - (share.nominal if share else 0)) * SHARE_SCALE
        path.append((tenant.fair_weight == 0, over // max(1, tenant.fair_weight), past.get((at, flavor), 0), at))
        at = tenant.parent
    return tuple(reversed(path))
