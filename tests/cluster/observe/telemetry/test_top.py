"""What a person sees of a node's devices in 80 columns, and what a program gets."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cluster.observe.telemetry.top import band, screen
from policies.model.telemetry import Missing, MissingCause, NodeReport
from policies.model.units import NodeId
from tests.cluster.observe.telemetry.conftest import Rig
from tests.cluster.observe.telemetry.fake_node import FakeGpu, FakeNode, FakeProcess, h100, h100_mig

ROOT = Path(__file__).parents[4]


def shown(report: NodeReport) -> str:
    console = Console(file=StringIO(), width=80, color_system=None)
    console.print(screen(report))
    text = console.file.getvalue()  # type: ignore[attr-defined] # it is the StringIO from above
    assert isinstance(text, str)
    return text


def looked_at(rig: Rig, *gpus: FakeGpu) -> str:
    rig.show(FakeNode(gpus=list(gpus)))
    agent = rig.agent()
    agent.look()
    return shown(rig.later(agent))


def test_the_screen_fits_in_80_columns_with_8_gpus_and_instances(rig: Rig) -> None:
    text = looked_at(rig, *[h100(n, used_mib=80_000, power_mw=700_000, sm_util=100.0) for n in range(6)], h100_mig(7))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "78.1/80" in text
    assert "7:9" not in text, "the instance is named by its GPU's place in this order"
    assert "6:9" in text


def test_a_lost_device_says_so_in_its_row(rig: Rig) -> None:
    text = looked_at(rig, h100(0), h100(1, fails={"*": (15, 40)}))
    assert "gpu_is_lost" in next(line for line in text.splitlines() if line.startswith("1 "))


def test_signs_of_wear_are_named(rig: Rig) -> None:
    assert "row_remap_failed" in looked_at(rig, h100(fields={145: (0, 1, 1)}))


def test_an_xid_is_named_with_its_meaning_and_marks_its_gpu(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100(0), h100(1)]))
    agent = rig.agent()
    agent.look()
    rig.node.events.append((1, 8, 79, 0xFFFF_FFFF))
    rig.changed()
    text = shown(rig.later(agent))
    assert "xid_79" in next(line for line in text.splitlines() if line.startswith("1 "))
    assert "ok" in next(line for line in text.splitlines() if line.startswith("0 "))
    said = next(line for line in text.splitlines() if "XID 79: " in line)
    assert "GPU 1 " in said
    assert len(said) <= 80


def test_processes_are_listed_largest_first(rig: Rig) -> None:
    small, large = FakeProcess(pid=4_700_001, memory_mib=10), FakeProcess(pid=4_700_002, memory_mib=9_000)
    text = looked_at(rig, h100(processes=[small, large]))
    assert text.index("4700002") < text.index("4700001")


def test_a_node_without_a_driver_is_one_sentence() -> None:
    why = Missing(MissingCause.LIBRARY_NOT_FOUND, "nvmlInit")
    text = shown(NodeReport(node=NodeId("node-1"), boot="a", sequence=1, at_ms=0, missing=why))
    assert text.splitlines()[0] == "node-1: no telemetry: library_not_found (nvmlInit)"
    assert "no NVIDIA driver is installed here" in text, "and what that means"


@pytest.mark.parametrize(
    ("percent", "colour"), [(0, "green"), (9, "green"), (10, "yellow"), (74, "yellow"), (75, "red")]
)
def test_shares_are_coloured_in_bands(percent: int, colour: str) -> None:
    assert band(percent) == colour


def partage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli.main", *arguments]
    known = {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "HOME": environment.pop("HOME", "/nonexistent")}
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def fake_driver(library: Path, tmp_path: Path) -> dict[str, str]:
    state = tmp_path / "state"
    busy = h100(0, sm_util=63.0, used_mib=70_000, processes=[FakeProcess(pid=4_700_000, memory_mib=9, sm=5)])
    state.write_text(FakeNode(gpus=[busy, h100(1)]).to_text())
    return {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_STATE": str(state)}


@pytest.mark.system
def test_the_command_prints_one_report_as_json(fake_driver: dict[str, str]) -> None:
    done = partage("telemetry", "--once", "-o", "json", "--node", "gpu-7", **fake_driver)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["node"] == "gpu-7"
    assert report["samples"][0]["load"]["sm_activity_permille"] == 630
    assert report["samples"][0]["processes"][0]["pid"] == 4_700_000


@pytest.mark.system
def test_top_draws_frames_and_leaves(fake_driver: dict[str, str]) -> None:
    done = partage("top", "--frames", "2", "--interval", "0.25", **fake_driver)
    assert done.returncode == 0, done.stderr
    assert "68.4/80" in done.stdout


@pytest.mark.elsewhere
def test_without_a_driver_the_command_says_why_and_fails() -> None:
    done = partage("telemetry", "--once")
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA driver")
    assert done.returncode == 7
    assert "no telemetry: " in done.stdout


def test_the_command_asks_for_what_it_needs() -> None:
    done = partage("telemetry")
    assert done.returncode == 2
    assert "--once" in done.stderr
    assert "Traceback" not in done.stderr
