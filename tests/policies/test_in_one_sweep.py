"""What is found in one sweep over all claims or devices is what a look at each of them by itself finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import pytest

from policies.explaining.explain import known, reason, served_alone
from policies.explaining.outcome import placements_of
from policies.explaining.recall import of_claim, of_running
from policies.granting.allocation import allocate
from policies.granting.apart import tell_each
from policies.granting.working import runs_alone
from policies.model.decision import Placement
from policies.model.memory import ClaimMemory
from policies.turns.standing import Standing, lay_out
from policies.wishes.admission import Ask
from tests.policies.crowds import CROWDS, NOW_MS, crowd
from tests.policies.test_one_condition_each import REMEMBERED


def laid_out(seed: int) -> Standing:
    here = crowd(seed)
    return lay_out(here.snapshot, here.policy, here.memory, NOW_MS)


SOME = pytest.mark.parametrize("seed", range(0, CROWDS, 10))


@SOME
def test_every_lot_is_in_one_queue_of_its_tenant_in_the_order_of_service(seed):
    work = laid_out(seed).work
    queues, lots = work.layout.queues, [lot for some in work.of_claim.values() for lot in some]
    for tenant in queues.tenants:
        here = [lot for lot in lots if lot.ask.tenant.id == tenant]
        assert Counter(map(id, queues.of(tenant))) == Counter(map(id, here))
        assert [lot.order for lot in queues.of(tenant)] == sorted(lot.order for lot in here)
        assert [lot for lot in queues.of(tenant) if lot.missing] == queues.lacking[tenant]
        for run in queues.runs.get(tenant, {}).values():
            assert [lot.order for lot in run.lots] == sorted(lot.order for lot in run.lots)
            assert run.charges == [sum(seat.charge for seat in lot.seats) for lot in run.lots]
    assert {lot.ask.tenant.id for lot in lots} == set(queues.tenants)


@SOME
def test_what_a_tenant_holds_is_the_sum_of_its_complete_lots(seed):
    work = laid_out(seed).work
    held = Counter()
    for lots in work.of_claim.values():
        for lot in lots:
            for seat in lot.seats if not lot.missing else ():
                held[lot.ask.tenant.id, seat.flavor] += seat.charge
    assert {key: amount for key, amount in work.layout.complete.items() if amount} == dict(held)


@SOME
def test_a_replica_knows_its_host_and_a_device_those_of_the_same_gpu(seed):
    board = laid_out(seed).work.board
    devices = board.survey.devices
    for name, device in devices.items():
        assert list(board.beside(name)) == [one.id for one in devices.values() if one.gpu == device.gpu]
        for seat in board.seats[name]:
            assert seat.node == device.node


@SOME
def test_of_a_claim_that_simply_runs_is_said_what_would_be_said_after_going_into_everything(seed):
    standing = laid_out(seed)
    work = standing.work
    allocate(work)
    tell_each(work, work.open)
    facts = known(work, {})
    for name, lots in work.of_claim.items():
        wish = standing.wishes[name]
        seat = runs_alone(wish, lots)
        if seat is not None:
            (group,) = wish.held
            assert served_alone(name, seat.rung) == reason(facts, wish, lots)
            assert of_running(work, wish, lots, seat) == of_claim(work, wish, lots, frozenset())
            assert placements_of(lots, work.survey.groups) == (
                Placement(
                    group=group.id, claim=name, worker=group.worker, rung=group.rung,
                    variant=wish.claim.ladder[group.rung].variant, devices=tuple(sorted(set(seat.devices))), replicas=1,
                ),
            )  # fmt: skip


OF_A_WISH = ("rung", "lower_since_ms", "idle_since_ms")


@SOME
def test_a_wish_rests_on_three_things_that_are_remembered_and_on_no_other(seed):
    here, said = crowd(seed), laid_out(seed)
    memory = replace(
        here.memory,
        claims=tuple(
            ClaimMemory(claim=one.id, **{name: getattr(said.work.survey.remembered.get(one.id), name, None)
                                         for name in OF_A_WISH},
                        **{name: value for name, value in REMEMBERED.items() if name not in OF_A_WISH})
            for one in here.snapshot.claims
        ),
    )  # fmt: skip
    other = lay_out(here.snapshot, here.policy, memory, NOW_MS).wishes
    for name, wish in said.wishes.items():
        assert [getattr(wish, one.name) for one in fields(Ask)] == [
            getattr(other[name], one.name) for one in fields(Ask)
        ]
