"""What is metered adds up: nothing is lost, nothing is made up, and what is not known is said to be not known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.evidence.metering import NO_CLAIM, UNATTRIBUTED, energy_between, meter, split
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


@given(st.integers(0, 100), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_who_gets_the_rest_lost_more_by_rounding_than_who_does_not_or_as_much_and_comes_first(
    total: int, weights: list[int]
) -> None:
    whole = sum(weights)
    if not whole:
        return
    lost = [total * weight % whole for weight in weights]
    more = [part - total * weight // whole for part, weight in zip(split(total, tuple(weights)), weights, strict=True)]
    ranks = sorted(range(len(weights)), key=lambda place: (-lost[place], place))
    assert [more[place] for place in ranks] == sorted(more, reverse=True)
    assert set(more) <= {0, 1}


PROCESSES = st.lists(
    st.tuples(st.sampled_from((None, "a", "b")), st.one_of(st.just(Missing(MissingCause.NO_DATA)), st.integers(0, 100)),
              st.one_of(st.just(Missing(MissingCause.NO_DATA)), st.integers(0, 90_000))), max_size=5,
)  # fmt: skip


@given(st.integers(0, 1000), st.integers(0, 600), st.integers(0, 10**6), st.integers(1, 10**5), PROCESSES)
def test_time_memory_and_energy_of_a_device_are_divided_among_who_held_it_and_nobody(
    one: int, other: int, energy: int, interval_ms: int, running: list
) -> None:
    names = ("a", "b", None)
    seen = tuple(process(name, sm, memory) for name, sm, memory in running)
    rows = meter(GPU, interval_ms, energy, (share("a", one), share("b", other)), seen)
    held = dict(zip(names, (one, other, max(0, 1000 - one - other)), strict=True))
    work = {name: sum(sm for who, sm, _ in running if who == name and isinstance(sm, int)) for name in names}
    memory = {name: sum(mib for who, _, mib in running if who == name and isinstance(mib, int)) for name in names}
    parts = work if any(work.values()) else held
    assert [row.milli_seconds for row in rows] == [held[name] * interval_ms // 1000 for name in names]
    assert [row.memory_mib_seconds for row in rows] == [memory[name] * interval_ms // 1000 for name in names]
    assert sum(row.energy_mj for row in rows) == energy
    for name, row in zip(names, rows, strict=True):
        assert abs(row.energy_mj * sum(parts.values()) - energy * parts[name]) < sum(parts.values())
        assert row.tenant == (UNATTRIBUTED if name is None else f"civil/{name}")


@pytest.mark.parametrize(("later_ms", "rises", "known"), [
    (0, 5_000, True), (0, 5_001, False), (2_000, 15_000, True), (2_000, 15_001, False), (-500, 5_000, True),
    (-500, 5_001, False), (0, 0, True), (0, -1, False),
])  # fmt: skip
def test_a_board_is_believed_up_to_five_kilowatts_for_the_time_between_and_a_second(later_ms, rises, known) -> None:
    before = DeviceSample(device=GPU, gpu=GPU, at_ms=10_000, load=Load(energy_mj=10_000_000))
    now = DeviceSample(device=GPU, gpu=GPU, at_ms=10_000 + later_ms, load=Load(energy_mj=10_000_000 + 1_000 * rises))
    answer = energy_between(before, now)
    assert answer == 1_000 * rises if known else isinstance(answer, Missing)


def test_why_the_energy_is_not_known_is_told_of_the_end_that_could_not_be_read() -> None:
    hung, gone = Missing(MissingCause.HUNG), Missing(MissingCause.GPU_IS_LOST)
    assert energy_between(board(hung), board(1)) is hung
    assert energy_between(board(1), board(gone)) is gone
    assert energy_between(None, board(1)).cause is MissingCause.NO_DATA


def test_a_process_of_a_worker_that_runs_no_claim_is_nobodys() -> None:
    idle = Owner(worker=WorkerId("w"), domain=SecurityDomain.CIVIL, claim=None)
    use = ProcessUse(pid=1, device=GPU, sm_percent=40, memory_mib=500)
    rows = meter(GPU, 1_000, 10, (share("a", 1000),), ((use, idle),))
    assert [(row.claim, row.energy_mj, row.memory_mib_seconds) for row in rows] == [
        ("civil/a:chat", 0, 0), (NO_CLAIM, 10, 500)
    ]  # fmt: skip
