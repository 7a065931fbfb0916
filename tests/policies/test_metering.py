"""What is metered adds up: nothing is lost, nothing is made up, and what is not known is said to be not known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.metering import NO_CLAIM, UNATTRIBUTED, energy_between, meter, split
from policies.model.telemetry import (
    DeviceSample,
    GroupShare,
    Load,
    Missing,
    MissingCause,
    Owner,
    ProcessUse,
    Reading,
)
from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, TenantId, WorkerId

GPU = DeviceId("GPU-0")


def share(name: str, millis: int) -> GroupShare:
    return GroupShare(
        group=GroupId(f"{name}-group"),
        claim=ClaimId(f"civil/{name}:chat"),
        tenant=TenantId(f"civil/{name}"),
        gpu_millis=millis,
        devices=(GPU,),
    )


def process(name: str | None, sm: int, memory: int = 0) -> tuple[ProcessUse, Owner | None]:
    owner = (
        None
        if name is None
        else Owner(worker=WorkerId("w"), domain=SecurityDomain.CIVIL, claim=ClaimId(f"civil/{name}:chat"))
    )
    return ProcessUse(pid=1, device=GPU, sm_percent=sm, memory_mib=memory), owner


def board(energy: Reading) -> DeviceSample:
    return DeviceSample(device=GPU, gpu=GPU, at_ms=0, load=Load(energy_mj=energy))


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_parts_add_up_to_the_whole_and_differ_from_fairness_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = split(total, tuple(weights))
    if sum(weights):
        assert sum(parts) == total
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part * sum(weights) - total * weight) < sum(weights)
    else:
        assert sum(parts) == 0


def test_energy_follows_the_work_where_processes_are_seen_to_work() -> None:
    rows = meter(GPU, 10_000, 1_000, (share("a", 500), share("b", 500)), (process("a", 75), process("b", 25)))
    assert [row.energy_mj for row in rows] == [750, 250, 0]
    assert [row.milli_seconds for row in rows] == [5_000, 5_000, 0], "time held is time held"


def test_energy_of_a_device_at_rest_follows_who_holds_it() -> None:
    rows = meter(GPU, 10_000, 1_000, (share("a", 250),), ())
    assert [(row.tenant, row.energy_mj) for row in rows] == [("civil/a", 250), (UNATTRIBUTED, 750)]


def test_a_foreign_process_uses_energy_that_no_tenant_pays_for() -> None:
    rows = meter(GPU, 10_000, 1_000, (share("a", 1000),), (process("a", 50), process(None, 50)))
    assert [(row.claim, row.energy_mj) for row in rows] == [("civil/a:chat", 500), (NO_CLAIM, 500)]


def test_memory_is_metered_by_process() -> None:
    rows = meter(GPU, 2_000, 0, (share("a", 500), share("b", 500)), (process("a", 0, 1_000), process("b", 0, 3_000)))
    assert [row.memory_mib_seconds for row in rows] == [2_000, 6_000, 0]


def test_a_counter_that_moves_faster_than_any_board_can_draw_is_charged_to_nobody() -> None:
    wild = energy_between(board(1_000), board(2**52))
    assert isinstance(wild, Missing)
    assert wild.cause is MissingCause.IMPOSSIBLE


def test_energy_across_a_reset_is_not_known() -> None:
    answer = energy_between(board(5_000), board(10))
    assert isinstance(answer, Missing)
    assert answer.cause is MissingCause.COUNTER_RESET
    rows = meter(GPU, 1_000, answer, (share("a", 1000),), ())
    assert rows[0].energy_mj == answer
    assert rows[0].milli_seconds == 1_000


def test_energy_between_two_samples_is_their_difference() -> None:
    assert energy_between(board(5_000), board(75_000)) == 70_000
    assert isinstance(energy_between(None, board(1)), Missing)
    assert isinstance(energy_between(board(Missing(MissingCause.SENTINEL)), board(1)), Missing)
