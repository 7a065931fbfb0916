"""On a machine with an NVIDIA device: what we read is what nvidia-smi reads, load and owners are seen, scrubs hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pynvml
import pytest

from cluster.actuate.scrub import ScrubPolicy, ScrubRequest, scrub
from cluster.clock import SystemClock
from cluster.observe.nvml import Inventory, inventory
from cluster.observe.telemetry.agent import Agent
from cluster.observe.telemetry.attribution import attribute
from cluster.observe.telemetry.scrub_device import NvmlDevice
from policies.model.telemetry import DeviceFacts, DeviceSample, Load, Missing, MissingCause, WorkerHolding
from policies.model.units import DeviceId, NodeId, SecurityDomain, WorkerId

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
BURN = Path(__file__).with_name("burn.py")
NODE = NodeId("here")
HELD_MIB = 4_096
CLOCK = SystemClock()
FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""What the kernel calls the host's own; in any other, NVML's PIDs are not ours to compare with."""


def listed() -> Inventory | None:
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()
    seen = inventory(NODE)
    return seen if isinstance(seen, Inventory) and seen.devices else None


@pytest.fixture
def fact() -> DeviceFacts:
    """The first device that is one: a whole GPU, else a MIG instance."""
    seen = listed()
    if seen is None:
        pytest.skip("needs an NVIDIA device: none is here")
    return next(one for one in seen.facts if one.schedulable)


@pytest.fixture
def agent(fact: DeviceFacts) -> Iterator[Agent]:
    made = Agent(NODE, "gpu-test", CLOCK)
    yield made
    made.close()


def sees_every_process() -> bool:
    """Whether PIDs here are the host's, which are those that NVML knows."""
    return str(Path("/proc/self/ns/pid").readlink()) == FIRST_PID_NAMESPACE


