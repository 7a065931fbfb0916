"""The state of one decision while it is worked out. Made, filled and thrown away inside ``decide``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from policies.evidence.survey import Survey
from policies.fleet.board import Board, Kind, Seat
from policies.granting.alike import Failure
from policies.granting.appraisal import Appraiser
from policies.granting.displacing import Weak
from policies.granting.queues import Queues
from policies.granting.reclaim import Lot, Tier, Victims
from policies.model.decision import PendingReason
from policies.model.inventory import Worker
from policies.model.memory import Memory
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, ModelId, NodeId, TenantId
from policies.shares.entitlement import Share
from policies.wishes.admission import Ask, Option

Signature = tuple[Kind, frozenset[NodeId], frozenset[DeviceId], tuple[int, int, int | None] | None, str | None]
TRIED_PER_DECISION = 64
"""Times per decision that moves of others are looked for; beyond it the answer is SEARCH_INCOMPLETE."""
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
        queues = self.layout.queues
        return [lot for tenant in queues.tenants for lot in queues.of(tenant)]

    def open_lots(self) -> list[Lot]:
        """Return the lots that are not granted, or not for good, in the same order."""
        return [lot for tenant in sorted(self.open) for lot in self.open[tenant] if not lot.is_kept]


def is_search_over(work: Allocation) -> bool:
    """Say whether this decision has looked at as many places, or tried as many moves, as one decision may."""
    is_spent = work.board.steps >= work.survey.policy.bounds.search_steps
    return is_spent or work.rearrangements >= TRIED_PER_DECISION


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
