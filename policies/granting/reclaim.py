"""Who may be asked to leave, at what cost, and for which reason it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from policies.evidence.survey import Survey
from policies.fleet.board import Seat
from policies.model.building import builder
from policies.model.decision import EvictionReason
from policies.model.inventory import Group, UsageState
from policies.model.tenancy import Tenant
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, ModelId, TenantId
from policies.shares.entitlement import Share
from policies.wishes.admission import Ask, Option

UNSEEN_IN_FLIGHT = 1
"""Requests assumed inside a group whose load was not seen: never read as none."""


class Tier(IntEnum):
    """How strong the right to a place is. A place may be taken only from a weaker right."""

    FLOOR = 1
    GUARANTEED = 2
    ENTITLED = 3
    LEFTOVER = 4
    NONE = 5


FLOOR, GUARANTEED, ENTITLED, LEFTOVER, NONE = Tier
"""The same by themselves: an enumeration looks each of its members up whenever it is named."""
Terms = tuple[TenantId, int, int, int, bool, tuple[int | None, int | None], ModelId | None]
"""What decides over a waiting lot beside what is there; see ``sharing.terms_of``."""


@dataclass(slots=True, eq=False)
class Lot:
    """Replicas of one claim that are granted together: its minimum as one lot, each further replica as its own."""

    ask: Ask
    size: int
    is_base: bool
    seats: list[Seat] = field(default_factory=list)
    tier: Tier = NONE
    is_kept: bool = False
    has_failed: bool = False
    claim_lots: Sequence[Lot] = ()
    """All lots of its claim, this one among them; none where it is the only one."""
    said: object = None
    """What the last decision said of its claim as of all of its terms; None where all is said anew. See ``results``."""
    order: tuple[int, bool, bool, int, ClaimId] = (0, False, False, 0, ClaimId(""))
    """Its place in its tenant's queue; see ``allocation.serving_order``."""
    terms: Terms | None = None
    """Equal among lots that are decided over alike; None for one judged by itself."""
    plain: Seat | None = None
    """Its one replica, where its right depends on what that counts and on nothing else of it."""
    is_alike: bool = False
    """Whether it stands in its class; see ``policies.granting.alike``."""
    covered: Option | None = None
    """The first of several options that its right covers; None where that is the first of all, or it has none."""

    @property
    def missing(self) -> int:
        """Replicas that have no place yet."""
        return self.size - len(self.seats)


lotted = builder(Lot)
"""Makes one."""


@dataclass(slots=True)
class Victims:
    """Which replicas were taken from their places in this decision, for whom, and how many more may be."""

    survey: Survey
    draining: frozenset[GroupId]
    budget: int
    lot_of: dict[int, Lot]
    """By identity of the seat; a seat without a lot is leaving anyway."""
    shares: Mapping[FlavorId, Mapping[TenantId, Share]]
    used: Mapping[tuple[TenantId, FlavorId], int]
    standing: Mapping[tuple[TenantId, FlavorId], int]
    """Millis of complete lots, granted already or not, by tenant and everything below it."""
    leaving_from: dict[DeviceId, set[ClaimId]] = field(default_factory=dict)
    """Claims of which something stands on the device that goes."""
    taken: dict[GroupId, tuple[EvictionReason, ClaimId | None, int]] = field(default_factory=dict)
    refused_by_budget: set[ClaimId] = field(default_factory=set)
    pooled: Mapping[tuple[TenantId, FlavorId], int] = field(default_factory=dict)
    """See ``Allocation``."""
    spared: set[TenantId] = field(default_factory=set)
    """Tenants that had nothing to spare when somebody looked for a place; emptied before each search."""
    over: list[Lot] = field(default_factory=list)
    """Whole claims' lots that leave for nobody, if for no other: by themselves they are more than a limit allows."""
    robbed: list[Lot] = field(default_factory=list)
    """Lots from which something was taken, also where it was given back, until somebody looks."""

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up and nothing drains or is paused that could be taken without it."""
        overlay = self.survey.overlay
        may_be_paused = overlay is not None and bool(overlay.paused_classes)
        return self.budget <= 0 and not self.draining and not self.taken and not may_be_paused


def cost(survey: Survey, group: Group) -> int:
    """Return what it costs to move the group, in request-milliseconds (>= 0); a group already drained costs nothing.

    The cold start is paid again by every request inside; a job loses the work done since its last checkpoint.
    """
    group, now_ms = survey.latest[group.id], survey.now_ms
    inside = UNSEEN_IN_FLIGHT if group.in_flight is None else group.in_flight
    lost = 0 if group.checkpoint_ms is None else max(0, now_ms - group.checkpoint_ms) * max(1, group.running)
    return group.cold_start_ms * (1 + inside) + lost if group.running else 0


def price_for(victims: Victims, lot: Lot, tier: Tier) -> Callable[[Seat], int | None]:
    """Return the price of taking each replica's place for this lot; None for those that must stay."""

    def price(seat: Seat) -> int | None:
        owner = victims.lot_of.get(id(seat))
        if owner is None:
            return 0
        if owner.is_kept or not _may_take(victims, lot, tier, owner, seat):
            return None
        if seat.group is None:
            return None
        weaker = (NONE - owner.tier) * 1_000_000_000
        return 0 if seat.group.id in victims.draining else weaker + 1 + cost(victims.survey, seat.group)

    return price


