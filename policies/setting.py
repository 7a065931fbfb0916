"""The board as the snapshot shows it: every running replica in its seat, every claim's lots in its tenant's queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.admission import Ask, charge, flavor_memory
from policies.allocation import lots_of
from policies.appraisal import Appraiser
from policies.board import Board, Score, Seat, board, seated
from policies.errors import UnknownScore
from policies.model.inventory import Group
from policies.model.memory import Memory
from policies.model.units import ClaimId, FlavorId, GroupId, ModelId, TenantId
from policies.model.workload import Shape
from policies.queues import Queues
from policies.rating import SCORES
from policies.reclaim import Lot, Victims
from policies.survey import Survey
from policies.working import Allocation, Layout, Shares


def start(
    survey: Survey, memory: Memory, wishes: Sequence[Ask], shares: Shares, capacity: Mapping[FlavorId, int]
) -> Allocation:
    """Return the allocation before anything is decided. Raises ``UnknownScore`` if the policy names none."""
    made = board(survey, score_named(survey.policy.scoring))
    made.appraise = appraiser = Appraiser(wishes)
    seated = _seated(survey, made)
    lot_of: dict[int, Lot] = {}
    queues = Queues()
    of_claim: dict[ClaimId, list[Lot]] = {}
    for wish in wishes:
        lots = of_claim[wish.claim.id] = lots_of(wish, seats_held(wish, seated))
        for lot in lots:
            for seat in lot.seats:
                lot_of[id(seat)] = lot
    queues.fill(lot for lots in of_claim.values() for lot in lots)
    made.leaving = [seat for some in seated.values() for seat in some if id(seat) not in lot_of]
    whole = Layout(
        board=made, queues=queues, of_claim=of_claim, lot_of=lot_of, home=dict(made.worker_of), seated=seated,
        complete={}, warm=_warm(survey), appraiser=appraiser,
    )  # fmt: skip
    for lots in of_claim.values():
        count_complete(whole.complete, lots, 1)
    return begin(whole, survey, memory, shares, capacity)


def begin(
    layout: Layout, survey: Survey, memory: Memory, shares: Shares, capacity: Mapping[FlavorId, int]
) -> Allocation:
    """Return the allocation before anything is decided, on a layout that is as the snapshot shows it."""
    layout.board.survey = survey
    beside, roots = _family(survey)
    used: dict[tuple[TenantId, FlavorId], int] = {}
    standing = _with_above(survey, layout.complete)
    pooled: dict[tuple[TenantId, FlavorId], int] = {}
    victims = Victims(
        survey=survey, draining=_draining(survey, memory), budget=_budget(survey, memory), lot_of=layout.lot_of,
        shares=shares, used=used, standing=standing, pooled=pooled,
    )  # fmt: skip
    return Allocation(
        survey=survey, memory=memory, board=layout.board, shares=shares, victims=victims, queues=layout.queues.lots,
        open=dict(layout.queues.lots), of_claim=layout.of_claim, capacity=capacity,
        keeping_beside=_keeping(shares, beside), roots=roots, layout=layout, used=used, standing=standing,
        pooled=pooled, warm=layout.warm,
    )  # fmt: skip


def count_complete(complete: dict[tuple[TenantId, FlavorId], int], lots: Sequence[Lot], sign: int) -> None:
    """Add what the complete ones of the lots hold to what their tenant holds (+1), or take it away (-1)."""
    for lot in lots:
        for seat in lot.seats if len(lot.seats) == lot.size else ():
            key = lot.ask.tenant.id, seat.flavor
            complete[key] = complete.get(key, 0) + sign * seat.charge


def _with_above(
    survey: Survey, complete: Mapping[tuple[TenantId, FlavorId], int]
) -> dict[tuple[TenantId, FlavorId], int]:
    found: dict[tuple[TenantId, FlavorId], int] = {}
    for (tenant, flavor), amount in complete.items():
        at = survey.tenants.get(tenant)
        while at is not None:
            found[at.id, flavor] = found.get((at.id, flavor), 0) + amount
            at = survey.tenants.get(at.parent) if at.parent is not None else None
    return found


def _keeping(
    shares: Shares, beside: Mapping[TenantId, Sequence[TenantId]]
) -> dict[tuple[TenantId, FlavorId], list[TenantId]]:
    found: dict[tuple[TenantId, FlavorId], list[TenantId]] = {}
    for flavor, some in shares.items():
        keeping = {one for one, share in some.items() if share.reserved or share.lending < share.nominal}
        for tenant, others in beside.items() if keeping else ():
            found[tenant, flavor] = [one for one in others if one in keeping]
    return found


def _warm(survey: Survey) -> frozenset[ModelId]:
    """Return the models that some hosts have in their cache and others do not."""
    if not any(device.warm_models for device in survey.devices.values()):
        return frozenset()
    kept = [frozenset(device.warm_models) for device in survey.devices.values() if device.id in survey.open]
    return frozenset().union(*kept) - frozenset.intersection(*kept) if kept else frozenset()


def score_named(name: str) -> Score:
    """Return the placement score of that name. Raises ``UnknownScore``."""
    if name not in SCORES:
        raise UnknownScore(name, tuple(sorted(SCORES)))
    return SCORES[name]


def _seated(survey: Survey, made: Board) -> dict[GroupId, list[Seat]]:
    memory = flavor_memory(survey)
    seats: dict[GroupId, list[Seat]] = {}
    for group in survey.groups.values():
        some = seats_of(survey, group, memory)
        if some is not None:
            seats[group.id] = some
    made.show(seat for some in seats.values() for seat in some)
    return seats


def seats_held(wish: Ask, seated: Mapping[GroupId, Sequence[Seat]]) -> list[Seat]:
    """Return the replicas that the claim may keep, those most worth keeping first."""
    if len(wish.held) == 1:
        return list(seated.get(wish.held[0].id, ()))
    return [seat for group in wish.held for seat in seated.get(group.id, ())]


def seats_of(survey: Survey, group: Group, memory: Mapping[FlavorId, int]) -> list[Seat] | None:
    """Return where the group's replicas are; None if its worker or a device of it is not there."""
    if group.worker not in survey.workers or not group.devices or not survey.has_all(group.devices):
        return None
    return [_seat(survey, group, index, memory) for index in range(group.replicas)]


