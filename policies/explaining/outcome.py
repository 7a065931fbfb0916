"""The finished allocation as nouns: bindings, placements, evictions, entitlements."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from policies.fleet.board import Seat
from policies.granting.limits import is_kept_by_somebody
from policies.granting.reclaim import Lot, cost
from policies.granting.working import Allocation
from policies.model.building import builder
from policies.model.decision import Binding, Entitlement, Eviction, EvictionReason, Placement
from policies.model.inventory import DeviceHealth, Group, GroupState
from policies.model.naming import group_id
from policies.model.snapshot import GapKind
from policies.model.units import DeviceId, FlavorId, GroupId, TenantId, WorkerId
from policies.model.workload import Claim
from policies.shares.quota import Demands
from policies.wishes.admission import Ask
from policies.wishes.ends import has_expired


def placements_of(lots: Sequence[Lot], there: Mapping[GroupId, Group]) -> tuple[Placement, ...]:
    """Return the groups of one claim that should exist: its kept replicas, those of one worker and rung together.

    ``there`` are the groups that run: one that stands on no rung of the claim any more keeps its name to itself, and so
    does one of which all replicas leave while new ones stand elsewhere on its worker.
    """
    if len(lots) == 1:
        lot = lots[0]
        if not lot.is_kept:
            return ()
        seat, group = (lot.seats[0], lot.seats[0].group) if len(lot.seats) == 1 else (None, None)
        if seat is not None and group is not None and group.rung == seat.rung:
            return (where_it_runs(lot.ask.claim, seat, group),)
    found: dict[tuple[WorkerId, int], list[Seat]] = {}
    for lot in lots:
        for seat in lot.seats if lot.is_kept else ():
            found.setdefault((seat.worker, seat.rung), []).append(seat)
    return tuple(_named(_placement(lots[0], seats), seats, there) for seats in found.values())


def where_it_runs(claim: Claim, seat: Seat, group: Group) -> Placement:
    """Return the group of one replica that stays on its rung."""
    devices = seat.devices if len(seat.devices) == 1 else tuple(sorted(set(seat.devices)))
    variant = claim.ladder[seat.rung].variant
    return _placed(group.id, claim.id, seat.worker, seat.rung, variant, devices, 1)  # in the order of its fields


def _named(placement: Placement, seats: Sequence[Seat], there: Mapping[GroupId, Group]) -> Placement:
    name, edition = placement.group, 0
    is_new = all(seat.group is None for seat in seats)
    while (seen := there.get(name)) is not None and (
        seen.rung != placement.rung or (is_new and not set(placement.devices) <= set(seen.devices))
    ):
        edition += 1
        name = group_id(placement.claim, placement.worker, placement.rung, edition)
    return placement if not edition else replace(placement, group=name)


def _placement(lot: Lot, seats: list[Seat]) -> Placement:
    first, claim = seats[0], lot.ask.claim
    group, devices = first.group, first.devices
    if group is None and len(seats) > 1:
        group = next((seat.group for seat in seats if seat.group is not None), None)
    if len(seats) > 1 or len(devices) > 1:
        devices = tuple(sorted({one for seat in seats for one in seat.devices}))
    name = group.id if group is not None else group_id(claim.id, first.worker, first.rung)
    variant = claim.ladder[first.rung].variant
    return _placed(name, claim.id, first.worker, first.rung, variant, devices, len(seats))  # in the order of its fields


_placed, _bound = builder(Placement), builder(Binding)


def bindings(work: Allocation, devices: Iterable[DeviceId]) -> dict[WorkerId, Binding]:
    """Return the workers that should exist on these devices. Idle ones stay where they are until someone needs them."""
    holder, seats, lost = work.board.worker_of, work.board.seats, work.survey.lost
    workers = {worker.id: worker for device in devices if (worker := holder.get(device)) is not None}
    return {
        one.id: _bound(one.id, one.domain, one.node, one.devices)  # in the order of its fields
        for one in workers.values()
        if not lost or any(bool(seats.get(device)) or device not in lost for device in one.devices)
    }


def evictions(work: Allocation, groups: Iterable[Group], stays: Container[GroupId]) -> tuple[Eviction, ...]:
    """Return those of the groups that should go, sorted by id, each with why and for whom."""
    gone = [group for group in groups if group.id not in stays]
    if work.survey.blind:
        gone = [group for group in gone if not _is_blind(work, group)]
    return tuple(_eviction(work, group) for group in sorted(gone, key=attrgetter("id")))


def _is_blind(work: Allocation, group: Group) -> bool:
    worker = next((one for one in work.survey.snapshot.workers if one.id == group.worker), None)
    return worker is not None and worker.domain in work.survey.blind


def _eviction(work: Allocation, group: Group) -> Eviction:
    lots = work.of_claim.get(group.claim) or []
    ask, is_complete = lots[0].ask if lots else None, bool(lots) and all(lot.is_kept for lot in lots)
    reason, beneficiary, price = work.victims.taken.get(
        group.id, (_own_reason(work, group, ask), None, cost(work.survey, group))
    )
    if is_complete and beneficiary is not None and reason is not EvictionReason.IDLE:
        reason = EvictionReason.CONSOLIDATE
    return Eviction(group=group.id, claim=group.claim, reason=reason, beneficiary=beneficiary, cost=price)


def _own_reason(work: Allocation, group: Group, ask: Ask | None) -> EvictionReason:
    claim = work.survey.claims.get(group.claim)
    if claim is None:
        return EvictionReason.RELEASED
    if has_expired(claim, work.survey.now_ms):
        return EvictionReason.EXPIRED
    if group.state is GroupState.FAILED or group.worker not in work.survey.workers or _is_on_bad_device(work, group):
        return EvictionReason.DRAIN
    if ask is None:
        return EvictionReason.RELEASED
    seats = [seat for lot in work.of_claim[ask.claim.id] if lot.is_kept for seat in lot.seats]
    if group.rung != ask.rung or (seats and group.rung not in {seat.rung for seat in seats}):
        return EvictionReason.RUNG_CHANGE
    held = sum(one.replicas for one in ask.held)
    if len(seats) >= ask.wanted or (group in ask.held and held > ask.wanted):
        return EvictionReason.RELEASED
    if ask.paused:
        return EvictionReason.MODE_CHANGE
    return EvictionReason.RECLAIM if _is_taken_back(work, group, ask) else EvictionReason.REBALANCE


def _is_taken_back(work: Allocation, group: Group, ask: Ask) -> bool:
    """Say whether what leaves for nobody was whole and inside every limit of its own: then its owner does not lend it.

    That is how a reservation that begins, or a lending limit that was lowered, takes back what nobody asks for yet.
    """
    lots = [lot for lot in work.of_claim[ask.claim.id] if any(seat.group is group for seat in lot.seats)]
    if not lots or any(lot.missing or lot.is_kept for lot in lots):
        return False
    flavor = next(seat.flavor for lot in lots for seat in lot.seats if seat.group is group)
    if not is_kept_by_somebody(work, flavor):
        return False
    at = work.survey.tenants.get(ask.tenant.id)
    amount = min(seat.charge for lot in lots for seat in lot.seats)
    while at is not None:
        if work.used.get((at.id, flavor), 0) + amount > work.shares[flavor][at.id].cap:
            return False
        at = work.survey.tenants.get(at.parent) if at.parent is not None else None
    return True


def _is_on_bad_device(work: Allocation, group: Group) -> bool:
    devices = [work.survey.devices.get(one) for one in group.devices]
    return any(one is None or one.health in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED) for one in devices)


def entitlements(work: Allocation, demands: Demands) -> tuple[Entitlement, ...]:
    """Return what each tenant may hold of each flavor and holds in this decision, sorted by tenant and flavor."""
    demand = _summed(work, demands)
    found = []
    for flavor in sorted(work.shares):
        lendable = _free_to_lend(work, flavor)
        for tenant, share in sorted(work.shares[flavor].items()):
            held, wants = work.used.get((tenant, flavor), 0), demand.get((tenant, flavor), 0)
            unused = max(0, share.nominal - held)
            found.append(Entitlement(
                tenant=tenant, flavor=flavor, guaranteed_millis=share.guaranteed, entitled_millis=share.entitled,
                held_millis=held, demand_millis=wants, borrowed_millis=max(0, held - share.nominal),
                lent_millis=min(unused, share.lending, lendable),
            ))  # fmt: skip
    return tuple(sorted(found, key=lambda one: (one.tenant, one.flavor)))


def _free_to_lend(work: Allocation, flavor: FlavorId) -> int:
    """Return what is borrowed of the flavor in all: no one can have lent more."""
    shares = work.shares[flavor]
    return sum(max(0, work.used.get((root, flavor), 0) - shares[root].nominal) for root in work.roots)


def _summed(work: Allocation, demands: Demands) -> dict[tuple[TenantId, FlavorId], int]:
    """Return what each tenant and everything below it asks for."""
    found: dict[tuple[TenantId, FlavorId], int] = {}
    for flavor, of_tenants in demands.items():
        for name, amount in of_tenants.items():
            tenant: TenantId | None = name
            while tenant is not None:
                found[tenant, flavor] = found.get((tenant, flavor), 0) + amount
                known = work.survey.tenants.get(tenant)
                tenant = known.parent if known else None
    return found


HELD_BY = {
    GapKind.NODE: "nothing starts there, and nothing there leaves for others",
    GapKind.DEVICE: "nothing starts there, and nothing there leaves for others",
    GapKind.CLUSTER: "nothing starts, stops or moves there",
    GapKind.GATEWAY: "no replica there goes for want of requests",
    GapKind.DEMAND: "no replica of it goes for want of requests",
}
"""What does not happen while something is not seen."""


def held_by_gaps(work: Allocation) -> tuple[str, ...]:
    """Return one sentence for each thing that was not seen and therefore holds moves, sorted."""
    said = [
        f"{gap.kind} {gap.subject} was not seen ({gap.cause}): {HELD_BY[gap.kind]}" for gap in work.survey.snapshot.gaps
    ]
    said += [f"domain {domain} is being adopted: it holds what runs" for domain in work.survey.snapshot.adopting]
    return tuple(sorted(said))
