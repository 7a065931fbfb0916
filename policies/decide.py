"""What should be, and why: the table of contents of the decision."""

from __future__ import annotations

from policies.admission import Ask, asks, fleet
from policies.allocation import allocate
from policies.explain import reasons
from policies.model.codec import digest
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.modes import mode_in_force
from policies.outcome import bindings, entitlements, evictions, held_by_gaps, placements
from policies.quota import Demands, caps, demands, healthy_capacity, shares
from policies.recall import remember
from policies.setting import start
from policies.survey import survey
from policies.working import Allocation


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
    seen = survey(snapshot, policy, memory, now_ms)
    capacity = healthy_capacity(seen)
    wishes = asks(seen, fleet(seen, caps(seen)))
    asked = demands(seen, wishes)
    entitled = shares(seen, asked, capacity)
    work = start(seen, memory, wishes, entitled, capacity)
    allocate(work)
    return _decision(work, wishes, asked, digest(policy), mode_in_force(policy, now_ms))


def _decision(work: Allocation, wishes: list[Ask], asked: Demands, policy_digest: str, mode: str) -> Decision:
    placed = placements(work)
    gone = evictions(work, placed)
    work.victims.leaving_devices.update(one for left in gone for one in work.survey.groups[left.group].devices)
    return Decision(
        snapshot_generation=work.survey.snapshot.generation,
        decided_at_ms=work.survey.now_ms,
        policy_digest=policy_digest,
        mode=mode,
        entitlements=entitlements(work, asked),
        bindings=bindings(work),
        placements=placed,
        evictions=gone,
        reasons=reasons(work, wishes),
        memory=remember(work, wishes, gone),
        held_by_gaps=held_by_gaps(work),
        search_steps=work.board.steps,
    )
