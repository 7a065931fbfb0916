"""The board as the snapshot shows it: every running replica in its seat, every claim's lots in its tenant's queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from policies.documents.errors import UnknownScore
from policies.evidence.survey import Survey
from policies.fleet.board import Score, Seat, seated
from policies.fleet.empty_board import board
from policies.fleet.rating import SCORES
from policies.granting.allocation import lots_of
from policies.granting.appraisal import Appraiser
from policies.granting.queues import Queues
from policies.granting.reclaim import Lot, Victims
from policies.granting.working import Allocation, Layout, Shares
from policies.model.inventory import Group
from policies.model.memory import Memory
from policies.model.units import ClaimId, FlavorId, GroupId, ModelId, TenantId
from policies.model.workload import Shape
from policies.turns.alone import Wished
from policies.wishes.admission import Ask, charge, flavor_memory


def start(
    survey: Survey, memory: Memory, wishes: Iterable[Ask], shares: Shares, capacity: Mapping[FlavorId, int]
) -> Allocation:
    """Return the allocation before anything is decided. Raises ``UnknownScore`` if the policy names none."""
    layout, _ = laid_out(survey, ((one, None) for one in wishes), flavor_memory(survey))
    return begin(layout, survey, memory, shares, capacity)


def laid_out(
    survey: Survey, wishes: Iterable[Wished], memory: Mapping[FlavorId, int]
) -> tuple[Layout, dict[ClaimId, Ask]]:
    """Return what is there and what is asked for, in the shape in which places are granted, and the wishes by claim.

    Raises ``UnknownScore`` if the policy names none. Goes claim by claim, from the wish, made only then, to the seat on
    the board: what belongs to one claim is at hand together, and among a hundred thousand most of the time goes into
    fetching what is not.
    """
    made = board(survey, score_named(survey.policy.scoring))
    whole = Layout(
        board=made, queues=Queues(), of_claim={}, lot_of={}, home=dict(made.worker_of), seated={},
        complete={}, warm=_warm(survey), appraiser=Appraiser(()),
    )  # fmt: skip
    by_claim: dict[ClaimId, Ask] = {}
    made.show(_seats(whole, survey, by_claim, wishes, memory))
    made.appraise = whole.appraiser = Appraiser(by_claim.values())
    whole.queues.fill((lot for lots in whole.of_claim.values() for lot in lots), survey)
    whole.complete = _complete(whole.queues)
    return whole, by_claim


def _seats(
    whole: Layout,
    survey: Survey,
    by_claim: dict[ClaimId, Ask],
    wishes: Iterable[Wished],
    memory: Mapping[FlavorId, int],
) -> Iterator[Seat]:
    """Lay out one claim after the other and yield its replicas; at the end those of claims that are no more."""
    seated, of_claim, lot_of, leaving = whole.seated, whole.of_claim, whole.lot_of, whole.board.leaving
    for wish, only in wishes:
        by_claim[wish.claim.id] = wish
        if only is not None:
            seated[wish.held[0].id] = alone = [only]
            of_claim[wish.claim.id] = lots = lots_of(wish, alone)
            lot_of[id(only)] = lots[0]
            yield only
            continue
        held: list[Seat] = []
        for group in wish.held:
            some = seats_of(survey, group, memory)
            if some is not None:
                seated[group.id] = some
                held = held + some if held else some
        lots = of_claim[wish.claim.id] = lots_of(wish, held)
        for lot in lots:
            for seat in lot.seats:
                lot_of[id(seat)] = lot
        yield from held
        if len(held) > wish.wanted:
            leaving += held[wish.wanted :]
        if wish.leaving:
            yield from _seats_going(whole, survey, wish.leaving, memory)
    for claim in survey.groups_of.keys() - survey.claims.keys():
        yield from _seats_going(whole, survey, survey.groups_of[claim], memory)


def _seats_going(
    whole: Layout, survey: Survey, groups: Iterable[Group], memory: Mapping[FlavorId, int]
) -> Iterator[Seat]:
    """Yield the replicas of groups that cannot stay whatever is decided, but still stand."""
    for group in groups:
        some = seats_of(survey, group, memory)
        if some is not None:
            whole.seated[group.id] = some
            whole.board.leaving += some
            yield from some


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
        survey=survey, memory=memory, board=layout.board, shares=shares, victims=victims,
        of_claim=layout.of_claim, capacity=capacity,
        keeping_beside=_keeping(shares, beside), roots=roots, layout=layout, used=used, standing=standing,
        pooled=pooled, warm=layout.warm,
    )  # fmt: skip


def count_complete(complete: dict[tuple[TenantId, FlavorId], int], lots: Sequence[Lot], sign: int) -> None:
    """Add what the complete ones of the lots hold to what their tenant holds (+1), or take it away (-1)."""
    for lot in lots:
        for seat in lot.seats if len(lot.seats) == lot.size else ():
            key = lot.ask.tenant.id, seat.flavor
            complete[key] = complete.get(key, 0) + sign * seat.charge


def _complete(queues: Queues) -> dict[tuple[TenantId, FlavorId], int]:
    """Return what the complete ones of all lots hold, by tenant and flavor: most are complete by their kind."""
    found: dict[tuple[TenantId, FlavorId], int] = {}
    for tenant, runs in queues.runs.items():
        for run in runs.values():
            found[tenant, run.flavor] = found.get((tenant, run.flavor), 0) + sum(run.charges)
    for lots in queues.apart.values():
        count_complete(found, lots, 1)
    return found


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


def seats_held(wish: Ask, seated: Mapping[GroupId, Sequence[Seat]]) -> list[Seat]:
    """Return the replicas that the claim may keep, those most worth keeping first."""
    if len(wish.held) == 1:
        return list(seated.get(wish.held[0].id, ()))
    return [seat for group in wish.held for seat in seated.get(group.id, ())]


def seats_of(survey: Survey, group: Group, memory: Mapping[FlavorId, int]) -> list[Seat] | None:
    """Return where the group's replicas are; None if its worker or a device of it is not there.

    What has a shape that nobody knows any more, since its claim is gone, fills its devices as one.
    """
    worker, devices, rung = survey.workers.get(group.worker), group.devices, group.rung
    first = survey.devices.get(devices[0]) if devices else None
    if worker is None or first is None or not (len(devices) == 1 or survey.has_all(devices)):
        return None
    claim = survey.claims.get(group.claim)
    shape = claim.ladder[rung] if claim is not None and rung < len(claim.ladder) else None
    replicas = group.replicas
    if shape is None or shape.devices <= 0:
        shape, replicas = Shape(flavors=(), devices=len(devices)), min(1, replicas)
    count, price = shape.devices, charge(shape, memory[first.flavor])
    return [
        seated(  # in the order of its fields
            group.claim, worker.domain, rung, group.worker, first.node, devices[at : at + count] or devices[:count],
            shape.gpu_millis, shape.memory_mib, price, first.flavor, group, 0, shape.cpu_millis, shape.host_memory_mib,
        )
        for at in range(0, replicas * count, count)
    ]  # fmt: skip


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
