"""Every word of a closed list is said by some code: a reason that nothing gives is a promise that nothing keeps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest

from policies.model.decision import ClaimState, EvictionReason, PendingReason

ROOT = Path(__file__).parents[2]
SOURCES = [
    path.read_text() for folder in ("policies", "cluster") for path in (ROOT / folder).rglob("*.py")
    if path != ROOT / "policies" / "model" / "decision.py"
]  # fmt: skip
WORDS = [word for words in (PendingReason, EvictionReason, ClaimState) for word in words]


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_every_state_and_reason_is_given_by_some_code(word: StrEnum) -> None:
    assert any(f"{type(word).__name__}.{word.name}" in text for text in SOURCES)


@pytest.mark.parametrize("reason", PendingReason, ids=str)
def test_every_reason_to_wait_has_words_in_the_console(reason: PendingReason) -> None:
    assert f"\nreason.{reason}: " in (ROOT / "cluster" / "console" / "words.yaml").read_text()
