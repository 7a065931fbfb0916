"""Which replicas are granted and where: the strongest right first, and a place is taken only from a weaker right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.admission import Ask, Option
from policies.entitlement import Share
from policies.fitting import Board, Need, Seat, Site, find, find_by_displacing
from policies.model.decision import PendingReason
from policies.model.inventory import Worker
from policies.model.memory import Memory
from policies.model.units import ClaimId, DeviceId, FlavorId, NodeId, SecurityDomain, TenantId
from policies.reclaim import Lot, Taken, Tier, Victims, is_within_budget, may_displace, price_for, record, restore
from policies.survey import Survey

RETRY_ROUNDS = 8
"""Times per tier that quota set free by a lot without a place is offered to the tenant's next ones."""

Signature = tuple[SecurityDomain, FlavorId, int, int, int, frozenset[NodeId]]
Shares = Mapping[FlavorId, Mapping[TenantId, Share]]


@dataclass(frozen=True, slots=True)
class Step:
    """One replica put at its place, with all that is needed to take it back."""

    seat: Seat
    workers: list[tuple[DeviceId, Worker | None]]
    taken: list[Taken]
    budget: int


@dataclass(slots=True)
class Allocation:
    """The work of one decision; ends as the set of kept lots."""

    survey: Survey
    memory: Memory
    board: Board
    shares: Shares
    victims: Victims
    queues: dict[TenantId, list[Lot]]
    of_claim: dict[ClaimId, list[Lot]]
    capacity: Mapping[FlavorId, int]
    beside: Mapping[TenantId, Sequence[TenantId]]
    """The other children of each tenant's parent."""
    roots: Sequence[TenantId]
    used: dict[tuple[TenantId, FlavorId], int]
    """Millis granted to each tenant and everything below it."""
    hopeless: set[Signature] = field(default_factory=set)
    """Needs that found no free place in this decision; places only become fewer."""
    codes: dict[ClaimId, PendingReason] = field(default_factory=dict)

    def lots(self) -> list[Lot]:
        """Return every lot, by tenant, in the order in which the tenant is served."""
        return [lot for tenant in sorted(self.queues) for lot in self.queues[tenant]]


def lots_of(ask: Ask, seats: Sequence[Seat]) -> tuple[list[Lot], list[Seat]]:
    """Return the claim's lots with the seats that it holds, and the seats that it wants no longer."""
    sizes = ([ask.minimum] if ask.minimum else []) + [1] * (ask.wanted - ask.minimum)
    lots, position = [], 0
    for index, size in enumerate(sizes):
        lot = Lot(ask=ask, size=size, is_base=index == 0 and ask.minimum > 0)
        lot.seats = list(seats[position : position + size])
        position += size
        lots.append(lot)
    return lots, list(seats[position:])


def serving_order(lot: Lot) -> tuple[int, bool, bool, int, ClaimId]:
    """Return a lot's place in its tenant's queue: class, minimums first, what runs first, then the longest wait."""
    claim = lot.ask.claim
    return (-lot.ask.value, not lot.is_base, not lot.seats, claim.submitted_at_ms, claim.id)


def allocate(work: Allocation) -> None:
    """Grant places until nothing more fits, tier by tier."""
    _keep_what_is_blind(work)
    for tenant in sorted(work.queues):
        _rate(work, tenant)
    for tier in (Tier.FLOOR, Tier.GUARANTEED, Tier.ENTITLED):
        _serve(work, tier)
    _serve_leftover(work)


def _keep_what_is_blind(work: Allocation) -> None:
    for lot in work.lots():
        if lot.ask.domain in work.survey.blind:
            lot.has_failed = lot.missing > 0
            if lot.seats:
                _keep(work, lot)
            else:
                work.codes.setdefault(lot.ask.claim.id, PendingReason.TELEMETRY_STALE)


def _rate(work: Allocation, tenant: TenantId) -> None:
    """Give every open lot of the tenant the strongest right that its share still covers."""
    used = {flavor: work.used.get((tenant, flavor), 0) for flavor in work.shares}
    for lot in work.queues[tenant]:
        if lot.is_kept or lot.has_failed:
            continue
        option = option_of(lot)
        share = work.shares.get(option.flavor, {}).get(tenant)
        lot.tier = Tier.LEFTOVER if share is None else _tier(lot, share, used[option.flavor] + option.charge * lot.size)
        if lot.tier <= Tier.ENTITLED:
            used[option.flavor] += option.charge * lot.size


def _tier(lot: Lot, share: Share, total: int) -> Tier:
    if total <= share.floor and not lot.ask.idle:
        return Tier.FLOOR
    if lot.ask.paused:
        return Tier.NONE
    if lot.ask.idle:
        return Tier.LEFTOVER
    if total <= share.guaranteed:
        return Tier.GUARANTEED
    if not lot.ask.rank.preemptible and not lot.seats:
        return Tier.NONE
    return Tier.ENTITLED if total <= share.entitled else Tier.LEFTOVER


