"""The telemetry faults F01 to F12: what each does to the decision. Real bindings, agent, store, observer and decide."""

from __future__ import annotations

import json
from dataclasses import replace

import pynvml
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cluster.actuate.scrub import ScrubPolicy, ScrubRequest, SimulatedDevice, scrub
from cluster.custody import after_scrub
from cluster.observe.telemetry.export import exposition
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.codec import digest, to_json
from policies.model.decision import ClaimState, PendingReason
from policies.model.inventory import DeviceHealth, GroupState, ScrubState
from policies.model.proof import DeviceRecord
from policies.model.units import SecurityDomain
from tests.cluster.observe.telemetry.conftest import Rig
from tests.cluster.observe.telemetry.fake_node import FakeNode, FakeProcess, h100, h100_mig
from tests.cluster.observe.telemetry.platform import Platform, claim, platform

XID, MIG_CHANGED, NO_INSTANCE = 8, 0x100, 0xFFFF_FFFF
CHAT, DRAFT = "civil/justice:chat", "civil/justice:draft"


def two_claims(rig: Rig, gpus: int = 3, round_ms: int = 2_000) -> Platform:
    node = FakeNode(gpus=[h100(number) for number in range(gpus)])
    return platform(rig, node, claim("chat"), claim("draft"), round_ms=round_ms)


def gpu_of(made: Platform, uuid: str):
    return next(gpu for gpu in made.rig.node.gpus if gpu.uuid == uuid)


def xid(made: Platform, uuid: str, code: int) -> None:
    place = [gpu.uuid for gpu in made.rig.node.gpus].index(uuid)
    made.rig.node.events.append((place, XID, code, NO_INSTANCE))


# -- F01: the GPU is lost -------------------------------------------------------------------------------------------


def test_f01_work_on_a_lost_gpu_moves_to_a_spare_one_and_nobody_else_is_touched(rig: Rig) -> None:
    made = two_claims(rig)
    lost, other = made.holder(CHAT), made.holder(DRAFT)
    before = made.groups_on(other)
    gpu_of(made, lost).fails = {"*": (15, 0)}
    made.seconds(20)
    assert made.device(lost).health is DeviceHealth.QUARANTINED
    assert made.store.verdict(lost).reason == "gpu_is_lost"
    assert made.world.running(CHAT) == 1
    assert made.holder(CHAT) != lost
    assert made.groups_on(other) == before


def test_f01_without_a_spare_device_the_claim_waits_with_a_reason_and_nobody_else_loses(rig: Rig) -> None:
    made = two_claims(rig, gpus=2)
    lost, other = made.holder(CHAT), made.holder(DRAFT)
    before = made.groups_on(other)
    gpu_of(made, lost).fails = {"*": (15, 0)}
    made.seconds(20)
    assert made.groups_on(other) == before
    assert made.reason(CHAT).state is ClaimState.WAITING
    assert made.reason(CHAT).code is PendingReason.CAPACITY_LOST


def test_f01_a_lost_gpu_is_not_asked_again_and_again(object_rig: Rig) -> None:
    made = two_claims(object_rig)
    lost = made.holder(CHAT)
    gpu_of(made, lost).fails = {"*": (15, 0)}
    made.seconds(2)
    before = pynvml.nvmlLib.device_calls[lost]
    made.seconds(20)
    assert pynvml.nvmlLib.device_calls[lost] - before < 20


# -- F02: a call hangs ----------------------------------------------------------------------------------------------


def test_f02_a_hung_device_holds_its_work_and_takes_no_new_work(object_rig: Rig) -> None:
    made = two_claims(object_rig, round_ms=150)
    stuck = made.holder(CHAT)
    before = made.groups_on(stuck)
    gpu_of(made, stuck).hangs = {"nvmlDeviceGetMemoryInfo_v2"}
    decision = made.seconds(5)
    assert made.gap(stuck) == "hung"
    assert decision.evictions == ()
    assert made.groups_on(stuck) == before
    assert made.device(stuck).health is DeviceHealth.HEALTHY, "not seen is not broken"
    assert any(stuck in sentence for sentence in decision.held_by_gaps)


def test_f02_a_free_device_that_hangs_is_not_given_out(object_rig: Rig) -> None:
    made = two_claims(object_rig, round_ms=150)
    free = next(gpu.uuid for gpu in object_rig.node.gpus if not made.groups_on(gpu.uuid))
    gpu_of(made, free).hangs = {"nvmlDeviceGetMemoryInfo_v2"}
    made.seconds(2)
    made.world.claims["civil/justice:new"] = claim("new")
    made.world.demands["civil/justice:new"] = 1
    made.seconds(5)
    assert made.groups_on(free) == set()
    assert made.world.running("civil/justice:new") == 0
    assert made.reason("civil/justice:new").code is PendingReason.TELEMETRY_STALE


