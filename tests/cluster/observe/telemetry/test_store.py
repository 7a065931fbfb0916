"""The control plane's memory of telemetry: each report once, ages by its own clock, totals that add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.observe.telemetry.saved import VerdictsUnreadable, load, save
from cluster.observe.telemetry.store import HISTORY, TelemetryStore
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import (
    DeviceFacts,
    DeviceSample,
    GroupShare,
    HealthEvent,
    Load,
    Missing,
    MissingCause,
    NodeReport,
    ProcessUse,
    WorkerHolding,
)
from policies.model.units import ClaimId, DeviceId, GroupId, NodeId, SecurityDomain, TenantId, WorkerId
from tests.cluster.observe.telemetry.conftest import SteppedClock

GPU, NODE = DeviceId("GPU-0"), NodeId("node-1")
FACT = DeviceFacts(device=GPU, gpu=GPU, node=NODE, index=0, name="NVIDIA H100", memory_total_mib=81_559)


def report(sequence: int, *events: HealthEvent, boot: str = "a", energy: int = 0, **more: object) -> NodeReport:
    at_ms = 1_700_000_000_000 + sequence * 1_000
    sample = DeviceSample(
        device=GPU,
        gpu=GPU,
        at_ms=at_ms,
        load=Load(energy_mj=energy, memory_used_mib=10, sm_activity_permille=100, power_mw=70_000),
        processes=(ProcessUse(pid=9, device=GPU, sm_percent=50, ancestors=(1,)),),
    )
    made = NodeReport(
        node=NODE, boot=boot, sequence=sequence, at_ms=at_ms, facts=(FACT,), samples=(sample,), events=events
    )
    return replace(made, **more)  # type: ignore[arg-type] # the caller names fields


def xid(sequence: int, code: int = 48) -> HealthEvent:
    return HealthEvent(device=GPU, kind="xid", code=code, at_ms=0, sequence=sequence)


def holding(millis: int = 1000) -> WorkerHolding:
    share = GroupShare(
        group=GroupId("chat"),
        claim=ClaimId("civil/justice:chat"),
        tenant=TenantId("civil/justice"),
        gpu_millis=millis,
        devices=(GPU,),
    )
    return WorkerHolding(worker=WorkerId("w"), domain=SecurityDomain.CIVIL, devices=(GPU,), root_pid=1, groups=(share,))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def store(clock: SteppedClock) -> TelemetryStore:
    return TelemetryStore(clock)


def test_the_same_report_again_changes_nothing(store: TelemetryStore) -> None:
    store.accept(report(1))
    again = store.accept(report(1, energy=99))
    assert again.duplicate
    assert store.devices()[0].sample.load.energy_mj == 0
    assert len(store.history(GPU)) == 1


def test_a_report_that_comes_late_is_not_applied(store: TelemetryStore) -> None:
    store.accept(report(5))
    assert store.accept(report(4)).duplicate
    assert store.accept(report(4)).sequence == 5


def test_numbers_that_never_came_are_counted(store: TelemetryStore) -> None:
    for number in (1, 2, 5):
        store.accept(report(number))
    assert store.lost_reports() == {NODE: 2}


def test_a_new_run_of_the_agent_counts_anew(store: TelemetryStore) -> None:
    store.accept(report(9, boot="a"))
    answer = store.accept(report(1, boot="b"))
    assert not answer.duplicate
    assert answer.sequence == 1
    assert store.lost_reports() == {NODE: 0}


def test_an_event_that_is_sent_again_counts_once_and_is_acknowledged(store: TelemetryStore) -> None:
    assert store.accept(report(1, xid(1))).event_sequence == 1
    store.release(GPU)
    store.accept(report(2, xid(1)))
    verdict = store.verdict(GPU)
    assert verdict is not None
    assert verdict.health is DeviceHealth.SUSPECT, "the old XID does not undo the release"
    store.accept(report(3, xid(1), xid(2)))
    assert store.verdict(GPU).health is DeviceHealth.QUARANTINED  # type: ignore[union-attr] # it is known


def test_the_age_of_a_sample_is_by_the_control_planes_clock(store: TelemetryStore, clock: SteppedClock) -> None:
    skewed = report(1)
    skewed = replace(skewed, at_ms=skewed.at_ms + 700)
    store.accept(skewed)
    clock.now += 5_000
    assert store.devices()[0].age_ms(clock.now) == 5_700


def test_history_is_short_and_oldest_first(store: TelemetryStore) -> None:
    for number in range(1, HISTORY + 50):
        store.accept(report(number, energy=number))
    points = store.history(GPU)
    assert len(points) == HISTORY
    assert points[0].at_ms < points[-1].at_ms


def test_a_gpu_that_a_new_agent_does_not_list_is_lost_and_not_forgotten(store: TelemetryStore) -> None:
    store.accept(report(1, boot="a"))
    store.accept(report(1, boot="b", facts=(), samples=()))
    assert store.devices()[0].sample.missing == Missing(MissingCause.GPU_IS_LOST, "no longer listed")
    assert store.verdict(GPU).health is DeviceHealth.QUARANTINED  # type: ignore[union-attr] # it is known
    store.forget(GPU)
    assert store.devices() == ()


def test_a_node_that_cannot_be_read_loses_no_devices(store: TelemetryStore) -> None:
    store.accept(report(1))
    gone = Missing(MissingCause.DRIVER_NOT_LOADED)
    store.accept(report(2, facts=(), samples=(), missing=gone))
    assert store.node_missing(NODE) == gone
    assert store.devices()[0].sample.missing is None
    assert store.verdict(GPU).health is DeviceHealth.HEALTHY  # type: ignore[union-attr] # it is known


def test_time_and_energy_are_added_up_per_claim(store: TelemetryStore) -> None:
    store.hold((holding(),))
    for number in range(1, 12):
        store.accept(report(number, energy=number * 70_000))
    totals = dict(store.totals())
    mine = totals["civil/justice", "civil/justice:chat"]
    assert mine.milli_seconds == 10 * 1_000
    assert mine.energy_mj == 10 * 70_000
    assert mine.energy_gaps == 0


def test_energy_is_conserved_when_a_device_is_shared(store: TelemetryStore) -> None:
    store.hold((holding(333),))
    for number in range(1, 12):
        store.accept(report(number, energy=number * 70_001))
    assert sum(total.energy_mj for _, total in store.totals()) == 10 * 70_001


def test_a_reset_leaves_a_hole_in_the_energy_and_says_so(store: TelemetryStore) -> None:
    store.hold((holding(),))
    for number, energy in enumerate([1_000_000, 1_070_000, 5, 70_005], start=1):
        store.accept(report(number, energy=energy))
    mine = dict(store.totals())["civil/justice", "civil/justice:chat"]
    assert mine.energy_mj == 140_000
    assert mine.energy_gaps == 1


def test_verdicts_survive_a_restart(store: TelemetryStore, clock: SteppedClock, tmp_path: Path) -> None:
    store.accept(report(1, xid(1)))
    path = tmp_path / "health" / "verdicts.jsonl"
    save(path, store.memories())
    fresh = TelemetryStore(clock)
    fresh.restore(load(path))
    fresh.accept(report(2, boot="b"))
    assert fresh.verdict(GPU).health is DeviceHealth.QUARANTINED  # type: ignore[union-attr] # it is known


def test_an_agent_that_does_not_know_who_holds_what_calls_nobody_foreign(store: TelemetryStore) -> None:
    for number in range(1, 20):
        store.accept(report(number))
    assert store.verdicts()[0].health is DeviceHealth.HEALTHY
    store.hold(())
    for number in range(20, 40):
        store.accept(report(number))
    assert store.verdicts()[0].reason == "foreign_process"


def test_another_control_plane_goes_on_from_the_agents_verdict(clock: SteppedClock) -> None:
    on_the_node, second_leader = TelemetryStore(clock), TelemetryStore(clock)
    on_the_node.accept(report(1, xid(1)))
    second_leader.accept(report(2, verdicts=on_the_node.verdicts()))
    assert second_leader.verdicts() == on_the_node.verdicts()
    for number in range(3, 200):
        second_leader.accept(report(number))
    assert second_leader.verdicts()[0].health is DeviceHealth.QUARANTINED, "time alone does not heal it here either"


def test_a_control_plane_that_knows_a_device_keeps_its_own_verdict(store: TelemetryStore) -> None:
    store.accept(report(1, xid(1)))
    told = store.verdicts()
    store.release(GPU)
    store.accept(report(2, verdicts=told))
    assert store.verdicts()[0].health is DeviceHealth.SUSPECT


def test_no_file_of_verdicts_is_a_fresh_start_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    assert load(path) == ()
    path.write_text('{"verdict": 7}\n')
    with pytest.raises(VerdictsUnreadable, match=r"verdicts\.jsonl cannot be read"):
        load(path)
