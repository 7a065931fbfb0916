"""A journal was lost: nothing that runs is stopped before a person has accounted for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.main import outcome
from tests.cluster.api.platform import Platform

CLAIMS = Path(__file__).parents[3] / "policies" / "profiles" / "claims.yaml"


@pytest.fixture
def forgotten(platform: Platform) -> Platform:
    """Let the platform's journal forget every claim, and that it ever accounted for what runs."""
    registry = platform.parts.registry
    for claim in platform.parts.journal.claims():
        registry.delete_claim(claim.id)
    with platform.parts.store.write("test") as connection:
        connection.execute("UPDATE fact SET value = 0 WHERE name = 'adopted'")
    platform.turns(5)
    return platform


def groups(platform: Platform) -> set[str]:
    return {group.id for group in platform.parts.view.latest().snapshot.groups}


def test_adopting_is_refused_while_something_runs_without_a_claim_and_then_keeps_all_of_it(
    forgotten: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    before = groups(forgotten)
    assert before
    assert outcome(["adopt"]) == 1
    said = capsys.readouterr().err
    assert all(group in said for group in before)
    assert "--propose" in said
    assert outcome(["adopt", "--propose"]) == 0
    assert "civil/justice:assistant: its variant is in no catalogue" in capsys.readouterr().err
    assert not forgotten.parts.journal.adopted()

    assert outcome(["apply", "-f", str(CLAIMS)]) == 0
    forgotten.turns(3)
    assert outcome(["adopt"]) == 0
    forgotten.turns(5)
    assert groups(forgotten) == before


def test_what_nobody_wants_any_more_may_be_let_go(forgotten: Platform) -> None:
    assert outcome(["adopt", "--stop-the-rest"]) == 0
    forgotten.turns(120)
    assert groups(forgotten) == set()