def anybodys_price(victims: Victims, tier: Tier) -> Callable[[Seat], int | None]:
    """Return the least that taking a replica's place can cost any lot of this right; None for those that must stay."""

    def price(seat: Seat) -> int | None:
        owner = victims.lot_of.get(id(seat))
        if owner is None:
            return 0
        if owner.is_kept or seat.group is None or not owner.ask.rank.preemptible:
            return None
        if tier is LEFTOVER and not owner.ask.idle and not _leaves_for_the_mode(owner):
            return None
        weaker = (NONE - owner.tier) * 1_000_000_000
        return 0 if seat.group.id in victims.draining else weaker + 1 + cost(victims.survey, seat.group)

    return price


def _may_take(victims: Victims, lot: Lot, tier: Tier, owner: Lot, seat: Seat) -> bool:
    survey, ask = victims.survey, owner.ask
    is_its_own = ask.claim.id == lot.ask.claim.id
    if is_its_own or ask.domain in survey.blind or not ask.rank.preemptible or is_unseen(survey, seat):
        return False
    if _leaves_for_the_mode(owner) and tier is LEFTOVER:
        return True
    if _is_given_up(owner, tier):
        return _has_run_long_enough(victims, lot, tier, owner, seat)
    if ask.idle and (lot.ask.idle or seat.group is None or seat.group.usage is not UsageState.TRULY_IDLE):
        return False
    if not ask.idle and owner.ask.tenant.id == lot.ask.tenant.id and not _outranks(lot, owner):
        return False
    if tier is LEFTOVER and not ask.idle:
        return False
    if not _can_spare(victims, lot, tier, (seat,), {}):
        return False
    return _has_run_long_enough(victims, lot, tier, owner, seat)


def _leaves_for_the_mode(owner: Lot) -> bool:
    """Say whether the lot is paused and has no right: once every right was served it leaves, whoever comes after it."""
    return owner.ask.paused and owner.tier is NONE


def _is_given_up(owner: Lot, tier: Tier) -> bool:
    """Say whether the lot found no room for all of its replicas: those that stand alone keep nobody from a right."""
    return owner.has_failed and owner.missing > 0 and tier <= ENTITLED


def _can_spare(
    victims: Victims, lot: Lot, tier: Tier, seats: Sequence[Seat], gone: dict[tuple[TenantId, FlavorId], int]
) -> bool:
    """Say whether these replicas' tenant, and all above it that is not above the taker, can do without them.

    Rights are given to what a tenant wants first, and that may yet find no place. Until it has one, what stands is
    what the tenant lives on: a tenant that holds no more than it is guaranteed loses nothing to others, and nobody
    goes below a floor by losing what fits into its guarantee. What leaves in any case counts for neither. All replicas
    are of one tenant and flavor. ``gone``: millis that leave together with these, by tenant and flavor; what these are
    is added to it.
    """
    owner, flavor = victims.lot_of[id(seats[0])], seats[0].flavor
    if owner.missing or owner.ask.tenant.id == lot.ask.tenant.id or _is_over(victims, owner):
        return True
    if tier is LEFTOVER and _leaves_for_the_mode(owner):
        return True
    lost, least = _lost_with(victims, seats)
    for tenant in _apart(victims.survey, owner.ask.tenant, lot.ask.tenant):
        share = victims.shares.get(flavor, {}).get(tenant)
        stands = victims.standing.get((tenant, flavor), 0) - gone.get((tenant, flavor), 0)
        stands -= _leaving_anyway(victims, tenant, flavor)
        gone[tenant, flavor] = gone.get((tenant, flavor), 0) + lost
        if share is None or owner.ask.idle:
            continue
        sure = share.guaranteed + victims.pooled.get((tenant, flavor), 0)
        is_bare = stands - lost < share.floor and stands - lost + least <= sure
        is_its_own = stands <= sure and tier is not FLOOR and not owner.ask.paused
        if is_bare or is_its_own:
            victims.spared.add(owner.ask.tenant.id)
            return False
    return True


