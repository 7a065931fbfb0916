"""What the agent reports of a node, device by device, in good days and bad."""

from __future__ import annotations

import math

import pynvml
import pytest

from policies.model.codec import to_json
from policies.model.telemetry import Load, Missing, MissingCause, NodeReport, Reading, Wear
from tests.cluster.observe.telemetry.conftest import Rig, sample_of
from tests.cluster.observe.telemetry.fake_node import (
    PROFILES,
    FakeGpu,
    FakeNode,
    FakeProcess,
    a100,
    h100,
    h100_mig,
    l40s,
)

XID = 8
MIG_CHANGED = 0x100
NO_INSTANCE = 0xFFFF_FFFF


def cause(reading: object) -> MissingCause | None:
    return reading.cause if isinstance(reading, Missing) else None


def second_look(rig: Rig, *gpus: FakeGpu) -> NodeReport:
    rig.show(FakeNode(gpus=list(gpus)))
    agent = rig.agent()
    agent.look()
    return rig.later(agent)


def test_a_busy_h100_shows_its_sm_activity_and_not_only_busy_time(rig: Rig) -> None:
    gpu = h100(util=100, sm_util=7.5, tensor_util=2.25, dram_util=31.0, used_mib=70_000, power_mw=632_000)
    load = second_look(rig, gpu).samples[0].load
    assert load.busy_percent == 100
    assert load.sm_activity_permille == 75
    assert load.activity_permille() == 75
    assert load.tensor_activity_permille == 22
    assert load.dram_activity_permille == 310
    assert load.memory_used_mib == 70_000
    assert load.power_mw == 632_000
    assert load.pcie_rx_kib_s == 4096


def test_before_hopper_busy_time_stands_in_for_sm_activity(rig: Rig) -> None:
    gpu = a100()
    gpu.util = 40
    load = second_look(rig, gpu).samples[0].load
    assert cause(load.sm_activity_permille) is MissingCause.NOT_SUPPORTED
    assert load.activity_permille() == 400


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_gives_memory_power_and_wear(rig: Rig, profile: str) -> None:
    report = second_look(rig, PROFILES[profile](0), PROFILES[profile](1))
    boards = [sample for sample in report.samples if sample.device == sample.gpu]
    assert len(boards) == 2
    for board in boards:
        assert isinstance(board.load.memory_used_mib, int)
        assert isinstance(board.load.power_mw, int)
        assert isinstance(board.load.energy_mj, int)
        assert board.wear.recovery_action == 0
        assert board.missing is None


def test_each_mig_instance_has_its_own_activity_and_memory(rig: Rig) -> None:
    gpu = h100_mig()
    assert gpu.mig is not None
    gpu.mig[0].sm_util, gpu.mig[0].used_mib = 88.0, 30_000
    report = second_look(rig, gpu)
    busy, idle = sample_of(report, gpu.mig[0].uuid), sample_of(report, gpu.mig[1].uuid)
    assert busy.load.sm_activity_permille == 880
    assert busy.load.memory_used_mib == 30_000
    assert idle.load.sm_activity_permille == 0
    assert cause(busy.load.power_mw) is MissingCause.NOT_SUPPORTED, "power is known of the whole GPU only"
    board = sample_of(report, gpu.uuid)
    assert isinstance(board.load.power_mw, int)
    assert cause(board.load.busy_percent) is MissingCause.NOT_SUPPORTED


def test_what_only_the_whole_gpu_has_is_said_to_be_so_of_its_instances_and_nothing_is_left_unread(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100_mig()]))
    agent = rig.agent()
    agent.look()
    report = rig.later(agent)
    for sample in (one for one in report.samples if one.device != one.gpu):
        readings = [getattr(sample.load, name) for name in Load.__slots__]
        readings += [getattr(sample.wear, name) for name in Wear.__slots__]
        causes = {reading.cause for reading in readings if isinstance(reading, Missing)}
        assert causes == {MissingCause.NOT_SUPPORTED}


@pytest.mark.parametrize(("share", "read"), [(100.0, 1000), (101.3, 1000), (102.1, None)])
def test_a_share_a_little_over_the_whole_is_the_whole(object_rig: Rig, share: float, read: int | None) -> None:
    object_rig.show(FakeNode(gpus=[h100(sm_util=share)]))
    agent = object_rig.agent()
    agent.look()
    (sample,) = object_rig.later(agent).samples
    seen = sample.load.sm_activity_permille
    assert (seen if isinstance(seen, int) else None) == read


def test_processes_are_seen_with_memory_and_share_of_sm_time(rig: Rig) -> None:
    gpu = h100(
        processes=[FakeProcess(pid=2**22 - 1, memory_mib=900, sm=60), FakeProcess(pid=2**22 - 2, memory_mib=None)]
    )
    processes = second_look(rig, gpu).samples[0].processes
    assert not isinstance(processes, Missing)
    assert [(one.memory_mib, one.sm_percent) for one in processes] == [
        (Missing(MissingCause.NO_DATA, "usedGpuMemory"), 0),
        (900, 60),
    ]


