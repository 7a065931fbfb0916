"""Every claim's lots in its tenant's queue, and which of them are looked at apart from the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from policies.admission import Ask
from policies.model.units import ClaimId, FlavorId, TenantId
from policies.reclaim import Lot, Terms, Tier

in_order = attrgetter("order")
"""A lot's place in its tenant's queue."""
Order = tuple[int, bool, bool, int, str]
"""See ``Lot.order``."""


@dataclass(slots=True)
class Run:
    """Lots of one tenant, class and flavor that have their one replica, and whose right depends on their sum alone.

    The first ones that fit into the guarantee are settled: they keep their right and are granted from one decision to
    the next, and only where the boundary moves something is written.
    """

    value: int
    """Of the class, as ``serving_order`` counts it."""
    flavor: FlavorId
    lots: list[Lot] = field(default_factory=list)
    """In the order of the queue."""
    charges: list[int] = field(default_factory=list)
    """What each of them counts, in millis."""
    floor: int = 0
    """So many of the first lots are granted with the floor's right."""
    sure: int = 0
    """So many of the first lots are granted with the floor's or the guarantee's right."""

    @property
    def begin(self) -> Order:
        """A place before all of its lots, and after those of higher classes."""
        return (-self.value, False, False, -(1 << 62), "")

    def append(self, lot: Lot) -> None:
        """Put in a lot that comes after all others."""
        self.lots.append(lot)
        self.charges.append(lot.seats[0].charge)

    def add(self, lot: Lot) -> None:
        """Put in a further lot; between others that are settled it is settled too."""
        place = bisect_left(self.lots, lot.order, key=in_order)
        self.lots.insert(place, lot)
        self.charges.insert(place, lot.seats[0].charge)
        if place < self.sure:
            lot.tier, lot.is_kept = Tier.FLOOR if place < self.floor else Tier.GUARANTEED, True
            self.floor += place < self.floor
            self.sure += 1

    def remove(self, lot: Lot) -> None:
        """Take out a lot that is there."""
        place = bisect_left(self.lots, lot.order, key=in_order)
        del self.lots[place], self.charges[place]
        self.floor -= place < self.floor
        self.sure -= place < self.sure

    def settle(self, floor: int, sure: int) -> None:
        """Grant so many of the first lots with the floor's right, and those up to ``sure`` with the guarantee's.

        What was settled before and is beyond ``sure`` has been opened.
        """
        for lot in self.lots[min(self.floor, floor) : min(max(self.floor, floor), sure)]:
            lot.tier = Tier.FLOOR if floor > self.floor else Tier.GUARANTEED
        for lot in self.lots[max(self.sure, floor) : sure]:
            lot.tier = Tier.GUARANTEED
        for lot in self.lots[self.sure : sure]:
            lot.is_kept = True
        self.floor, self.sure = floor, sure

    def opened(self, first: int, end: int) -> list[Lot]:
        """Return these lots, none of them granted."""
        for lot in self.lots[first : min(end, self.sure)]:
            lot.is_kept = False
        return self.lots[first:end]


