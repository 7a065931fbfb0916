"""The story on real Ray and a real model, told through a control plane that is killed in the middle of the reclaim."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.embedded.control import NAME as CONTROL
from cluster.embedded.control import operator
from cluster.embedded.processes import find
from tests.e2e.bench import Running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
RECLAIM_UNDER_WAY = "no longer receives requests"


def command(platform: Running, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment of a command against the platform."""
    settings = platform.settings
    environment = dict(os.environ) | {  # noqa: TID251  # the child process needs the rest of it
        "PYTHONPATH": str(ROOT),
        "PARTAGE_HOME": str(settings.home),
        "PARTAGE_CACHE": str(settings.cache),
        "PARTAGE_CONFIG": str(settings.config),
        "PARTAGE_API_PORT": str(settings.api_port),
        "PARTAGE_GATEWAY_PORT": str(settings.gateway_port),
        "PARTAGE_DASHBOARD_PORT": str(settings.dashboard_port),
        "PARTAGE_RAY_PORT": str(settings.ray_port),
    }
    return [sys.executable, "-u", "-m", "cluster.cli.main", *words], environment


def partage(platform: Running, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    arguments, environment = command(platform, *words)
    return subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def control_plane(platform: Running) -> int:
    """Return the process of the control plane."""
    record = find(platform.here.processes, CONTROL)
    assert record is not None
    return record.pid


def test_three_variants_of_one_model_answer(platform: Running) -> None:
    groups = json.loads(partage(platform, "get", "groups", "-o", "json").stdout)
    assert len({group["variant"] for group in groups if group["running"]}) >= 3


def test_the_story_keeps_every_promise_through_a_killed_control_plane(platform: Running) -> None:
    """`kill -9` in the middle of the reclaim, then start it again: the same end, nothing lost."""
    arguments, environment = command(platform, "demo")
    story = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert story.stderr is not None
    told: list[str] = []
    for line in story.stderr:
        told.append(line)
        if RECLAIM_UNDER_WAY in line:
            killed = control_plane(platform)
            os.kill(killed, signal.SIGKILL)
            assert partage(platform, "up").returncode == 0
            assert control_plane(platform) != killed
    summary, _ = story.communicate(timeout=600)
    assert story.returncode == 0, "".join(told) + summary
    assert "BROKEN" not in summary
    verified = partage(platform, "audit", "verify")
    assert verified.returncode == 0, verified.stderr


def test_every_decision_of_the_story_can_be_taken_again(platform: Running) -> None:
    decisions = json.loads(partage(platform, "get", "decisions", "-o", "json").stdout)
    assert decisions
    client = operator(platform.settings)
    for decision in decisions[:10]:
        assert client.get(f"/v1/decisions/{decision['number']}/replay")["same"], decision
    replayed = partage(platform, "replay", str(decisions[0]["number"]))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
