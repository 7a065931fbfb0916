"""From the agent to the control plane: the newest report, until it is acknowledged or replaced by a newer one.

Old samples are worth nothing to a decision, energy is counted by the board, and events repeat until acknowledged: so
one place in the queue is enough, and a slow control plane slows nothing down here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from cluster.ports import Clock
from policies.model.codec import to_json
from policies.model.telemetry import NodeReport
from policies.model.units import DeviceId

PATH = "/telemetry/v1/reports"
TIMEOUT_S = 2.0
PAUSE_MS = 1_000
MAX_PAUSE_MS = 30_000


@dataclass(slots=True)
class Counts:
    """What became of the reports."""

    sent: int = 0
    replaced: int = 0
    """Never sent, because a newer one was there first."""
    refused: int = 0
    failed: int = 0


@dataclass(slots=True)
class Sender:
    """Sends at most one report per call and waits out what the control plane asks it to."""

    client: httpx.Client
    """With the control plane's base address and, in its headers, the bearer token."""
    clock: Clock
    counts: Counts = field(default_factory=Counts)
    problem: str = ""
    """Why the last attempt failed; empty if it did not."""
    released: tuple[DeviceId, ...] = ()
    """GPUs that a person has released at the control plane, by its last acknowledgement."""
    _waiting: NodeReport | None = None
    _pause_ms: int = 0
    _next_at_ms: int = 0

    def offer(self, report: NodeReport) -> None:
        """Put the report in the one place there is."""
        if self._waiting is not None:
            self.counts.replaced += 1
        self._waiting = report

    def flush(self) -> int | None:
        """Send what waits, if it is time, and return the event number acknowledged; None if nothing was.

        Never raises for a network or a control plane that is down. Takes at most ``TIMEOUT_S`` per phase.
        """
        if self._waiting is None or self.clock.monotonic_ms() < self._next_at_ms:
            return None
        try:
            answer = self.client.post(
                PATH,
                content=to_json(self._waiting),
                headers={"content-type": "application/json"},
                timeout=TIMEOUT_S,
            )
        except httpx.HTTPError as error:
            self.counts.failed += 1
            self._wait(f"{type(error).__name__}: {error}", 0)
            return None
        if answer.status_code != httpx.codes.OK:
            self.counts.refused += 1
            self._wait(f"refused: {answer.status_code}", _retry_after_ms(answer))
            return None
        return self._done(answer)

    def _done(self, answer: httpx.Response) -> int | None:
        try:
            body = answer.json()
            acknowledged = int(body["event_sequence"])
            self.released = tuple(DeviceId(str(gpu)) for gpu in body.get("released", ()))
        except (ValueError, KeyError, TypeError):
            self.counts.failed += 1
            self._wait("the answer is not an acknowledgement", 0)
            return None
        self.counts.sent += 1
        self._waiting, self._pause_ms, self._next_at_ms, self.problem = None, 0, 0, ""
        return acknowledged

    def _wait(self, problem: str, asked_ms: int) -> None:
        self.problem = problem
        self._pause_ms = min(max(PAUSE_MS, self._pause_ms * 2), MAX_PAUSE_MS)
        self._next_at_ms = self.clock.monotonic_ms() + max(self._pause_ms, asked_ms)


def _retry_after_ms(answer: httpx.Response) -> int:
    text = answer.headers.get("retry-after", "")
    return min(int(text) * 1000, MAX_PAUSE_MS) if text.isdigit() else 0