def _is_over(victims: Victims, owner: Lot) -> bool:
    return any(one is owner for one in victims.over)


def _leaving_anyway(victims: Victims, tenant: TenantId, flavor: FlavorId) -> int:
    """Return the millis that still stand of what is over a limit, of the tenant and all below it."""
    some = [one for one in victims.over if not one.missing and tenant in path(victims.survey, one.ask.tenant)]
    return sum(seat.charge for one in some for seat in one.seats if seat.flavor == flavor)


def _apart(survey: Survey, tenant: Tenant, taker: Tenant) -> list[TenantId]:
    """Return the tenant and everything above it that is not above the taker too."""
    above, found, at = path(survey, taker), list[TenantId](), tenant
    while at.id not in above:
        found.append(at.id)
        if at.parent not in survey.tenants:
            break
        at = survey.tenants[at.parent]
    return found


def _lost_with(victims: Victims, seats: Sequence[Seat]) -> tuple[int, int]:
    """Return the millis that stand no longer once these leave, and the least of them that is granted as one.

    With one replica of a minimum goes all of its claim.
    """
    owners = {id(lot): lot for lot in (victims.lot_of[id(seat)] for seat in seats)}
    found = {id(seat): seat.charge for seat in seats}
    for lot in owners.values():
        for one in (seat for each in lot.claim_lots if lot.is_base for seat in each.seats):
            found[id(one)] = one.charge if one.flavor == seats[0].flavor else 0
    return sum(found.values()), min(lot.seats[0].charge * lot.size for lot in owners.values())


def kept_back(victims: Victims, lot: Lot, tier: Tier, seats: Sequence[Seat]) -> Seat | None:
    """Return one of those that leave for good which cannot be spared together with the others; None if all can be.

    Each of them could be spared by itself.
    """
    leaving: dict[tuple[bool, TenantId, FlavorId], list[Seat]] = {}
    for seat in seats:
        owner = victims.lot_of.get(id(seat))
        if owner is not None and not owner.is_kept and not owner.missing and not _is_over(victims, owner):
            leaving.setdefault((not owner.ask.idle, owner.ask.tenant.id, seat.flavor), []).append(seat)
    gone: dict[tuple[TenantId, FlavorId], int] = {}
    for _, some in sorted(leaving.items(), key=lambda one: one[0]):
        if not _can_spare(victims, lot, tier, some, gone):
            return some[-1]
    return None


def may_be_moved(victims: Victims, lot: Lot, tier: Tier, owner: Lot, seat: Seat) -> bool:
    """Say whether a replica with as good a right may change its place for the lot: it loses time, never its place."""
    survey, ask = victims.survey, owner.ask
    if ask.domain in survey.blind or not ask.rank.preemptible or is_unseen(survey, seat):
        return False
    if ask.claim.id == lot.ask.claim.id:
        return False
    return seat.group is None or _has_run_long_enough(victims, lot, tier, owner, seat)


def _has_run_long_enough(victims: Victims, lot: Lot, tier: Tier, owner: Lot, seat: Seat) -> bool:
    is_foreign_floor = tier is FLOOR and owner.ask.tenant.id != lot.ask.tenant.id
    ran_ms = victims.survey.now_ms - (seat.group.since_ms if seat.group else victims.survey.now_ms)
    return is_foreign_floor or ran_ms >= owner.ask.rank.min_runtime_s * 1000


def _outranks(lot: Lot, owner: Lot) -> bool:
    if lot.ask.value != owner.ask.value:
        return lot.ask.value > owner.ask.value
    return lot.is_base and not owner.is_base


def is_unseen(survey: Survey, seat: Seat) -> bool:
    """Say whether a device of the replica, or its host, was not seen: what is there may only be held."""
    unseen, devices = survey.unseen, survey.devices
    return bool(unseen) and any(one in unseen or devices[one].node in unseen for one in seat.devices)


