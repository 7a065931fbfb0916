"""Who holds each flavor, those with the weakest right first: whoever lacks a place there is told of them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

from policies.explaining.queueing import BLOCKERS_SHOWN
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation, siblings
from policies.model.decision import Holders
from policies.model.units import ClaimId, FlavorId

NAMED = BLOCKERS_SHOWN + 1


def holders(work: Allocation) -> tuple[Holders, ...]:
    """Return the first few who hold each flavor, those with the weakest right first, by flavor.

    One more than is shown: nobody stands in its own way.
    """
    found: dict[FlavorId, dict[ClaimId, tuple[int, int]]] = {}
    for lot in _weakest(work):
        if lot.is_kept and lot.seats:
            held = found.setdefault(lot.seats[0].flavor, {})
            claim = lot.ask.claim.id
            if claim not in held:
                held[claim] = (-lot.tier, lot.ask.value)
    return tuple(
        Holders(
            flavor=flavor,
            claims=tuple(claim for _, claim in heapq.nsmallest(NAMED, zip(held.values(), held, strict=True))),
        )
        for flavor, held in sorted(found.items())
    )


def _weakest(work: Allocation) -> Sequence[Lot]:
    """Return lots among which are the first holders of every flavor: those on what is left over, where they suffice."""
    weak = (Tier.LEFTOVER, Tier.NONE)
    some = work.lots() if work.survey.blind else work.leftover
    lots = [lot for lot in some if lot.tier in weak and lot.is_kept and lot.seats and _is_first(work, lot)]
    count = Counter(lot.seats[0].flavor for lot in lots)
    return lots if all(count[flavor] >= NAMED for flavor in work.shares) else work.lots()


def _is_first(work: Allocation, lot: Lot) -> bool:
    """Say whether no earlier lot of the claim holds the flavor."""
    flavor = lot.seats[0].flavor
    return lot is next(
        one for one in siblings(work, lot) if one.is_kept and one.seats and one.seats[0].flavor == flavor
    )
