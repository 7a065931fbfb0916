"""Metrics join with DCGM's exporter, name the owner, stay bounded, and never show a number that was not read."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cluster.observe.telemetry.export import DCGM, LABELS, Names, answer, exposition
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.telemetry import GroupShare, WorkerHolding
from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, TenantId, WorkerId
from tests.cluster.dashboards.programs import require
from tests.cluster.observe.telemetry.conftest import Rig
from tests.cluster.observe.telemetry.fake_node import FakeGpu, FakeNode, FakeProcess, h100, h100_mig

COUNTERS = Path(__file__).parents[5] / "shared" / "data" / "telemetry" / "dcgm"
IN_DEFAULT_DCGM = {
    "DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_MEM_CLOCK", "DCGM_FI_DEV_MEMORY_TEMP", "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL", "DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_DEV_FB_RESERVED", "DCGM_FI_PROF_PCIE_TX_BYTES", "DCGM_FI_PROF_PCIE_RX_BYTES",
}  # fmt: skip
"""Of DCGM exporter's default counters, those that panels of its official dashboard and ours are made of."""


def seen_by(rig: Rig, *gpus: FakeGpu, holdings: tuple[WorkerHolding, ...] = ()) -> TelemetryStore:
    rig.show(FakeNode(gpus=list(gpus)))
    store, agent = TelemetryStore(rig.clock), rig.agent()
    store.hold(holdings)
    store.accept(agent.look())
    for _ in range(3):
        store.accept(rig.later(agent))
    return store


def families(store: TelemetryStore, rig: Rig, names: Names = Names.OWN_AND_DCGM) -> dict[str, Metric]:
    text = exposition(store, rig.clock, names).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def holding(*devices: str, names: tuple[str, ...] = ("chat",)) -> WorkerHolding:
    ids = tuple(DeviceId(device) for device in devices)
    shares = tuple(
        GroupShare(
            group=GroupId(name),
            claim=ClaimId(f"civil/justice:{name}"),
            tenant=TenantId("civil/justice"),
            gpu_millis=1000 // len(names),
            devices=ids,
        )
        for name in names
    )
    return WorkerHolding(
        worker=WorkerId("w"), domain=SecurityDomain.CIVIL, devices=ids, root_pid=4_900_000, groups=shares
    )


def value(family: Metric, **labels: str) -> float:
    found = [one.value for one in family.samples if labels.items() <= one.labels.items()]
    assert len(found) == 1, (family.name, labels, found)
    return found[0]


def test_names_units_and_labels_are_those_of_dcgms_exporter(rig: Rig) -> None:
    gpu = h100(0, power_mw=632_500, sm_util=75.0, used_mib=70_000)
    found = families(seen_by(rig, gpu), rig)
    written = {sample.name for family in found.values() for sample in family.samples}
    assert written >= IN_DEFAULT_DCGM, "also those that count, without a suffix of OpenMetrics"
    assert value(found["DCGM_FI_DEV_POWER_USAGE"], UUID=gpu.uuid) == 632.5
    assert value(found["DCGM_FI_PROF_SM_ACTIVE"], UUID=gpu.uuid) == 0.75
    assert value(found["DCGM_FI_DEV_FB_USED"], UUID=gpu.uuid) == 70_000
    sample = found["DCGM_FI_DEV_GPU_UTIL"].samples[0]
    assert set(LABELS) <= set(sample.labels)
    assert sample.labels["gpu"] == "0"
    assert sample.labels["Hostname"] == sample.labels["hostname"] == "node-1"
    assert sample.labels["modelName"] == "NVIDIA H100 80GB HBM3"


@pytest.mark.elsewhere
@pytest.mark.skipif(not COUNTERS.exists(), reason="the exporter's own list of counters is not here")
def test_every_name_is_one_that_dcgms_exporter_knows() -> None:
    known = set()
    for path in COUNTERS.glob("*.csv"):
        for row in csv.reader(path.read_text().splitlines()):
            if row:
                known.add(row[0].strip().lstrip("# "))
    assert {one.name for one in DCGM} - known <= {"DCGM_FI_DEV_CLOCKS_EVENT_REASONS"}


@pytest.mark.system
def test_promtool_objects_to_nothing_but_what_dcgm_named(rig: Rig) -> None:
    text, kind = answer(seen_by(rig, h100(0), h100_mig(1)), rig.clock, Names.OWN_AND_DCGM, "*/*")
    assert kind.startswith("text/plain")
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    objections = {line.partition(" ")[2] for line in done.stderr.decode().splitlines()}
    assert objections <= {
        "label names should be written in 'snake_case' not 'camelCase'",
        "metric name should not include type 'counter'",
    }


