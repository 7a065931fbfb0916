"""The board as the snapshot shows it: every running replica in its seat, every claim's lots in its tenant's queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from policies.admission import Ask, charge, flavor_memory
from policies.allocation import lots_of, serving_order
from policies.appraisal import appraise
from policies.board import Board, Score, Seat, board
from policies.errors import UnknownScore
from policies.model.inventory import Group
from policies.model.memory import Memory
from policies.model.units import ClaimId, FlavorId, GroupId, ModelId, TenantId
from policies.model.workload import Shape
from policies.rating import SCORES
from policies.reclaim import Lot, Victims
from policies.survey import Survey
from policies.working import Allocation, Shares


def start(
    survey: Survey, memory: Memory, wishes: Sequence[Ask], shares: Shares, capacity: Mapping[FlavorId, int]
) -> Allocation:
    """Return the allocation before anything is decided. Raises ``UnknownScore`` if the policy names none."""
    made = board(survey, score_named(survey.policy.scoring))
    made.appraise = partial(appraise, wishes=wishes)
    seats = _seated(survey, made)
    used: dict[tuple[TenantId, FlavorId], int] = {}
    standing: dict[tuple[TenantId, FlavorId], int] = {}
    victims = Victims(
        survey=survey, draining=_draining(survey, memory), budget=_budget(survey, memory), lot_of={}, shares=shares,
        used=used, standing=standing,
    )  # fmt: skip
    queues: dict[TenantId, list[Lot]] = {}
    of_claim: dict[ClaimId, list[Lot]] = {}
    for wish in wishes:
        held = [seat for group in wish.held for seat in seats.get(group.id, ())]
        lots = lots_of(wish, held)
        for lot in lots:
            victims.lot_of.update((id(seat), lot) for seat in lot.seats)
        queues.setdefault(wish.tenant.id, []).extend(lots)
        of_claim[wish.claim.id] = lots
    for queue in queues.values():
        queue.sort(key=serving_order)
    made.leaving = [seat for some in seats.values() for seat in some if id(seat) not in victims.lot_of]
    beside, roots = _family(survey)
    work = Allocation(
        survey=survey, memory=memory, board=made, shares=shares, victims=victims, queues=queues, of_claim=of_claim,
        capacity=capacity, keeping_beside=_keeping(shares, beside), roots=roots, used=used, standing=standing,
        warm=_warm(survey),
    )  # fmt: skip
    _stand_all(work)
    return work


def _stand_all(work: Allocation) -> None:
    own: dict[tuple[TenantId, FlavorId], int] = {}
    for lot in (lot for lots in work.of_claim.values() for lot in lots if not lot.missing):
        for seat in lot.seats:
            key = lot.ask.tenant.id, seat.flavor
            own[key] = own.get(key, 0) + seat.charge
    for (tenant, flavor), amount in own.items():
        at = work.survey.tenants.get(tenant)
        while at is not None:
            work.standing[at.id, flavor] = work.standing.get((at.id, flavor), 0) + amount
            at = work.survey.tenants.get(at.parent) if at.parent is not None else None


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


def _seated(survey: Survey, made: Board) -> dict[str, list[Seat]]:
    memory = flavor_memory(survey)
    seats: dict[str, list[Seat]] = {}
    for group in survey.groups.values():
        if group.worker not in survey.workers or any(one not in survey.devices for one in group.devices):
            continue
        seats[group.id] = [_seat(survey, group, index, memory) for index in range(group.replicas)]
        for seat in seats[group.id]:
            made.take(seat)
    return seats


def _seat(survey: Survey, group: Group, index: int, memory: Mapping[FlavorId, int]) -> Seat:
    claim = survey.claims.get(group.claim)
    known = claim is not None and group.rung < len(claim.ladder)
    shape = claim.ladder[group.rung] if claim is not None and known else Shape(flavors=(), devices=len(group.devices))
    first = index * shape.devices
    devices = group.devices[first : first + shape.devices] or group.devices[: shape.devices]
    flavor = survey.devices[group.devices[0]].flavor
    return Seat(
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
