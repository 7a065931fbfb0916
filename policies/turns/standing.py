"""What stands from one decision to the next: everything that follows from each claim and each host by itself.

A decision from nothing lays all of it out; a later one lays out anew only what changed. Granting places, which joins
everything with everything, is done from the start each time, on the same lots and the same board.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from policies.evidence.survey import Survey, survey
from policies.explaining.results import Results
from policies.fleet.board import Seat
from policies.granting.working import Allocation
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, TenantId, WorkerId
from policies.shares.quota import caps, demands, healthy_capacity, shares
from policies.turns.alone import each_wish
from policies.turns.loads import stale
from policies.turns.setting import begin, laid_out
from policies.wishes.admission import TRULY_IDLE, Ask, Fleet, Forms, fleet


@dataclass(slots=True)
class Standing:
    """One decision's arguments with what follows from them, ready to be brought up to the next ones."""

    snapshot: Snapshot
    policy: Policy
    memory: Memory
    now_ms: int
    fleet: Fleet
    forms: Forms
    wishes: dict[ClaimId, Ask]
    asked: dict[FlavorId, dict[TenantId, int]]
    work: Allocation
    results: Results = field(default_factory=Results)
    changed: Collection[ClaimId] = ()
    """Claims that are not what they were at the decision before."""
    volatile: set[ClaimId] = field(default_factory=set)
    """Claims whose wish may change with time, or with what a sample says beside the replicas that it asks for."""
    stale: frozenset[ClaimId] = frozenset()
    """Claims whose demand was sampled too long ago."""
    leaving: dict[ClaimId, list[Seat]] = field(default_factory=dict)
    """Replicas that cannot stay whatever is decided, by claim."""
    groups_on: dict[WorkerId, set[GroupId]] = field(default_factory=dict)
    """See ``_groups_on``."""
    is_plain: bool = True
    """Whether every name occurs once, every device has one worker at most, and nothing is lost."""
    age: int = 0
    """Decisions since everything was laid out."""


def lay_out(snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> Standing:
    """Return what follows from the arguments of a decision."""
    seen = survey(snapshot, policy, memory, now_ms)
    capacity = healthy_capacity(seen)
    size, forms = fleet(seen, caps(seen)), Forms()
    layout, wishes = laid_out(seen, each_wish(seen, size, forms), size.memory)
    asked = demands(seen, wishes.values())
    work = begin(layout, seen, memory, shares(seen, asked, capacity), capacity)
    made = Standing(
        snapshot=snapshot, policy=policy, memory=memory, now_ms=now_ms, fleet=size, forms=forms,
        wishes=wishes, asked=asked, work=work, changed=seen.claims,
    )  # fmt: skip
    made.volatile = {wish.claim.id for wish in wishes.values() if is_volatile(wish)}
    made.stale = stale(seen)
    for seat in work.board.leaving:
        made.leaving.setdefault(seat.claim, []).append(seat)
    made.is_plain = _is_plain(seen, memory, work.layout.home)
    made.results.orphans = seen.groups_of.keys() - seen.claims.keys()
    return made


def _is_plain(seen: Survey, memory: Memory, home: Collection[DeviceId]) -> bool:
    snapshot = seen.snapshot
    pairs = (
        (seen.devices, snapshot.devices), (seen.workers, snapshot.workers), (seen.groups, snapshot.groups),
        (seen.claims, snapshot.claims), (seen.demands, snapshot.demands), (seen.remembered, memory.claims),
    )  # fmt: skip
    held = sum([len(worker.devices) for worker in snapshot.workers])
    is_single = all(len(known) == len(listed) for known, listed in pairs)
    return is_single and held == len(home)


def is_volatile(wish: Ask) -> bool:
    """Say whether the wish may change with time, or with what a sample says beside the replicas that it asks for."""
    claim = wish.claim
    for group in wish.held:  # a loop is quicker: this is asked of each claim
        if group.usage is TRULY_IDLE:
            return True
    return (
        claim.deadline_ms is not None
        or claim.expires_at_ms is not None
        or wish.seen_lower_since_ms is not None
        or wish.idle_since_ms is not None
    )
