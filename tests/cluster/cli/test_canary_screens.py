"""A trial from its start to its end as a platform engineer sees it at the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.cli.main import outcome
from policies.model.routing import VariantLoad
from tests.cluster.api.platform import Platform
from tests.cluster.cli.test_screens import GOLDEN, steady

MAIN = "civil/justice:assistant"
SMALLER = "smollm2-135m-q4-0"
STEPS: dict[str, list[str]] = {
    "canary-none": ["show", MAIN],
    "canary-unknown-variant": ["start", MAIN, "f17"],
    "canary-start": ["start", MAIN, SMALLER, "--weight", "5"],
    "canary-start-again": ["start", MAIN, SMALLER],
    "canary-promote-early": ["promote", MAIN],
    "canary-show": ["show", MAIN],
    "canary-set": ["set", MAIN, "25"],
    "canary-too-much": ["set", MAIN, "101"],
    "canary-describe": ["describe"],
    "canary-delete-main": ["delete"],
    "canary-promote": ["promote", MAIN],
    "canary-end": ["end", MAIN],
    "canary-shadow-start": ["start", MAIN, SMALLER, "--shadow"],
    "canary-shadow-set": ["set", MAIN, "30"],
}
ELSEWHERE = {
    "canary-describe": ["describe", "claim", f"{MAIN}-canary"],
    "canary-delete-main": ["delete", "claim", MAIN],
}
TURNS_BEFORE = {"canary-show": 20}
TRAFFIC = (
    VariantLoad(claim=MAIN, variant="smollm2-135m-q8-0", completed=190, failed=0, first_p50_ms=112, first_p95_ms=180),
    VariantLoad(claim=f"{MAIN}-canary", variant=SMALLER, completed=9, failed=1, first_p50_ms=64, first_p95_ms=90),
)


def test_every_step_of_a_trial_looks_as_reviewed(
    platform: Platform, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    different = {}
    for name, words in STEPS.items():
        if name in TURNS_BEFORE:
            answered(platform, TURNS_BEFORE[name])
        status = outcome(ELSEWHERE.get(name, ["model", "canary", *words]))
        printed = capsys.readouterr()
        seen = f"exit {int(status)}\n--- out\n{printed.out}--- err\n{printed.err}"
        seen = steady(seen, str(platform.parts.settings.home))
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--accept"):
            path.write_text(seen)
        if seen != path.read_text():
            different[name] = seen
    assert not different


def answered(platform: Platform, turns: int) -> None:
    """Let the canary start, and the gateway report."""
    platform.turns(turns)
    turn = platform.parts.view.latest()
    seen = replace(turn, snapshot=replace(turn.snapshot, traffic=TRAFFIC))
    platform.parts.view.publish(seen, platform.parts.journal.policy())


def test_help_tells_of_the_canary_wherever_models_are_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["model", "--help"]) == 0
    assert "canary" in capsys.readouterr().out
    assert outcome(["model", "canary", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(command in told for command in ("show", "start", "set", "promote", "end"))
