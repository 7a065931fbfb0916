"""Which replicas are granted and where: the strongest right first, and a place is taken only from a weaker right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policies.admission import Ask
from policies.board import Seat
from policies.fairness import in_fair_order
from policies.granting import choices, grant
from policies.holding import keep_for_the_large, recall_holds
from policies.ladders import climb, squeeze
from policies.limits import guaranteed, is_allowed
from policies.model.decision import PendingReason
from policies.model.units import ClaimId, FlavorId, TenantId
from policies.parting import give_up_what_may_not_stay
from policies.pooling import pool
from policies.rearranging import rearrange
from policies.reclaim import Lot, Tier, is_unseen, lotted
from policies.sharing import granted, terms_of
from policies.steady import Given, grant_settled, one_by_one, reopen
from policies.working import Allocation, amounts, first_option, forget_weak, has_base, keep, siblings, sweep

ABOVE_ALL = 1 << 61
"""More than the value of any class."""
RETRY_ROUNDS = 8
"""Times per tier that quota set free by a lot without a place is offered to the tenant's next ones."""
FLOOR, GUARANTEED, ENTITLED, LEFTOVER = Tier.FLOOR, Tier.GUARANTEED, Tier.ENTITLED, Tier.LEFTOVER
"""For the loops over all lots: an enumeration looks its members up each time."""


def lots_of(ask: Ask, seats: list[Seat]) -> list[Lot]:
    """Return the claim's lots, its minimum first, filled with the seats that it holds; seats too many are left out."""
    if ask.wanted == 1 == ask.minimum:
        return [_lot(ask, 1, seats[:1], is_base=True)]
    sizes = ([ask.minimum] if ask.minimum else []) + [1] * (ask.wanted - ask.minimum)
    lots, position = [], 0
    for index, size in enumerate(sizes):
        lots.append(_lot(ask, size, seats[position : position + size], is_base=index == 0 and ask.minimum > 0))
        position += size
    for lot in lots:
        lot.claim_lots = lots
    if lots and lots[0].plain is not None and any(seat.flavor != seats[0].flavor for seat in seats):
        lots[0].plain = None  # which of them is the minimum depends on the rights there
    return lots


def _lot(ask: Ask, size: int, seats: list[Seat], *, is_base: bool) -> Lot:
    lot = lotted(ask, size, is_base, seats)  # in the order of its fields
    lot.order = serving_order(lot)
    if seats:
        lot.plain = _plain(lot)
    else:
        lot.terms = terms_of(lot)
    return lot


def serving_order(lot: Lot) -> tuple[int, bool, bool, int, ClaimId]:
    """Return a lot's place in its tenant's queue: class, minimums first, what runs first, then the longest wait.

    Above every class comes what runs and nobody may preempt: it stays whatever is decided, so it stands on the
    strongest right. Else its tenant would have its guarantee twice, once there and once for a higher class.
    """
    claim, stays = lot.ask.claim, not lot.ask.rank.preemptible and bool(lot.seats)
    value = lot.ask.value + (ABOVE_ALL if stays else 0)
    return (-value, not lot.is_base, not lot.seats, claim.submitted_at_ms, claim.id)


def _plain(lot: Lot) -> Seat | None:
    """Return the replica of a complete lot of one if its right depends on what it counts alone."""
    ask = lot.ask
    if lot.size != 1 or not lot.seats or ask.idle or ask.paused or not ask.options:
        return None
    return lot.seats[0] if ask.options[0].rung == lot.seats[0].rung else None


def allocate(work: Allocation) -> None:
    """Grant places until nothing more fits: tier by tier, then what is left, then better or lower rungs."""
    _keep_what_is_blind(work)
    pool(work, {tenant: _rate_all(work, tenant) for tenant in sorted(work.queues)})
    recall_holds(work)
    keep_for_the_large(work)
    grant_settled(work)
    _serve(work, FLOOR)
    work.may_reopen = False
    _serve(work, GUARANTEED)
    if work.has_chosen or any(lot.has_failed and lot.tier <= GUARANTEED for lot in work.open_lots()):
        _serve_siblings(work)
    _serve(work, ENTITLED)
    _serve_leftover(work, [lot for lot in work.open_lots() if lot.tier is not Tier.NONE])
    squeeze(work)
    climb(work)