def test_what_a_device_does_not_support_is_asked_once(object_rig: Rig) -> None:
    object_rig.show(FakeNode(gpus=[h100(fails={"nvmlDeviceGetPowerUsage": (3, 0)})]))
    agent = object_rig.agent()
    for _ in range(5):
        report = object_rig.later(agent)
    assert cause(report.samples[0].load.power_mw) is MissingCause.NOT_SUPPORTED
    assert pynvml.nvmlLib.calls["nvmlDeviceGetPowerUsage"] == 1


def test_what_one_gpu_does_not_support_is_still_asked_of_its_neighbour(rig: Rig) -> None:
    """An L40S has no MIG mode; the H100 beside it is divided all the same."""
    divided = h100_mig(1)
    assert divided.mig is not None
    report = second_look(rig, l40s(0), divided)
    assert {one.uuid for one in divided.mig} <= {sample.device for sample in report.samples}


def test_a_call_newer_than_the_driver_is_a_gap_and_the_rest_is_read(object_rig: Rig) -> None:
    absent = {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetComputeRunningProcesses_v3"}
    object_rig.show(FakeNode(gpus=[h100()], absent=absent))
    sample = object_rig.later(object_rig.agent()).samples[0]
    assert cause(sample.wear.throttle_bits) is MissingCause.FUNCTION_NOT_FOUND
    assert cause(sample.processes) is MissingCause.FUNCTION_NOT_FOUND
    assert isinstance(sample.load.power_mw, int)


INSANE: list[tuple[str, object, str, MissingCause]] = [
    ("util", 101, "busy_percent", MissingCause.IMPOSSIBLE),
    ("util", 255, "busy_percent", MissingCause.IMPOSSIBLE),
    ("util", 0xFFFFFFFF, "busy_percent", MissingCause.SENTINEL),
    ("temperature", 0xFFFFFFFF, "temperature_c", MissingCause.SENTINEL),
    ("temperature", 0, "temperature_c", MissingCause.IMPOSSIBLE),
    ("power_mw", 0x7FFFFFF0, "power_mw", MissingCause.SENTINEL),
    ("used_mib", 90_000, "memory_used_mib", MissingCause.IMPOSSIBLE),
    ("sm_util", 250.0, "sm_activity_permille", MissingCause.IMPOSSIBLE),
    ("sm_util", -3.0, "sm_activity_permille", MissingCause.IMPOSSIBLE),
    ("sm_clock", 4_000_000_000, "sm_clock_mhz", MissingCause.IMPOSSIBLE),
]


@pytest.mark.parametrize(("where", "what", "reading", "why"), INSANE)
def test_an_impossible_value_is_a_gap_and_the_rest_is_read(
    rig: Rig, where: str, what: object, reading: str, why: MissingCause
) -> None:
    gpu = h100()
    setattr(gpu, where, what)
    load = second_look(rig, gpu).samples[0].load
    got: Reading = getattr(load, reading)
    assert cause(got) is why
    assert isinstance(load.memory_temperature_c, int)


@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
def test_not_a_number_is_a_gap(object_rig: Rig, what: float) -> None:
    load = second_look(object_rig, h100(sm_util=what)).samples[0].load
    assert cause(load.sm_activity_permille) is MissingCause.IMPOSSIBLE


@pytest.mark.parametrize("sentinel", [2**63 - 1, 2**63 - 14, 9223372036854775794])
def test_the_blank_values_of_dcgm_are_gaps(rig: Rig, sentinel: int) -> None:
    load = second_look(rig, h100(fields={82: (0, 3, sentinel), 83: (0, 3, sentinel)})).samples[0].load
    assert cause(load.memory_temperature_c) is MissingCause.SENTINEL
    assert cause(load.energy_mj) is MissingCause.SENTINEL


def test_no_power_under_load_is_not_believed(rig: Rig) -> None:
    load = second_look(rig, h100(power_mw=0, sm_util=90.0)).samples[0].load
    assert cause(load.power_mw) is MissingCause.IMPOSSIBLE


def test_a_device_whose_energy_stands_still_is_frozen(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100()]))
    agent = rig.agent()
    agent.look()
    for _ in range(10):
        rig.clock.now += 1_000
        report = agent.look()
    assert cause(report.samples[0].missing) is MissingCause.FROZEN
    assert cause(rig.later(agent).samples[0].missing) is None, "it moves again"


def test_a_gpu_lost_after_some_calls_is_missing_and_left_alone(object_rig: Rig) -> None:
    lost, fine = h100(0), h100(1)
    object_rig.show(FakeNode(gpus=[lost, fine]))
    agent = object_rig.agent()
    agent.look()
    lost.fails = {"*": (15, pynvml.nvmlLib.device_calls[lost.uuid] + 3)}
    report = object_rig.later(agent)
    assert cause(sample_of(report, lost.uuid).missing) is MissingCause.GPU_IS_LOST
    assert sample_of(report, fine.uuid).missing is None
    before = pynvml.nvmlLib.device_calls[lost.uuid]
    for _ in range(5):
        report = object_rig.later(agent)
    assert pynvml.nvmlLib.device_calls[lost.uuid] == before, "no storm of calls into a broken driver"
    assert cause(sample_of(report, lost.uuid).missing) is MissingCause.GPU_IS_LOST


