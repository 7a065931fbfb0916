"""Somebody who has only the published schemas writes a snapshot and a policy, decides, and checks decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import outcome

POLICY: dict[str, Any] = {
    "revision": "r1",
    "priority_classes": [{"name": "standard", "value": 500}],
    "tenants": [
        {"id": "civil", "domain": "civil", "quotas": [{"flavor": "H100", "nominal_millis": 1000}],
         "floor_millis": [["H100", 1000]]},
        {"id": "civil/health", "domain": "civil", "parent": "civil",
         "quotas": [{"flavor": "H100", "nominal_millis": 1000}]},
        {"id": "defence", "domain": "defence", "quotas": [{"flavor": "H100", "nominal_millis": 2000}]},
    ],
}  # fmt: skip
SNAPSHOT: dict[str, Any] = {
    "generation": 7,
    "observed_at_ms": 1_790_000_000_000,
    "nodes": [{"id": "n0", "cpu_millis": 64_000, "memory_mib": 500_000}],
    "devices": [
        {"id": f"GPU-{n}", "node": "n0", "flavor": "H100", "gpu": f"GPU-{n}", "memory_mib": 81_000, **held}
        for n, held in enumerate(({"domain": "civil", "scrub": "dirty"}, {"domain": "civil", "scrub": "dirty"}, {}))
    ],
    "workers": [
        {"id": f"w{n}", "domain": "civil", "node": "n0", "devices": [f"GPU-{n}"], "state": "ready"} for n in range(2)
    ],
    "groups": [
        {"id": f"g{n}", "claim": "civil/health:chat", "worker": f"w{n}", "rung": 0, "variant": None,
         "devices": [f"GPU-{n}"], "replicas": 1, "running": 1, "state": "running"} for n in range(2)
    ],
    "claims": [
        {"id": "civil/health:chat", "tenant": "civil/health", "kind": "serving", "ladder": [{"flavors": ["H100"]}],
         "desired_replicas": 2, "max_replicas": 2},
        {"id": "defence:triage", "tenant": "defence", "kind": "job", "ladder": [{"flavors": ["H100"]}],
         "min_replicas": 2, "desired_replicas": 2, "max_replicas": 2},
    ],
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a policy, a snapshot, and the decision taken from them."""
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    (tmp_path / "seen.json").write_text(json.dumps(SNAPSHOT))
    told = ["decide", "--snapshot", str(tmp_path / "seen.json"), "--policy", str(tmp_path / "policy.json")]
    assert outcome([*told, "-o", "json"]) == 0
    (tmp_path / "decision.json").write_text(capsys.readouterr().out)
    return tmp_path


def checked(files: Path, *more: str) -> int:
    return outcome(["check", "--snapshot", str(files / "seen.json"), "--decision", str(files / "decision.json"), *more])


def test_the_decision_on_these_files_has_no_objection_and_without_a_policy_says_what_was_not_checked(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(files, "--policy", str(files / "policy.json")) == 0
    assert "no objection" in capsys.readouterr().err
    assert checked(files) == 0
    assert "floors, classes, modes and moves need --policy" in capsys.readouterr().err


def _twice(decision: dict[str, Any]) -> None:
    new = next(one for one in decision["bindings"] if one["devices"] == ["GPU-2"])
    new["devices"] = ["GPU-0"]


def _split(decision: dict[str, Any]) -> None:
    decision["placements"] = [one for one in decision["placements"] if one["devices"] != ["GPU-2"]]


def _ghost(decision: dict[str, Any]) -> None:
    decision["evictions"][0]["group"] = "ghost"


def _empty(decision: dict[str, Any]) -> None:
    decision["placements"][0]["devices"] = []


def _digest(decision: dict[str, Any]) -> None:
    decision["policy_digest"] = "0" * 64


def _silent(decision: dict[str, Any]) -> None:
    decision["evictions"] = []


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_twice, "one_domain_per_gpu: GPU GPU-0 would be shared by"),
        (_split, "gangs_are_whole: defence:triage: 1 replicas, outside 2 to 2"),
        (_ghost, "who_leaves_is_known: group ghost, which is to leave, is not known"),
        (_empty, "needs at least one device and one replica"),
        (_silent, "every_group_stays_or_leaves: group g"),
        (_digest, f"decision_is_of_this_policy: r1: it was taken under rules with the digest {'0' * 64}"),
    ],
)
def test_a_decision_changed_by_hand_is_refused_with_one_line_that_names_what_is_wrong(
    files: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[dict[str, Any]], None], said: str
) -> None:
    decision = json.loads((files / "decision.json").read_text())
    tamper(decision)
    (files / "decision.json").write_text(json.dumps(decision))
    assert checked(files, "--policy", str(files / "policy.json")) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if said in line]


def test_why_on_files_names_what_would_admit_the_claim(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is a fourth device, on which its tenant may not borrow."""
    spare = {**SNAPSHOT["devices"][2], "id": "GPU-3", "gpu": "GPU-3"}
    (files / "seen.json").write_text(json.dumps({**SNAPSHOT, "devices": [*SNAPSHOT["devices"], spare]}))
    own = [{"flavor": "H100", "nominal_millis": 1000, "borrowing_limit_millis": 0}]
    tenants = [one | {"quotas": own} if one["domain"] == "civil" else one for one in POLICY["tenants"]]
    (files / "policy.json").write_text(json.dumps({**POLICY, "tenants": tenants}))
    told = ["why", "claim", "civil/health:chat", "--snapshot", str(files / "seen.json")]
    assert outcome([*told, "--policy", str(files / "policy.json")]) == 0
    said = capsys.readouterr().out
    assert "what would change it: civil/health may borrow 1000 millis of H100 more" in said
    assert "held by: defence:triage" in said
    assert outcome(told) == 2
    assert outcome([*told, "--policy", str(files / "policy.json"), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["unblocking"]["kind"] == "borrowing_limit"


@pytest.mark.parametrize(
    ("suspended", "said"),
    [(False, "something smaller may do (SEARCH_INCOMPLETE)"), (True, "nor every two together (SEARCH_INCOMPLETE)")],
)
def test_why_says_where_not_everything_could_be_tried_that_might_admit_the_claim(
    files: Path, capsys: pytest.CaptureFixture[str], suspended: bool, said: str
) -> None:
    """Its host takes nothing new, each of its many GPUs is out of use, and its tenant may hold none."""
    broken = {**SNAPSHOT["devices"][2], "health": "quarantined"}
    devices = [broken | {"id": f"GPU-{index}", "gpu": f"GPU-{index}"} for index in range(20)]
    nodes = [one | {"schedulable": False} for one in SNAPSHOT["nodes"]]
    claims = [one | {"suspended": suspended} for one in SNAPSHOT["claims"]]
    alone = {"devices": devices, "nodes": nodes, "claims": claims, "workers": [], "groups": []}
    (files / "seen.json").write_text(json.dumps({**SNAPSHOT, **alone}))
    none = [{"flavor": "H100", "nominal_millis": 0, "borrowing_limit_millis": 0}]
    tenants = [one | {"quotas": none, "floor_millis": []} for one in POLICY["tenants"]]
    (files / "policy.json").write_text(json.dumps({**POLICY, "tenants": tenants}))
    told = ["why", "claim", "civil/health:chat", "--snapshot", str(files / "seen.json")]
    assert outcome([*told, "--policy", str(files / "policy.json")]) == 0
    assert said in capsys.readouterr().out
