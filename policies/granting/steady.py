"""Replicas that simply run are rated as a run: as many of them as fit into what their tenant has, by their sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.granting.alike import Stretch, in_order, joined
from policies.granting.booking import count
from policies.granting.queues import Order, Run
from policies.granting.reclaim import ENTITLED, FLOOR, GUARANTEED, LEFTOVER, NONE
from policies.granting.working import Allocation
from policies.model.units import FlavorId, TenantId
from policies.shares.entitlement import Share

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
class Way:
    """How far the lots of a run that are open have been rated."""

    run: Run
    ahead: list[tuple[int, int]]
    """Where they begin and end; what is rated is taken out."""
    rated: list[Stretch] = field(default_factory=list)

    def advance(self, order: Order, given: Given) -> None:
        """Rate those that stand before this place."""
        while self.ahead:
            begin, last = self.ahead[0]
            end = last if order is LAST else bisect_left(self.run.lots, order, lo=begin, hi=last, key=in_order)
            self._rate(begin, end, given)
            if end < last:
                self.ahead[0] = end, last
                return
            del self.ahead[0]

    def _rate(self, begin: int, end: int, given: Given) -> None:
        """Give the guarantee to the first of them that fit into it, and what is left of it to smaller ones later.

        By the rule for single lots each of these has the floor's right as long as less than the floor was given away
        before it. The others are entitled to their places as far as they fit into that.
        """
        flavor, charges, share = self.run.flavor, self.run.charges, given.shares.get(self.run.flavor)
        if share is None:
            joined(self.rated, Stretch(begin, end, NONE))
            return
        while begin < end:
            sure, most = given.sure[flavor], given.most[flavor]
            fit = _fitting(charges, begin, end, most - sure, self.run.sure)
            floor = _reaching(charges, begin, fit, share.floor - sure, self.run.floor)
            amount = sum(charges[begin:fit])
            joined(self.rated, Stretch(begin, floor, FLOOR))
            joined(self.rated, Stretch(floor, fit, GUARANTEED))
            given.sure[flavor] += amount
            given.used[flavor] += amount
            begin = _next(charges, fit, end, most - given.sure[flavor])
            self._entitle(fit, begin, given, share.entitled)

    def _entitle(self, begin: int, end: int, given: Given, most: int) -> None:
        flavor, charges = self.run.flavor, self.run.charges
        while begin < end:
            fit = _fitting(charges, begin, end, most - given.used[flavor], end)
            given.used[flavor] += sum(charges[begin:fit])
            joined(self.rated, Stretch(begin, fit, ENTITLED))
            begin = _next(charges, fit, end, most - given.used[flavor])
            joined(self.rated, Stretch(fit, begin, LEFTOVER))


def _fitting(charges: Sequence[int], begin: int, end: int, room: int, guess: int) -> int:
    """Return the place after the last of the first ones that fit into the room together; looked for from a guess on."""
    at = min(max(guess, begin), end)
    total = sum(charges[begin:at])
    while at > begin and total > room:
        at -= 1
        total -= charges[at]
    while at < end and total + charges[at] <= room:
        total += charges[at]
        at += 1
    return at


def _reaching(charges: Sequence[int], begin: int, end: int, need: int, guess: int) -> int:
    """Return the place after the first ones that add up to what is needed, or the end; looked for from a guess on."""
    at = min(max(guess, begin), end)
    total = sum(charges[begin:at])
    while at > begin and total - charges[at - 1] >= need:
        at -= 1
        total -= charges[at]
    while at < end and total < need:
        total += charges[at]
        at += 1
    return at


def _next(charges: Sequence[int], begin: int, end: int, room: int) -> int:
    """Return the place of the next one that fits into the room by itself, or the end."""
    if begin == end or room < min(charges[begin:end]):
        return end
    return next(index for index in range(begin, end) if charges[index] <= room)


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
            for lot in run.lots[run.floor : run.sure]:
                lot.is_kept = False
            run.stretches.insert(0, Stretch(run.floor, run.sure, GUARANTEED))
            run.sure = run.floor


def _runs(work: Allocation) -> list[tuple[TenantId, Run]]:
    return [(tenant, run) for tenant, runs in work.layout.queues.runs.items() for run in runs.values()]
