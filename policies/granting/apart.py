"""Who is looked at by itself: what was treated alike with many others is told what holds for it and judged alone."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence

from policies.granting.alike import Stretch, in_order
from policies.granting.reclaim import Lot
from policies.granting.working import Allocation
from policies.model.units import ClaimId, TenantId


def look_apart(work: Allocation) -> None:
    """Let those that simply ran and lost their places be looked at one by one."""
    while work.victims.robbed:
        single_out(work, work.victims.robbed.pop())


def single_out(work: Allocation, lot: Lot) -> None:
    """Let the lot be looked at by itself from now on, with what holds for it so far; nothing if it is already."""
    one = work.layout.queues.single_out(lot)
    if one is None:
        return
    lot.tier, lot.is_kept, lot.has_failed, claim = one.tier, False, one.has_failed, lot.ask.claim.id
    note(work, [claim], one)
    insort(work.open[lot.ask.tenant.id], lot, key=in_order)


def tell_runs(work: Allocation) -> None:
    """Let what simply runs and is open be among the lots looked at one by one."""
    look_apart(work)
    for tenant, runs in work.layout.queues.runs.items():
        found = [lot for run in runs.values() for one in run.stretches for lot in run.lots[one.begin : one.end]]
        if found:
            work.open[tenant] = sorted(work.open[tenant] + found, key=in_order)
        for run in runs.values():
            run.stretches = []


def tell_each(work: Allocation, tenants: Iterable[TenantId]) -> None:
    """Let every open lot of these tenants be among those looked at one by one, with what was found for its class."""
    for tenant in tenants:
        found = list(work.open[tenant])
        for alike in work.layout.queues.alike.get(tenant, {}).values():
            for one in alike.stretches:
                tell(work, alike.lots[one.begin : one.end], one)
                found += alike.lots[one.begin : one.end]
            alike.stretches = []
        if len(found) > len(work.open[tenant]):
            work.open[tenant] = sorted(found, key=in_order)


def tell(work: Allocation, lots: Sequence[Lot], one: Stretch) -> None:
    """Let some lots of the stretch know what holds for all of it."""
    for lot in lots:
        lot.tier, lot.has_failed = one.tier, one.has_failed
    note(work, [lot.ask.claim.id for lot in lots], one)


def note(work: Allocation, claims: Sequence[ClaimId], one: Stretch) -> None:
    """Note of each of the claims why it waits, as it is known for all of them."""
    if one.code is not None:
        work.codes.update(dict.fromkeys(claims, one.code))
    if one.is_refused:
        work.victims.refused_by_budget.update(claims)
