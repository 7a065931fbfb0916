"""Why each claim is where it is: one state, one reason, one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from policies.admission import Ask
from policies.model.decision import ClaimState, PendingReason, Reason
from policies.reclaim import Lot
from policies.working import Allocation


def reasons(work: Allocation, wishes: Sequence[Ask]) -> tuple[Reason, ...]:
    """Return exactly one Reason per claim, sorted by claim."""
    lots: dict[str, list[Lot]] = {}
    for lot in work.lots():
        lots.setdefault(lot.ask.claim.id, []).append(lot)
    return tuple(_reason(work, wish, lots.get(wish.claim.id, [])) for wish in wishes)


def _reason(work: Allocation, wish: Ask, lots: list[Lot]) -> Reason:
    seats = [seat for lot in lots if lot.is_kept for seat in lot.seats]
    code = wish.refusal or _code(work, wish, lots)
    state = _state(wish, len(seats), code)
    return Reason(
        claim=wish.claim.id, state=state, code=code, sentence=_sentence(wish, len(seats), code),
        granted_replicas=len(seats), wanted_replicas=wish.wanted, rung=seats[0].rung if seats else None,
    )  # fmt: skip


def _state(wish: Ask, granted: int, code: PendingReason | None) -> ClaimState:
    if wish.refusal is PendingReason.SUSPENDED or code is PendingReason.TELEMETRY_STALE:
        return ClaimState.HELD
    if granted >= wish.wanted and wish.refusal is None:
        return ClaimState.SERVED
    return ClaimState.DEGRADED if granted else ClaimState.WAITING


def _code(work: Allocation, wish: Ask, lots: list[Lot]) -> PendingReason | None:
    if all(lot.is_kept for lot in lots):
        return (
            PendingReason.STARTING
            if any(s.group is None or not s.group.running for lot in lots for s in lot.seats)
            else None
        )
    if wish.domain in work.survey.blind:
        return PendingReason.TELEMETRY_STALE
    if wish.claim.id in work.victims.refused_by_budget:
        return PendingReason.WAITING_FOR_VICTIMS
    return work.codes.get(wish.claim.id, PendingReason.WAITING_FOR_QUOTA)


def _sentence(wish: Ask, granted: int, code: PendingReason | None) -> str:
    if code is None:
        return f"all {wish.wanted} replicas are served"
    return f"{granted} of {wish.wanted} replicas: {wish.detail or code}"
