"""Every claim's lots in its tenant's queue, and which of them are looked at apart from the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from policies.model.units import ClaimId, TenantId
from policies.reclaim import Lot

in_order = attrgetter("order")
"""A lot's place in its tenant's queue."""


@dataclass(slots=True)
class Queues:
    """Lots as the snapshot shows them, by tenant, in the order in which each tenant is served."""

    lots: dict[TenantId, list[Lot]] = field(default_factory=dict)
    lacking: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """Those that miss replicas; a tenant that never had any is left out."""
    large: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """Minimums among these that need several devices of one host; a tenant that never had any is left out."""
    lowerable: dict[TenantId, int] = field(default_factory=dict)
    """Lots of each tenant that have a lower rung than their best."""
    ending: dict[TenantId, int] = field(default_factory=dict)
    """Lots of each tenant whose length is announced."""
    climbing: set[ClaimId] = field(default_factory=set)
    """Claims that have a better rung than the one in use."""

    def fill(self, lots: Iterable[Lot]) -> None:
        """Put all lots into their queues, which are empty. Cost: each queue is sorted once."""
        for lot in lots:
            tenant = lot.ask.tenant.id
            queue = self.lots.get(tenant)
            if queue is None:
                queue = self.lots[tenant] = []
            queue.append(lot)
            self._note(lot, 1)
        for tenant, queue in self.lots.items():
            queue.sort(key=in_order)
            self.lacking[tenant] = lacking = [lot for lot in queue if len(lot.seats) < lot.size]
            self.large[tenant] = [lot for lot in lacking if _is_large(lot)]

    def add(self, lots: Iterable[Lot]) -> None:
        """Put further lots into their queues."""
        for lot in lots:
            tenant = lot.ask.tenant.id
            insort(self.lots.setdefault(tenant, []), lot, key=in_order)
            if lot.missing:
                insort(self.lacking.setdefault(tenant, []), lot, key=in_order)
            if lot.missing and _is_large(lot):
                insort(self.large.setdefault(tenant, []), lot, key=in_order)
            self._note(lot, 1)

    def remove(self, lots: Iterable[Lot]) -> None:
        """Take lots out of their queues; each is there, and has the replicas that it was put in with."""
        for lot in lots:
            tenant = lot.ask.tenant.id
            _take_out(self.lots[tenant], lot)
            if lot.missing:
                _take_out(self.lacking[tenant], lot)
            if lot.missing and _is_large(lot):
                _take_out(self.large[tenant], lot)
            self._note(lot, -1)

    def _note(self, lot: Lot, sign: int) -> None:
        ask, tenant = lot.ask, lot.ask.tenant.id
        if ask.options and ask.options[-1].rung:
            self.lowerable[tenant] = self.lowerable.get(tenant, 0) + sign
        if ask.claim.duration_s is not None:
            self.ending[tenant] = self.ending.get(tenant, 0) + sign
        if ask.upgrades:
            (self.climbing.add if sign > 0 else self.climbing.discard)(ask.claim.id)


def _is_large(lot: Lot) -> bool:
    """Say whether the lot is a minimum whose first shape is more than one device."""
    options = lot.ask.options
    return lot.is_base and bool(options) and lot.ask.claim.ladder[options[0].rung].devices > 1


def _take_out(queue: list[Lot], lot: Lot) -> None:
    place = bisect_left(queue, lot.order, key=in_order)
    while queue[place] is not lot:
        place += 1
    del queue[place]
