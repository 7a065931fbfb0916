"""Why each claim is where it is: one state, one reason, one sentence that its own tenant may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.evidence.survey import Survey
from policies.explaining.asking import NOBODY_MAY_LEAVE, Later, asks_later
from policies.explaining.expecting import ASSUMPTION, turns
from policies.explaining.kept import kept_from
from policies.explaining.queueing import BEYOND_MINIMUM, RUNS, STAYS
from policies.explaining.shortage import shortages
from policies.fleet.board import Seat
from policies.granting.avoiding import avoided
from policies.granting.limits import leaves_what_others_keep
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation, first_option
from policies.model.building import builder
from policies.model.decision import ClaimState, PendingReason, Reason
from policies.model.inventory import ScrubState
from policies.model.units import ClaimId, DeviceId, FlavorId, SecurityDomain
from policies.model.workload import Claim
from policies.wishes.admission import Ask

QUEUED = (PendingReason.WAITING_FOR_QUOTA, PendingReason.TOPOLOGY_UNSATISFIED)
"""Codes of claims that wait for others of their own tenant to end."""
DEVICES_SHOWN = 4
OVER = (PendingReason.SUSPENDED, PendingReason.DEACTIVATED)
"""Codes of claims that ask for nothing now: they are held, they do not wait."""
SENTENCES = {
    PendingReason.TELEMETRY_STALE: "what it needs was not seen; what runs is held, nothing new starts there",
    PendingReason.CAPACITY_LOST: "devices were lost or their hosts are closed, and the rest does not cover every quota",
    PendingReason.WAITING_FOR_QUOTA: "nothing that its tenant may hold is free now",
    PendingReason.RESERVATION_AHEAD: "it might still run when a reservation begins",
    PendingReason.TOPOLOGY_UNSATISFIED: "there is quota, but no free place of the shape that it needs",
    PendingReason.WAITING_FOR_SCRUB: "its device is being cleaned and bound",
    PendingReason.WAITING_FOR_VICTIMS: "others are making room for it",
    PendingReason.STARTING: "its replicas are starting",
    PendingReason.ON_HOLD: "its last starts failed; the next one waits a little",
    PendingReason.SEARCH_INCOMPLETE: "the search for a place was cut short; it goes on with the next decision",
    PendingReason.SUSPENDED: "its priority class is paused by the declared mode",
    PendingReason.PENDING_EVALUATION: "no decision was taken on it yet; the next one is seconds away",
}
ONE_SERVED = "its replica is served"
SERVED = ClaimState.SERVED
"""For what is said of each claim: an enumeration looks its members up each time, at the cost of ten steps."""

IDLE = "it was idle, so what it held is lent; it comes back with its next request"


_built = builder(Reason)
Eta = tuple[int | None, str]
Told = tuple[Eta, str]
"""When and why a claim waits."""
Terms = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of all claims that wait with nothing on equal terms."""

    code: PendingReason
    state: ClaimState
    sentence: str
    eta: Eta
    terms: Terms
    lacks: tuple[FlavorId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the reasons of many claims rest on, found once for all of them."""

    work: Allocation
    shortages: dict[FlavorId, PendingReason]
    """Flavors whose sound devices do not cover the quotas, each with why: a function of inventory and policy alone."""
    hidden: dict[FlavorId, set[SecurityDomain]] = field(default_factory=dict)
    """Domains that were not seen and hold devices, by flavor."""
    turns: dict[ClaimId, int] = field(default_factory=dict)
    """When the turn of those comes that wait for others of their own tenant to end."""
    before: Mapping[tuple[object, ...], Said] = field(default_factory=dict)
    """What the decision before said of waiting claims, by their terms."""
    told: dict[tuple[object, ...], Said] = field(default_factory=dict)
    """What this one says of them."""


def known(work: Allocation, before: Mapping[tuple[object, ...], Said]) -> Known:
    """Return what the reasons of all claims rest on; ``before`` is what was told the last time on these lots."""
    return Known(
        work=work, shortages=shortages(work), hidden=_hidden(work.survey), turns=turns(work), before=before
    )  # fmt: skip


def _hidden(seen: Survey) -> dict[FlavorId, set[SecurityDomain]]:
    """Return by flavor the domains that were not seen and hold devices of it: they give nothing back until they are."""
    found: dict[FlavorId, set[SecurityDomain]] = {}
    for worker in seen.workers.values() if seen.blind else ():
        for one in worker.devices if worker.domain in seen.blind else ():
            if one in seen.devices:
                found.setdefault(seen.devices[one].flavor, set()).add(worker.domain)
    return found


def reason(facts: Known, wish: Ask, lots: list[Lot]) -> Reason:
    """Return why the claim is where it is. ``lots`` are its own; it is not one of whom ``alike`` knows."""
    work, claim = facts.work, wish.claim.id
    seats = [seat for lot in lots if lot.is_kept for seat in lot.seats]
    code = wish.refusal or _code(facts, wish, lots, seats)
    if code is None:
        return _built(
            claim=claim, state=ClaimState.SERVED, code=None, granted_replicas=len(seats),
            sentence=_served(wish.wanted),
            wanted_replicas=wish.wanted, rung=seats[0].rung if seats else None,
        )  # fmt: skip
    eta, sentence = _told(facts, wish, lots, seats, code)
    return _built(
        claim=claim, state=_state(wish, len(seats), code, is_blind=wish.domain in work.survey.blind), code=code,
        eta_ms=eta[0], sentence=sentence, eta_assumption=eta[1],
        granted_replicas=len(seats),
        wanted_replicas=_asked_for(wish), rung=seats[0].rung if seats else None,
        score_terms=_terms(wish, lots), lacks=_lacks(wish, lots),
    )  # fmt: skip


def served_alone(claim: ClaimId, rung: int) -> Reason:
    """Return what is said of a claim whose one replica runs: what ``reason`` would say."""
    return _built(claim, SERVED, None, ONE_SERVED, None, None, "", 1, 1, rung)  # in the order of its fields


def alike(facts: Known, lots: list[Lot]) -> Said | None:
    """Return what is said of every claim that waits with nothing on these terms; None for one that is told apart.

    Of all of them it is the same object, and the one of the decision before where nothing else is said. When its turn
    comes, where that is known, is each claim's own.
    """
    lot = lots[0] if len(lots) == 1 else None
    if lot is None or lot.terms is None or lot.is_kept or lot.seats:
        return None
    return alike_so_far(facts, lot, lot.ask.claim.id)


def alike_so_far(facts: Known, lot: Lot, claim: ClaimId) -> Said | None:
    """Return what ``alike`` does of a claim's only lot, which has terms and nothing else."""
    work, rank = facts.work, lot.ask.rank
    so_far, refused = work.codes.get(claim), claim in work.victims.refused_by_budget
    if so_far is PendingReason.ON_HOLD:
        return None
    later = None if refused or lot.tier > Tier.ENTITLED else _later(work, lot, claim)  # who is refused is told the same
    key = id(lot.terms), id(rank), id(lot.tier), id(so_far), refused, later
    said = facts.told.get(key)
    if said is None:
        wish, lots = lot.ask, [lot]
        code = _why_not_all(facts, wish, lots)
        state = _state(wish, 0, code, is_blind=wish.domain in work.survey.blind)
        eta, sentence = _told(facts, wish, lots, [], code)
        said = Said(code, state, sentence, eta, _terms(wish, lots), _lacks(wish, lots))
        before = facts.before.get(key)
        said = facts.told[key] = before if before is not None and before == said else said
    return said


def _later(work: Allocation, lot: Lot, claim: ClaimId) -> Later | None:
    """Return what ``asks_later`` does of a lot that the budget did not refuse: at once for most."""
    remembered = work.survey.remembered.get(claim)
    if remembered is None or remembered.evicted_at_ms is not None or lot.ask.rank.preemption_delay_s:
        return asks_later(work, lot)
    since = remembered.waiting_since_ms
    return NOBODY_MAY_LEAVE if since is None or since <= work.survey.now_ms else asks_later(work, lot)


def reason_alike(facts: Known, wish: Ask, said: Said) -> Reason:
    """Return why the claim waits, of which ``alike`` returned this."""
    claim = wish.claim.id
    eta = _turn(facts, claim) if facts.turns and said.code in QUEUED else said.eta
    return _built(  # in the order of its fields
        claim, said.state, said.code, said.sentence, None, eta[0], eta[1], 0, wish.wanted, None, said.terms, (), None,
        said.lacks,
    )  # fmt: skip


def when(facts: Known, claim: ClaimId, said: Said) -> int | None:
    """Return when the claim, of which ``alike`` returned this, is expected to be served; None if that is not known."""
    return facts.turns.get(claim) if facts.turns and said.code in QUEUED else said.eta[0]


def not_yet(claim: Claim) -> Reason:
    """Return what is said of a claim on which no decision was taken yet."""
    code = PendingReason.PENDING_EVALUATION
    sentence = f"0 of {claim.desired_replicas} replicas: {SENTENCES[code]}"
    return Reason(
        claim=claim.id, state=ClaimState.WAITING, code=code, sentence=sentence, wanted_replicas=claim.desired_replicas
    )


def _served(wanted: int) -> str:
    if wanted == 0:
        return "nothing is asked for"
    return ONE_SERVED if wanted == 1 else f"all {wanted} replicas are served"


def _told(facts: Known, wish: Ask, lots: list[Lot], seats: list[Seat], code: PendingReason) -> Told:
    if code is PendingReason.WAITING_FOR_VICTIMS and len(seats) < wish.wanted:
        lacking = next(lot for lot in lots if not lot.is_kept)
        later = asks_later(facts.work, lacking) or NOBODY_MAY_LEAVE
        sentence = f"{len(seats)} of {_asked_for(wish)} replicas: {later.sentence}"
        return (later.at_ms, later.assumption), sentence
    sentence = _sentence(wish, len(seats), code) + _aside(facts.work, wish, code, seats)
    if code is PendingReason.TOPOLOGY_UNSATISFIED and wish.refusal is None:
        sentence += kept_from(facts.work, next(lot for lot in lots if not lot.is_kept))
    return _eta(facts, wish, code, seats), sentence


def _state(wish: Ask, granted: int, code: PendingReason, *, is_blind: bool) -> ClaimState:
    if code in OVER or (code is PendingReason.TELEMETRY_STALE and is_blind):
        return ClaimState.HELD
    if granted >= wish.wanted and wish.refusal is None:
        return ClaimState.SERVED
    return ClaimState.DEGRADED if granted else ClaimState.WAITING


def _code(facts: Known, wish: Ask, lots: list[Lot], seats: list[Seat]) -> PendingReason | None:
    work = facts.work
    if len(seats) >= wish.wanted:
        return _progress(work, seats)
    return _why_not_all(facts, wish, lots)


def _why_not_all(facts: Known, wish: Ask, lots: list[Lot]) -> PendingReason:
    work = facts.work
    if wish.domain in work.survey.blind:
        return PendingReason.TELEMETRY_STALE
    if wish.paused:
        return PendingReason.SUSPENDED
    if wish.claim.id in work.victims.refused_by_budget:
        return PendingReason.WAITING_FOR_VICTIMS
    known = work.codes.get(wish.claim.id, PendingReason.WAITING_FOR_QUOTA)
    if known not in (PendingReason.TOPOLOGY_UNSATISFIED, PendingReason.WAITING_FOR_QUOTA):
        return known
    return _why_no_place(facts, next(lot for lot in lots if not lot.is_kept), known)


def _why_no_place(facts: Known, lot: Lot, known: PendingReason) -> PendingReason:
    """Tell lost capacity, what was not seen, missing quota and a missing shape apart.

    A flavor that is short has nothing to lend: within its limits, what a claim lacks there are the missing devices.
    """
    work, option = facts.work, first_option(lot)
    share = work.shares.get(option.flavor, {}).get(lot.ask.tenant.id)
    own = work.used.get((lot.ask.tenant.id, option.flavor), 0) + option.charge * lot.missing
    short = facts.shortages.get(option.flavor)
    if share is not None and short is not None and own <= share.cap:
        return short
    if share is not None and own <= share.guaranteed and facts.hidden.get(option.flavor, set()) - {lot.ask.domain}:
        return PendingReason.TELEMETRY_STALE
    amount = option.charge * lot.missing
    if share is not None and leaves_what_others_keep(work, lot.ask.tenant.id, option.flavor, amount):
        return known
    return PendingReason.WAITING_FOR_VICTIMS if lot.tier <= Tier.ENTITLED else PendingReason.WAITING_FOR_QUOTA


def _progress(work: Allocation, seats: list[Seat]) -> PendingReason | None:
    starting = [seat for seat in seats if seat.group is None or not seat.group.running]
    if not starting:
        return None
    devices = {one for seat in starting if seat.group is None for one in seat.devices}
    if any(work.victims.leaving_from.get(one, set()) - {seats[0].claim} for one in devices):
        return PendingReason.WAITING_FOR_VICTIMS
    if any(_needs_scrub(work, seat) for seat in starting if seat.group is None):
        return PendingReason.WAITING_FOR_SCRUB
    return PendingReason.STARTING


def _needs_scrub(work: Allocation, seat: Seat) -> bool:
    known = [work.survey.devices[one] for one in seat.devices]
    return any(one.scrub is not ScrubState.CLEAN and one.domain != seat.domain for one in known)


def _sentence(wish: Ask, granted: int, code: PendingReason) -> str:
    why = wish.detail if wish.refusal is not None else SENTENCES[code]
    if wish.idle and granted == 0 and code is PendingReason.WAITING_FOR_QUOTA:
        why = IDLE
    return f"{granted} of {_asked_for(wish)} replicas: {why}"


def _asked_for(wish: Ask) -> int:
    """Return the replicas that the owner asks for, also where none is possible; none of what is suspended or over."""
    is_impossible = wish.refusal is not None and wish.refusal not in OVER
    return wish.claim.desired_replicas if is_impossible else wish.wanted


def _aside(work: Allocation, wish: Ask, code: PendingReason, seats: list[Seat]) -> str:
    """Return, for what starts anew after a failed start, which devices failed it and what follows from that."""
    claim = wish.claim.id
    if code is PendingReason.ON_HOLD:
        failed = sorted(avoided(work.survey, claim, wish.options[0].rung if wish.options else 0))
        return f"; while there is another place it goes where none failed ({_named(failed)})" if failed else ""
    if code not in (PendingReason.STARTING, PendingReason.WAITING_FOR_SCRUB):
        return ""
    places = {one for seat in seats for one in seat.devices}
    failed = sorted(one for one in avoided(work.survey, claim, seats[0].rung if seats else 0) if one not in places)
    return f"; its last start failed on {_named(failed)}, so it is elsewhere" if failed else ""


def _named(devices: Sequence[DeviceId]) -> str:
    more = len(devices) - DEVICES_SHOWN
    return ", ".join(devices[:DEVICES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _terms(wish: Ask, lots: list[Lot]) -> Terms:
    """Return what its place in the queue rests on, beside since when it is there; see ``queueing``."""
    open_ = [lot for lot in lots if not lot.is_kept]
    value = ("class", wish.rank.value), ("deadline", wish.value - wish.rank.value)
    if not open_:
        return (*value, ("right", 0))
    first = min(lot.order for lot in open_)
    seldom = ((STAYS, -first[0] != wish.value), (BEYOND_MINIMUM, first[1]), (RUNS, not first[2]))
    return (*value, ("right", int(open_[0].tier)), *((name, 1) for name, holds in seldom if holds))


def _eta(facts: Known, wish: Ask, code: PendingReason, seats: list[Seat]) -> Eta:
    bounds, now = facts.work.survey.policy.bounds, facts.work.survey.now_ms
    cold = max((seat.group.cold_start_ms for seat in seats if seat.group is not None), default=bounds.worker_start_ms)
    if code is PendingReason.STARTING:
        return now + max(cold, bounds.worker_start_ms), "starts take as long as before"
    if code is PendingReason.WAITING_FOR_SCRUB:
        return now + bounds.scrub_time_ms + bounds.worker_start_ms, "cleaning and starting take their usual time"
    if code is PendingReason.WAITING_FOR_VICTIMS and len(seats) >= wish.wanted:
        wait = bounds.drain_deadline_ms + bounds.scrub_time_ms + bounds.worker_start_ms
        return now + wait, "draining takes no longer than its deadline"
    return _turn(facts, wish.claim.id) if code in QUEUED else (None, "")


def _turn(facts: Known, claim: ClaimId) -> Eta:
    """Return when its turn comes by the announced ends of its own tenant's claims: nothing else may be told."""
    at = facts.turns.get(claim)
    return (None, "") if at is None else (at, ASSUMPTION)


def _lacks(wish: Ask, lots: list[Lot]) -> tuple[FlavorId, ...]:
    """Return the flavors that would do for what the claim lacks, the preferred first."""
    if all(lot.is_kept for lot in lots):
        return ()
    return tuple(dict.fromkeys([option.flavor for option in wish.options]))