@dataclass(slots=True)
class Queues:
    """Lots as the snapshot shows them, by tenant, in the order in which each tenant is served."""

    lots: dict[TenantId, list[Lot]] = field(default_factory=dict)
    runs: dict[TenantId, dict[tuple[int, FlavorId], Run]] = field(default_factory=dict)
    """Those that simply run, by class, the highest first, and flavor."""
    apart: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """All others."""
    lacking: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """Those that miss replicas; a tenant that never had any is left out."""
    large: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """Minimums among these that need several devices of one host; a tenant that never had any is left out."""
    terms: dict[Terms, Terms] = field(default_factory=dict)
    """One of each, so that lots of equal terms have the same object."""
    lowerable: dict[TenantId, int] = field(default_factory=dict)
    """Lots of each tenant that have a lower rung than their best."""
    ending: dict[TenantId, int] = field(default_factory=dict)
    """Lots of each tenant whose length or end is announced."""
    climbing: set[ClaimId] = field(default_factory=set)
    """Claims that have a better rung than the one in use."""

    def fill(self, lots: Iterable[Lot]) -> None:
        """Put all lots into their queues, which are empty. Cost: each queue is sorted once."""
        for lot in lots:
            ask = lot.ask
            tenant = ask.tenant.id
            queue = self.lots.get(tenant)
            if queue is None:
                queue = self.lots[tenant] = []
            queue.append(lot)
            if ask.upgrades or _is_ending(ask) or (ask.options and ask.options[-1].rung):
                self._note(lot, 1)
        for tenant, queue in self.lots.items():
            queue.sort(key=in_order)
            self.apart[tenant] = []
            for lot in queue:
                if _is_steady(lot):
                    self._run_of(lot).append(lot)
                else:
                    self.apart[tenant].append(lot)
            self.lacking[tenant] = lacking = [lot for lot in queue if len(lot.seats) < lot.size]
            self.large[tenant] = [lot for lot in lacking if _is_large(lot)]
            for lot in lacking:
                self._share_terms(lot)

    def add(self, lots: Iterable[Lot]) -> None:
        """Put further lots into their queues."""
        for lot in lots:
            tenant = lot.ask.tenant.id
            insort(self.lots.setdefault(tenant, []), lot, key=in_order)
            if _is_steady(lot):
                self._run_of(lot).add(lot)
            else:
                insort(self.apart.setdefault(tenant, []), lot, key=in_order)
            if lot.missing:
                insort(self.lacking.setdefault(tenant, []), lot, key=in_order)
            self._share_terms(lot)
            if lot.missing and _is_large(lot):
                insort(self.large.setdefault(tenant, []), lot, key=in_order)
            self._note(lot, 1)

    def remove(self, lots: Iterable[Lot]) -> None:
        """Take lots out of their queues; each is there, and has the replicas that it was put in with."""
        for lot in lots:
            tenant = lot.ask.tenant.id
            _take_out(self.lots[tenant], lot)
            if _is_steady(lot):
                self._run_of(lot).remove(lot)
            else:
                _take_out(self.apart[tenant], lot)
            if lot.missing:
                _take_out(self.lacking[tenant], lot)
            if lot.missing and _is_large(lot):
                _take_out(self.large[tenant], lot)
            self._note(lot, -1)

    def begin_anew(self) -> None:
        """Take back every right and grant but those that are settled."""
        some = [run.lots[run.sure :] for runs in self.runs.values() for run in runs.values()]
        for lots in (*self.apart.values(), *some):
            for lot in lots:
                lot.tier, lot.is_kept, lot.has_failed = Tier.NONE, False, False

    def _run_of(self, lot: Lot) -> Run:
        runs, key = self.runs.setdefault(lot.ask.tenant.id, {}), (-lot.order[0], lot.seats[0].flavor)
        run = runs.get(key)
        if run is None:
            run = runs[key] = Run(*key)
        return run

    def _share_terms(self, lot: Lot) -> None:
        if lot.terms is not None:
            lot.terms = self.terms.setdefault(lot.terms, lot.terms)

    def _note(self, lot: Lot, sign: int) -> None:
        ask, tenant = lot.ask, lot.ask.tenant.id
        if ask.options and ask.options[-1].rung:
            self.lowerable[tenant] = self.lowerable.get(tenant, 0) + sign
        if _is_ending(ask):
            self.ending[tenant] = self.ending.get(tenant, 0) + sign
        if ask.upgrades:
            (self.climbing.add if sign > 0 else self.climbing.discard)(ask.claim.id)


def _is_ending(ask: Ask) -> bool:
    """Say whether it is announced when the claim ends."""
    return ask.claim.duration_s is not None or ask.claim.expires_at_ms is not None


def _is_steady(lot: Lot) -> bool:
    """Say whether the lot is a claim's only one and has its one replica, whose right depends on what it counts."""
    return lot.plain is not None and lot.is_base and len(lot.claim_lots) <= 1


def _is_large(lot: Lot) -> bool:
    """Say whether the lot is a minimum whose first shape is more than one device."""
    options = lot.ask.options
    return lot.is_base and bool(options) and lot.ask.claim.ladder[options[0].rung].devices > 1


def _take_out(queue: list[Lot], lot: Lot) -> None:
    place = bisect_left(queue, lot.order, key=in_order)
    while queue[place] is not lot:
        place += 1
    del queue[place]
