"""Waiting lots of equal terms stand together in a class: what holds for many of them is worked out and said once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter

from policies.evidence.survey import Survey
from policies.granting.reclaim import Lot, Tier
from policies.model.decision import PendingReason
from policies.model.units import ClaimId, TenantId

in_order = attrgetter("order")
"""A lot's place in its tenant's queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How an attempt to grant a lot ended that changed nothing."""

    state: tuple[int, bool]
    """Of things when it was made; see ``sharing``."""
    version: int
    """How many lots had been granted one by one."""
    code: PendingReason | None
    is_refused: bool
    """Whether the budget refused it."""
    spared: frozenset[TenantId]


@dataclass(slots=True)
class Stretch:
    """Lots of one class or run that come one after the other and of which the same holds in this decision."""

    begin: int
    end: int
    tier: Tier = Tier.NONE
    code: PendingReason | None = None
    """Why they wait, as ``Allocation.codes`` has it for lots that are judged by themselves."""
    is_refused: bool = False
    """Whether the budget of evictions refused them."""
    has_failed: bool = False
    asks_again_after: int | None = None
    """If they failed in the round of attempts that is going on: the departures beyond which they may ask again."""

    def part(self, begin: int, end: int, tier: Tier) -> Stretch:
        """Return some of it, with this right."""
        return Stretch(begin, end, tier, self.code, self.is_refused, self.has_failed, self.asks_again_after)


@dataclass(slots=True, eq=False)
class Alike:
    """Lots of one tenant that wait with nothing and over which the same decides but their place in the queue."""

    lots: list[Lot] = field(default_factory=list)
    """In the order of the queue."""
    claims: list[ClaimId] = field(default_factory=list)
    """Of each of them."""
    stretches: list[Stretch] = field(default_factory=list)
    """What holds for them in this decision, in the same order; who was granted a place, or is looked at apart from the
    others after all, is in none."""

    @property
    def value(self) -> int:
        """Of their priority class, as ``serving_order`` counts it."""
        return -self.lots[0].order[0]

    def begin_anew(self) -> None:
        """Let nothing be known of them."""
        self.stretches = [Stretch(0, len(self.lots))]

    def sort(self) -> None:
        """Put the lots, in whatever order they are, into the order of the queue."""
        self.lots.sort(key=in_order)
        self.claims = [lot.ask.claim.id for lot in self.lots]

    def add(self, lot: Lot) -> None:
        """Put in a further lot."""
        place = bisect_left(self.lots, lot.order, key=in_order)
        self.lots.insert(place, lot)
        self.claims.insert(place, lot.ask.claim.id)

    def remove(self, lot: Lot) -> None:
        """Take out a lot that is there."""
        place = bisect_left(self.lots, lot.order, key=in_order)
        del self.lots[place], self.claims[place]

    def give(self, one: Stretch) -> None:
        """Leave the first lot of the stretch out: it was granted its place."""
        one.begin += 1
        self.stretches = [some for some in self.stretches if some.begin < some.end]

    def fail(self, one: Stretch, end: int, known: Failure) -> None:
        """Note of the lots of the stretch up to this place that they failed alike; the others remain in it."""
        again, code = asks_again_after(known.state[0], known.spared), known.code
        failed = Stretch(one.begin, end, one.tier, code, known.is_refused, has_failed=True, asks_again_after=again)
        index = next(index for index, some in enumerate(self.stretches) if some is one)
        self.stretches[index : index + 1] = [failed, one] if end < one.end else [failed]
        one.begin = end


def asks_again_after(departures: int, spared: Collection[TenantId]) -> int:
    """Return the departures that must be exceeded for another attempt, after one that failed when there were so many.

    Where tenants had nothing to spare it takes none: they may have once they are granted more.
    """
    return departures - 1 if spared else departures


def cut(stretches: list[Stretch], place: int) -> Stretch | None:
    """Leave one lot out of the stretches; return the one that it was in, None if it was in none."""
    for index, one in enumerate(stretches):
        if one.begin <= place < one.end:
            parts = one.part(one.begin, place, one.tier), one.part(place + 1, one.end, one.tier)
            stretches[index : index + 1] = [part for part in parts if part.begin < part.end]
            return one
    return None


def joined(stretches: list[Stretch], one: Stretch) -> None:
    """Append the stretch, or lengthen the last one if the same holds for both and they meet; nothing if it is empty."""
    if one.begin >= one.end:
        return
    if stretches and stretches[-1].end == one.begin and _holds(stretches[-1]) == _holds(one):
        stretches[-1].end = one.end
    else:
        stretches.append(one)


_holds = attrgetter("tier", "code", "is_refused", "has_failed", "asks_again_after")


def waits_alike(seen: Survey, lot: Lot) -> bool:
    """Say whether only its terms and its place in the queue decide over the lot: nothing is remembered against it."""
    ask = lot.ask
    if lot.terms is None or not ask.options or len(lot.claim_lots) > 1:
        return False
    if ask.rank.preemption_delay_s or ask.claim.id in seen.groups_of:
        return False
    known = seen.remembered.get(ask.claim.id)
    return known is None or (known.failed_at_ms is None and known.evicted_at_ms is None and known.spoilt == ())
