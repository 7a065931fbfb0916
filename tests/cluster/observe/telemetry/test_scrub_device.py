"""Scrubbing a real device: seen through NVML, overwritten through CUDA; here over fakes of both libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.actuate.scrub import ScrubPolicy, ScrubRequest, scrub
from cluster.observe.nvml import Inventory, inventory
from cluster.observe.telemetry.scrub_device import NvmlDevice
from policies.model.telemetry import DeviceFacts, Missing, MissingCause
from policies.model.units import DeviceId, SecurityDomain
from tests.cluster.dashboards.programs import require
from tests.cluster.observe.telemetry.conftest import NODE, Rig
from tests.cluster.observe.telemetry.fake_node import FakeGpu, FakeNode, FakeProcess, h100, h100_mig

ROOT = Path(__file__).parents[4]
UUID = "0f7a1b2c-1111-2222-3333-444455556666"


def facts_of(rig: Rig, gpu: FakeGpu) -> tuple[DeviceFacts, ...]:
    rig.show(FakeNode(gpus=[gpu]))
    seen = inventory(NODE)
    assert isinstance(seen, Inventory)
    return seen.facts


def device_of(rig: Rig, gpu: FakeGpu) -> NvmlDevice:
    return NvmlDevice(facts_of(rig, gpu)[0])


def test_an_empty_device_shows_no_process_and_its_baseline(rig: Rig) -> None:
    device = device_of(rig, h100(used_mib=3))
    assert device.processes() == ()
    assert device.sharers() == ()
    assert device.memory_used_mib() == 3
    assert device.driver() == "590.48.01"


def test_processes_of_both_kinds_are_seen(rig: Rig) -> None:
    device = device_of(rig, h100(processes=[FakeProcess(pid=9, memory_mib=1), FakeProcess(pid=7, memory_mib=1)]))
    assert device.processes() == (7, 9)
    assert device.sharers() == ("pid 7", "pid 9")


def test_a_lost_device_is_not_empty_but_unseen(rig: Rig) -> None:
    gpu = h100()
    device = device_of(rig, gpu)
    gpu.fails = {"*": (15, 0)}
    rig.changed()
    for answer in (device.processes(), device.sharers(), device.memory_used_mib()):
        assert isinstance(answer, Missing)
        assert answer.cause is MissingCause.GPU_IS_LOST


def test_sibling_instances_of_a_gpu_are_sharers_and_forbid_a_reset(rig: Rig) -> None:
    facts = facts_of(rig, h100_mig())
    instance = next(fact for fact in facts if fact.mig_profile == "3g.40gb")
    device = NvmlDevice(instance, facts)
    sharers = device.sharers()
    assert not isinstance(sharers, Missing)
    assert len([one for one in sharers if one.startswith("MIG-")]) == 3
    assert not device.reset().passed


def test_a_device_with_memory_left_behind_fails_its_scrub(rig: Rig) -> None:
    device = device_of(rig, h100(used_mib=2_048))
    request = ScrubRequest(device=DeviceId("x"), from_domain=SecurityDomain.CIVIL, to_domain=SecurityDomain.DEFENCE)
    proof = scrub(request, device, ScrubPolicy(settle_ms=0), rig.clock)
    assert not proof.passed
    assert proof.steps[-1].detail == "2048 MiB in use, 0 MiB when empty"
    assert not proof.simulated


@pytest.fixture(scope="session")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = require("cc")
    target = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    source = Path(__file__).with_name("fake_cuda.c")
    subprocess.run([compiler, "-std=gnu11", "-shared", "-fPIC", "-O2", "-o", str(target), str(source)], check=True)
    return target


def overwritten(uuid: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.observe.telemetry.overwrite", uuid]
    known = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=60, check=False)


def fake_cuda(cuda: Path, state: str) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(cuda.parent), "FAKE_CUDA": f"{UUID.replace('-', '')} {state}"}


@pytest.mark.system
def test_all_free_memory_is_written_with_a_pattern_and_zeros(cuda: Path) -> None:
    done = overwritten(f"GPU-{UUID}", fake_cuda(cuda, "160 64 0"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "passed": True,
        "detail": "160 of 160 MiB free written with a pattern and zeros, both read back",
    }


@pytest.mark.system
def test_memory_that_keeps_its_content_fails(cuda: Path) -> None:
    done = overwritten(f"GPU-{UUID}", fake_cuda(cuda, "64 64 1"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["detail"] == "a word reads 0xdead after writing 0x0"


@pytest.mark.system
def test_memory_that_cannot_be_reached_fails(cuda: Path) -> None:
    done = overwritten(f"GPU-{UUID}", fake_cuda(cuda, "64 8 0"))
    assert done.returncode == 1
    assert not json.loads(done.stdout)["passed"]


@pytest.mark.system
def test_another_device_than_the_one_asked_for_is_never_touched(cuda: Path) -> None:
    done = overwritten("GPU-ffffffff-1111-2222-3333-444455556666", fake_cuda(cuda, "64 64 0"))
    assert done.returncode == 1
    assert "no device GPU-ffffffff" in json.loads(done.stdout)["detail"]


@pytest.mark.elsewhere
def test_without_cuda_the_program_says_so_by_its_exit_status() -> None:
    done = overwritten(f"GPU-{UUID}", {})
    if done.returncode != 3:
        pytest.skip("this machine has a CUDA driver")
    assert done.stdout == ""