def option_of(lot: Lot) -> Option:
    """Return how the lot is counted: as what it holds, else as its first choice."""
    if lot.seats:
        seat = lot.seats[0]
        return Option(rung=seat.rung, flavor=seat.flavor, charge=seat.charge)
    return lot.ask.options[0]


def _serve(work: Allocation, tier: Tier) -> None:
    for _ in range(RETRY_ROUNDS):
        lots = [lot for lot in work.lots() if lot.tier is tier and not lot.is_kept and not lot.has_failed]
        for lot in lots:
            if not lot.missing and _has_base(work, lot):
                _keep(work, lot)
        waiting = sorted((lot for lot in lots if not lot.is_kept), key=_across_tenants)
        failed = {lot.ask.tenant.id for lot in waiting if not _grant(work, lot, tier)}
        for tenant in sorted(failed):
            _rate(work, tenant)
        if not failed:
            return


def _across_tenants(lot: Lot) -> tuple[int, int, ClaimId]:
    return (-lot.ask.value, lot.ask.claim.submitted_at_ms, lot.ask.claim.id)


def _keep(work: Allocation, lot: Lot) -> None:
    lot.is_kept = True
    for seat in lot.seats:
        _count(work, lot.ask.tenant.id, seat.flavor, seat.charge)


def _count(work: Allocation, tenant: TenantId | None, flavor: FlavorId, amount: int) -> None:
    while tenant is not None:
        work.used[tenant, flavor] = work.used.get((tenant, flavor), 0) + amount
        known = work.survey.tenants.get(tenant)
        tenant = known.parent if known else None


def _grant(work: Allocation, lot: Lot, tier: Tier) -> bool:
    """Find places for what the lot misses, all or none; leave everything as it was when there are none."""
    if lot.is_base:
        _borrow_from_extras(work, lot)
    elif not _has_base(work, lot):
        return False
    for option in _choices(lot):
        if not _is_allowed(work, lot, option, tier):
            continue
        placed: list[Step] = []
        while lot.missing and _place_one(work, lot, option, tier, placed):
            pass
        if not lot.missing:
            _keep(work, lot)
            return True
        _undo(work, lot, placed)
    _fail(work, lot)
    return False


def _borrow_from_extras(work: Allocation, lot: Lot) -> None:
    """Move replicas from the claim's further lots into its minimum."""
    for extra in _siblings(work, lot):
        while lot.missing and extra.seats and not extra.is_base and not extra.is_kept:
            seat = extra.seats.pop()
            lot.seats.append(seat)
            work.victims.lot_of[id(seat)] = lot


def _has_base(work: Allocation, lot: Lot) -> bool:
    base = _siblings(work, lot)[0]
    return lot.is_base or not base.is_base or base.is_kept


def _choices(lot: Lot) -> Sequence[Option]:
    """Return the options to try: all replicas of a claim run on one rung, so extras follow what is there."""
    if lot.seats:
        return [option for option in lot.ask.options if option.rung == lot.seats[0].rung]
    if not lot.is_base and lot.ask.rung is not None:
        return [option for option in lot.ask.options if option.rung == lot.ask.rung]
    return lot.ask.options


def _is_allowed(work: Allocation, lot: Lot, option: Option, tier: Tier) -> bool:
    share = work.shares.get(option.flavor, {}).get(lot.ask.tenant.id)
    if share is None:
        return False
    total = work.used.get((lot.ask.tenant.id, option.flavor), 0) + option.charge * lot.size
    limit = {Tier.FLOOR: share.floor, Tier.GUARANTEED: share.guaranteed, Tier.ENTITLED: share.entitled}
    if tier in limit:
        return total <= limit[tier]
    return _leaves_what_others_keep(work, lot.ask.tenant.id, option.flavor, option.charge * lot.size)


def _leaves_what_others_keep(work: Allocation, tenant: TenantId, flavor: FlavorId, amount: int) -> bool:
    """Say whether no cap on the way up is exceeded and what others do not lend stays free."""
    shares, withheld, at = work.shares[flavor], 0, work.survey.tenants.get(tenant)
    while at is not None:
        if work.used.get((at.id, flavor), 0) + amount > shares[at.id].cap:
            return False
        withheld += sum(_unlent(work, one, flavor) for one in work.beside[at.id])
        at = work.survey.tenants.get(at.parent) if at.parent else None
    total = sum(work.used.get((root, flavor), 0) for root in work.roots)
    return total + amount + withheld <= work.capacity.get(flavor, 0)


def _unlent(work: Allocation, tenant: TenantId, flavor: FlavorId) -> int:
    share = work.shares[flavor][tenant]
    unused = max(0, share.nominal - work.used.get((tenant, flavor), 0))
    return max(0, unused - share.lending, min(share.reserved, unused))


