"""Up and down the ladder of shapes: better rungs when room has lasted, lower ones before service is refused."""

from __future__ import annotations

from collections.abc import Iterator

from policies.granting.booking import keep, roll_back, vacate
from policies.granting.granting import grant, place
from policies.granting.limits import guaranteed, is_allowed
from policies.granting.reclaim import ENTITLED, GUARANTEED, LEFTOVER, Lot, Tier
from policies.granting.working import Allocation, amounts, first_option, is_scarcity_lasting
from policies.model.units import ClaimId, FlavorId, TenantId
from policies.wishes.admission import Option

SQUEEZED_PER_LOT = 8
"""Claims of the same tenant that are tried on a lower rung for one that would be refused."""
CLIMBS_PER_DECISION = 64
"""Claims tried on a better rung in one decision, the longest possible first; the others have their turn later."""


def squeeze(work: Allocation) -> None:
    """Move claims down their ladder, one at a time, where that lets a claim of the same tenant be served at all."""
    work.is_gentle = True
    for tenant in work.layout.queues.tenants:
        low = _squeezable(work, tenant) if work.layout.queues.lowerable.get(tenant) else []
        waiting = [lot for lot in work.open[tenant] if low and _is_refused(lot) and _may_ask(work, lot)]
        for lot in waiting:
            others = [name for name in low if _may_be_squeezed_for(work, name, lot)]
            any(_serve_by_squeezing(work, lot, name) for name in others[:SQUEEZED_PER_LOT])
    work.is_gentle = False


def _is_refused(lot: Lot) -> bool:
    return lot.is_base and not lot.seats


def _may_ask(work: Allocation, lot: Lot) -> bool:
    if lot.tier > LEFTOVER or lot.ask.idle or lot.ask.domain in work.survey.blind:
        return False
    return is_scarcity_lasting(work, lot)


def _squeezable(work: Allocation, tenant: TenantId) -> list[ClaimId]:
    """Return the tenant's served claims that have a lower rung, the least important first."""
    found: dict[ClaimId, tuple[int, int, ClaimId]] = {}
    for one in work.layout.queues.of(tenant):
        options = one.ask.options
        if not options or not options[-1].rung:
            continue  # nothing is lower than the best
        if one.is_kept and one.ask.rank.preemptible and options[-1].rung > one.seats[0].rung:
            found[one.ask.claim.id] = (one.ask.value, -one.seats[0].charge, one.ask.claim.id)
    return sorted(found, key=lambda name: found[name])


def _may_be_squeezed_for(work: Allocation, name: ClaimId, lot: Lot) -> bool:
    other = work.of_claim[name][0].ask
    return other is not lot.ask and other.value <= lot.ask.value


def _serve_by_squeezing(work: Allocation, lot: Lot, name: ClaimId) -> bool:
    lots = [one for one in work.of_claim[name] if one.is_kept]
    rung, mark = lots[0].seats[0].rung, len(work.log)
    for option in lots[0].ask.options:
        if option.rung > rung:
            if _move_all(work, lots, option, LEFTOVER) and grant(work, lot, LEFTOVER):
                return True
            roll_back(work, mark)
    return False


def _move_all(work: Allocation, lots: list[Lot], option: Option, right: Tier) -> bool:
    """Say whether all of the claim's lots found room with the option and this right, without anybody leaving."""
    for one in lots:
        vacate(work, one)
    for one in lots:
        if not is_allowed(work, one, option, right) or not place(work, one, option, LEFTOVER):
            return False
        keep(work, one)
    return True


def climb(work: Allocation) -> None:
    """Move claims to a better rung where there was room for all of their replicas without a break for long enough.

    Only inside what the tenant is entitled to: a better rung on borrowed leftovers would be taken back at once.
    """
    work.is_gentle = True
    for lots in _climbers(work)[:CLIMBS_PER_DECISION]:
        mark, claim = len(work.log), lots[0].ask.claim.id
        for option in lots[0].ask.upgrades:
            right = ENTITLED if lots[0].ask.rank.preemptible else GUARANTEED
            if not _move_all(work, lots, option, right) or not _stays_once_there(work, lots, option.flavor):
                roll_back(work, mark)
                continue
            since = work.better_since[claim] = _since(work, lots)
            if work.survey.now_ms - since < work.survey.policy.bounds.upgrade_hold_ms:
                roll_back(work, mark)
            break
    work.is_gentle = False


def _stays_once_there(work: Allocation, lots: list[Lot], flavor: FlavorId) -> bool:
    """Say whether the claim has a right to its new place while its old group drains: it waits then, like others.

    What nobody may preempt keeps a place beyond its tenant's own quota or share, but gets none there: what siblings
    cannot use is pooled only for what may leave it again. It comes before all that wait, others after those with a
    right who come first, also where these find no place: with what those have a right to it has to be inside as well.
    """
    ask = lots[0].ask
    share, used = work.shares[flavor][ask.tenant.id], work.used.get((ask.tenant.id, flavor), 0)
    if not ask.rank.preemptible:
        return used <= min(share.nominal, share.guaranteed)
    owed = sum(_owed(one, flavor) for one in _waiting_before(work, lots[-1]))
    return not owed or used + owed <= max(share.entitled, guaranteed(work, ask.tenant.id, flavor))


def _waiting_before(work: Allocation, lot: Lot) -> Iterator[Lot]:
    """Return the lots of the tenant with a right to a place that come before this one, were it to wait as they do."""
    tenant, at = lot.ask.tenant.id, (*lot.order[:2], True, *lot.order[3:])
    yield from (one for one in work.open[tenant] if one.tier <= ENTITLED and not one.is_kept and one.order < at)
    for alike in work.layout.queues.alike.get(tenant, {}).values():
        with_right = [one for one in alike.stretches if one.tier <= ENTITLED]
        yield from (each for one in with_right for each in alike.lots[one.begin : one.end] if each.order < at)


def _owed(lot: Lot, flavor: FlavorId) -> int:
    """Return what the lot counts of the flavor with the first of its options."""
    return amounts(lot, first_option(lot)).get(flavor, 0)


def _climbers(work: Allocation) -> list[list[Lot]]:
    found = [
        lots for lots in (work.of_claim[name] for name in work.layout.queues.climbing)
        if all(one.is_kept and not one.ask.idle for one in lots)
        and lots[0].ask.domain not in work.survey.blind
    ]  # fmt: skip
    return sorted(found, key=lambda lots: (-lots[0].ask.value, _since(work, lots), lots[0].ask.claim.id))


def _since(work: Allocation, lots: list[Lot]) -> int:
    remembered = work.survey.remembered.get(lots[0].ask.claim.id)
    known = remembered.better_since_ms if remembered is not None else None
    return work.survey.now_ms if known is None else known