def smi(*fields: str, device: DeviceId) -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        pytest.skip("needs nvidia-smi to compare with")
    command = [tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "-i", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [word.strip() for word in done.stdout.strip().split(",")]


def sampled(agent: Agent, device: DeviceId) -> DeviceSample:
    return next(sample for sample in agent.look().samples if sample.device == device)


def is_excused(name: str, missing: Missing, fact: DeviceFacts) -> bool:
    """Whether a sane device need not have this reading: it never will, nobody is linked to it, or others may ask."""
    if missing.cause is MissingCause.NOT_SUPPORTED:
        return True
    if name.startswith("nvlink_"):
        return not (isinstance(fact.nvlinks_active, int) and fact.nvlinks_active > 0)
    return missing.cause is MissingCause.NO_PERMISSION and os.geteuid() != 0


@contextmanager
def burning(device: DeviceId, mib: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds memory and computes; it is killed at the end, as a crash would."""
    command = [sys.executable, str(BURN), device, str(mib)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=_environment(device))
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "READY"
        yield child
    finally:
        child.kill()
        child.wait()


def _environment(device: DeviceId) -> dict[str, str]:
    paths = "/usr/local/nvidia/lib64:/usr/local/nvidia/lib:/usr/lib/x86_64-linux-gnu"
    return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": paths, "CUDA_VISIBLE_DEVICES": device}


def test_the_inventory_is_that_of_nvidia_smi(fact: DeviceFacts) -> None:
    uuid, name, total, bus = smi("uuid", "name", "memory.total", "pci.bus_id", device=fact.gpu)
    assert (fact.gpu, fact.name) == (uuid, name)
    assert fact.pci_bus_id.lower() == bus.lower()
    if fact.mig_profile is None:
        assert fact.memory_total_mib == int(total)
        assert isinstance(fact.memory_reserved_mib, int)
        assert 0 < fact.memory_reserved_mib < fact.memory_total_mib // 10


def test_readings_are_those_of_nvidia_smi(fact: DeviceFacts, agent: Agent) -> None:
    agent.look()
    sample = sampled(agent, fact.gpu)
    used, temperature, power, limit = smi(
        "memory.used", "temperature.gpu", "power.draw", "enforced.power.limit", device=fact.gpu
    )
    load = sample.load
    for reading in (load.memory_used_mib, load.temperature_c, load.power_mw, load.power_limit_mw):
        assert isinstance(reading, int), sample
    assert abs(load.memory_used_mib - int(used)) <= 64
    assert abs(load.temperature_c - int(temperature)) <= 5
    assert abs(load.power_mw / 1000 - float(power)) <= max(30.0, float(power) / 4)
    assert abs(load.power_limit_mw / 1000 - float(limit)) <= 1


def test_nothing_that_the_device_supports_is_missing(fact: DeviceFacts, agent: Agent) -> None:
    agent.look()
    CLOCK.sleep_ms(1_100)
    sample = sampled(agent, fact.device)
    assert sample.missing is None
    missing = {
        name: reading
        for name in Load.__slots__
        if isinstance(reading := getattr(sample.load, name), Missing) and not is_excused(name, reading, fact)
    }
    assert missing == {}


def test_a_load_is_seen_within_two_samples(fact: DeviceFacts, agent: Agent) -> None:
    agent.look()
    CLOCK.sleep_ms(1_100)
    before = sampled(agent, fact.device).load.activity_permille()
    with burning(fact.device, HELD_MIB):
        CLOCK.sleep_ms(1_100)
        sampled(agent, fact.device)
        CLOCK.sleep_ms(1_100)
        load = sampled(agent, fact.device).load
    now = load.activity_permille()
    assert isinstance(before, int)
    assert isinstance(now, int)
    assert now >= 500, (before, now)
    assert isinstance(load.memory_used_mib, int)
    assert load.memory_used_mib >= HELD_MIB


def test_energy_is_counted_while_power_is_drawn(fact: DeviceFacts, agent: Agent) -> None:
    first = sampled(agent, fact.gpu).load.energy_mj
    CLOCK.sleep_ms(3_000)
    load = sampled(agent, fact.gpu).load
    if isinstance(first, Missing) or isinstance(load.energy_mj, Missing):
        pytest.skip("this device does not count energy")
    assert isinstance(load.power_mw, int)
    assert 0.3 < (load.energy_mj - first) / (3 * load.power_mw) < 3


def test_a_process_is_seen_with_its_memory_and_attributed_to_its_worker(fact: DeviceFacts, agent: Agent) -> None:
    with burning(fact.device, HELD_MIB) as child:
        CLOCK.sleep_ms(1_100)
        sample = sampled(agent, fact.device)
    assert not isinstance(sample.processes, Missing)
    if not sample.processes and not sees_every_process():
        pytest.skip("the driver shows no processes inside this PID namespace")
    holding = WorkerHolding(
        worker=WorkerId("w"), domain=SecurityDomain.CIVIL, devices=(fact.device,), root_pid=child.pid
    )
    assert any(isinstance(one.memory_mib, int) and one.memory_mib >= HELD_MIB for one in sample.processes)
    if not sees_every_process():
        pytest.skip("attribution by PID needs the host's PID namespace")
    owners = {process.pid: owner for process, owner in attribute(sample, (holding,))}
    assert owners[child.pid] is not None


def test_a_scrub_holds_after_a_process_that_filled_the_memory_was_killed(fact: DeviceFacts) -> None:
    with burning(fact.device, int(fact.memory_total_mib * 0.8)):
        full = NvmlDevice(fact).memory_used_mib()
    assert isinstance(full, int)
    assert full >= fact.memory_total_mib * 0.7
    request = ScrubRequest(device=fact.device, from_domain=SecurityDomain.CIVIL, to_domain=SecurityDomain.DEFENCE)
    proof = scrub(request, NvmlDevice(fact), ScrubPolicy(), CLOCK)
    print([f"{step.name}: {step.detail}" for step in proof.steps])  # noqa: T201 - figures for the record
    assert proof.passed
    assert not proof.simulated
    assert "write_pattern" in [step.name for step in proof.steps]


def test_a_scrub_fails_while_a_process_is_alive(fact: DeviceFacts) -> None:
    request = ScrubRequest(device=fact.device, from_domain=SecurityDomain.CIVIL, to_domain=SecurityDomain.DEFENCE)
    with burning(fact.device, HELD_MIB):
        proof = scrub(request, NvmlDevice(fact), ScrubPolicy(settle_ms=1_000), CLOCK)
    assert not proof.passed
    # Where the driver shows no processes, the memory that they hold still gives them away.
    given_away_by = {"no_process"} if sees_every_process() else {"no_process", "framebuffer_baseline"}
    assert proof.steps[-1].name in given_away_by