# -- F03: the driver asks for a reset ------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [1, 2, 3, 4, 6, 7])
def test_f03_the_drivers_advice_becomes_a_drain_that_ends_requests_first(rig: Rig, action: int) -> None:
    made = two_claims(rig)
    bad = made.holder(CHAT)
    made.world.history.clear()
    gpu_of(made, bad).fields = {230: (0, 1, action)}
    made.seconds(20)
    assert made.device(bad).health is DeviceHealth.QUARANTINED
    assert made.groups_on(bad) == set()
    order = [kind for kind in made.world.history if kind in ("stop_routing", "stop_group", "stop_worker")]
    assert order[:2] == ["stop_routing", "stop_group"], "requests inside end before the replica does"


def test_f03_reset_required_quarantines_and_no_plan_resets_by_itself(rig: Rig) -> None:
    made = two_claims(rig)
    bad = made.holder(CHAT)
    made.world.history.clear()
    gpu_of(made, bad).fails = {"*": (16, 0)}
    made.seconds(20)
    assert made.store.verdict(bad).reason == "reset_required"
    assert made.store.verdict(bad).remedy == "reset"
    assert not any("reset" in kind for kind in made.world.history)


# -- F04: no driver, no library, no permission ---------------------------------------------------------------------


@pytest.mark.parametrize(("code", "cause"), [(9, "driver_not_loaded"), (18, "library_mismatch"), (4, "no_permission")])
def test_f04_a_node_without_telemetry_keeps_what_runs_and_gets_nothing_new(rig: Rig, code: int, cause: str) -> None:
    made = two_claims(rig)
    running = set(made.world.groups)
    for gpu in rig.node.gpus:
        gpu.fails = {"*": (code, 0)}
    decision = made.seconds(30)
    assert {made.gap(gpu.uuid) for gpu in rig.node.gpus} == {cause}
    assert decision.evictions == ()
    assert set(made.world.groups) == running
    made.world.claims["civil/justice:new"] = claim("new")
    made.world.demands["civil/justice:new"] = 1
    made.seconds(10)
    assert made.world.running("civil/justice:new") == 0


@pytest.mark.parametrize("function", ["nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature", "nvmlGpmSampleGet"])
@pytest.mark.parametrize("code", [3, 4, 13])
def test_f04_a_reading_that_cannot_be_had_is_absent_and_not_zero(rig: Rig, function: str, code: int) -> None:
    made = two_claims(rig)
    for gpu in rig.node.gpus:
        gpu.fails = {function: (code, 0)}
    decision = made.seconds(3)
    assert decision.evictions == ()
    families = {one.name: one for one in text_string_to_metric_families(exposition(made.store, rig.clock).decode())}
    name = {
        "nvmlDeviceGetPowerUsage": "DCGM_FI_DEV_POWER_USAGE",
        "nvmlDeviceGetTemperature": "DCGM_FI_DEV_GPU_TEMP",
        "nvmlGpmSampleGet": "DCGM_FI_PROF_SM_ACTIVE",
    }[function]
    assert families[name].samples == []
    assert len(families["DCGM_FI_DEV_FB_USED"].samples) == 3


# -- F05: readings stand still or stop coming ----------------------------------------------------------------------


def test_f05_an_agent_that_falls_silent_holds_everything(rig: Rig) -> None:
    made = two_claims(rig)
    running = set(made.world.groups)
    decision = made.seconds(20, report=False)
    assert {made.gap(gpu.uuid) for gpu in rig.node.gpus} == {"stale"}
    assert decision.evictions == ()
    assert set(made.world.groups) == running
    ages = [seen.age_ms(rig.clock.now) for seen in made.store.devices()]
    assert min(ages) >= 20_000, "the age of the sample is known"


def test_f05_values_that_stand_still_are_not_believed(rig: Rig) -> None:
    made = two_claims(rig)
    frozen = made.holder(CHAT)
    gpu = gpu_of(made, frozen)
    energy = gpu.energy_mj
    for _ in range(15):
        gpu.energy_mj = energy - gpu.power_mw
        decision = made.second()
    assert made.gap(frozen) == "frozen"
    assert decision.evictions == ()
    assert made.device(frozen).health is DeviceHealth.HEALTHY


def test_f05_a_tenants_usage_becomes_unknown_and_not_idle_when_nobody_looks(rig: Rig) -> None:
    made = two_claims(rig)
    made.seconds(40, report=False)
    assert made.snapshot is not None
    states = {group.usage for group in made.snapshot.groups if not group.in_flight}
    assert "truly_idle" not in states
    assert "idle_held" not in states


