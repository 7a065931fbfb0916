"""What a decision says of each claim and worker, kept for the next one: most of it stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from policies.explaining.explain import (
    Known,
    Said,
    alike,
    alike_so_far,
    known,
    reason,
    reason_alike,
    served_alone,
    when,
)
from policies.explaining.holders import holders
from policies.explaining.outcome import bindings, entitlements, evictions, held_by_gaps, placements_of
from policies.explaining.recall import evicted_now, of_claim, of_running, remember, waits_on
from policies.explaining.register import Register
from policies.granting.alike import Stretch
from policies.granting.apart import tell, tell_each
from policies.granting.reclaim import Lot
from policies.granting.working import Allocation, runs_alone
from policies.model.decision import Binding, Decision, Eviction, Placement, Reason
from policies.model.inventory import Group
from policies.model.memory import ClaimMemory
from policies.model.units import ClaimId, DeviceId, GroupId, WorkerId
from policies.shares.quota import Demands
from policies.wishes.admission import Ask


@dataclass(slots=True)
class Results:
    """The parts of the latest decision, by what they are about."""

    reasons: Register[ClaimId, Reason] = field(default_factory=Register)
    memories: Register[ClaimId, ClaimMemory] = field(default_factory=Register)
    """Without those of whom nothing is remembered."""
    placed: Register[GroupId, Placement] = field(default_factory=Register)
    placed_of: dict[ClaimId, list[Placement]] = field(default_factory=dict)
    bound: Register[WorkerId, Binding] = field(default_factory=Register)
    moved_workers: set[WorkerId] = field(default_factory=set)
    """Of ``bound``, those that are not what the snapshot shows."""
    moved_devices: set[DeviceId] = field(default_factory=set)
    restless: set[ClaimId] = field(default_factory=set)
    """Claims of which something may change by itself: they start, move, leave, could be better off, or wait and are
    told apart from others. Of the others that wait their lot knows what was said: where it still is, all stands."""
    told: dict[tuple[object, ...], Said] = field(default_factory=dict)
    """What was said of these, by terms."""
    has_turns: bool = False
    """Whether some of these were told when their turn comes."""

    orphans: set[ClaimId] = field(default_factory=set)
    """Claims that are no more, but have groups; kept by whoever knows what changed."""

    def forget(self, claim: ClaimId) -> None:
        """Leave out what was said of a claim that is no more."""
        self.restless.discard(claim)
        self.reasons.drop(claim)
        self.memories.drop(claim)
        for placement in self.placed_of.pop(claim, ()):
            self.placed.drop(placement.group)


def conclude(
    results: Results, work: Allocation, wishes: dict[ClaimId, Ask], changed: Collection[ClaimId], asked: Demands
) -> Decision:
    """Return the decision, after bringing up to date what is said of the changed claims.

    Of every claim that is not among ``changed`` nothing may have changed but by
    itself or by a move, both of which are found here. The policy's digest and the mode are left for the caller.
    """
    facts = known(work, results.told)
    afresh = _afresh(results, facts, changed)
    _place(results, work, afresh)
    _bind(results, work)
    gone = evictions(work, _groups(results, work, afresh), results.placed.known)
    for left in gone:
        for device in work.survey.groups[left.group].devices:
            work.victims.leaving_from.setdefault(device, set()).add(left.claim)
    _say(results, facts, wishes, afresh, gone)
    return Decision(
        snapshot_generation=work.survey.snapshot.generation,
        decided_at_ms=work.survey.now_ms,
        policy_digest="",
        mode="",
        entitlements=entitlements(work, asked),
        bindings=results.bound.told(),
        placements=results.placed.told(),
        evictions=gone,
        reasons=results.reasons.told(),
        memory=remember(work, results.memories.told(), gone),
        held_by_gaps=held_by_gaps(work),
        search_steps=work.board.steps,
        holders=holders(work),
    )


def _afresh(results: Results, facts: Known, changed: Collection[ClaimId]) -> Collection[ClaimId]:
    """Return the claims of which everything is said anew, in any order."""
    work = facts.work
    if len(work.of_claim) == len(changed):
        tell_each(work, work.open)
        return changed
    found = results.restless.union(changed)
    found.update(seat.claim for seat in work.board.moved if seat.claim in work.of_claim)
    for claim in found:
        for lot in work.of_claim[claim][:1]:
            lot.said = None
    for lot in work.open_lots():
        if lot.said is None or not _stands(results, facts, lot, alike(facts, [lot])):
            lot.said = None
            found.add(lot.ask.claim.id)
    for classes in work.layout.queues.alike.values():
        for some in classes.values():
            for one in some.stretches:
                found.update(_told_anew(results, facts, some.lots[one.begin : one.end], one))
    return found


def _told_anew(results: Results, facts: Known, lots: Sequence[Lot], one: Stretch) -> list[ClaimId]:
    """Return the claims in the stretch of which not the same is said as before, after telling them what holds now."""
    tell(facts.work, lots[:1], one)
    said = alike_so_far(facts, lots[0], lots[0].ask.claim.id)
    if said is None or results.has_turns:
        new = [lot for lot in lots if not _stands(results, facts, lot, said)]
    else:
        new = [lot for lot in lots if lot.said is not said]
    tell(facts.work, new, one)
    for lot in new:
        lot.said = None
    return [lot.ask.claim.id for lot in new]


def _stands(results: Results, facts: Known, lot: Lot, said: Said | None) -> bool:
    """Say whether this was said of the lot's claim before, and when its turn comes as it does now."""
    if said is None or lot.said is not said:
        return False
    is_timed, claim = bool(facts.turns) or results.has_turns, lot.ask.claim.id
    return not is_timed or results.reasons.known[claim].eta_ms == when(facts, claim, said)


