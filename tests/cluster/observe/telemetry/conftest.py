"""The real nvidia-ml-py over a fake driver: once over a Python object, once over a library built from C."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pynvml
import pytest

from cluster.observe.telemetry.agent import Agent, AgentLimits
from policies.model.telemetry import DeviceSample, NodeReport
from policies.model.units import DeviceId, NodeId
from tests.cluster.dashboards.programs import require
from tests.cluster.observe.telemetry.fake_library import FakeLibrary
from tests.cluster.observe.telemetry.fake_node import FakeNode

SONAME = "-Wl,-soname,libnvidia-ml.so.1"
SOURCE = Path(__file__).with_name("fake_nvml.c")
NODE = NodeId("node-1")


@dataclass
class SteppedClock:
    """Time that moves when a test says so."""

    now: int = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self.now

    def sleep_ms(self, duration_ms: int) -> None:
        self.now += duration_ms


@dataclass
class Rig:
    """A fake driver under the real bindings, and an agent over them."""

    kind: str
    install: Callable[[FakeNode], None]
    clock: SteppedClock = field(default_factory=SteppedClock)
    node: FakeNode = field(default_factory=lambda: FakeNode(gpus=[]))
    agents: list[Agent] = field(default_factory=list)

    def show(self, node: FakeNode) -> None:
        """Make the driver show this node from now on."""
        self.node = node
        self.install(node)

    def changed(self) -> None:
        """Make changes of the node's state visible to the driver."""
        self.install(self.node)

    def agent(self, round_ms: int = 2_000) -> Agent:
        made = Agent(NODE, "boot-1", self.clock, AgentLimits(round_ms=round_ms))
        self.agents.append(made)
        return made

    def later(self, agent: Agent, step_ms: int = 1_000) -> NodeReport:
        """Let time pass, the energy counters move, and look again."""
        self.clock.now += step_ms
        for gpu in self.node.gpus:
            gpu.energy_mj += gpu.power_mw * step_ms // 1000
        self.changed()
        return agent.look()


def sample_of(report: NodeReport, device: str) -> DeviceSample:
    return next(sample for sample in report.samples if sample.device == DeviceId(device))


def build(folder: Path, *flags: str) -> Path:
    """Compile the C library and return its path."""
    compiler = require("cc")
    target = folder / "libnvidia-ml.so.1"
    command = [compiler, "-std=gnu11", "-shared", "-fPIC", "-O1", "-pthread", *flags]
    subprocess.run([*command, "-o", str(target), str(SOURCE)], check=True, timeout=60)
    return target


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For processes of their own, which find it by the name that the driver's library has."""
    return build(tmp_path_factory.mktemp("nvml"), SONAME)


@pytest.fixture(scope="session")
def nameless_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For this process: without a name, so that it is never taken for the driver's own by whoever loads that later."""
    return build(tmp_path_factory.mktemp("nvml-here"))


@pytest.fixture(scope="session")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml-old"), SONAME, "-DOLD_DRIVER")


@pytest.fixture(params=["object", pytest.param("library", marks=pytest.mark.system)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = Rig("object", _over_object) if request.param == "object" else _over_library(request, tmp_path)
    yield made
    made.node.released.set()
    for agent in made.agents:
        agent.close()
    load(None)


@pytest.fixture
def object_rig() -> Iterator[Rig]:
    made = Rig("object", _over_object)
    yield made
    made.node.released.set()
    for agent in made.agents:
        agent.close()
    load(None)


def load(library: object) -> None:
    """Put a library where the bindings keep the one they loaded: their own seam for this."""
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()


def _over_object(node: FakeNode) -> None:
    if not isinstance(pynvml.nvmlLib, FakeLibrary) or pynvml.nvmlLib.node is not node:
        load(FakeLibrary(node))


def _over_library(request: pytest.FixtureRequest, folder: Path) -> Rig:
    loaded = ctypes.CDLL(str(request.getfixturevalue("nameless_library")))
    state = folder / "state"
    load(loaded)
    loaded.fake_nvml_state(str(state).encode())

    def install(node: FakeNode) -> None:
        fresh = state.with_suffix(".new")
        fresh.write_text(node.to_text())
        fresh.replace(state)

    return Rig("library", install)