def _serve_siblings(work: Allocation) -> None:
    """Offer what lots with a right could not use, since they found no place or may not start now, to their siblings."""
    given = {tenant: _given(work, tenant) for tenant in sorted(work.open)}
    for tenant, one in given.items():
        _rate(work, work.open[tenant], one)
    pool(work, {tenant: one.sure for tenant, one in given.items()})
    for tier in (FLOOR, GUARANTEED):
        _serve(work, tier)


def _keep_what_is_blind(work: Allocation) -> None:
    for lot in work.lots() if work.survey.blind else ():
        if lot.ask.domain in work.survey.blind:
            lot.has_failed = lot.missing > 0
            if lot.seats:
                keep(work, lot)
            else:
                work.codes.setdefault(lot.ask.claim.id, PendingReason.TELEMETRY_STALE)


def _rate_all(work: Allocation, tenant: TenantId) -> dict[FlavorId, int]:
    """Rate all lots of the tenant before anything is granted; return what is held or has a guarantee now."""
    given = _given(work, tenant)
    _rate(work, one_by_one(work, tenant, given), given)
    return given.sure


def _given(work: Allocation, tenant: TenantId) -> Given:
    used = {flavor: work.used.get((tenant, flavor), 0) for flavor in work.shares}
    shares = {flavor: of_tenants.get(tenant) for flavor, of_tenants in work.shares.items()}
    most = {flavor: guaranteed(work, tenant, flavor) for flavor, share in shares.items() if share is not None}
    return Given(used, dict(used), shares, most)


def _rate(work: Allocation, lots: Iterable[Lot], given: Given) -> None:
    """Give every one of a tenant's lots the strongest right that its shares still cover, in the order of its queue.

    What is guaranteed goes to the first lots that fit into it, so that one too large does not forfeit it for the
    others; all of them together are never more. Of these, those that begin below the floor have the floor's right, so
    that a floor is kept although no replicas add up to it exactly.
    """
    used, sure, shares, most = given.used, given.sure, given.shares, given.most
    beyond: dict[int, Tier] = {}  # by identity of the terms: lots of equal terms have the same
    for lot in lots:
        if lot.is_kept or lot.has_failed:
            continue
        seat = lot.plain
        if seat is not None and lot.seats and lot.seats[0] is seat and (share := shares.get(seat.flavor)) is not None:
            flavor, amount = seat.flavor, seat.charge
            promised = sure[flavor]
            if promised + amount <= most[flavor]:
                tier = FLOOR if promised < share.floor else GUARANTEED
            else:
                tier = ENTITLED if used[flavor] + amount <= share.entitled else LEFTOVER
            if not lot.is_base:
                tier = max(tier, _right_of_base(work, lot))
            lot.tier = tier
            if tier <= ENTITLED:
                used[flavor] += amount
                if tier <= GUARANTEED:
                    sure[flavor] = promised + amount
            continue
        terms = lot.terms
        if terms is not None and (right := beyond.get(id(terms))) is not None and not lot.seats:
            lot.tier = right
            continue
        _rate_apart(work, lot, used, sure)
        if lot.tier > ENTITLED and terms is not None and not lot.seats:
            beyond[id(terms)] = lot.tier


def _rate_apart(work: Allocation, lot: Lot, used: dict[FlavorId, int], sure: dict[FlavorId, int]) -> None:
    if lot.is_base and lot.claim_lots and lot.seats:
        _stand_on_the_strongest(work, lot, used, sure)
    lot.tier, needs = _strongest(work, lot, used, sure)
    for flavor, amount in needs.items():
        used[flavor] += amount if lot.tier <= ENTITLED else 0
        sure[flavor] += amount if lot.tier <= GUARANTEED else 0


