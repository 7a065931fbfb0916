"""The finished allocation as nouns: bindings, placements, evictions, entitlements."""

from __future__ import annotations

from collections.abc import Sequence

from policies.admission import Ask
from policies.board import Seat
from policies.model.decision import Binding, Entitlement, Eviction, EvictionReason, Placement
from policies.model.inventory import DeviceHealth, Group, GroupState
from policies.model.naming import group_id
from policies.model.units import ClaimId, FlavorId, TenantId, WorkerId
from policies.quota import wanted_of
from policies.reclaim import cost
from policies.survey import Survey
from policies.working import Allocation


def placements(work: Allocation) -> tuple[Placement, ...]:
    """Return the groups that should exist, sorted by id: the kept replicas of each claim, worker and rung together."""
    found: dict[tuple[ClaimId, WorkerId, int], list[Seat]] = {}
    for lot in work.lots():
        if lot.is_kept:
            for seat in lot.seats:
                found.setdefault((seat.claim, seat.worker, seat.rung), []).append(seat)
    return tuple(sorted((_placement(work, key, seats) for key, seats in found.items()), key=lambda one: one.group))


def _placement(work: Allocation, key: tuple[ClaimId, WorkerId, int], seats: list[Seat]) -> Placement:
    claim, worker, rung = key
    existing = next((seat.group.id for seat in seats if seat.group is not None), None)
    return Placement(
        group=existing or group_id(claim, worker, rung), claim=claim, worker=worker, rung=rung,
        variant=work.survey.claims[claim].ladder[rung].variant,
        devices=tuple(sorted({one for seat in seats for one in seat.devices})), replicas=len(seats),
    )  # fmt: skip


def bindings(work: Allocation) -> tuple[Binding, ...]:
    """Return the workers that should exist, sorted by id. Idle ones stay where they are until someone needs them."""
    workers = {worker.id: worker for worker in work.board.worker_of.values()}
    return tuple(
        Binding(worker=one.id, domain=one.domain, node=one.node, devices=one.devices)
        for one in sorted(workers.values(), key=lambda worker: worker.id)
        if any(not work.board.is_idle(device) or _is_sound(work.survey, device) for device in one.devices)
    )


def _is_sound(survey: Survey, device: str) -> bool:
    known = survey.devices.get(device)  # type: ignore[call-overload]  # a worker may hold a device that is not listed
    return known is None or known.health not in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)


def evictions(work: Allocation, placed: Sequence[Placement]) -> tuple[Eviction, ...]:
    """Return the groups that should go, sorted by id, each with why and for whom."""
    stays = {placement.group for placement in placed}
    complete = {lot.ask.claim.id: True for lot in work.lots()}
    for lot in work.lots():
        complete[lot.ask.claim.id] &= lot.is_kept
    asks = {lot.ask.claim.id: lot.ask for lot in work.lots()}
    gone = [group for group in work.survey.groups.values() if group.id not in stays and not _is_blind(work, group)]
    return tuple(_eviction(work, group, asks.get(group.claim), complete.get(group.claim, False)) for group in gone)


def _is_blind(work: Allocation, group: Group) -> bool:
    worker = next((one for one in work.survey.snapshot.workers if one.id == group.worker), None)
    return worker is not None and worker.domain in work.survey.blind


def _eviction(work: Allocation, group: Group, ask: Ask | None, is_complete: bool) -> Eviction:  # noqa: FBT001  # a fact about the claim, not a switch
    reason, beneficiary, price = work.victims.taken.get(
        group.id, (_own_reason(work, group, ask), None, cost(group, work.survey.now_ms))
    )
    if is_complete and beneficiary is not None and reason is not EvictionReason.IDLE:
        reason = EvictionReason.CONSOLIDATE
    return Eviction(group=group.id, claim=group.claim, reason=reason, beneficiary=beneficiary, cost=price)


def _own_reason(work: Allocation, group: Group, ask: Ask | None) -> EvictionReason:
    if ask is None:
        return EvictionReason.RELEASED
    if group.state is GroupState.FAILED or group.worker not in work.survey.workers or _is_on_bad_device(work, group):
        return EvictionReason.DRAIN
    if group.rung != ask.rung:
        return EvictionReason.RUNG_CHANGE
    held = sum(one.replicas for one in ask.held)
    granted = sum(len(lot.seats) for lot in work.queues[ask.tenant.id] if lot.ask is ask and lot.is_kept)
    if granted >= ask.wanted or (group in ask.held and held > ask.wanted):
        return EvictionReason.RELEASED
    return EvictionReason.MODE_CHANGE if ask.paused else EvictionReason.REBALANCE


def _is_on_bad_device(work: Allocation, group: Group) -> bool:
    devices = [work.survey.devices.get(one) for one in group.devices]
    return any(one is None or one.health in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED) for one in devices)


def entitlements(work: Allocation, wishes: Sequence[Ask]) -> tuple[Entitlement, ...]:
    """Return what each tenant may hold of each flavor and holds in this decision, sorted by tenant and flavor."""
    demand = _demand(work, wishes)
    found = []
    for flavor in sorted(work.shares):
        for tenant, share in sorted(work.shares[flavor].items()):
            held, wants = work.used.get((tenant, flavor), 0), demand.get((tenant, flavor), 0)
            unused = max(0, share.nominal - held)
            found.append(Entitlement(
                tenant=tenant, flavor=flavor, guaranteed_millis=share.guaranteed, entitled_millis=share.entitled,
                held_millis=held, demand_millis=wants, borrowed_millis=max(0, held - share.nominal),
                lent_millis=min(unused, share.lending, _free_to_lend(work, flavor)),
            ))  # fmt: skip
    return tuple(sorted(found, key=lambda one: (one.tenant, one.flavor)))


def _free_to_lend(work: Allocation, flavor: FlavorId) -> int:
    """Return what is borrowed of the flavor in all: no one can have lent more."""
    shares = work.shares[flavor]
    return sum(max(0, work.used.get((root, flavor), 0) - shares[root].nominal) for root in work.roots)


def _demand(work: Allocation, wishes: Sequence[Ask]) -> dict[tuple[TenantId, FlavorId], int]:
    found: dict[tuple[TenantId, FlavorId], int] = {}
    for wish in wishes:
        for flavor, amount in wanted_of(wish).items():
            tenant: TenantId | None = wish.tenant.id
            while tenant is not None:
                found[tenant, flavor] = found.get((tenant, flavor), 0) + amount
                known = work.survey.tenants.get(tenant)
                tenant = known.parent if known else None
    return found


def held_by_gaps(work: Allocation) -> tuple[str, ...]:
    """Return one sentence for each thing that was not seen and therefore holds moves, sorted."""
    said = [
        f"{gap.kind} {gap.subject} was not seen ({gap.cause}): nothing that depends on it moves"
        for gap in work.survey.snapshot.gaps
    ]
    said += [f"domain {domain} is being adopted: it holds what runs" for domain in work.survey.snapshot.adopting]
    return tuple(sorted(said))
