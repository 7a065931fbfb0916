"""Every claim's lots in its tenant's queue, and which of them are looked at apart from the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from policies.evidence.survey import Survey
from policies.fleet.board import Seat
from policies.granting.alike import Alike, Stretch, cut, in_order, waits_alike
from policies.granting.reclaim import FLOOR, GUARANTEED, NONE, Lot, Terms, Tier
from policies.model.units import ClaimId, FlavorId, TenantId
from policies.wishes.admission import FAILED, Ask

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
    stretches: list[Stretch] = field(default_factory=list)
    """Of those beyond these: rights of the ones that are not granted yet, and not looked at apart from the others."""

    @property
    def begin(self) -> Order:
        """A place before all of its lots, and after those of higher classes."""
        return (-self.value, False, False, -(1 << 62), "")

    def add(self, lot: Lot) -> None:
        """Put in a further lot; between others that are settled it is settled too."""
        place = bisect_left(self.lots, lot.order, key=in_order)
        self.lots.insert(place, lot)
        self.charges.insert(place, lot.seats[0].charge)
        if place < self.sure:
            lot.tier, lot.is_kept = FLOOR if place < self.floor else GUARANTEED, True
            self.floor += place < self.floor
            self.sure += 1

    def remove(self, lot: Lot) -> None:
        """Take out a lot that is there."""
        place = bisect_left(self.lots, lot.order, key=in_order)
        del self.lots[place], self.charges[place]
        self.floor -= place < self.floor
        self.sure -= place < self.sure

    def settle(self, rated: Sequence[Stretch]) -> None:
        """Grant the first lots as far as they have the floor's or the guarantee's right; the others are open.

        ``rated`` are the rights of all of them.
        """
        floor = sure = 0
        for one in rated:
            if one.tier > GUARANTEED:
                break
            floor, sure = one.end if one.tier is FLOOR else floor, one.end
        for lot in self.lots[min(self.floor, floor) : min(max(self.floor, floor), sure)]:
            lot.tier = FLOOR if floor > self.floor else GUARANTEED
        for lot in self.lots[max(self.sure, floor) : sure]:
            lot.tier = GUARANTEED
        for lot in self.lots[self.sure : sure]:
            lot.is_kept = True
        for lot in self.lots[sure : self.sure]:
            lot.is_kept = False
        self.floor, self.sure, self.stretches = floor, sure, []
        self.open([one for one in rated if one.begin >= sure])

    def open(self, rated: Sequence[Stretch]) -> None:
        """Let these be the rights of the lots that are not granted yet."""
        if self.stretches != rated:
            self.stretches = list(rated)
            for one in rated:
                for lot in self.lots[one.begin : one.end]:
                    lot.tier = one.tier

    def standing(self, one: Stretch) -> Iterator[Seat]:
        """Yield the replicas of a stretch; what lost its place since is in it and has none."""
        return (seat for lot in self.lots[one.begin : one.end] for seat in lot.seats)

    def amount(self, one: Stretch) -> int:
        """Return what a stretch counts where it stands, in millis."""
        lots = self.lots[one.begin : one.end]
        return sum(charge for charge, lot in zip(self.charges[one.begin : one.end], lots, strict=True) if lot.seats)

    def grant(self, tier: Tier) -> int:
        """Grant those of the open lots that have this right where they are; return what they count, in millis."""
        amount = 0
        for one in self.stretches:
            if one.tier <= tier:
                amount += sum(self.charges[one.begin : one.end])
                for lot in self.lots[one.begin : one.end]:
                    lot.is_kept = True
        self.stretches = [one for one in self.stretches if one.tier > tier]
        return amount


@dataclass(slots=True)
class Queues:
    """Lots as the snapshot shows them, by tenant, each kind in the order in which the tenant is served."""

    runs: dict[TenantId, dict[tuple[int, FlavorId], Run]] = field(default_factory=dict)
    """Those that simply run, by class and flavor."""
    alike: dict[TenantId, dict[int, Alike]] = field(default_factory=dict)
    """Those that wait with nothing and are told apart by nothing but their place, by their terms' identity; not empty.
    """
    apart: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """All others; there is a list for every tenant that ever had a lot."""
    lacking: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """Those that miss replicas, whatever their kind; the same tenants."""
    terms: dict[Terms, Terms] = field(default_factory=dict)
    """One of each, so that lots of equal terms have the same object."""
    lowerable: dict[TenantId, int] = field(default_factory=dict)
    """Lots of each tenant that have a lower rung than their best."""
    ending: dict[TenantId, int] = field(default_factory=dict)
    """Lots of each tenant whose length or end is announced."""
    climbing: set[ClaimId] = field(default_factory=set)
    """Claims that have a better rung than the one in use."""
    changing: set[ClaimId] = field(default_factory=set)
    """Claims that nobody may preempt, of which something still runs on another rung than the one in use."""

    def is_gone_through(self, tenant: TenantId) -> bool:
        """Say whether the tenant's queue is looked at lot by lot in the end: for lower rungs, or for announced ends."""
        return bool(self.lowerable.get(tenant) or self.ending.get(tenant))

    @property
    def tenants(self) -> list[TenantId]:
        """Everybody who ever had a lot, sorted."""
        return sorted(self.apart)

    def of(self, tenant: TenantId) -> list[Lot]:
        """Return every lot of the tenant, in the order in which it is served. Cost: they are put together anew."""
        runs = [run.lots for run in self.runs.get(tenant, {}).values()]
        classes = [alike.lots for alike in self.alike.get(tenant, {}).values()]
        return sorted(chain(self.apart.get(tenant, ()), *runs, *classes), key=in_order)

    def fill(self, lots: Iterable[Lot], seen: Survey) -> None:
        """Put all lots into their queues, which are empty. Cost: each is sorted once, and most come sorted."""
        for lot in lots:
            ask, tenant = lot.ask, lot.ask.tenant.id
            if ask.upgrades or ask.leaving or _is_ending(ask) or (ask.options and ask.options[-1].rung):
                self._note(lot, 1)
            if tenant not in self.apart:
                self._begin(tenant)
            if _is_steady(lot):
                self._run_of(lot).lots.append(lot)
                continue
            self._share_terms(lot)
            if len(lot.seats) < lot.size:
                self.lacking[tenant].append(lot)
            lot.is_alike = waits_alike(seen, lot)
            (self._class_of(lot).lots if lot.is_alike else self.apart[tenant]).append(lot)
        self._sort()

    def _sort(self) -> None:
        for queue in chain(self.apart.values(), self.lacking.values()):
            queue.sort(key=in_order)
        for runs in self.runs.values():
            for run in runs.values():
                run.lots.sort(key=in_order)
                run.charges = [lot.seats[0].charge for lot in run.lots]
        for classes in self.alike.values():
            for alike in classes.values():
                alike.sort()

    def _begin(self, tenant: TenantId) -> None:
        self.apart[tenant], self.lacking[tenant] = [], []

    def add(self, lots: Iterable[Lot], seen: Survey) -> None:
        """Put further lots into their queues."""
        for lot in lots:
            tenant = lot.ask.tenant.id
            if tenant not in self.apart:
                self._begin(tenant)
            self._share_terms(lot)
            self._put(lot, seen)
            if lot.missing:
                insort(self.lacking[tenant], lot, key=in_order)
            self._note(lot, 1)

    def remove(self, lots: Iterable[Lot]) -> None:
        """Take lots out of their queues; each is there, and has the replicas that it was put in with."""
        for lot in lots:
            self._take(lot)
            if lot.missing:
                _take_out(self.lacking[lot.ask.tenant.id], lot)
            self._note(lot, -1)

    def tell_apart(self, lots: Iterable[Lot], seen: Survey) -> None:
        """Put lots that are in their queues where they belong by what is remembered of their claims now."""
        for lot in lots:
            if lot.is_alike is not waits_alike(seen, lot):
                self._take(lot)
                self._put(lot, seen)

    def single_out(self, lot: Lot) -> Stretch | None:
        """Let the lot be in no stretch any more; return what it was in, None if it was in none."""
        tenant = lot.ask.tenant.id
        some: Alike | Run | None = None
        if lot.is_alike:
            some = self.alike.get(tenant, {}).get(id(lot.terms))
        elif _is_steady(lot) and lot.plain is not None:
            some = self.runs.get(tenant, {}).get((-lot.order[0], lot.plain.flavor))
        return cut(some.stretches, bisect_left(some.lots, lot.order, key=in_order)) if some is not None else None

    def _put(self, lot: Lot, seen: Survey) -> None:
        lot.is_alike = waits_alike(seen, lot)
        if _is_steady(lot):
            self._run_of(lot).add(lot)
        elif lot.is_alike:
            self._class_of(lot).add(lot)
        else:
            insort(self.apart[lot.ask.tenant.id], lot, key=in_order)

    def _take(self, lot: Lot) -> None:
        if _is_steady(lot):
            self._run_of(lot).remove(lot)
        elif lot.is_alike:
            some = self._class_of(lot)
            some.remove(lot)
            if not some.lots:
                del self.alike[lot.ask.tenant.id][id(lot.terms)]
        else:
            _take_out(self.apart[lot.ask.tenant.id], lot)

    def _class_of(self, lot: Lot) -> Alike:
        classes, key = self.alike.setdefault(lot.ask.tenant.id, {}), id(lot.terms)
        alike = classes.get(key)
        if alike is None:
            alike = classes[key] = Alike()
        return alike

    def begin_anew(self) -> None:
        """Take back every right and grant but those that are settled."""
        some = [run.lots[run.sure :] for runs in self.runs.values() for run in runs.values()]
        alike = [one.lots for classes in self.alike.values() for one in classes.values()]
        for lots in (*self.apart.values(), *some, *alike):
            for lot in lots:
                lot.tier, lot.is_kept, lot.has_failed = NONE, False, False

    def _run_of(self, lot: Lot) -> Run:
        runs, key = self.runs.get(lot.ask.tenant.id), (-lot.order[0], lot.seats[0].flavor)
        if runs is None:
            runs = self.runs[lot.ask.tenant.id] = {}
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
        if ask.leaving and is_changing_rung(ask):
            (self.changing.add if sign > 0 else self.changing.discard)(ask.claim.id)


def is_changing_rung(ask: Ask) -> bool:
    """Say whether nobody may preempt the claim and it still runs on another rung than it was granted last.

    What runs there drains, and is of no use any more once that is over: on the new rung it has to be served.
    """
    return not ask.rank.preemptible and any(
        one.running and one.rung != ask.rung and one.state is not FAILED for one in ask.leaving
    )


def _is_ending(ask: Ask) -> bool:
    """Say whether it is announced when the claim ends."""
    return ask.claim.duration_s is not None or ask.claim.expires_at_ms is not None


def _is_steady(lot: Lot) -> bool:
    """Say whether the lot is a claim's only one and has its one replica, whose right depends on what it counts."""
    return lot.plain is not None and lot.is_base and len(lot.claim_lots) <= 1


def _take_out(queue: list[Lot], lot: Lot) -> None:
    place = bisect_left(queue, lot.order, key=in_order)
    while queue[place] is not lot:
        place += 1
    del queue[place]
