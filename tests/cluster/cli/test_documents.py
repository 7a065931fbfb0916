"""Files handed to a command: what is wrong with them is said with the file, the place and what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli.main import outcome

POLICY = Path(__file__).parents[3] / "policies" / "profiles" / "default.yaml"


def test_a_snapshot_with_faults_names_each_with_its_pointer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seen.json").write_text(json.dumps({"generation": "x", "devices": [{"id": 1}]}))
    status = outcome(["decide", "--snapshot", str(tmp_path / "seen.json"), "--policy", str(POLICY)])
    said = capsys.readouterr().err
    assert status == 1
    assert "seen.json holds no snapshot; `partage schema snapshot`" in said
    assert "/generation: expected a whole number" in said
    assert "/devices/0/node: this field is required" in said
    assert "pydantic" not in said


def test_a_policy_in_json_must_be_sound_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.json").write_text('{"revision": "x", "tenants": [], "priority_classes": []}')
    assert outcome(["policy", "lint", str(tmp_path / "policy.json")]) == 1
    assert "/tenants: a policy names at least one tenant" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.yaml").write_bytes(b"kind: \xff\xfe")
    assert outcome(["policy", "lint", str(tmp_path / "policy.yaml")]) == 1
    assert "policy.yaml is no text in UTF-8: byte 6" in capsys.readouterr().err


def test_lint_lists_every_fault_of_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = POLICY.read_text().replace("fair_weight: 2", "fair_weight: -2", 1).replace("parent: civil\n", "parent: x\n")
    (tmp_path / "policy.yaml").write_text(text)
    assert outcome(["policy", "lint", str(tmp_path / "policy.yaml")]) == 1
    assert len([line for line in capsys.readouterr().err.splitlines() if "policy.yaml:" in line]) > 2


def test_lint_proves_the_floors_on_a_snapshot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = {"flavor": "H100-80GB", "node": "n", "memory_mib": 81_559, "domain": None, "scrub": "clean"}
    devices = [device | {"id": name, "gpu": name} for name in ("GPU-1", "GPU-2")]
    for count, status, word in ((2, 0, "yes"), (1, 1, "the floors of all domains need 2 whole GPUs")):
        nodes = [{"id": "n", "cpu_millis": 1, "memory_mib": 1}]
        seen = {"generation": 1, "observed_at_ms": 1, "devices": devices[:count], "nodes": nodes}
        (tmp_path / "seen.json").write_text(json.dumps(seen))
        assert outcome(["policy", "lint", str(POLICY), "--snapshot", str(tmp_path / "seen.json")]) == status
        assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"revision": 1,}', "line 1, column 16: this is not JSON"),
        ('{\n "revision": "a"\n "tenants": []}', "line 3, column 2: this is not JSON"),
        ('{"revision": "a", "revision": "b"}', "the field revision occurs twice in one object"),
        ('{"revision": ' + "[" * 9_000 + "]" * 9_000 + "}", "nested too deep"),
        ('{"revision": ' + "1" * 9_000 + "}", "a number has more digits than any count"),
        (
            '{"apiVersion": "partage/v1", "kind": "Policy", "spec": {"revision": 1}}',
            "at spec.revision: expected text",
        ),
    ],
)
def test_a_policy_in_json_that_is_not_quite_json_is_refused_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "policy.json").write_text(text)
    assert outcome(["policy", "lint", str(tmp_path / "policy.json")]) == 1
    assert said in capsys.readouterr().err
