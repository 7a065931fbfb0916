"""Telemetry tied to a platform: read in the background, kept over a restart, shown among the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.main import with_telemetry
from cluster.metrics import Metrics
from cluster.observe.telemetry.observer import TelemetryObserver
from cluster.observe.telemetry.saved import load
from cluster.observe.telemetry.store import TelemetryStore
from cluster.settings import SettingInvalid, Settings
from cluster.watching import DeviceNotListed, device_here, watch_here, watch_reports
from policies.model.inventory import Device, DeviceHealth
from policies.model.snapshot import Snapshot
from policies.model.units import DeviceId, FlavorId
from tests.cluster.observe.telemetry.conftest import NODE, SteppedClock
from tests.cluster.observe.telemetry.conftest import load as load_library
from tests.cluster.observe.telemetry.fake_library import FakeLibrary
from tests.cluster.observe.telemetry.fake_node import FakeNode, h100
from tests.cluster.observe.telemetry.test_store import GPU, report, xid


class Still:
    """An observer of one real device that never changes."""

    def __init__(self, device: DeviceId, clock: SteppedClock | SystemClock) -> None:
        self.device, self.clock = device, clock

    def observe(self) -> Snapshot:
        device = Device(id=self.device, node=NODE, flavor=FlavorId("H100-80GB"), gpu=self.device, memory_mib=81_080)
        return Snapshot(generation=1, observed_at_ms=self.clock.now_ms(), devices=(device,))


def test_devices_of_this_machine_are_read_in_the_background(tmp_path: Path) -> None:
    gpu = h100(fields={230: (0, 1, 1)})
    load_library(FakeLibrary(FakeNode(gpus=[gpu])))
    clock = SystemClock()
    observer = watch_here(Still(DeviceId(gpu.uuid), clock), NODE, tmp_path, clock, dict)
    for _ in range(100):
        seen = observer.observe()
        if not seen.gaps:
            break
        assert seen.gaps[0].cause == "not_read"
        clock.sleep_ms(100)
    assert seen.gaps == ()
    assert seen.devices[0].health is DeviceHealth.QUARANTINED


def test_verdicts_are_kept_when_they_change_and_found_again(tmp_path: Path) -> None:
    clock = SteppedClock()
    first = watch_reports(Still(GPU, clock), TelemetryStore(clock), tmp_path, dict)
    first.store.accept(report(1, xid(1)))
    assert first.observe().devices[0].health is DeviceHealth.QUARANTINED
    assert [memory.verdict.reason for memory in load(tmp_path / "telemetry" / "verdicts.jsonl")] == ["xid_48"]
    second = watch_reports(Still(GPU, clock), TelemetryStore(clock), tmp_path, dict)
    assert second.observe().devices[0].health is DeviceHealth.QUARANTINED, "a restart heals nothing"
    assert second.observe().gaps[0].cause == "not_read"


def test_a_device_to_scrub_is_found_by_uuid_or_named_as_not_listed() -> None:
    gpu = h100()
    load_library(FakeLibrary(FakeNode(gpus=[gpu])))
    assert device_here(DeviceId(gpu.uuid), NODE).processes() == ()
    with pytest.raises(DeviceNotListed, match="GPU-gone"):
        device_here(DeviceId("GPU-gone"), NODE)


def settings(home: Path, **more: str) -> Settings:
    return Settings(home=home, cache=home, config=home, **more)


def watched(clock: SteppedClock) -> TelemetryObserver:
    observer = TelemetryObserver(Still(GPU, clock), TelemetryStore(clock), dict)
    observer.store.accept(report(1))
    return observer


def test_readings_are_among_the_metrics_of_the_control_plane(tmp_path: Path) -> None:
    clock, metrics = SteppedClock(), Metrics()
    assert with_telemetry(watched(clock), metrics, settings(tmp_path), clock) is None
    assert "DCGM_FI_DEV_FB_USED" in metrics.text().decode()


def test_agents_can_report_once_there_is_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    clock = SteppedClock()
    receiver = with_telemetry(watched(clock), Metrics(), settings(tmp_path, agent_token_file=str(token)), clock)
    assert receiver is not None
    assert receiver.take("", b"{}").status_code == 401
    assert receiver.take("secret", b"{}").status_code == 422


def test_an_empty_token_or_unknown_names_are_refused_at_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "token"
    empty.write_text("\n")
    clock = SteppedClock()
    for wrong in ({"agent_token_file": str(empty)}, {"agent_token_file": "/nowhere"}, {"metric_names": "all"}):
        with pytest.raises(SettingInvalid):
            with_telemetry(watched(clock), Metrics(), settings(tmp_path, **wrong), clock)


def test_a_platform_without_telemetry_has_no_readings(tmp_path: Path) -> None:
    clock = SteppedClock()
    assert with_telemetry(Still(GPU, clock), Metrics(), settings(tmp_path), clock) is None