def may_displace(victims: Victims, lot: Lot, tier: Tier) -> bool:
    """Say whether the lot may ask others to leave now: not in its cool-down, not before its class's delay."""
    survey, claim = victims.survey, lot.ask.claim
    if tier is FLOOR:
        return True
    remembered = survey.remembered.get(claim.id)
    if remembered is None:
        return lot.ask.rank.preemption_delay_s == 0
    since = survey.now_ms if remembered.waiting_since_ms is None else remembered.waiting_since_ms
    is_cooling = remembered.evicted_at_ms is not None and (
        survey.now_ms - remembered.evicted_at_ms < survey.policy.bounds.cooldown_ms
    )
    return not is_cooling and survey.now_ms - since >= lot.ask.rank.preemption_delay_s * 1000


def is_within_budget(victims: Victims, seats: tuple[Seat, ...], tier: Tier) -> bool:
    """Say whether so many more evictions are allowed in this window; floors are outside the budget."""
    return tier is FLOOR or len(_newly(victims, seats)) <= victims.budget


def _newly(victims: Victims, seats: tuple[Seat, ...]) -> set[GroupId]:
    owners = ((seat.group, victims.lot_of.get(id(seat))) for seat in seats)
    owned = {group.id for group, owner in owners if group and owner and not _leaves_for_the_mode(owner)}
    return owned - victims.draining - set(victims.taken)


def reason_for(victims: Victims, lot: Lot, owner: Lot, tier: Tier) -> EvictionReason:
    """Return why the owner's replica leaves for the lot."""
    if owner.ask.paused:
        return EvictionReason.MODE_CHANGE  # also of what idles: no group of it needs to be seen idle
    if owner.ask.idle:
        return EvictionReason.IDLE
    if owner.ask.tenant.id == lot.ask.tenant.id:
        return EvictionReason.PREEMPT if lot.ask.value > owner.ask.value else EvictionReason.REBALANCE
    takes_back = tier <= GUARANTEED or _is_within_nominal(victims, lot, owner)
    return EvictionReason.RECLAIM if takes_back else EvictionReason.REBALANCE


def _is_within_nominal(victims: Victims, lot: Lot, owner: Lot) -> bool:
    """Say whether the branch of the tree that takes, where the two tenants part, stays inside its own quota."""
    survey, at, above = victims.survey, lot.ask.tenant, path(victims.survey, owner.ask.tenant)
    while at.parent is not None and at.parent not in above and at.parent in survey.tenants:
        at = survey.tenants[at.parent]
    option = lot.ask.options[0]
    share = victims.shares.get(option.flavor, {}).get(at.id)
    used = victims.used.get((at.id, option.flavor), 0)
    return share is not None and used + option.charge * lot.size <= share.nominal


def path(survey: Survey, tenant: Tenant) -> frozenset[TenantId]:
    """Return the tenant and everything above it."""
    found, at = {tenant.id}, tenant
    while at.parent is not None and at.parent in survey.tenants:
        at = survey.tenants[at.parent]
        found.add(at.id)
    return frozenset(found)


Taken = tuple[Seat, Lot, Group, "tuple[EvictionReason, ClaimId | None, int] | None"]
"""A replica, the lot and the group that it was taken from, and what was noted of that group before."""


def record(victims: Victims, lot: Lot, tier: Tier, seats: tuple[Seat, ...]) -> list[Taken]:
    """Take the replicas from their lots and note for whom they leave. Return what ``restore`` needs."""
    if tier is not FLOOR:
        victims.budget -= len(_newly(victims, seats))
    taken: list[Taken] = []
    for seat in seats:
        owner, group = victims.lot_of.get(id(seat)), seat.group
        if owner is None or group is None:
            continue
        taken.append((seat, owner, group, victims.taken.get(group.id)))
        del victims.lot_of[id(seat)]
        owner.seats.remove(seat)
        victims.robbed.append(owner)
        reason = reason_for(victims, lot, owner, tier)
        victims.taken[group.id] = (reason, lot.ask.claim.id, cost(victims.survey, group))
    return taken


def restore(victims: Victims, taken: list[Taken], budget: int) -> None:
    """Undo a ``record``."""
    victims.budget = budget
    for seat, owner, group, before in reversed(taken):
        owner.seats.append(seat)
        victims.lot_of[id(seat)] = owner
        if before is None:
            victims.taken.pop(group.id, None)
        else:
            victims.taken[group.id] = before
