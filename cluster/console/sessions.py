"""Who is signed in: tokens stay in this process's memory, a browser only holds a random name for one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cluster.console.scene import Viewer
from cluster.ports import Clock

SESSION_MS = 8 * 3_600_000
"""A working day; afterwards a person signs in again."""
TICKET_MS = 15 * 60_000
"""How long the address that a command prints lets its reader in."""
SESSIONS_MAX = 1_000
"""Beyond it the oldest session ends."""


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser."""

    token: str
    viewer: Viewer
    ends_at_ms: int


class Sessions:
    """All of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._tickets: dict[str, tuple[str, int]] = {}

    def open(self, token: str, viewer: Viewer) -> str:
        """Return the name of a new session."""
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_urlsafe(32)
        self._sessions[name] = Session(token, viewer, self._clock.now_ms() + SESSION_MS)
        return name

    def find(self, name: str | None) -> Session | None:
        """Return the session, None if there is none or it has ended."""
        session = self._sessions.get(name or "")
        if session and self._clock.now_ms() >= session.ends_at_ms:
            self.close(name)
            return None
        return session

    def close(self, name: str | None) -> None:
        """End the session; unknown ones are ignored."""
        self._sessions.pop(name or "", None)

    def ticket(self, token: str) -> str:
        """Return a word that lets one browser in with the token, once, for ``TICKET_MS``."""
        now_ms = self._clock.now_ms()
        self._tickets = {word: known for word, known in self._tickets.items() if now_ms < known[1]}
        word = secrets.token_urlsafe(32)
        self._tickets[word] = (token, now_ms + TICKET_MS)
        return word

    def redeem(self, word: str) -> str | None:
        """Return the token of the ticket and forget the ticket; None if it is unknown, used or too old."""
        token, ends_at_ms = self._tickets.pop(word, ("", 0))
        return token if self._clock.now_ms() < ends_at_ms else None