def _stand_on_the_strongest(work: Allocation, lot: Lot, used: dict[FlavorId, int], sure: dict[FlavorId, int]) -> None:
    """Let the claim's minimum be those of its replicas that have the strongest right, where they are on two flavors."""
    seats = [seat for one in lot.claim_lots for seat in one.seats]
    flavors = dict.fromkeys(seat.flavor for seat in seats)
    if len(flavors) <= 1 or lot.missing or any(one.is_kept for one in lot.claim_lots):
        return

    def right(some: Sequence[Seat]) -> Tier:
        amount_of = {flavor: sum(seat.charge for seat in some if seat.flavor == flavor) for flavor in flavors}
        return max(_tier(work, lot, one, (used[one], sure[one]), much) for one, much in amount_of.items() if much)

    def worth(some: Sequence[Seat]) -> tuple[Tier, int]:
        return right(some), len({seat.flavor for seat in some})

    ways = [sorted(seats, key=lambda seat: seat.flavor != first) for first in flavors]
    best = min(ways, key=lambda way: worth(way[: lot.size]))
    if worth(best[: lot.size]) < worth(lot.seats):
        for one in lot.claim_lots:
            one.seats, best = best[: len(one.seats)], best[len(one.seats) :]
            for seat in one.seats:
                work.board.moved.setdefault(seat, 0)
                work.victims.lot_of[id(seat)] = one
    if right(lot.seats) > ENTITLED and not lot.ask.idle and not any(_stays(work, one) for one in lot.claim_lots):
        give_up_what_may_not_stay(work, lot, lambda one, amount: _tier(work, lot, one, (used[one], sure[one]), amount))