def _place(results: Results, work: Allocation, afresh: Iterable[ClaimId]) -> None:
    new: dict[GroupId, Placement] = {}
    for claim in afresh:
        lots, before = work.of_claim[claim], results.placed_of.get(claim)
        placed = placements_of(lots, work.survey.groups)
        if placed == before:
            continue
        for one in before or ():
            results.placed.drop(one.group)
        results.placed_of[claim] = placed
        for one in placed:
            new[one.group] = one
    results.placed.put_all(new)


def _bind(results: Results, work: Allocation) -> None:
    board = work.board
    devices = set(board.rebound)
    devices.update(device for seat in board.moved for device in seat.devices)
    if not results.bound.known:
        results.bound.put_all(bindings(work, board.worker_of))
    again = devices | results.moved_devices
    for worker in results.moved_workers:
        results.bound.drop(worker)
    for device in again:
        home = work.layout.home.get(device)
        if home is not None:
            results.bound.drop(home.id)
    made = bindings(work, again)
    results.bound.put_all(made)
    results.moved_workers = {one for one in made if one not in work.survey.workers}
    results.moved_devices = devices


def _groups(results: Results, work: Allocation, afresh: Iterable[ClaimId]) -> list[Group]:
    """Return the groups that might have to go: those of the claims looked at, and those whose claim is no more."""
    of = work.survey.groups_of
    found = [group for claim in afresh for group in of.get(claim, ())]
    return found + [group for claim in results.orphans for group in of[claim]]


def _say(
    results: Results,
    facts: Known,
    wishes: dict[ClaimId, Ask],
    afresh: Iterable[ClaimId],
    gone: tuple[Eviction, ...],
) -> None:
    work = facts.work
    evicted, eventful = evicted_now(work, gone), {one.claim for one in gone}
    eventful.update(seat.claim for seat in work.board.moved)
    reasons: dict[ClaimId, Reason] = {}
    memories: dict[ClaimId, ClaimMemory] = {}
    restless, lots_of = results.restless, work.of_claim
    for claim in afresh:
        wish, lots = wishes[claim], lots_of[claim]
        seat, same = runs_alone(wish, lots), None
        if seat is not None and claim not in eventful:
            said, memory = served_alone(claim, seat.rung), of_running(work, wish, lots, seat)
        else:
            same = alike(facts, lots)
            said = reason(facts, wish, lots) if same is None else reason_alike(facts, wish, same)
            memory = of_claim(work, wish, lots, evicted)
        reasons[claim] = said
        if memory is None:
            results.memories.drop(claim)
        else:
            memories[claim] = memory
        if same is not None and claim not in eventful and waits_on(work.survey, wish, lots[0]):
            lots[0].said = same
            restless.discard(claim)
            continue
        if said.code is not None or wish.upgrades or claim in eventful:
            restless.add(claim)
        else:
            restless.discard(claim)
    results.reasons.put_all(reasons)
    results.memories.put_all(memories)
    results.told, results.has_turns = facts.told, bool(facts.turns)
