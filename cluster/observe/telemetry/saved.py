"""Verdicts on disk, so that a restart does not make a broken device healthy."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from policies.evidence.health import HealthMemory
from policies.model.codec import from_json, to_json

Memories = tuple[HealthMemory, ...]


class VerdictsUnreadable(Exception):
    """The file of verdicts is there and cannot be read."""

    code = "verdicts_unreadable"

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"{self.path} cannot be read ({self.cause}); restore it from a backup, or remove it to judge anew"


def save(path: Path, memories: Memories) -> None:
    """Replace the file as a whole: after a crash it holds either the old verdicts or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write("\n".join(to_json(memory) for memory in memories))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load(path: Path) -> Memories:
    """Return the verdicts saved; none if there is no file. Raises ``VerdictsUnreadable``."""
    try:
        text = path.read_text(encoding="utf-8")
        return tuple(from_json(HealthMemory, line) for line in text.splitlines() if line)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise VerdictsUnreadable(path, type(error).__name__) from error
