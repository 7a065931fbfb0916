"""Replicas that simply run are rated as a run: as many of them as fit into what is guaranteed, by their sum."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from policies.entitlement import Share
from policies.model.units import FlavorId, TenantId
from policies.queues import Order, Run, in_order
from policies.reclaim import Lot
from policies.working import Allocation, count

LAST: Order = (1 << 62, True, True, 0, "")
"""After the place of every lot."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a tenant's lots have been given so far, while they are rated in the order of its queue."""

    used: dict[FlavorId, int]
    """Millis inside what it is entitled to."""
    sure: dict[FlavorId, int]
    """Millis inside what it is guaranteed."""
    shares: dict[FlavorId, Share | None]
    most: dict[FlavorId, int]
    """Millis that it is guaranteed."""


@dataclass(slots=True)
class _Way:
    """How far a run was rated."""

    run: Run
    sums: Sequence[int]
    """Millis of the first so many lots."""
    at: int = 0
    floor: int = 0
    sure: int = 0


def one_by_one(work: Allocation, tenant: TenantId, given: Given) -> Iterator[Lot]:
    """Yield the tenant's lots that are to be rated each by itself, in order, and settle the others on the way.

    Those yielded are the tenant's open lots.

    Of each run the first lots are settled, up to the one that does not fit into what is left of the guarantee: by the
    rule for single lots each of them has the floor's right as long as less than the floor was given away before it,
    else the guarantee's. What is settled is granted and counted by ``grant_settled``. ``given`` is brought up to date;
    it must be for each lot yielded, before the next one is asked for.

    Cost: a search in each run's sums for each lot that stands between its lots, and a look at the lots yielded.
    """
    queues, open_ = work.layout.queues, work.open.setdefault(tenant, [])
    if work.survey.blind:
        open_ += queues.lots[tenant]
        yield from open_
        return
    runs = sorted(queues.runs.get(tenant, {}).values(), key=lambda run: (-run.value, run.flavor))
    ways = [_Way(run, [0, *accumulate(run.charges)]) for run in runs]
    ahead = [list(some) for _, some in groupby(ways, key=lambda way: way.run.value)]
    for lot in queues.apart.get(tenant, ()):
        while ahead and ahead[0][0].run.begin < lot.order:
            some = _rated(ahead[0], lot.order, given)
            open_ += some
            yield from some
            if any(way.at < len(way.run.lots) for way in ahead[0]):
                break
            del ahead[0]
        open_.append(lot)
        yield lot
    for ways_left in ahead:
        some = _rated(ways_left, LAST, given)
        open_ += some
        yield from some
    for way in ways:
        way.run.settle(way.floor, way.sure)


def _rated(ways: Sequence[_Way], order: Order, given: Given) -> Sequence[Lot]:
    """Rate what of one class stands before this place; return, in order, what has to be rated by itself."""
    found = [lot for way in ways for lot in _advanced(way, order, given)]
    return found if len(ways) == 1 else sorted(found, key=in_order)


def _advanced(way: _Way, order: Order, given: Given) -> Sequence[Lot]:
    run, sums, first = way.run, way.sums, way.at
    flavor, share = run.flavor, given.shares.get(run.flavor)
    way.at = end = bisect_left(run.lots, order, lo=first, key=in_order)
    if way.sure < first or share is None:
        return run.opened(first, end)  # one before these did not fit
    sure = given.sure[flavor]
    before = sums[first] - sure
    way.sure = bisect_right(sums, before + given.most[flavor], first, end + 1) - 1
    way.sure = max(first, way.sure)
    if way.floor == first:
        way.floor = bisect_left(sums, before + share.floor, first, way.sure)
    given.sure[flavor] += sums[way.sure] - sums[first]
    given.used[flavor] += sums[way.sure] - sums[first]
    return run.opened(way.sure, end)


def grant_settled(work: Allocation) -> None:
    """Count what was settled: it stays granted where it is, and is open no more."""
    work.may_reopen = True
    for tenant, run in _runs(work):
        if run.sure:
            count(work, tenant, run.flavor, sum(run.charges[: run.sure]))


def reopen(work: Allocation) -> None:
    """Take back what was settled without the right to a floor: somebody with that right waits and is served first.

    Nothing is taken back once what is guaranteed has been granted for good.
    """
    for tenant, run in _runs(work) if work.may_reopen else ():
        if run.sure > run.floor:
            count(work, tenant, run.flavor, -sum(run.charges[run.floor : run.sure]))
            work.open[tenant] = sorted(work.open[tenant] + run.opened(run.floor, run.sure), key=in_order)
            run.sure = run.floor


def _runs(work: Allocation) -> list[tuple[TenantId, Run]]:
    return [(tenant, run) for tenant, runs in work.layout.queues.runs.items() for run in runs.values()]
