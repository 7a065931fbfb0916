"""What should be, and why: the table of contents of the decision."""

from __future__ import annotations

from dataclasses import replace

from policies.explaining.results import conclude
from policies.granting.allocation import allocate
from policies.model.codec import digest
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.modes import mode_in_force
from policies.turns.following import follow
from policies.turns.standing import Standing, lay_out


def decide(snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> Decision:
    """Return what should be, why, and what to remember.

    Pure and deterministic: the same arguments give the same bytes, whatever the order of the lists in the snapshot.
    Deciding again on the result of a decision changes nothing.

    Args:
        snapshot: what was observed; what was not seen is a gap and may stop a move, never cause one.
        policy: the revision in force, with its declared mode.
        memory: of the previous decision; ``Memory()`` after a loss only delays moves.
        now_ms: wall-clock milliseconds; also ages samples and expires modes, holds and delays.
    """
    return _decided(lay_out(snapshot, policy, memory, now_ms), digest(policy))


class Decider:
    """Decides again and again: what ``decide`` returns, byte for byte, at the cost of what changed since the last time.

    Keeps what follows from each claim and host by itself. Not for use by two threads at a time.
    """

    def __init__(self) -> None:
        self._standing: Standing | None = None
        self._digest: tuple[Policy, str] | None = None

    @property
    def age(self) -> int:
        """Decisions since one was last taken from nothing; 0 if the latest was."""
        return 0 if self._standing is None else self._standing.age

    def decide(self, snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> Decision:
        """Return what ``decide`` would."""
        standing, self._standing = self._standing, None
        if standing is None or not follow(standing, snapshot, policy, memory, now_ms):
            standing = lay_out(snapshot, policy, memory, now_ms)
        if self._digest is None or self._digest[0] is not policy:
            self._digest = policy, digest(policy)
        decision = _decided(standing, self._digest[1])
        self._standing = standing
        return decision


def _decided(standing: Standing, policy_digest: str) -> Decision:
    allocate(standing.work)
    decision = conclude(standing.results, standing.work, standing.wishes, standing.changed, standing.asked)
    standing.work.log.clear()  # how to take changes back refers to the work: it would outlive the decision
    return replace(decision, policy_digest=policy_digest, mode=mode_in_force(standing.policy, standing.now_ms))