def _place_one(work: Allocation, lot: Lot, option: Option, tier: Tier, placed: list[Step]) -> bool:
    need = _need(work, lot, option, tier)
    key = (need.domain, need.flavor, need.devices, need.gpu_millis, need.memory_mib, need.avoid_nodes)
    site = None
    if key not in work.hopeless or need.claim in work.board.holder.values():
        site = find(work.board, need)
        if site is None:
            work.hopeless.add(key)
    if site is None:
        site = _displaced(work, lot, need, tier)
    if site is None:
        return False
    placed.append(_seat_at(work, lot, need, site, tier))
    return True


def _need(work: Allocation, lot: Lot, option: Option, tier: Tier) -> Need:
    shape = lot.ask.claim.ladder[option.rung]
    avoid = frozenset[NodeId]()
    if lot.ask.claim.spread:
        avoid = frozenset(work.survey.devices[s.devices[0]].node for one in _siblings(work, lot) for s in one.seats)
    return Need(
        claim=lot.ask.claim.id, domain=lot.ask.domain, rung=option.rung, flavor=option.flavor, devices=shape.devices,
        gpu_millis=shape.gpu_millis, memory_mib=shape.memory_mib, charge=option.charge, avoid_nodes=avoid,
        overrides_holds=tier is Tier.FLOOR,
    )  # fmt: skip


def _siblings(work: Allocation, lot: Lot) -> list[Lot]:
    return work.of_claim[lot.ask.claim.id]


def _displaced(work: Allocation, lot: Lot, need: Need, tier: Tier) -> Site | None:
    if not may_displace(work.victims, lot, tier):
        return None
    if work.board.steps > work.survey.policy.bounds.search_steps:
        work.codes[lot.ask.claim.id] = PendingReason.SEARCH_INCOMPLETE
        return None
    site = find_by_displacing(work.board, need, price_for(work.victims, lot, tier))
    if site is not None and not is_within_budget(work.victims, site.victims, tier):
        work.victims.refused_by_budget.add(lot.ask.claim.id)
        return None
    return site


def _seat_at(work: Allocation, lot: Lot, need: Need, site: Site, tier: Tier) -> Step:
    budget = work.victims.budget
    for victim in site.victims:
        work.board.leave(victim)
    taken = record(work.victims, lot, tier, site.victims)
    if taken:
        work.hopeless.clear()
    workers = work.board.bind(site, need.domain)
    seat = Seat(
        claim=need.claim, domain=need.domain, rung=need.rung, worker=site.worker, devices=site.devices,
        gpu_millis=need.gpu_millis, memory_mib=need.memory_mib, charge=need.charge, flavor=need.flavor,
    )  # fmt: skip
    work.board.take(seat)
    work.victims.lot_of[id(seat)] = lot
    lot.seats.append(seat)
    return Step(seat, workers, taken, budget)


def _undo(work: Allocation, lot: Lot, placed: list[Step]) -> None:
    for step in reversed(placed):
        work.board.leave(step.seat)
        work.board.unbind(step.workers)
        work.victims.lot_of.pop(id(step.seat), None)
        lot.seats.remove(step.seat)
        for seat, _, _ in step.taken:
            work.board.take(seat)
        restore(work.victims, step.taken, step.budget)


def _fail(work: Allocation, lot: Lot) -> None:
    lot.has_failed = True
    work.codes.setdefault(lot.ask.claim.id, PendingReason.TOPOLOGY_UNSATISFIED)


def _serve_leftover(work: Allocation) -> None:
    """Keep what still runs where it is, then offer what is free to those that borrow least."""
    open_ = [lot for lot in work.lots() if not lot.is_kept and lot.tier is not Tier.NONE]
    for lot in open_:
        if not lot.missing and not lot.ask.idle and _may_run_on(work, lot):
            _keep(work, lot)
    waiting = [lot for lot in open_ if lot.missing and lot.ask.domain not in work.survey.blind]
    for lot in sorted(waiting, key=_across_tenants):
        _grant(work, lot, Tier.LEFTOVER)
    for lot in open_:
        if not lot.is_kept and not lot.missing and _may_run_on(work, lot):
            _keep(work, lot)


def _may_run_on(work: Allocation, lot: Lot) -> bool:
    if _has_base(work, lot):
        return _is_protected(work, lot) or _is_allowed(work, lot, option_of(lot), Tier.LEFTOVER)
    return False


def _is_protected(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot may stay above its limits: it cannot be preempted, or has not yet run long enough."""
    rank, now = lot.ask.rank, work.survey.now_ms
    ran_ms = min((now - seat.group.since_ms for seat in lot.seats if seat.group), default=0)
    return not rank.preemptible or ran_ms < rank.min_runtime_s * 1000
