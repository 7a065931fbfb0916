"""The state of one decision while it is worked out. Made, filled and thrown away inside ``decide``."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from policies.admission import Ask, Option
from policies.alike import Failure, Stretch, in_order
from policies.appraisal import Appraiser
from policies.board import Board, Kind, Seat
from policies.displacing import Price, Weak
from policies.entitlement import Share
from policies.model.decision import PendingReason
from policies.model.inventory import Worker
from policies.model.memory import Memory
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, ModelId, NodeId, TenantId
from policies.queues import Queues
from policies.reclaim import Lot, Tier, Victims, anybodys_price
from policies.survey import Survey

Signature = tuple[Kind, frozenset[NodeId], frozenset[DeviceId], tuple[int, int, int | None] | None, str | None]
TRIED_PER_DECISION = 64
"""Times per decision that moves of others are looked for; beyond it the answer is SEARCH_INCOMPLETE."""
NEVER = 1 << 62
"""More than any place costs."""
Shares = Mapping[FlavorId, Mapping[TenantId, Share]]


@dataclass(slots=True)
class Layout:
    """What is there, as the snapshot shows it, in the shape in which places are granted; moved about by granting."""

    board: Board
    queues: Queues
    of_claim: dict[ClaimId, list[Lot]]
    lot_of: dict[int, Lot]
    """By identity of the seat."""
    home: dict[DeviceId, Worker]
    """The worker of each device."""
    seated: dict[GroupId, list[Seat]]
    """The replicas of each group."""
    complete: dict[tuple[TenantId, FlavorId], int]
    """Millis of the complete lots of each tenant, without what is below it in the tree."""
    warm: frozenset[ModelId]
    """See ``Allocation``."""
    appraiser: Appraiser
    """Of this board, for the claims as they are now."""


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
    keeping_beside: Mapping[tuple[TenantId, FlavorId], Sequence[TenantId]]
    """The other children of each tenant's parent that do not lend all of a flavor."""
    roots: Sequence[TenantId]
    layout: Layout
    used: dict[tuple[TenantId, FlavorId], int]
    """Millis granted to each tenant and everything below it."""
    standing: dict[tuple[TenantId, FlavorId], int]
    """Millis of complete lots, granted already or not, of each tenant and everything below it."""
    pooled: dict[tuple[TenantId, FlavorId], int] = field(default_factory=dict)
    """What a tenant is guaranteed beside its share, or less than it, since replicas are whole; see ``pooling``."""
    hopeless: set[Signature] = field(default_factory=set)
    """Needs that found no free place in this decision; places only become fewer."""
    holding: set[str] = field(default_factory=set)
    """Claims for which devices are kept, and their tenants; found when it is first asked for."""
    weak: dict[Tier, Weak] = field(default_factory=dict)
    """Hosts that carry something which may be moved, by the right that is needed; emptied when rights change."""
    weak_nodes: frozenset[NodeId] | None = None
    """The same hosts, where only they are asked for and not what a move costs there."""
    leftover: list[Lot] = field(default_factory=list)
    """Lots that had no right to a place when what is left was given out, and might have it; in the same order."""
    open: dict[TenantId, list[Lot]] = field(default_factory=dict)
    """Each tenant's lots without those that were granted for good, in the order in which it is served.

    Without those of a class of equals that are still in one of its stretches."""
    codes: dict[ClaimId, PendingReason] = field(default_factory=dict)
    better_since: dict[ClaimId, int] = field(default_factory=dict)
    """Since when a better rung has been possible, for claims on a lower one."""
    trying: Lot | None = None
    """The lot of a class for which a place is looked for: it may have some of its replicas already."""
    counts: int = 0
    """Changes of ``used`` so far."""
    version: int = 0
    """Lots granted one by one so far."""
    departures: int = 0
    """Times that somebody left or moved for others, or that rights were given anew."""
    roomy: dict[tuple[FlavorId, Tier], tuple[tuple[int, int], Weak]] = field(default_factory=dict)
    """Hosts on which room is looked for by moving others, with the version and departures that they were found at."""
    failed: dict[tuple[object, ...], Failure] = field(default_factory=dict)
    """Attempts that failed at once, by terms."""
    first_waiting: dict[TenantId, Lot | None] = field(default_factory=dict)
    """The first of each tenant's minimums that misses replicas, before anything is granted; found when asked for."""
    log: list[Callable[[], None]] = field(default_factory=list)
    """How to take back each change since the beginning, the latest last."""
    rearrangements: int = 0
    """Times that moves of others were looked for to make room; bounded."""
    may_reopen: bool = False
    """While set, what was settled by sums is not granted for good where it has no right to a floor; see ``steady``."""
    has_chosen: bool = False
    """Whether something with a right was placed that may run on several flavors: its right may have been on another."""
    settled: dict[TenantId, tuple[int, dict[FlavorId, int]]] = field(default_factory=dict)
    """What runs inside a tenant's guarantee and is not granted yet, with the departures found at; see ``limits``."""
    given_up: list[Seat] = field(default_factory=list)
    """Replicas that still stand where their claim may not be any more, while it is placed anew; see ``parting``."""
    is_gentle: bool = False
    """While set, nobody is asked to leave."""
    kept_for: dict[DeviceId, ClaimId] = field(default_factory=dict)
    """Free devices kept for a large claim that waits for more of them."""

    warm: frozenset[ModelId] = frozenset()
    """Models whose weights are in the cache of some host, but not of all."""

    def warm_model(self, model: ModelId | None) -> ModelId | None:
        """Return the model if it starts faster on some hosts than on others, None if all are alike."""
        return model if model in self.warm else None

    def lots(self) -> list[Lot]:
        """Return every lot, by tenant, in the order in which the tenant is served."""
        return [lot for tenant in sorted(self.queues) for lot in self.queues[tenant]]

    def open_lots(self) -> list[Lot]:
        """Return the lots that are not granted, or not for good, in the same order."""
        return [lot for tenant in sorted(self.open) for lot in self.open[tenant] if not lot.is_kept]


