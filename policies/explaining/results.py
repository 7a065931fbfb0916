"""What a decision says of each claim and worker, kept for the next one: most of it stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
from policies.explaining.outcome import bindings, entitlements, evictions, held_by_gaps, placements_of, where_it_runs
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
    _placed_of: dict[ClaimId, tuple[Placement, ...]] | None = None
    bound: Register[WorkerId, Binding] = field(default_factory=Register)
    moved_workers: set[WorkerId] = field(default_factory=set)
    """Of ``bound``, those that are not what the snapshot shows."""
    moved_devices: set[DeviceId] = field(default_factory=set)
    restless: set[ClaimId] = field(default_factory=set)
    """Claims of which something may change by itself: they start, move, leave, could be better off, or wait and are
    told apart from others. Of the others that wait their lot knows what was said: where it still is, all stands."""
    begun: set[ClaimId] = field(default_factory=set)
    """Of those that wait and of whom all stands: who began to, by what is remembered. It must be remembered next time.
    """
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
        placed_of = self.placed_of()
        for placement in placed_of.pop(claim, ()) if placed_of is not None else ():
            self.placed.drop(placement.group)

    def placed_of(self) -> dict[ClaimId, tuple[Placement, ...]] | None:
        """Return what is placed of each claim, to be kept up to date; None before the first decision.

        Found when a second one follows: whoever decides once has no use for it.
        """
        if self._placed_of is None and self.placed.known:
            self._placed_of = {}
            for one in self.placed.known.values():
                self._placed_of[one.claim] = (*self._placed_of.get(one.claim, ()), one)
        return self._placed_of


def conclude(
    results: Results, work: Allocation, wishes: Mapping[ClaimId, Ask], changed: Collection[ClaimId], asked: Demands
) -> Decision:
    """Return the decision, after bringing up to date what is said of the changed claims.

    Of every claim that is not among ``changed`` nothing may have changed but by
    itself or by a move, both of which are found here. The policy's digest and the mode are left for the caller.
    """
    facts, news = known(work, results.told), _News(results.placed_of())
    afresh = _afresh(results, facts, changed)
    others = _tell_what_runs(work, wishes, afresh, news)
    for claim in others:
        news.place(claim, placements_of(work.of_claim[claim], work.survey.groups))
    results.restless.difference_update(news.reasons)
    results.placed.exchange(news.gone, news.placed)
    _bind(results, work)
    gone = evictions(work, _groups(results, work, others), results.placed.known)
    for left in gone:
        for device in work.survey.groups[left.group].devices:
            work.victims.leaving_from.setdefault(device, set()).add(left.claim)
    _say(results, facts, wishes, others, gone, news)
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


@dataclass(slots=True)
class _News:
    """What is found anew for this decision, and not yet put in the place of what was."""

    before: dict[ClaimId, tuple[Placement, ...]] | None
    """See ``Results.placed_of``."""
    placed: dict[GroupId, Placement] = field(default_factory=dict)
    gone: list[GroupId] = field(default_factory=list)
    """Placements that are no more, or are exchanged."""
    reasons: dict[ClaimId, Reason] = field(default_factory=dict)
    memories: dict[ClaimId, ClaimMemory] = field(default_factory=dict)
    forgotten: list[ClaimId] = field(default_factory=list)
    """Claims of which nothing is remembered."""

    def remember(self, claim: ClaimId, memory: ClaimMemory | None) -> None:
        """Note what is remembered of the claim."""
        if memory is None:
            self.forgotten.append(claim)
        else:
            self.memories[claim] = memory

    def place(self, claim: ClaimId, placed: tuple[Placement, ...]) -> None:
        """Note the placements of the claim."""
        if self.before is not None:
            before = self.before.get(claim, ())
            if before == placed:
                return
            self.gone += [one.group for one in before]
            self.before[claim] = placed
        for one in placed:
            self.placed[one.group] = one


def _tell_what_runs(
    work: Allocation, wishes: Mapping[ClaimId, Ask], afresh: Collection[ClaimId], news: _News
) -> list[ClaimId]:
    """Find what is said of claims whose one replica runs and stays where it is, which are most; return the others."""
    moved, others = {seat.claim for seat in work.board.moved}, list[ClaimId]()
    reasons, remember, placed, is_first = news.reasons, news.remember, news.placed, news.before is None
    for claim, wish, lots in _with_lots(work, wishes, afresh):
        seat = runs_alone(wish, lots)
        if seat is None or wish.upgrades or claim in moved:
            others.append(claim)
            continue
        where = where_it_runs(wish.claim, seat, wish.held[0])
        if is_first:
            placed[where.group] = where
        else:
            news.place(claim, (where,))
        reasons[claim] = served_alone(claim, seat.rung)
        remember(claim, of_running(work, wish, lots, seat))
    return others


def _with_lots(
    work: Allocation, wishes: Mapping[ClaimId, Ask], claims: Collection[ClaimId]
) -> Iterable[tuple[ClaimId, Ask, list[Lot]]]:
    """Return these claims, each with its wish and its lots; where it is all of them, no wish is looked up."""
    of = work.of_claim
    if len(claims) < len(wishes):
        return ((claim, wishes[claim], of[claim]) for claim in claims)
    return zip(wishes, wishes.values(), map(of.__getitem__, wishes), strict=True)


def _bind(results: Results, work: Allocation) -> None:
    board = work.board
    devices = set(board.rebound)
    devices.update(device for seat in board.moved for device in seat.devices)
    if not results.bound.known:
        results.bound.exchange((), bindings(work, board.worker_of))
    again = devices | results.moved_devices
    for worker in results.moved_workers:
        results.bound.drop(worker)
    for device in again:
        home = work.layout.home.get(device)
        if home is not None:
            results.bound.drop(home.id)
    made = bindings(work, again)
    results.bound.exchange((), made)
    results.moved_workers = {one for one in made if one not in work.survey.workers}
    results.moved_devices = devices


def _groups(results: Results, work: Allocation, claims: Iterable[ClaimId]) -> list[Group]:
    """Return the groups that might have to go: those of these claims, and those whose claim is no more."""
    of = work.survey.groups_of
    found = [group for claim in claims for group in of.get(claim, ())]
    return found + [group for claim in results.orphans for group in of[claim]]


def _say(
    results: Results,
    facts: Known,
    wishes: Mapping[ClaimId, Ask],
    claims: Iterable[ClaimId],
    gone: tuple[Eviction, ...],
    news: _News,
) -> None:
    """Say what is said of these claims, and put all that is found anew in the place of what was."""
    work, restless = facts.work, results.restless
    evicted, eventful = evicted_now(work, gone), {one.claim for one in gone}
    eventful.update(seat.claim for seat in work.board.moved)
    results.begun.clear()
    for claim in claims:
        wish, lots = wishes[claim], work.of_claim[claim]
        same = alike(facts, lots)
        said = reason(facts, wish, lots) if same is None else reason_alike(facts, wish, same)
        news.reasons[claim], memory = said, of_claim(work, wish, lots, evicted)
        news.remember(claim, memory)
        if same is not None and claim not in eventful and waits_on(work.survey, wish, lots[0], memory):
            lots[0].said = same
            restless.discard(claim)
            if memory is not work.survey.remembered.get(claim):
                results.begun.add(claim)
        elif said.code is not None or wish.upgrades or claim in eventful:
            restless.add(claim)
        else:
            restless.discard(claim)
    results.reasons.exchange((), news.reasons)
    results.memories.exchange(news.forgotten, news.memories)
    results.told, results.has_turns = facts.told, bool(facts.turns)
