"""Every screen as a person sees it. `pytest tests/cluster/cli --accept` writes them again; the diff is the review."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.cli.main import outcome
from tests.cluster.api.platform import Platform

GOLDEN = Path(__file__).parent / "golden"
PROFILES = Path(__file__).parents[3] / "policies" / "profiles"
STORM = Path(__file__).parents[3] / "docs" / "examples" / "storm.csv"
SCREENS: dict[str, list[str]] = {
    "status": ["status"],
    "get-claims": ["get", "claims"],
    "get-claims-wide": ["get", "claims", "-o", "wide"],
    "get-claims-name": ["get", "claims", "-o", "name"],
    "get-one-claim-yaml": ["get", "claim", "civil/justice:assistant", "-o", "yaml"],
    "get-tenants": ["get", "tenants"],
    "get-devices": ["get", "devices"],
    "get-workers": ["get", "workers"],
    "get-groups": ["get", "groups"],
    "get-nodes": ["get", "nodes"],
    "get-keys": ["get", "keys"],
    "get-models": ["get", "models"],
    "get-reservations": ["get", "reservations"],
    "reservation-in-the-past": [
        *("reservation", "make", "civil/justice:exams", "--gpus", "1"),
        *("--from", "2020-01-01T08:00", "--to", "2020-01-01T18:00"),
    ],
    "reservation-at-no-time": [
        *("reservation", "make", "civil/justice:exams", "--gpus", "1", "--from", "monday", "--to", "2020-01-02"),
    ],
    "get-moves": ["get", "moves"],
    "get-decisions": ["get", "decisions"],
    "get-cordons": ["get", "cordons"],
    "shares": ["shares"],
    "shares-wide": ["shares", "-o", "wide"],
    "why": ["why", "claim", "civil/justice:assistant"],
    "why-json": ["why", "claim", "civil/justice:assistant", "-o", "json"],
    "describe": ["describe", "claim", "civil/justice:assistant"],
    "events": ["events", "--for", "civil/justice:assistant"],
    "apply-again": ["apply", "-f", str(PROFILES / "claims.yaml")],
    "apply-policy-again": ["apply", "-f", str(PROFILES / "default.yaml")],
    "diff-nothing": ["diff", "-f", str(PROFILES / "claims.yaml")],
    "plan-nothing": ["plan", "-f", str(PROFILES / "default.yaml")],
    "policy-lint": ["policy", "lint", str(PROFILES / "default.yaml")],
    "simulate": ["simulate", "--trace", str(STORM), "--policy", str(PROFILES / "default.yaml")],
    "context-list": ["context", "list"],
    "unknown-claim": ["why", "claim", "civil/justice:nothing"],
    "unknown-device": ["get", "device", "GPU-node-9"],
    "unknown-kind": ["get", "clams"],
    "unknown-command": ["stauts"],
    "unknown-context": ["status", "--context", "moon"],
    "missing-file": ["apply", "-f", "nowhere.yaml"],
    "missing-token": ["status", "--token-file", "nowhere.token"],
}


@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_reviewed(
    name: str, platform: Platform, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    status = outcome(SCREENS[name])
    printed = capsys.readouterr()
    home = str(platform.parts.settings.home)
    seen = steady(f"exit {int(status)}\n--- out\n{printed.out}--- err\n{printed.err}", home)
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--accept"):
        path.write_text(seen)
    assert seen == path.read_text()


def steady(text: str, home: str) -> str:
    """Return the screen without what differs from run to run: ages, times of day, digests, folders, ports."""
    text = text.replace(home, "HOME").replace(str(PROFILES.parent.parent), "ROOT")
    text = re.sub(r"\b\d+d\d+h\b", "AGE", text)
    text = re.sub(r" +AGE", " AGE", text)
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "DIGEST", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)


def test_every_screen_that_shows_devices_says_that_they_are_simulated(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["status"], ["get", "devices"], ["shares"], ["describe", "claim", "civil/justice:assistant"]):
        outcome(command)
        assert "SIMULATED" in capsys.readouterr().err, command


def test_a_changed_claim_shows_in_diff_and_is_applied_once(
    platform: Platform, capsys: pytest.CaptureFixture[str], claims_file: Path
) -> None:
    claims_file.write_text(claims_file.read_text().replace("max_replicas: 1", "max_replicas: 2"))
    assert outcome(["diff", "-f", str(claims_file)]) == 1
    assert "+max_replicas: 2" in capsys.readouterr().out
    assert outcome(["apply", "-f", str(claims_file), "--dry-run"]) == 0
    assert outcome(["diff", "-f", str(claims_file)]) == 1
    assert outcome(["apply", "-f", str(claims_file)]) == 0
    assert outcome(["diff", "-f", str(claims_file)]) == 0
    assert outcome(["apply", "-f", str(PROFILES / "claims.yaml")]) == 0


def test_a_saved_snapshot_is_decided_anywhere_the_same_way_twice(
    platform: Platform, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved = tmp_path / "snapshot.json"
    assert outcome(["snapshot", "save", str(saved)]) == 0
    command = ["decide", "--snapshot", str(saved), "--policy", str(PROFILES / "default.yaml"), "-o", "json"]
    capsys.readouterr()
    assert outcome(command) == 0
    first = capsys.readouterr().out
    outcome(command)
    assert capsys.readouterr().out == first

    decision = tmp_path / "decision.json"
    decision.write_text(first)
    checked = ["check", "--snapshot", str(saved), "--policy", command[4], "--decision", str(decision)]
    assert outcome(checked) == 0


def test_the_audit_log_verifies_and_a_forged_anchor_does_not(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["audit", "verify"]) == 0
    anchor = capsys.readouterr().out.split("elsewhere: ")[1].strip()
    assert outcome(["audit", "verify", "--anchor", anchor]) == 0
    assert outcome(["audit", "verify", "--anchor", anchor[:-1] + "x"]) == 1


def test_a_past_decision_is_replayed(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["replay", "1"]) == 0
    assert "the same, byte for byte" in capsys.readouterr().out
    assert outcome(["replay", "99999"]) == 3


def test_a_key_is_printed_once_and_works_until_deleted(
    platform: Platform, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert outcome(["key", "create", "civil/justice"]) == 0
    key = capsys.readouterr().out.strip()
    token = tmp_path / "token"
    token.write_text(key)
    assert outcome(["get", "claims", "-o", "name", "--token-file", str(token)]) == 0
    assert capsys.readouterr().out == "civil/justice:assistant\n"
    assert outcome(["status", "--token-file", str(token)]) == 4
    assert outcome(["delete", "key", key[:12]]) == 0
    assert outcome(["get", "claims", "--token-file", str(token)]) == 4


def test_without_a_control_plane_it_says_how_to_start_one(
    platform: Platform, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    assert outcome(["context", "add", "gone", "--url", "http://127.0.0.1:9", "--token-file", str(token)]) == 0
    assert outcome(["status", "--context", "gone"]) == 7
    assert "partage up" in capsys.readouterr().err


@pytest.mark.parametrize("noun", ["policy", "snapshot", "decision", "claim", "plan"])
def test_the_schema_of_each_noun_is_printed(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert outcome(["schema", noun]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    from cluster.cli.main import COMMANDS

    assert outcome(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


def test_the_audit_log_becomes_a_trace_that_simulate_lives_through(
    platform: Platform, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trace = tmp_path / "past.csv"
    assert outcome(["audit", "trace", str(trace)]) == 0
    assert "civil/justice:assistant" in trace.read_text()
    assert outcome(["simulate", "--trace", str(trace), "--policy", str(PROFILES / "default.yaml"), "-o", "json"]) == 0
    assert '"domain_changes"' in capsys.readouterr().out


def test_a_policy_is_shown_before_it_is_put_in_force_and_nobody_is_asked_twice(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["policy", "activate", str(PROFILES / "default.yaml"), "--yes"]) == 0
    assert "unchanged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("begin", "end", "hours"),
    [
        ("2027-03-28T01:30+01:00", "2027-03-28T03:30+02:00", 1),  # clocks go forward in between
        ("2027-10-31T02:30+02:00", "2027-10-31T02:30+01:00", 1),  # clocks go back: the same reading twice
        ("2027-06-01T08:00", "2027-06-01T10:00Z", 2),
        ("2027-06-01T08:00-05:00", "2027-06-01T23:00+09:00", 1),
    ],
)
def test_a_reservation_means_the_same_moments_whatever_clock_they_are_written_by(
    platform: Platform, capsys: pytest.CaptureFixture[str], begin: str, end: str, hours: int
) -> None:
    name = "civil/justice:zones"
    assert outcome(["reservation", "make", name, "--gpus", "0.5", "--from", begin, "--to", end]) == 0
    capsys.readouterr()
    outcome(["get", "reservations", "-o", "json"])
    kept = next(one for one in json.loads(capsys.readouterr().out) if one["id"] == name)
    outcome(["reservation", "cancel", name])
    assert kept["ends_at_ms"] - kept["starts_at_ms"] == hours * 3_600_000
    assert (
        kept["starts_at_ms"] == int(datetime.fromisoformat(begin + ("" if len(begin) > 16 else "Z")).timestamp()) * 1000
    )


def test_a_reservation_that_comes_again_keeps_its_hours_by_the_clock_of_its_place(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the last Sunday of March the clocks of Paris go forward: eight in the morning is an hour earlier for us."""
    made = [
        *("reservation", "make", "civil/justice:shift", "--gpus", "0.5", "--zone", "Europe/Paris"),
        *("--from", "2027-03-26T08:00", "--to", "2027-03-26T18:00", "--every", "workday", "--times", "2"),
    ]
    assert outcome(made) == 0
    capsys.readouterr()
    outcome(["get", "reservations", "-o", "json"])
    kept = {
        one["id"]: one for one in json.loads(capsys.readouterr().out) if one["id"].startswith("civil/justice:shift")
    }
    begins = {name: datetime.fromtimestamp(one["starts_at_ms"] / 1000, UTC) for name, one in kept.items()}
    assert {name: f"{at:%a %H:%M}" for name, at in begins.items()} == {
        "civil/justice:shift-2027-03-26": "Fri 07:00",
        "civil/justice:shift-2027-03-29": "Mon 06:00",
    }
    assert outcome(["reservation", "cancel", "civil/justice:shift", "--series"]) == 0
    assert "shift-2027-03-29 cancelled" in capsys.readouterr().err
    outcome(["get", "reservations", "-o", "json"])
    assert "shift" not in capsys.readouterr().out


def test_a_reservation_by_a_clock_that_nobody_knows_says_how_to_name_one(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["reservation", "make", "civil/justice:shift", "--gpus", "1", "--zone", "Paris"]
    assert outcome([*made, "--from", "2027-03-26T08:00", "--to", "2027-03-26T18:00"]) == 2
    assert "write one as Europe/Paris" in " ".join(capsys.readouterr().err.split())