def weak_hosts(work: Allocation, tier: Tier) -> Weak:
    """Return the hosts that carry something which somebody with this right may move; made anew when rights change."""
    weak = work.weak.get(tier)
    if weak is None:
        weak = work.weak[tier] = _weak(work, anybodys_price(work.victims, tier))
    return weak


def weak_nodes(work: Allocation, tier: Tier) -> frozenset[NodeId]:
    """Return the same hosts, for whom it does not matter what a move costs there."""
    weak = work.weak.get(tier)
    if weak is not None:
        return weak.nodes
    if work.weak_nodes is None:
        work.weak_nodes = frozenset([node for node, _ in _movable(work)])
    return work.weak_nodes


def _weak(work: Allocation, price: Price) -> Weak:
    nodes, least = set(), dict[NodeId, int]()
    for node, seat in _movable(work):
        nodes.add(node)
        cost = price(seat)
        if cost is not None and cost < least.get(node, NEVER):
            least[node] = cost
    return Weak(frozenset(nodes), least)


def _movable(work: Allocation) -> Iterator[tuple[NodeId, Seat]]:
    """Yield the replicas that are not granted, or are leaving, and their hosts."""
    look_apart(work)
    devices = work.survey.devices
    for lots in (*work.open.values(), (work.trying,) if work.trying is not None else ()):
        for lot in lots:
            for seat in lot.seats if not lot.is_kept else ():
                yield devices[seat.devices[0]].node, seat
    for runs in work.layout.queues.runs.values():
        for run in runs.values():
            for one in run.stretches:
                yield from zip(run.nodes[one.begin : one.end], run.seats(one), strict=True)
    for seat in (*work.board.leaving, *work.given_up):
        yield devices[seat.devices[0]].node, seat


def forget_weak(work: Allocation) -> None:
    """Let these hosts be found anew when they are asked for."""
    work.weak.clear()
    work.weak_nodes = None


def is_search_over(work: Allocation) -> bool:
    """Say whether this decision has looked at as many places, or tried as many moves, as one decision may."""
    is_spent = work.board.steps >= work.survey.policy.bounds.search_steps
    return is_spent or work.rearrangements >= TRIED_PER_DECISION


def roll_back(work: Allocation, mark: int) -> None:
    """Take back every change logged after ``mark``, the latest first."""
    while len(work.log) > mark:
        work.log.pop()()
    work.hopeless.clear()


def vacate(work: Allocation, lot: Lot) -> None:
    """Take a kept lot from its seats, so that it can be placed anew."""
    seats, lot.seats = lot.seats, []
    for seat in seats:
        count(work, lot.ask.tenant.id, seat.flavor, -seat.charge)
        work.board.leave(seat)
    stand(work, seats, -1)
    lot.is_kept = False
    work.hopeless.clear()
    work.log.append(partial(_reseat, work, lot, seats))


def let_go(work: Allocation, lot: Lot) -> None:
    """Take back that the lot is kept; its replicas stay where they are until they are moved."""
    _unkeep(work, lot)
    work.log.append(partial(_keep_again, work, lot))


def _keep_again(work: Allocation, lot: Lot) -> None:
    lot.is_kept = True
    for seat in lot.seats:
        count(work, lot.ask.tenant.id, seat.flavor, seat.charge)


