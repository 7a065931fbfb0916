"""What is tried and taken back leaves nothing behind, and in the end every figure is what the replicas add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from policies.fleet.board import Seat
from policies.granting.allocation import allocate
from policies.granting.booking import keep, let_go, roll_back, vacate
from policies.granting.granting import place
from policies.granting.rearranging import rearrange
from policies.granting.reclaim import Lot, Tier
from policies.granting.rights import begin_rating, rate_all
from policies.granting.working import Allocation
from policies.model.memory import Memory
from policies.turns.standing import lay_out
from tests.policies.crowds import NOW_MS, Crowd, crowd
from tests.policies.looking import DEPTH, FOUR
from tests.policies.situations import NOW_MS as LATER_MS
from tests.policies.situations import claim, rules, running, snapshot
from tests.policies.test_crowds_of_equals import of_equals

CROWDS = range(0, 96 * DEPTH, 2)


def begun(here: Crowd, now_ms: int = NOW_MS) -> Allocation:
    """The work of a decision with every lot rated and nothing granted."""
    work = lay_out(here.snapshot, here.policy, here.memory, now_ms).work
    begin_rating(work)
    for tenant in work.layout.queues.tenants:
        rate_all(work, tenant)
    return work


def lots_of(work: Allocation) -> list[Lot]:
    return [lot for lots in work.of_claim.values() for lot in lots]


def present(amounts) -> dict:
    return {key: amount for key, amount in amounts.items() if amount}


def state(work: Allocation) -> tuple[object, ...]:
    """All that a grant changes, but for the order in which replicas are listed."""
    board, victims = work.board, work.victims
    spare = {key: (one.idle, one.whole) for key, one in board.spare.items()}
    return (
        {id(lot): (frozenset(map(id, lot.seats)), lot.is_kept) for lot in lots_of(work)},
        {device: frozenset(map(id, seats)) for device, seats in board.seats.items()},
        dict(board.free_millis), dict(board.free_memory), dict(board.node_free), dict(board.node_cpu),
        dict(board.node_memory), spare, dict(board.worker_of), present(work.used), present(work.standing),
        victims.budget, dict(victims.taken), {key: id(lot) for key, lot in victims.lot_of.items()},
    )  # fmt: skip


@pytest.mark.parametrize("part", range(6))
def test_a_place_that_is_found_and_taken_back_leaves_everything_as_it_was(part):
    found = 0
    for seed in CROWDS[part::6]:
        work = begun(crowd(seed))
        before = state(work)
        for lot in lots_of(work):
            for option in lot.ask.options if lot.missing else ():
                for tier in (Tier.FLOOR, Tier.ENTITLED):
                    is_placed = place(work, lot, option, tier)
                    assert is_placed is not lot.missing
                    if not is_placed:
                        assert state(work) == before
                    found += is_placed
                    roll_back(work, 0)
                    assert state(work) == before
    assert found


@pytest.mark.parametrize("part", range(6))
def test_others_that_move_for_a_right_and_are_put_back_are_as_they_were(part):
    """All that is complete is granted first, so that whoever comes finds nothing but what moves or is free."""
    found = 0
    for seed in CROWDS[part::6]:
        work = begun(crowd(seed))
        for lot in lots_of(work):
            if lot.seats and not lot.missing:
                keep(work, lot)
        mark, before = len(work.log), state(work)
        for lot in lots_of(work):
            if lot.missing:
                is_served = rearrange(work, lot, Tier.FLOOR)
                assert is_served or state(work) == before
                found += is_served
                roll_back(work, mark)
                assert state(work) == before
    assert found


@pytest.mark.parametrize("part", range(6))
def test_what_is_granted_let_go_moved_out_and_put_back_counts_once_for_its_tenant_and_all_above_it(part):
    for seed in CROWDS[part::6]:
        here = crowd(seed)
        work, parents = begun(here), {one.id: one.parent for one in here.policy.tenants}
        nothing, expected = state(work), Counter[tuple[str, str]]()
        mine = [lot for lot in lots_of(work) if lot.seats and not lot.missing and not lot.is_kept]
        for lot in mine:
            keep(work, lot)
            assert lot.is_kept
            for seat in lot.seats:
                at = lot.ask.tenant.id
                while at is not None:
                    expected[at, seat.flavor] += seat.charge
                    at = parents[at]
        assert present(work.used) == dict(expected)
        kept, mark = state(work), len(work.log)
        for change in (let_go, vacate):
            for lot in mine:
                seats = list(lot.seats)
                change(work, lot)
                assert not lot.is_kept
                assert lot.seats == (seats if change is let_go else [])
                assert {id(seat) in work.victims.lot_of for seat in seats} == {change is let_go}
                is_there = [seat in work.board.seats[device] for seat in seats for device in seat.devices]
                assert set(is_there) == {change is let_go}
            assert not any(amount for amount in work.used.values())
            roll_back(work, mark)
            assert state(work) == kept
        roll_back(work, 0)
        assert state(work) == nothing


@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize("made", [crowd, of_equals])
def test_in_the_end_every_figure_is_what_the_replicas_add_up_to(part, made):
    for seed in CROWDS[part::6]:
        assert_adds_up(made(seed))


@pytest.mark.parametrize("seed", [582, 681])
def test_so_it_is_where_a_claim_climbs_from_a_place_that_it_was_given_in_the_same_decision(seed):
    assert_adds_up(crowd(seed))


def test_so_it_is_where_a_minimum_falls_back_on_what_its_claim_has_beyond_it():
    gang = claim("civil/x:gang", least=2, most=3, priority_class="batch")
    workers, groups = running(gang, ("G0",), ("G1",), ("G2",))
    groups[2] = replace(groups[2], since_ms=LATER_MS - 1)
    seen = snapshot(FOUR[:3], [gang, claim("civil/x:urgent", priority_class="critical")], (workers, groups))
    work = assert_adds_up(Crowd(seen, rules(civil=2000, defence=0, floor=0), Memory()), LATER_MS)
    base, further = work.of_claim[gang.id]
    assert (len(base.seats), len(further.seats)) == (2, 0)


def assert_adds_up(here: Crowd, now_ms: int = NOW_MS) -> Allocation:
    """Grant everything, and add up what is on the board and in the lots."""
    work = lay_out(here.snapshot, here.policy, here.memory, now_ms).work
    parents = {one.id: one.parent for one in here.policy.tenants}
    allocate(work)
    used, standing = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for lot in lots_of(work):
        for seat in lot.seats:
            at = lot.ask.tenant.id
            while at is not None:
                used[at, seat.flavor] += seat.charge if lot.is_kept else 0
                standing[at, seat.flavor] += 0 if lot.missing else seat.charge
                at = parents[at]
    assert present(work.used) == present(used)
    assert present(work.standing) == present(standing)
    mine = {id(seat): id(lot) for lot in lots_of(work) for seat in lot.seats}
    assert {key: id(lot) for key, lot in work.victims.lot_of.items()} == mine
    assert_board_adds_up(work)
    for lot in lots_of(work):
        for seat in lot.seats:
            for device in seat.devices:
                assert seat in work.board.seats[device]
                holder = work.board.worker_of.get(device)
                assert holder is None or not lot.is_kept or holder.id == seat.worker
    return work


def assert_board_adds_up(work: Allocation) -> None:
    """What is free is what the replicas on the board leave."""
    board, devices = work.board, work.survey.devices
    for name, device in devices.items():
        seats = board.seats[name]
        assert board.free_millis[name] == 1000 - sum(seat.gpu_millis for seat in seats)
        assert board.free_memory[name] == device.memory_mib - sum(seat.memory_mib for seat in seats)
    for spare in {id(one): one for one in board.spare.values()}.values():
        free = [board.free_millis[name] for name, one in board.spare.items() if one is spare]
        assert (spare.idle, spare.whole) == (sum(free), free.count(1000))
    for node in board.node_free:
        on = standing_on(work, node)
        assert board.node_cpu[node] == 64_000 - sum(seat.cpu_millis for seat in on)
        assert board.node_memory[node] == 500_000 - sum(seat.host_memory_mib for seat in on)


def standing_on(work: Allocation, node: str) -> list[Seat]:
    """Each replica on the host once."""
    devices = [one.id for one in work.survey.devices.values() if one.node == node]
    return list({id(seat): seat for one in devices for seat in work.board.seats[one]}.values())


def test_an_amount_of_host_memory_is_counted_too():
    here = crowd(3)
    shape = {"cpu_millis": 1_000, "host_memory_mib": 5_000}
    claims = tuple(
        replace(one, ladder=tuple(replace(rung, **shape) for rung in one.ladder)) for one in here.snapshot.claims
    )
    work = begun(replace(here, snapshot=replace(here.snapshot, claims=claims)))
    before = state(work)
    assert_board_adds_up(work)
    assert any(free < 500_000 for free in work.board.node_memory.values())
    for seat in [seat for lot in lots_of(work) for seat in lot.seats]:
        work.board.leave(seat)
        work.board.take(seat)
    assert state(work) == before
