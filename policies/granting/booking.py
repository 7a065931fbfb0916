"""A lot is granted where it is, or that is taken back; it is counted for its tenant and every tenant above."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from policies.fleet.board import Seat
from policies.granting.apart import look_apart
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation, has_base
from policies.model.units import FlavorId, TenantId


def keep(work: Allocation, lot: Lot) -> None:
    """Grant the lot where it is and count it for its tenant and every tenant above."""
    lot.is_kept = True
    for seat in lot.seats:
        count(work, lot.ask.tenant.id, seat.flavor, seat.charge)
    work.log.append(partial(_unkeep, work, lot))


def sweep(work: Allocation, tenant: TenantId, tier: Tier) -> list[Lot]:
    """Grant the tenant's complete lots of this right where they are, those whose claim has its minimum.

    Return the others of this right that are looked at one by one, in order. What is granted with a right stays granted:
    it is never taken back, so it is not logged, and it is open no more.
    """
    look_apart(work)
    still: list[Lot] = []
    waiting: list[Lot] = []
    counted: dict[FlavorId, int] = {}
    for lot in work.open[tenant]:
        if lot.is_kept:
            continue
        if lot.tier > tier or lot.has_failed:
            still.append(lot)
        elif len(lot.seats) == lot.size and (lot.is_base or has_base(work, lot)):
            lot.is_kept = True
            for seat in lot.seats:
                counted[seat.flavor] = counted.get(seat.flavor, 0) + seat.charge
        else:
            still.append(lot)
            waiting.append(lot)
    work.open[tenant] = still
    for run in work.layout.queues.runs.get(tenant, {}).values():
        if any(one.tier <= tier for one in run.stretches):
            counted[run.flavor] = counted.get(run.flavor, 0) + run.grant(tier)
    for flavor, amount in counted.items():
        count(work, tenant, flavor, amount)
    return waiting


def let_go(work: Allocation, lot: Lot) -> None:
    """Take back that the lot is kept; its replicas stay where they are until they are moved."""
    _unkeep(work, lot)
    work.log.append(partial(_keep_again, work, lot))


def vacate(work: Allocation, lot: Lot) -> None:
    """Take a kept lot from its seats, so that it can be placed anew."""
    seats, lot.seats = lot.seats, []
    for seat in seats:
        count(work, lot.ask.tenant.id, seat.flavor, -seat.charge)
        work.board.leave(seat)
        del work.victims.lot_of[id(seat)]
    stand(work, seats, -1)
    lot.is_kept = False
    work.hopeless.clear()
    work.log.append(partial(_reseat, work, lot, seats))


def roll_back(work: Allocation, mark: int) -> None:
    """Take back every change logged after ``mark``, the latest first."""
    while len(work.log) > mark:
        work.log.pop()()
    work.hopeless.clear()


def stand(work: Allocation, seats: Sequence[Seat], sign: int) -> None:
    """Count the replicas of a lot that is complete now (+1), or no longer is (-1), for its tenant and all above it."""
    for seat in seats:
        claim = work.survey.claims.get(seat.claim)
        at = work.survey.tenants.get(claim.tenant) if claim is not None else None
        while at is not None:
            work.standing[at.id, seat.flavor] = work.standing.get((at.id, seat.flavor), 0) + sign * seat.charge
            at = work.survey.tenants.get(at.parent) if at.parent is not None else None


def count(work: Allocation, tenant: TenantId | None, flavor: FlavorId, amount: int) -> None:
    """Add the amount to the tenant and to everything above it."""
    work.counts += 1
    while tenant is not None:
        work.used[tenant, flavor] = work.used.get((tenant, flavor), 0) + amount
        known = work.survey.tenants.get(tenant)
        tenant = known.parent if known else None


def _keep_again(work: Allocation, lot: Lot) -> None:
    lot.is_kept = True
    for seat in lot.seats:
        count(work, lot.ask.tenant.id, seat.flavor, seat.charge)


def _reseat(work: Allocation, lot: Lot, seats: list[Seat]) -> None:
    lot.seats, lot.is_kept = seats, True
    for seat in seats:
        count(work, lot.ask.tenant.id, seat.flavor, seat.charge)
        work.board.take(seat)
        work.victims.lot_of[id(seat)] = lot
    stand(work, seats, 1)


def _unkeep(work: Allocation, lot: Lot) -> None:
    lot.is_kept = False
    for seat in lot.seats:
        count(work, lot.ask.tenant.id, seat.flavor, -seat.charge)