def test_who_asks_for_openmetrics_gets_it(rig: Rig) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4"
    text, kind = answer(seen_by(rig, h100()), rig.clock, Names.OWN_AND_DCGM, accept)
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_mig_instances_carry_their_gpus_uuid_and_their_own_instance(rig: Rig) -> None:
    gpu = h100_mig()
    assert gpu.mig is not None
    gpu.mig[0].sm_util = 50.0
    found = families(seen_by(rig, gpu), rig)["DCGM_FI_PROF_SM_ACTIVE"]
    assert value(found, UUID=gpu.uuid, GPU_I_ID="1", GPU_I_PROFILE="3g.40gb") == 0.5
    assert {one.labels["UUID"] for one in found.samples} == {gpu.uuid}


def test_a_device_names_who_holds_it(rig: Rig) -> None:
    gpu, free = h100(0), h100(1)
    found = families(seen_by(rig, gpu, free, holdings=(holding(gpu.uuid),)), rig)
    mine = next(one for one in found["partage_device_info"].samples if one.labels["UUID"] == gpu.uuid)
    assert (mine.labels["tenant"], mine.labels["domain"], mine.labels["claim"]) == (
        "civil/justice",
        "civil",
        "civil/justice:chat",
    )
    nobody = next(one for one in found["partage_device_info"].samples if one.labels["UUID"] == free.uuid)
    assert nobody.labels["tenant"] == ""


def test_a_shared_device_has_one_series_and_says_that_several_hold_it(rig: Rig) -> None:
    gpu = h100()
    shared = holding(gpu.uuid, names=("a", "b", "c", "d"))
    found = families(seen_by(rig, gpu, holdings=(shared,)), rig)
    (info,) = found["partage_device_info"].samples
    assert (info.labels["tenant"], info.labels["claim"]) == ("civil/justice", "several")


def test_energy_and_time_are_counted_per_tenant(rig: Rig) -> None:
    gpu = h100(power_mw=100_000)
    found = families(seen_by(rig, gpu, holdings=(holding(gpu.uuid),)), rig)
    mine = {"tenant": "civil/justice", "claim": "civil/justice:chat"}
    assert value(found["partage_tenant_energy_joules"], **mine) == 300
    assert value(found["partage_tenant_gpu_seconds"], **mine) == 3


def test_what_was_not_read_has_no_series_and_is_counted_by_cause(rig: Rig) -> None:
    lost = h100(1, fails={"nvmlDeviceGetPowerUsage": (10, 0)})
    found = families(seen_by(rig, h100(0), lost), rig)
    assert [one.labels["gpu"] for one in found["DCGM_FI_DEV_POWER_USAGE"].samples] == ["0"]
    assert value(found["partage_device_missing_readings"], UUID=lost.uuid, cause="timeout") == 1


def test_a_stale_device_shows_its_age_and_no_readings(rig: Rig) -> None:
    store = seen_by(rig, h100())
    rig.clock.now += 60_000
    found = families(store, rig)
    assert found["DCGM_FI_DEV_FB_USED"].samples == []
    assert value(found["partage_device_sample_age_seconds"]) == 60


def test_beside_dcgms_own_exporter_its_names_are_left_to_it(rig: Rig) -> None:
    found = families(seen_by(rig, h100()), rig, Names.OWN)
    assert not [name for name in found if name.startswith("DCGM")]
    assert "partage_device_info" in found


def test_the_number_of_series_does_not_grow_with_processes_or_time(rig: Rig) -> None:
    gpu = h100(processes=[FakeProcess(pid=4_800_000 + n, memory_mib=1, sm=1) for n in range(16)])
    quiet, crowded = seen_by(rig, h100()), seen_by(rig, gpu)
    count = [sum(len(family.samples) for family in families(store, rig).values()) for store in (quiet, crowded)]
    assert count[0] == count[1]
    assert count[0] < 60


def test_foreign_processes_and_health_are_shown(rig: Rig) -> None:
    gpu = h100(processes=[FakeProcess(pid=4_800_000, memory_mib=1)], fields={230: (0, 1, 1)})
    found = families(seen_by(rig, gpu), rig)
    assert value(found["partage_device_foreign_processes"], UUID=gpu.uuid) == 1
    assert value(found["partage_device_health"], UUID=gpu.uuid, reason="recovery_action_1") == 2
