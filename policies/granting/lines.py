"""Lots tried one after the other; of a class, those that would fail like one before are passed over together."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from policies.granting.alike import Alike, Failure, Stretch, asks_again_after
from policies.granting.fairness import in_fair_order
from policies.granting.reclaim import Lot, Tier
from policies.granting.sharing import Attempt, first_granted, granted, known_failure, stands, state
from policies.granting.working import Allocation
from policies.model.units import FlavorId, TenantId

Place = tuple[object, ...]


@dataclass(slots=True, eq=False)
class Line:
    """Lots in the order in which they are tried."""

    work: Allocation
    attempt: Attempt
    place: Callable[[Lot, Tier], Place]
    """In the line, by the lot and its right."""
    tier: Tier | None = None
    """With which right they are tried; None for the one that each has."""
    ahead: list[tuple[Place, int, Lot | tuple[Alike, Stretch]]] = field(default_factory=list)
    """A heap: by the place of the lot, or of the first of the stretch; of equal places those that came first."""
    parked: list[tuple[Alike, Stretch, Failure]] = field(default_factory=list)
    """Classes of which the next lots fail alike, as long as nothing changes."""
    refused: set[TenantId] = field(default_factory=set)
    """Tenants of lots that failed."""
    again: list[tuple[Lot, int]] = field(default_factory=list)
    """Lots that failed, and the departures that must be exceeded for another attempt."""
    granted: list[Lot] = field(default_factory=list)

    def join(self, lots: Iterable[Lot]) -> None:
        """Put in lots that are judged by themselves."""
        for lot in lots:
            heapq.heappush(self.ahead, (self.place(lot, lot.tier), len(self.ahead), lot))

    def join_class(self, alike: Alike, one: Stretch) -> None:
        """Put in a stretch of a class; no other lot has the place of any of these."""
        heapq.heappush(self.ahead, (self.place(alike.lots[one.begin], one.tier), 0, (alike, one)))

    def serve(self) -> Place:
        """Try the next lot, or pass over those of its class that fail like one before; return where that was."""
        work, (place, _, item) = self.work, heapq.heappop(self.ahead)
        before, version = state(work), work.version
        if isinstance(item, Lot):
            self._try(item)
        else:
            known = known_failure(work, *item, self.tier or item[1].tier, before)
            if known is not None:
                self.refused.add(item[0].lots[0].ask.tenant.id)
                self.parked.append((*item, known))
                return place
            self._try_first(*item)
        now = state(work)
        is_changed = now != before or work.version != version
        if is_changed and not all(stands(work, known, now) for *_, known in self.parked):
            self.resume(place)
        return place

    def resume(self, place: Place | None) -> None:
        """Let what was passed over up to this place, or all of it, have failed; the others are in line again."""
        parked, self.parked = self.parked, []
        for alike, one, known in parked:
            end = one.end if place is None else self._after(place, alike, one)
            alike.fail(one, end, known)
            if end < one.end:
                self.join_class(alike, one)

    def _after(self, place: Place, alike: Alike, one: Stretch) -> int:
        return bisect_right(alike.lots, place, one.begin, one.end, key=lambda lot: self.place(lot, one.tier))

    def _try(self, lot: Lot) -> None:
        self.work.victims.spared.clear()
        if granted(self.work, lot, self.tier or lot.tier, self.attempt):
            self.granted.append(lot)
            return
        self.refused.add(lot.ask.tenant.id)
        self.again.append((lot, asks_again_after(self.work.departures, self.work.victims.spared)))

    def _try_first(self, alike: Alike, one: Stretch) -> None:
        self.work.victims.spared.clear()
        lot = alike.lots[one.begin]
        if first_granted(self.work, alike, one, self.tier or one.tier, self.attempt):
            self.granted.append(lot)
        else:
            self.refused.add(alike.lots[0].ask.tenant.id)
        if one.begin < one.end:
            self.join_class(alike, one)


def serve_in_fair_order(work: Allocation, lines: dict[TenantId, dict[FlavorId, Line]]) -> None:
    """Serve all lots, each next one of the tenant that borrows least at that moment; see ``fairness``."""

    def flavor(tenant: TenantId) -> FlavorId | None:
        heads = [(line.ahead[0][0], flavor) for flavor, line in lines[tenant].items() if line.ahead]
        return min(heads)[1] if heads else None

    for tenant, of_flavor in in_fair_order(work, list(lines), flavor):
        line, counts = lines[tenant][of_flavor], work.counts
        others = [other.ahead[0][0] for name, other in lines[tenant].items() if name != of_flavor and other.ahead]
        until = min(others, default=None)
        place = None
        while line.ahead and work.counts == counts and (until is None or line.ahead[0][0] < until):
            place = line.serve()
        line.resume(until if work.counts == counts else place)