def _stays(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot stays although it has no right; what a mode pauses does only where it was not seen."""
    return any(is_unseen(work.survey, seat) for seat in lot.seats) if lot.ask.paused else _is_protected(work, lot)


def _strongest(
    work: Allocation, lot: Lot, used: dict[FlavorId, int], sure: dict[FlavorId, int]
) -> tuple[Tier, dict[FlavorId, int]]:
    """Return the right that covers the lot with the first option inside the tenant's shares, else with the best one."""
    if len(lot.ask.options) == 1 and lot.is_base and not lot.seats:
        option = lot.ask.options[0]
        flavor, amount = option.flavor, option.charge * lot.size
        return _tier(work, lot, flavor, (used[flavor], sure[flavor]), amount), {flavor: amount}
    found: list[tuple[Tier, dict[FlavorId, int]]] = []
    options = choices(work, lot) or (() if lot.missing else lot.ask.options)  # what is whole may stay on its own rung
    for option in options:
        needs = amounts(lot, option)
        tier = max(_tier(work, lot, flavor, (used[flavor], sure[flavor]), amount) for flavor, amount in needs.items())
        tier = max(tier, _right_of_base(work, lot))
        if tier <= Tier.ENTITLED or not lot.missing:
            return tier, needs
        found.append((tier, needs))
    return min(found, key=lambda one: one[0], default=(Tier.NONE, {}))


def _right_of_base(work: Allocation, lot: Lot) -> Tier:
    """Return the right of the claim's minimum: further replicas follow it and have none that is stronger."""
    base = siblings(work, lot)[0]
    if lot.is_base or not base.is_base or base.is_kept:
        return Tier.FLOOR
    return Tier.NONE if base.has_failed else base.tier


def _tier(work: Allocation, lot: Lot, flavor: FlavorId, before: tuple[int, int], amount: int) -> Tier:
    share = work.shares[flavor].get(lot.ask.tenant.id)
    if share is None:
        return Tier.NONE
    used, sure = before
    fits = sure + amount <= guaranteed(work, lot.ask.tenant.id, flavor)
    may_stay = lot.ask.rank.preemptible or bool(lot.seats) or sure + amount <= share.nominal
    if sure < share.floor and fits and not lot.ask.idle and may_stay:
        return FLOOR
    if lot.ask.paused:
        return Tier.NONE
    if lot.ask.idle:
        return LEFTOVER
    if fits and may_stay:
        return GUARANTEED
    if not lot.ask.rank.preemptible and not lot.seats:
        return Tier.NONE
    return ENTITLED if used + amount <= share.entitled else LEFTOVER


def _serve(work: Allocation, tier: Tier) -> None:
    tenants = sorted(work.open)
    for _ in range(RETRY_ROUNDS):
        forget_weak(work)
        work.departures += 1
        waiting = [lot for tenant in tenants for lot in sweep(work, tenant, tier)]
        if waiting and tier is FLOOR:
            reopen(work)
        waiting.sort(key=lambda lot: (lot.tier, *across_tenants(lot)))
        tenants = sorted(_offered(work, waiting))
        for tenant in tenants:
            _rate(work, work.open[tenant], _given(work, tenant))
        if not tenants:
            return


def _offered(work: Allocation, waiting: Sequence[Lot]) -> set[TenantId]:
    """Grant what can be granted; return the tenants of the others.

    Who found a tenant with nothing to spare may ask again in the next round if anything was granted in this one: that
    tenant may have more by then.
    """
    again: list[Lot] = []
    failed: set[TenantId] = set()
    for lot in waiting:
        work.victims.spared.clear()
        if not granted(work, lot, lot.tier, _is_placed):
            failed.add(lot.ask.tenant.id)
            again += [lot] if work.victims.spared else []
    if any(lot.is_kept for lot in waiting):
        for lot in again:
            lot.has_failed = False
    return failed


def _is_placed(work: Allocation, lot: Lot, tier: Tier) -> bool:
    return grant(work, lot, tier) or rearrange(work, lot, tier)


def across_tenants(lot: Lot) -> tuple[int, int, ClaimId]:
    """Return the order among lots of equal right: class, then the longest wait, then the id."""
    return (-lot.ask.value, lot.ask.claim.submitted_at_ms, lot.ask.claim.id)


def _serve_leftover(work: Allocation, open_: Sequence[Lot]) -> None:
    """Keep what still runs where it is, then offer what is free to those that borrow least."""
    work.leftover = open_
    complete = [lot for lot in open_ if len(lot.seats) == lot.size]
    for lot in complete:
        if not lot.ask.idle and _may_run_on(work, lot):
            keep(work, lot)
    for lot in complete:
        if lot.is_base and not lot.is_kept and not lot.ask.idle:
            _stand_elsewhere(work, lot)
    blind = work.survey.blind
    waiting = [lot for lot in open_ if len(lot.seats) < lot.size and lot.ask.domain not in blind]
    if any(lot.order[2] is bool(lot.seats) for lot in waiting):
        waiting.sort(key=serving_order)  # somebody has other replicas than when the queues were put in order
    work.departures += 1
    for lot in in_fair_order(work, [lot for lot in waiting if not lot.ask.idle]):
        granted(work, lot, Tier.LEFTOVER, grant)
    for lot in complete:
        if not lot.is_kept and not lot.missing and _may_run_on(work, lot):
            keep(work, lot)
    for lot in in_fair_order(work, [lot for lot in waiting if lot.ask.idle]):
        grant(work, lot, Tier.LEFTOVER)


def _stand_elsewhere(work: Allocation, lot: Lot) -> None:
    """Place a minimum that may not stay on one of its flavors anew on the other, where its tenant has a right to it."""
    given = _given(work, lot.ask.tenant.id)
    _stand_on_the_strongest(work, lot, given.used, given.sure)
    if lot.missing:
        lot.tier, _ = _strongest(work, lot, given.used, given.sure)
        granted(work, lot, lot.tier, _is_placed)


def _may_run_on(work: Allocation, lot: Lot) -> bool:
    if not has_base(work, lot):
        return False
    may_stay = any(is_allowed(work, lot, first_option(lot), tier) for tier in (Tier.LEFTOVER, Tier.GUARANTEED))
    return may_stay or _is_protected(work, lot)


def _is_protected(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot may stay above its limits: not preemptible, not seen, or not yet long enough there."""
    rank, now = lot.ask.rank, work.survey.now_ms
    ran_ms = min((now - seat.group.since_ms for seat in lot.seats if seat.group), default=0)
    is_hidden = any(is_unseen(work.survey, seat) for seat in lot.seats)
    return not rank.preemptible or is_hidden or ran_ms < rank.min_runtime_s * 1000
