"""A job from its claim to its end as its tenant sees it at the terminal."""

from __future__ import annotations

import pytest

from cluster.cli.main import outcome
from policies.model.naming import job_name
from policies.model.units import ClaimId
from tests.cluster.api.platform import Platform

NAME = "civil/justice:train"
FILE = f"""
apiVersion: partage/v1
kind: Claim
spec:
  id: {NAME}
  tenant: civil/justice
  kind: job
  ladder: [{{flavors: [], devices: 1}}]
  job: {{command: [/usr/bin/python3, -c, "print(1)\\nprint(2)"], checkpoint: /srv/train, attempts: 2}}
"""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert outcome(list(words)) == 0
    return capsys.readouterr().out


def test_a_claim_shows_the_program_that_it_runs(
    platform: Platform, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("claim") / "train.yaml"
    file.write_text(FILE)
    said(capsys, "apply", "-f", str(file))
    text = said(capsys, "describe", "claim", NAME)
    assert "Program:     /usr/bin/python3 -c 'print(1) ..." in text
    assert "Attempts:    2" in text
    assert "Checkpoint:  /srv/train" in text


def test_the_end_of_a_job_is_an_event_with_its_exit_code(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = platform.parts.registry.by("jobs")
    ends.note("job.failed", NAME, "civil/justice", exit_code=3, began_ms=1_000, ended_ms=13_500, failures=1, attempts=2)
    ends.note("job.succeeded", NAME, "civil/justice", exit_code=0, began_ms=1_000, ended_ms=2_000)
    text = said(capsys, "events")
    assert f"job.failed         {NAME}  exit code 3 after 12 s, failure 1" in text
    assert f"job.succeeded      {NAME}  exit code 0 after 1 s" in text


def test_what_a_job_wrote_cannot_steer_the_terminal_of_its_reader(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = platform.parts.settings.logs
    logs.mkdir(parents=True, exist_ok=True)
    (logs / f"{job_name(ClaimId(NAME))}.log").write_text("step\t1\n\x1b]0;owned\x07\x1b[2Jstep 2\n")
    assert said(capsys, "logs", NAME) == "step\t1\n?]0;owned??[2Jstep 2\n"
