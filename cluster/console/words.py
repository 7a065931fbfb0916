"""What the console says, in each language. A missing word is a failing test, never an empty screen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

LANGUAGES = ("en", "fr", "de")
NAMES = {"en": "English", "fr": "Français", "de": "Deutsch"}
FILE = Path(__file__).with_name("words.yaml")

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
WHOLE = 1_000
"""Thousandths in one GPU."""


@cache
def dictionary() -> dict[str, dict[str, str]]:
    """Return every word by key and language."""
    table: dict[str, list[str]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {key: dict(zip(LANGUAGES, texts, strict=True)) for key, texts in table.items()}


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    language: str

    def __call__(self, key: str, /, **values: object) -> str:
        """Return the words of the key with the values put in."""
        return dictionary()[key][self.language].format(**values)

    def template(self, key: str) -> str:
        """Return the words of the key with its places left open, for a browser to fill."""
        return dictionary()[key][self.language]

    def number(self, millis: int) -> str:
        """Return thousandths of a GPU as GPUs, with the decimal sign of the language."""
        text = f"{millis / WHOLE:.2f}".rstrip("0").rstrip(".")
        return text if self.language == "en" else text.replace(".", ",")

    def whole(self, count: int) -> str:
        """Return a count in groups of three digits, as the language writes them."""
        return f"{count:,}".replace(",", {"en": ",", "fr": "\u202f", "de": "."}[self.language])

    def span(self, duration_ms: int) -> str:
        """Return a duration in its two largest units at most."""
        for unit_ms, unit in ((DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "min")):
            if duration_ms >= 2 * unit_ms:
                return f"{duration_ms // unit_ms} {self(f'unit.{unit}')}"
        return f"{max(0, duration_ms) // SECOND_MS} s"

    def ahead(self, at_ms: int | None, now_ms: int) -> str:
        """Return a moment to come in words; unknown ones are called so."""
        if at_ms is None:
            return self("eta.unknown")
        return self("eta.now") if at_ms <= now_ms else self("eta.in", span=self.span(at_ms - now_ms))


def choose(asked: str | None, accepted: str = "") -> Words:
    """Return the language asked for, else the first one that the browser accepts, else English."""
    wishes = [asked or "", *(part.split(";")[0].strip()[:2].lower() for part in accepted.split(","))]
    return Words(next((wish for wish in wishes if wish in LANGUAGES), LANGUAGES[0]))