def _reseat(work: Allocation, lot: Lot, seats: list[Seat]) -> None:
    lot.seats, lot.is_kept = seats, True
    for seat in seats:
        count(work, lot.ask.tenant.id, seat.flavor, seat.charge)
        work.board.take(seat)
    stand(work, seats, 1)


def siblings(work: Allocation, lot: Lot) -> list[Lot]:
    """Return all lots of the lot's claim, its minimum first."""
    return work.of_claim[lot.ask.claim.id]


def runs_alone(ask: Ask, lots: Sequence[Lot]) -> Seat | None:
    """Return the claim's one replica if it is all that is wanted, runs and is granted; None for everything else."""
    if len(lots) != 1 or ask.wanted != 1 or ask.refusal is not None or ask.leaving or len(ask.held) != 1:
        return None
    seats, group = lots[0].seats, ask.held[0]
    is_served = lots[0].is_kept and len(seats) == 1 and seats[0].group is group and group.running
    return seats[0] if is_served else None


def is_scarcity_lasting(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot's claim has lacked replicas for so long that rungs may be lowered for it."""
    hold = work.survey.policy.bounds.downgrade_hold_ms
    remembered = work.survey.remembered.get(lot.ask.claim.id)
    since = remembered.waiting_since_ms if remembered is not None else None
    return hold == 0 or (since is not None and work.survey.now_ms - since >= hold)


def has_base(work: Allocation, lot: Lot) -> bool:
    """Say whether the claim's minimum is granted, or the lot is that minimum: further replicas only follow it."""
    base = siblings(work, lot)[0]
    return lot.is_base or not base.is_base or base.is_kept


def amounts(lot: Lot, option: Option) -> dict[FlavorId, int]:
    """Return what the lot counts per flavor: what it holds as it is, what it misses as the option says."""
    found: dict[FlavorId, int] = {}
    for seat in lot.seats:
        found[seat.flavor] = found.get(seat.flavor, 0) + seat.charge
    if lot.missing:
        found[option.flavor] = found.get(option.flavor, 0) + option.charge * lot.missing
    return found


def first_option(lot: Lot) -> Option:
    """Return how the lot's missing replicas are counted before a place is found."""
    if not lot.seats:
        return lot.ask.options[0]
    rung = lot.seats[0].rung
    return next((one for one in lot.ask.options if one.rung == rung), lot.ask.options[0])


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


def look_apart(work: Allocation) -> None:
    """Let those that simply ran and lost their places be looked at one by one."""
    while work.victims.robbed:
        single_out(work, work.victims.robbed.pop())


def single_out(work: Allocation, lot: Lot) -> None:
    """Let the lot be looked at by itself from now on, with what holds for it so far; nothing if it is already."""
    one = work.layout.queues.single_out(lot)
    if one is None:
        return
    lot.tier, lot.is_kept, lot.has_failed, claim = one.tier, False, one.has_failed, lot.ask.claim.id
    note(work, [claim], one)
    insort(work.open[lot.ask.tenant.id], lot, key=in_order)


def note(work: Allocation, claims: Sequence[ClaimId], one: Stretch) -> None:
    """Note of each of the claims why it waits, as it is known for all of them."""
    if one.code is not None:
        work.codes.update(dict.fromkeys(claims, one.code))
    if one.is_refused:
        work.victims.refused_by_budget.update(claims)


def tell_runs(work: Allocation) -> None:
    """Let what simply runs and is open be among the lots looked at one by one."""
    look_apart(work)
    for tenant, runs in work.layout.queues.runs.items():
        found = [lot for run in runs.values() for one in run.stretches for lot in run.lots[one.begin : one.end]]
        if found:
            work.open[tenant] = sorted(work.open[tenant] + found, key=in_order)
        for run in runs.values():
            run.stretches = []


def tell_each(work: Allocation, tenants: Iterable[TenantId]) -> None:
    """Let every open lot of these tenants be among those looked at one by one, with what was found for its class."""
    for tenant in tenants:
        found = list(work.open[tenant])
        for alike in work.layout.queues.alike.get(tenant, {}).values():
            for one in alike.stretches:
                tell(work, alike.lots[one.begin : one.end], one)
                found += alike.lots[one.begin : one.end]
            alike.stretches = []
        if len(found) > len(work.open[tenant]):
            work.open[tenant] = sorted(found, key=in_order)


def tell(work: Allocation, lots: Sequence[Lot], one: Stretch) -> None:
    """Let some lots of the stretch know what holds for all of it."""
    for lot in lots:
        lot.tier, lot.has_failed = one.tier, one.has_failed
    note(work, [lot.ask.claim.id for lot in lots], one)


def _unkeep(work: Allocation, lot: Lot) -> None:
    lot.is_kept = False
    for seat in lot.seats:
        count(work, lot.ask.tenant.id, seat.flavor, -seat.charge)


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
