"""Each drill begins, sees what a trainee does with the real command line, scores and explains."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from cluster.clock import SystemClock
from cluster.drills.recorder import Noted
from cluster.drills.run import run
from cluster.drills.scenario import DRILLS
from cluster.drills.score import FULL, score
from cluster.drills.stage import NODES

ROOT = Path(__file__).parents[3]
BOOKS = ROOT / "runbooks"


class Trainee:
    """Somebody at a terminal: hears what the drill says, then types."""

    def __init__(self, steps):
        self.heard, self.said, self._steps, self._told = [], [], steps, threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def hears(self, line):
        self.heard.append(line)

    def told(self):
        self._told.set()

    def _work(self):
        self._told.wait(90)
        exported = next(line for line in self.heard if "export " in line).partition("export ")[2]
        self.variables = dict(pair.split("=", 1) for pair in exported.split())
        self._steps(self)

    def types(self, *words):
        """Run one command as a shell would; return what it printed."""
        environment = {**os.environ, **self.variables, "PYTHONPATH": str(ROOT)}  # noqa: TID251  # a shell inherits
        command = [sys.executable, "-m", "cluster.cli.main", *words]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.said.append((words, done.returncode, done.stdout + done.stderr))
        return done.stdout

    @property
    def folder(self):
        return Path(self.variables["PARTAGE_HOME"])

    def edits(self, change):
        """Change the policy document as in an editor."""
        document = yaml.safe_load((self.folder / "policy.yaml").read_text())
        change(document["spec"])
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(document))

    def leaves(self):
        self._thread.join(60)


def finds_the_lost_device(trainee):
    devices = trainee.types("get", "devices", "-o", "yaml")
    ill = next(device["id"] for device in yaml.safe_load(devices) if device["health"] != "healthy")
    trainee.types("drain", ill, "--reason", "lost from the bus")


def declares_a_crisis(trainee):
    trainee.types("shares")
    trainee.types("mode", "plan", "crisis")
    ana, luc = (trainee.types("operator", "add", name).strip().splitlines()[-1] for name in ("ana", "luc"))
    why = ("--hours", "4", "--reason", "flood in the north")
    declared = trainee.types("mode", "declare", "crisis", *why, "--token-file", ana).strip()
    trainee.types("mode", "show")
    trainee.types("mode", "approve", declared, "--token-file", luc)


def dams_the_flood(trainee):
    trainee.types("get", "claims")

    def no_more_borrowing(policy):
        tenant = next(tenant for tenant in policy["tenants"] if tenant["id"] == "civil/health")
        tenant["quotas"][0]["borrowing_limit_millis"] = 0

    trainee.edits(no_more_borrowing)
    trainee.types("apply", "-f", "policy.yaml")


def puts_the_policy_back(trainee):
    trainee.types("events")
    trainee.types("apply", "-f", "policy.yaml")


def takes_the_blind_node_out(trainee):
    trainee.types("status")
    trainee.types("drain", NODES[1], "--reason", "not seen")


def starts_the_control_plane(trainee):
    trainee.types("status")
    trainee.types("drill", "restart")


PRACTISED = {
    "gpu-lost": finds_the_lost_device,
    "crisis-surge": declares_a_crisis,
    "runaway-tenant": dams_the_flood,
    "bad-policy": puts_the_policy_back,
    "stale-telemetry": takes_the_blind_node_out,
    "lost-control-plane": starts_the_control_plane,
}


def trained(name, folder, steps, limit_s=60):
    trainee, drill = Trainee(steps), DRILLS[name]

    def say(line):
        trainee.hears(line)
        if line == drill.told:
            threading.Timer(0.8, trainee.told).start()

    result = run(drill, folder / "home", SystemClock(), say=say, limit_s=limit_s)
    trainee.leaves()
    return result, trainee


@pytest.mark.parametrize("name", DRILLS)
def test_a_practised_person_notices_mends_and_harms_nobody(name, tmp_path):
    result, trainee = trained(name, tmp_path, PRACTISED[name])
    assert result.mend_ms is not None, trainee.said
    assert result.detect_ms is not None
    assert result.detect_ms <= result.mend_ms
    assert (result.harms, result.points) == ((), FULL)
    assert DRILLS[name].lesson in trainee.heard


def test_who_does_nothing_scores_nothing_and_still_learns(tmp_path):
    result, trainee = trained("gpu-lost", tmp_path, lambda trainee: None, limit_s=2)
    assert (result.detect_ms, result.mend_ms, result.points) == (None, None, 0)
    assert DRILLS["gpu-lost"].lesson in trainee.heard


def test_every_drill_says_that_it_is_one_and_which_page_helps(tmp_path):
    for drill in DRILLS.values():
        assert (BOOKS / drill.runbook).exists()
        assert drill.lesson


def noted(at_ms, path, method="GET"):
    return Noted(at_ms, method, path, 200)


def test_points_fall_with_time_and_with_harm():
    drill = DRILLS["gpu-lost"]
    quick = score(drill, 0, 60_000, [noted(5_000, "/v1/devices")])
    slow = score(drill, 0, 600_000, [noted(5_000, "/v1/devices")])
    harmful = score(drill, 0, 60_000, [noted(5_000, "/v1/devices"), noted(9_000, "/v1/claims/a:b", "DELETE")])
    assert quick.points == FULL > slow.points
    assert harmful.points < quick.points
    assert "a:b was given up" in harmful.harms[0]


def test_looking_before_the_trouble_began_is_not_noticing_it():
    assert score(DRILLS["gpu-lost"], 10_000, None, [noted(5_000, "/v1/devices")]).detect_ms is None
