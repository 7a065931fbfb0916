"""Free devices are kept for a large claim that is entitled to them and waits for more of them to come free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from policies.evidence.survey import Survey
from policies.granting.alike import Alike, Stretch, in_order
from policies.granting.apart import single_out
from policies.granting.limits import guaranteed
from policies.granting.reclaim import ENTITLED, GUARANTEED, NONE, Lot, Tier
from policies.granting.working import Allocation, first_option
from policies.model.units import ClaimId, DeviceId, NodeId, TenantId
from policies.model.workload import Claim
from policies.wishes.admission import Option
from policies.wishes.ends import ends_by

LARGE_CLAIMS = 8
"""Waiting claims for which devices are kept at the same time; more would keep too much idle."""


def recall_holds(work: Allocation) -> None:
    """Keep devices freed earlier for the claims that they were freed for, until placed or the hold expires."""
    for hold in work.memory.holds:
        missing = [lot for lot in work.of_claim.get(hold.claim, ()) if lot.missing and lot.tier is not NONE]
        if missing and work.survey.now_ms < hold.expires_at_ms and hold.device in work.survey.devices:
            strength = max(_strength(work, lot) for lot in missing)
            work.board.holder.setdefault(hold.device, {})[hold.claim] = strength


def keep_for_the_large(work: Allocation) -> None:
    """Keep the free devices of one host for each of the first few entitled claims that need several of one host.

    Without this a stream of small claims takes every device that comes free, and a claim that needs several of one host
    waits for ever. Only claims that have waited for the cool-down time have devices kept. Where the jobs that stand in
    the way have announced their ends, the claim's start is known: until then the devices are open to jobs that will
    have left by then, and to nothing else.
    """
    waiting = [lot for tenant in sorted(work.open) for lot in _large(work, tenant)]
    waiting.sort(key=lambda lot: (_strength(work, lot), -lot.ask.claim.submitted_at_ms), reverse=True)
    for lot in waiting[:LARGE_CLAIMS]:
        kept, begins = _best_host(work, lot, first_option(lot))
        for device in kept:
            if begins is not None:
                work.board.needed_at[device] = begins
            work.kept_for[device] = lot.ask.claim.id
            work.board.holder.setdefault(device, {})[lot.ask.claim.id] = _strength(work, lot)
        single_out(work, lot)


def _large(work: Allocation, tenant: TenantId) -> list[Lot]:
    """Return the tenant's lots for which devices may be kept, in the order of its queue; of equal ones the first few.

    The very first of the queue may be stronger than those of equal terms, and have a right where these have none.
    """
    found = [lot for lot in work.open[tenant] if _is_large(lot) and _is_waiting(work, lot)]
    for alike in work.layout.queues.alike.get(tenant, {}).values():
        for one in alike.stretches if _is_large(alike.lots[0]) else ():
            end = one.end if one.tier <= ENTITLED else one.begin + 1
            found += islice(_waiting_of(work, alike, replace(one, end=end)), 1 + LARGE_CLAIMS)
    return sorted(found, key=in_order)


def _waiting_of(work: Allocation, alike: Alike, one: Stretch) -> Iterator[Lot]:
    for lot in islice(alike.lots, one.begin, one.end):
        lot.tier = one.tier
        if _is_waiting(work, lot):
            yield lot


def _is_large(lot: Lot) -> bool:
    """Say whether the lot is a minimum whose first shape is more than one device."""
    options = lot.ask.options
    return lot.is_base and bool(options) and lot.ask.claim.ladder[options[0].rung].devices > 1


def _strength(work: Allocation, lot: Lot) -> tuple[int, int]:
    """Return the right and class with which devices are kept for the lot.

    The next in its tenant's queue has the right that it would have if it ran alone: what runs now makes room as it
    ends, and nobody who came later goes before it.
    """
    return -min(lot.tier, _right_alone(work, lot)), lot.ask.value


def _right_alone(work: Allocation, lot: Lot) -> Tier:
    tenant = lot.ask.tenant.id
    if tenant not in work.first_waiting:
        waiting = (one for one in work.layout.queues.lacking[tenant] if one.is_base and one.missing)
        work.first_waiting[tenant] = next(waiting, None)
    option = first_option(lot)
    share = work.shares.get(option.flavor, {}).get(lot.ask.tenant.id)
    if share is None or work.first_waiting[tenant] is not lot:
        return NONE
    if option.charge * lot.size <= guaranteed(work, tenant, option.flavor):
        return GUARANTEED
    return ENTITLED if option.charge * lot.size <= share.entitled else NONE


def _is_waiting(work: Allocation, lot: Lot) -> bool:
    """Say whether the lot has nothing, is entitled to a place, and has waited for long enough."""
    if lot.is_kept or lot.seats or lot.tier is NONE or lot.ask.domain in work.survey.blind:
        return False
    remembered = work.survey.remembered.get(lot.ask.claim.id)
    since = remembered.waiting_since_ms if remembered is not None else None
    waited = since is not None and work.survey.now_ms - since >= work.survey.policy.bounds.cooldown_ms
    return waited and -_strength(work, lot)[0] <= ENTITLED


def _best_host(work: Allocation, lot: Lot, option: Option) -> tuple[list[DeviceId], int | None]:
    """Return the free devices of the host that needs the fewest more, and when it has enough of them, if that is known.

    The host kept before wins a tie.
    """
    shape = lot.ask.claim.ladder[option.rung]
    before = {hold.device for hold in work.memory.holds if hold.claim == lot.ask.claim.id}
    found: list[tuple[int, int, NodeId, list[DeviceId]]] = []
    for node, devices in work.board.hosts_of.get(option.flavor, {}).items():
        if len(devices) >= shape.devices:
            free = [one for one in devices if _is_free(work, one) and _is_open_to(work, one, lot.ask.claim.id)]
            found.append((-len(before & set(free)), -len(free), node, free))
    if not found:
        return [], None
    _, _, node, free = min(found)
    taken = [one for one in work.board.hosts_of[option.flavor][node] if one not in free]
    return free[: shape.devices], _begins(work, taken, shape.devices - len(free))


def _begins(work: Allocation, taken: list[DeviceId], missing: int) -> int | None:
    """Return when so many of the devices are free again; None if too few of them carry only jobs with a known end."""
    ends = sorted(end for one in taken if (end := _free_at(work, one)) is not None)
    return ends[missing - 1] if 0 < missing <= len(ends) else None


def _free_at(work: Allocation, device: DeviceId) -> int | None:
    ends = []
    for seat in work.board.seats[device]:
        claim, group = work.survey.claims.get(seat.claim), seat.group
        end = None if claim is None or group is None else ends_by(claim, group.since_ms)
        if end is None:
            return None
        ends.append(end)
    return max(ends, default=None)


def ends_ms(survey: Survey, claim: Claim) -> int | None:
    """Return when the claim's devices are free again if it is started now; None for what has no announced end."""
    end, bounds = ends_by(claim, survey.now_ms), survey.policy.bounds
    if end is None:
        return None
    return end + 2 * bounds.scrub_time_ms + bounds.worker_start_ms + bounds.drain_deadline_ms


def _is_open_to(work: Allocation, device: DeviceId, claim: ClaimId) -> bool:
    holders = work.board.holder.get(device)
    return holders is None or claim in holders


def _is_free(work: Allocation, device: DeviceId) -> bool:
    """Say whether nothing stands on the device but what leaves anyway."""
    return all(id(seat) not in work.victims.lot_of for seat in work.board.seats[device])