def _seat(survey: Survey, group: Group, index: int, memory: Mapping[FlavorId, int]) -> Seat:
    claim = survey.claims.get(group.claim)
    known = claim is not None and group.rung < len(claim.ladder) and claim.ladder[group.rung].devices > 0
    shape = claim.ladder[group.rung] if claim is not None and known else Shape(flavors=(), devices=len(group.devices))
    first = index * shape.devices
    devices = group.devices[first : first + shape.devices] or group.devices[: shape.devices]
    flavor = survey.devices[group.devices[0]].flavor
    return seated(
        claim=group.claim, domain=survey.workers[group.worker].domain, rung=group.rung, worker=group.worker,
        devices=devices, gpu_millis=shape.gpu_millis, memory_mib=shape.memory_mib,
        charge=charge(shape, memory[flavor]), flavor=flavor, group=group, cpu_millis=shape.cpu_millis,
        host_memory_mib=shape.host_memory_mib,
    )  # fmt: skip


def _draining(survey: Survey, memory: Memory) -> frozenset[GroupId]:
    return frozenset(drain.group for drain in memory.drains if drain.group in survey.groups)


def _budget(survey: Survey, memory: Memory) -> int:
    bounds = survey.policy.bounds
    recent = sum(1 for at in memory.evictions_ms if survey.now_ms - at < bounds.eviction_window_ms)
    return max(0, bounds.evictions_per_window - recent)


def _family(survey: Survey) -> tuple[dict[TenantId, list[TenantId]], list[TenantId]]:
    below: dict[TenantId | None, list[TenantId]] = {}
    for tenant in sorted(survey.tenants.values(), key=lambda one: one.id):
        below.setdefault(tenant.parent if tenant.parent in survey.tenants else None, []).append(tenant.id)
    beside = {one: [other for other in family if other != one] for family in below.values() for one in family}
    return beside, below.get(None, [])
