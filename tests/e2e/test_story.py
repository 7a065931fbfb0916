"""The whole platform on this machine: real Ray, a real model, the story told through a killed control plane."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
GIVEN_BACK = "no longer receives requests"
"""What the story says when the reclaim is under way."""


@dataclass
class Machine:
    """The command line of a platform with a home and ports of its own."""

    environment: dict[str, str]
    home: Path

    def partage(self, *words: str, limit_s: int = 600) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "cluster.cli.main", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command whose words on stderr are read as they come."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "cluster.cli.main", *words],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self) -> list[int]:
        """Return the processes that belong to this platform, by their environment or arguments."""
        return [pid for pid in _pids() if str(self.home).encode() in _about(pid)]

    def control_plane(self) -> int:
        """Return the process of the control plane."""
        return next(pid for pid in self.processes() if b"cluster.main" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    home = tmp_path_factory.mktemp("platform") / "home"
    api, gateway, dashboard, ray = _free_ports()
    environment = dict(os.environ) | {  # noqa: TID251  # the child process needs the rest of it
        "PYTHONPATH": str(ROOT),
        "PARTAGE_HOME": str(home),
        "PARTAGE_CONFIG": str(home / "config"),
        "PARTAGE_API_PORT": str(api),
        "PARTAGE_GATEWAY_PORT": str(gateway),
        "PARTAGE_DASHBOARD_PORT": str(dashboard),
        "PARTAGE_RAY_PORT": str(ray),
    }
    made = Machine(environment, home)
    up = made.partage("up")
    assert up.returncode == 0, up.stderr
    yield made
    down = made.partage("down")
    assert down.returncode == 0, down.stderr
    assert made.processes() == []


def test_a_second_up_says_what_runs_and_changes_nothing(machine: Machine) -> None:
    before = machine.control_plane()
    again = machine.partage("up")
    assert again.returncode == 0
    assert "already running" in again.stderr
    assert machine.control_plane() == before


def test_three_variants_of_one_model_answer(machine: Machine) -> None:
    groups = json.loads(machine.partage("get", "groups", "-o", "json").stdout)
    assert len({group["variant"] for group in groups if group["running"]}) >= 3


def test_the_story_keeps_every_promise_through_a_killed_control_plane(machine: Machine) -> None:
    """`kill -9` in the middle of the reclaim, then start it again: the same end, nothing lost."""
    story = machine.begin("demo")
    assert story.stderr is not None
    told: list[str] = []
    for line in story.stderr:
        told.append(line)
        if GIVEN_BACK in line:
            os.kill(machine.control_plane(), signal.SIGKILL)
            assert machine.partage("up").returncode == 0
    summary, _ = story.communicate(timeout=600)
    assert story.returncode == 0, "".join(told) + summary
    assert any("control plane is back" in line for line in told), told
    assert "BROKEN" not in summary
    verified = machine.partage("audit", "verify")
    assert verified.returncode == 0, verified.stderr


def test_every_decision_of_the_story_can_be_taken_again(machine: Machine) -> None:
    decisions = json.loads(machine.partage("get", "decisions", "-o", "json").stdout)
    assert decisions
    for decision in decisions[:10]:
        replayed = machine.partage("replay", str(decision["number"]))
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def _free_ports() -> tuple[int, int, int, int]:
    """Return four ports, each with a free one after it."""
    found: list[int] = []
    candidate = 23_000 + os.getpid() % 1_000 * 8
    while len(found) < 4:
        if all(_is_free(port) for port in (candidate, candidate + 1)):
            found.append(candidate)
        candidate += 2
    return found[0], found[1], found[2], found[3]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _pids() -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and int(entry.name) != os.getpid()
    ]


def _about(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