# -- F06: insane values --------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 100, 101, 255, 2**31 - 1, 0x7FFF_FFF0, 2**32 - 1])
)
LARGE = st.one_of(
    st.integers(0, 2**63 - 1), st.integers(2**62, 2**63 - 1), st.sampled_from([2**63 - 14, 2**63 - 1, 0, 2**40])
)
REALS = st.floats(allow_nan=True, allow_infinity=True)
INSANE = st.fixed_dictionaries(
    {},
    optional={
        "util": NUMBERS,
        "memory_util": NUMBERS,
        "power_mw": NUMBERS,
        "temperature": NUMBERS,
        "sm_clock": NUMBERS,
        "throttle": LARGE,
        "used_mib": st.integers(0, 2**43),
        "sm_util": REALS,
        "tensor_util": REALS,
        "dram_util": REALS,
        "energy_mj": LARGE,
        "memory_temperature": NUMBERS,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(INSANE, min_size=1, max_size=4))
@example([{"energy_mj": 2**62 + 512}])  # no sentinel, and as a float more than 2**62
@example([{"energy_mj": 2**63 - 17}])
def test_f06_insane_values_break_neither_json_nor_metrics_nor_the_decision(
    object_rig: Rig, rounds: list[dict[str, object]]
) -> None:
    node = FakeNode(gpus=[h100(0), h100(1)])
    object_rig.show(node)
    agent, store = object_rig.agent(), TelemetryStore(object_rig.clock)
    object_rig.agents.remove(agent)
    for values in rounds:
        for name, value in values.items():
            setattr(node.gpus[0], name, value)
        object_rig.clock.now += 1_000
        report = agent.look()
        assert json.loads(to_json(report))
        store.accept(report)
        for family in text_string_to_metric_families(exposition(store, object_rig.clock).decode()):
            for sample in family.samples:
                assert 0 <= sample.value <= 2**62, sample  # as a float, 2**62 - 1 is 2**62
        assert store.verdict(node.gpus[1].uuid).health is DeviceHealth.HEALTHY
    agent.close()


def test_f06_a_device_with_insane_load_keeps_its_work(rig: Rig) -> None:
    made = two_claims(rig)
    insane = made.holder(CHAT)
    before = made.groups_on(insane)
    gpu = gpu_of(made, insane)
    gpu.util, gpu.temperature, gpu.sm_util = 255, 0xFFFF_FFFF, 4_000.0
    decision = made.seconds(30)
    assert decision.evictions == ()
    assert made.groups_on(insane) == before


# -- F07: XIDs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [48, 64, 74, 79, 95])
def test_f07_a_grave_xid_empties_the_device(rig: Rig, code: int) -> None:
    made = two_claims(rig)
    bad = made.holder(CHAT)
    xid(made, bad, code)
    made.seconds(20)
    assert made.device(bad).health is DeviceHealth.QUARANTINED
    assert made.groups_on(bad) == set()
    assert made.world.running(CHAT) == 1


@pytest.mark.parametrize("code", [63, 94])
def test_f07_a_contained_xid_lets_what_runs_run_and_brings_nothing_new(rig: Rig, code: int) -> None:
    made = two_claims(rig)
    shaken = made.holder(CHAT)
    before = made.groups_on(shaken)
    xid(made, shaken, code)
    decision = made.seconds(10)
    assert made.device(shaken).health is DeviceHealth.SUSPECT
    assert made.groups_on(shaken) == before
    assert decision.evictions == ()
    made.seconds(70)
    assert made.device(shaken).health is DeviceHealth.HEALTHY


def test_f07_a_burst_is_one_verdict_and_others_are_not_touched(rig: Rig) -> None:
    made = two_claims(rig)
    bad, other = made.holder(CHAT), made.holder(DRAFT)
    before = made.groups_on(other)
    for _ in range(30):
        xid(made, bad, 74)
    made.seconds(20)
    assert made.store.verdict(bad).reason == "xid_74"
    assert made.groups_on(other) == before


# -- F08: the MIG layout changes underneath ------------------------------------------------------------------------


def test_f08_a_gpu_that_is_divided_anew_is_frozen_and_unknown_instances_get_no_work(rig: Rig) -> None:
    made = platform(rig, FakeNode(gpus=[h100_mig()]), claim("chat"), claim("draft"))
    gpu = rig.node.gpus[0]
    assert gpu.mig is not None
    used = made.holder(CHAT)
    known = {device.id for device in made.world.devices.values()}
    gpu.mig = [replace(one, uuid=f"{one.uuid}-new") if one.uuid == used else one for one in gpu.mig]
    rig.node.events.append((0, MIG_CHANGED, 0, NO_INSTANCE))
    decision = made.seconds(5)
    assert {made.gap(uuid) for uuid in known} == {"layout_changed"}
    assert decision.evictions == ()
    made.world.claims["civil/justice:new"] = claim("new")
    made.world.demands["civil/justice:new"] = 1
    decision = made.seconds(5)
    placed = {device for one in decision.placements for device in one.devices}
    assert placed <= known
    assert made.world.running("civil/justice:new") == 0


# -- F09: another order after a restart ----------------------------------------------------------------------------


def test_f09_the_order_of_the_devices_has_no_effect_on_the_decision(rig: Rig) -> None:
    made = two_claims(rig)
    first = made.second()
    holder = made.holder(CHAT)
    rig.node.gpus.reverse()
    made.agent = rig.agent()
    made.seconds(3)
    second = made.second()
    assert made.holder(CHAT) == holder
    unchanging = ("placements", "bindings", "evictions")
    assert [digest(getattr(first, name)) for name in unchanging] == [
        digest(getattr(second, name)) for name in unchanging
    ]
    assert all(made.gap(gpu.uuid) is None for gpu in rig.node.gpus)


# -- F10: a foreign process ----------------------------------------------------------------------------------------


def test_f10_a_device_with_a_foreign_process_is_not_free_and_the_intruder_is_named(rig: Rig) -> None:
    made = two_claims(rig)
    free = next(gpu for gpu in rig.node.gpus if not made.groups_on(gpu.uuid))
    free.processes = [FakeProcess(pid=4_999_999, memory_mib=30_000, sm=80)]
    made.seconds(8)
    made.world.claims["civil/justice:new"] = claim("new")
    made.world.demands["civil/justice:new"] = 1
    made.seconds(10)
    assert made.device(free.uuid).health is DeviceHealth.SUSPECT
    assert made.store.verdict(free.uuid).reason == "foreign_process"
    assert made.groups_on(free.uuid) == set()
    seen = next(one for one in made.store.devices() if one.fact.device == free.uuid)
    assert [process.pid for process, owner in seen.processes if owner is None] == [4_999_999]
    free.processes = []
    made.seconds(80)
    assert made.world.running("civil/justice:new") == 1, "once it is gone and quiet, the device is free"


def test_f10_the_platforms_own_processes_are_never_foreign(rig: Rig) -> None:
    made = two_claims(rig)
    made.seconds(5)
    owners = [owner for seen in made.store.devices() for _, owner in seen.processes]
    assert owners
    assert all(owner is not None for owner in owners)
    assert {CHAT, DRAFT} <= {owner.claim for owner in owners if owner is not None}


# -- F11: the scrub fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residue", [SimulatedDevice(held_mib=4_096), SimulatedDevice(pids=(77,))])
def test_f11_a_device_that_cannot_be_proved_clean_never_crosses_domains(rig: Rig, residue: SimulatedDevice) -> None:
    made = two_claims(rig, gpus=2)
    dirty = made.holder(CHAT)
    request = ScrubRequest(device=dirty, from_domain=SecurityDomain.CIVIL, to_domain=SecurityDomain.DEFENCE)
    proof = scrub(request, residue, ScrubPolicy(), rig.clock)
    record = after_scrub(DeviceRecord(device=dirty, scrub=ScrubState.SCRUBBING, domain=SecurityDomain.CIVIL), proof)
    assert record.scrub is ScrubState.FAILED
    for group in made.groups_on(dirty):
        del made.world.groups[group]
    made.world.workers = {name: worker for name, worker in made.world.workers.items() if dirty not in worker.devices}
    made.world.devices[dirty] = replace(made.world.devices[dirty], scrub=record.scrub, domain=record.domain)
    triage = claim("triage", "defence/cyber")
    made.world.claims = {triage.id: triage, DRAFT: made.world.claims[DRAFT]}
    made.world.demands = {triage.id: 1, DRAFT: 1}
    for _ in range(30):
        decision = made.second()
        assert dirty not in {device for binding in decision.bindings for device in binding.devices}
    assert made.device(dirty).scrub is ScrubState.FAILED


# -- F12: it looks free and the model does not fit ------------------------------------------------------------------


def test_f12_an_engine_that_runs_out_of_memory_is_counted_held_back_and_explained(rig: Rig) -> None:
    made = two_claims(rig)
    name = next(iter(made.groups_on(made.holder(CHAT))))
    message = "CUDA out of memory while loading 14 GiB of weights"
    made.world.groups[name] = replace(made.world.groups[name], state=GroupState.FAILED, running=0, message=message)
    made.seconds(1)
    memory = next(one for one in made.world.memory.claims if one.claim == CHAT)
    assert memory.failures >= 1
    made.seconds(120)
    assert made.world.running(CHAT) == 1, "after the back-off it is tried again"
    assert made.world.running(DRAFT) == 1