@pytest.mark.parametrize("code", [1, 3, 4, 6, 7, 9, 10, 13, 15, 16, 17, 18, 999])
def test_a_driver_that_fails_at_any_call_and_for_ever_after_breaks_one_device_and_no_round(
    object_rig: Rig, code: int
) -> None:
    """Fail at call N, for every N until the round passes."""
    for after in range(200):
        broken, fine = h100(0), h100(1)
        object_rig.show(FakeNode(gpus=[broken, fine]))
        broken.fails = {"*": (code, after)}
        agent = object_rig.agent()
        for _ in range(2):
            report = object_rig.later(agent)
            assert sample_of(report, fine.uuid).missing is None
            assert isinstance(sample_of(report, fine.uuid).load.power_mw, int)
            assert to_json(report)
        agent.close()
        object_rig.agents.remove(agent)
        if pynvml.nvmlLib.device_calls[broken.uuid] <= after:
            break
    else:
        pytest.fail("the sweep did not reach the end of a round")


def test_a_lost_gpu_stays_in_the_report_after_the_next_listing(rig: Rig) -> None:
    lost, fine = h100(0), h100(1)
    rig.show(FakeNode(gpus=[lost, fine]))
    agent = rig.agent()
    agent.look()
    lost.fails = {"*": (15, 0)}
    report = rig.later(agent, 61_000)
    assert cause(sample_of(report, lost.uuid).missing) is MissingCause.GPU_IS_LOST
    assert {fact.device for fact in report.facts} == {lost.uuid, fine.uuid}


def test_a_hung_call_costs_one_device_one_round(object_rig: Rig) -> None:
    stuck, fine = h100(0), h100(1)
    object_rig.show(FakeNode(gpus=[stuck, fine]))
    agent = object_rig.agent(round_ms=200)
    agent.look()
    stuck.hangs = {"nvmlDeviceGetPowerUsage"}
    report = object_rig.later(agent)
    gap = sample_of(report, stuck.uuid).missing
    assert gap == Missing(MissingCause.HUNG, "nvmlDeviceGetPowerUsage")
    assert sample_of(report, fine.uuid).missing is None
    assert cause(sample_of(object_rig.later(agent), stuck.uuid).missing) is MissingCause.HUNG
    stuck.hangs = set()
    object_rig.node.released.set()
    answers = [sample_of(object_rig.later(agent), stuck.uuid).missing for _ in range(3)]
    assert answers[-1] is None, "once the driver answers again, the device is read again"


def test_a_timeout_of_the_driver_is_a_gap_of_that_reading(rig: Rig) -> None:
    load = second_look(rig, h100(fails={"nvmlDeviceGetTemperature": (10, 0)})).samples[0].load
    assert cause(load.temperature_c) is MissingCause.TIMEOUT
    assert isinstance(load.power_mw, int)


def test_an_xid_is_reported_once_with_its_device_and_repeated_until_acknowledged(rig: Rig) -> None:
    gpu = h100(1)
    rig.show(FakeNode(gpus=[h100(0), gpu]))
    agent = rig.agent()
    agent.look()
    rig.node.events.append((1, XID, 79, NO_INSTANCE))
    first, second = rig.later(agent), rig.later(agent)
    assert [(event.device, event.kind, event.code) for event in first.events] == [(gpu.uuid, "xid", 79)]
    assert second.events == first.events
    agent.acknowledged(first.events[-1].sequence)
    assert rig.later(agent).events == ()


def test_a_new_mig_layout_makes_the_old_instances_missing_and_shows_the_new(rig: Rig) -> None:
    gpu = h100_mig()
    assert gpu.mig is not None
    rig.show(FakeNode(gpus=[gpu]))
    agent = rig.agent()
    before = {sample.device for sample in agent.look().samples}
    gone = gpu.mig.pop()
    gpu.mig[0].uuid = "MIG-new"
    rig.node.events.append((0, MIG_CHANGED, 0, NO_INSTANCE))
    rig.later(agent)
    report = rig.later(agent)
    assert cause(sample_of(report, gone.uuid).missing) is MissingCause.LAYOUT_CHANGED
    assert sample_of(report, "MIG-new").missing is None
    assert {sample.device for sample in report.samples} == before | {"MIG-new"}


def test_a_driver_that_comes_late_is_found(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100()], init_code=9))
    agent = rig.agent()
    report = agent.look()
    assert cause(report.missing) is MissingCause.DRIVER_NOT_LOADED
    assert report.samples == ()
    rig.node.init_code = 0
    assert rig.later(agent, 11_000).missing is None


def test_only_a_new_process_heals_an_unknown_error_on_start(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100()], init_code=999))
    agent = rig.agent()
    agent.look()
    assert agent.restart_needed


def test_a_device_without_nvlink_has_no_link_counters_and_no_link_errors(rig: Rig) -> None:
    sample = second_look(rig, l40s()).samples[0]
    assert cause(sample.load.nvlink_tx_kib) is MissingCause.NOT_SUPPORTED
    assert cause(sample.wear.nvlink_errors) is MissingCause.NOT_SUPPORTED
