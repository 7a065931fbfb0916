"""A stale leader is refused here, whatever it believes."""

from __future__ import annotations

import threading
from pathlib import Path

from cluster.embedded.files import read_or_none, write_whole
from cluster.refusals import StaleGeneration


class FencingGuard:
    """Remembers the newest leadership that acted, over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        text = (read_or_none(path) or "").strip()
        self._newest = int(text) if text.isdecimal() else 0

    def admit(self, generation: int) -> None:
        """Return if no newer leadership was seen, and remember this one. Raises ``StaleGeneration``."""
        with self._lock:
            if generation < self._newest:
                raise StaleGeneration(generation, self._newest)
            if generation > self._newest:
                write_whole(self._path, f"{generation}\n")
                self._newest = generation
