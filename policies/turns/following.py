"""What stands, brought up to the arguments of the next decision: only what changed is laid out anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from policies.evidence.survey import Survey
from policies.explaining.recall import is_quiet
from policies.model.inventory import Device, ScrubState, Worker, WorkerState
from policies.model.memory import ClaimMemory, Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId, FlavorId, GroupId, WorkerId
from policies.model.workload import Reservation
from policies.modes import overlay_in_force
from policies.shares.quota import healthy_capacity, shares, starts_ms
from policies.turns.changes import Change, between
from policies.turns.exchanging import Changes, ask_again, lay_back, note_leaving, rehouse, rehoused, reseat
from policies.turns.loads import asking_anew, demands_between, groups_between, resorted, stale
from policies.turns.setting import begin
from policies.turns.standing import Standing
from policies.wishes.admission import NEW

MUCH = 3
"""If more than one claim in so many is to be laid out anew, doing it for all of them is cheaper."""
FEW = 64
"""So many are laid out anew one by one in any case."""
LONGEST_STANDING = 1000
"""Decisions after which everything is laid out anew, so that what no claim uses any more does not pile up."""
_id, _claim = attrgetter("id"), attrgetter("claim")


def follow(standing: Standing, snapshot: Snapshot, policy: Policy, memory: Memory, now_ms: int) -> bool:
    """Bring what stands up to the arguments of the next decision.

    Returns False, with nothing changed, where that could differ from laying it out anew: other rules or another mode,
    other devices or hosts, other reservations or one that begins or ends, other gaps, names that occur twice, or too
    long since it was last done; also where that would cost more.
    """
    if not _is_alike(standing, snapshot, policy, now_ms):
        return False
    before = standing.snapshot
    groups, reloaded = groups_between(standing.work.survey, before.groups, snapshot.groups)
    changes = Changes(
        devices=between(before.devices, snapshot.devices, _id),
        workers=between(before.workers, snapshot.workers, _id),
        groups=groups,
        claims=between(before.claims, snapshot.claims, _id),
        demands=demands_between(standing.work.survey.demands, snapshot.demands),
        remembered=between(standing.memory.claims, memory.claims, _claim),
    )
    if not _can_follow(standing, changes, snapshot, memory):
        return False
    draining = frozenset([drain.group for drain in memory.drains])
    touched = _touched(standing, changes, draining)
    recalled = _recalled(standing, changes.remembered)
    dirty, asking = touched | recalled, touched | asking_anew(changes.demands)
    asking.update(name for name in recalled if _is_wished_anew(changes.remembered, name))
    if FEW < len(dirty | asking) > len(snapshot.claims) // MUCH:
        return False
    lay_back(standing)
    seen = replace(_seen(standing, changes, snapshot, now_ms), draining=draining)
    seen.latest.update(zip(map(_id, reloaded), reloaded, strict=True))
    too_old = stale(seen)
    asking |= resorted(seen, standing.wishes, (one for one in reloaded if one.claim not in dirty))
    asking |= too_old ^ standing.stale
    standing.stale = too_old
    rehouse(standing, changes.workers)
    reseated = reseat(standing, seen, changes, dirty)
    orphans = standing.results.orphans | dirty
    standing.results.orphans = {one for one in orphans if one in seen.groups_of and one not in seen.claims}
    standing.changed = changed = ask_again(standing, seen, dirty, asking, reseated)
    note_leaving(standing, changed | dirty | reseated)
    standing.snapshot, standing.policy, standing.memory, standing.now_ms = snapshot, policy, memory, now_ms
    standing.age += 1
    capacity = _capacity(standing, seen)
    entitled = shares(seen, standing.asked, capacity)
    standing.work = begin(standing.work.layout, seen, memory, entitled, capacity)
    return True


def _capacity(standing: Standing, seen: Survey) -> Mapping[FlavorId, int]:
    """Return what counts as capacity: as before where every device takes new work, whatever stands on it."""
    return standing.work.capacity if len(seen.open) == len(seen.devices) else healthy_capacity(seen)


def _is_alike(standing: Standing, snapshot: Snapshot, policy: Policy, now_ms: int) -> bool:
    before = standing.snapshot
    return (
        standing.age < LONGEST_STANDING
        and standing.is_plain
        and policy == standing.policy
        and overlay_in_force(policy, now_ms) == overlay_in_force(policy, standing.now_ms)
        and _is_reserved_alike(standing, snapshot, now_ms)
        and snapshot.nodes == before.nodes
        and snapshot.flavors == before.flavors
        and snapshot.gaps == before.gaps
        and snapshot.adopting == before.adopting
    )


def _is_reserved_alike(standing: Standing, snapshot: Snapshot, now_ms: int) -> bool:
    """Say whether the same is reserved, and no reservation has begun or ended since."""
    kept, seen = snapshot.reservations, standing.work.survey

    def is_on(one: Reservation, at_ms: int) -> bool:
        return starts_ms(seen, one.starts_at_ms) <= at_ms < one.ends_at_ms

    return kept == standing.snapshot.reservations and all(
        is_on(one, standing.now_ms) == is_on(one, now_ms) for one in kept
    )


def _can_follow(standing: Standing, changes: Changes, snapshot: Snapshot, memory: Memory) -> bool:
    seen = standing.work.survey
    lists: tuple[tuple[Change[Any, Any], Mapping[Any, Any], int], ...] = (
        (changes.devices, seen.devices, len(snapshot.devices)),
        (changes.workers, seen.workers, len(snapshot.workers)),
        (changes.groups, seen.groups, len(snapshot.groups)),
        (changes.claims, seen.claims, len(snapshot.claims)),
        (changes.demands, seen.demands, len(snapshot.demands)),
        (changes.remembered, seen.remembered, len(memory.claims)),
    )
    return (
        all(change.leaves(len(known), known.keys()) == count for change, known, count in lists)
        and changes.devices.gone.keys() == changes.devices.new.keys()
        and all(_is_only_held_anew(old, changes.devices.new[name]) for name, old in changes.devices.gone.items())
        and _are_workers_apart(standing.work.layout.home, changes.workers)
        and standing.asked.keys() <= set(seen.flavors)
    )


def _is_only_held_anew(old: Device, new: Device) -> bool:
    """Say whether at most the domain and the scrub of the device differ, and neither of them failed."""
    failed = ScrubState.FAILED in (old.scrub, new.scrub)
    return not failed and replace(new, domain=old.domain, scrub=old.scrub) == old


def _are_workers_apart(home: Mapping[DeviceId, Worker], workers: Change[WorkerId, Worker]) -> bool:
    """Say whether none is lost, and each device has one worker."""
    devices = [one for worker in workers.new.values() for one in worker.devices]
    is_lost = any(one.state is WorkerState.LOST for one in (*workers.gone.values(), *workers.new.values()))
    is_free = all(one not in home or home[one].id in workers.gone for one in devices)
    return not is_lost and is_free and len(set(devices)) == len(devices)


def _touched(standing: Standing, changes: Changes, draining: frozenset[GroupId]) -> set[ClaimId]:
    """Return the claims that came, went or changed, and those of whose replicas something did."""
    found = {
        *changes.claims.gone,
        *changes.claims.new,
    }
    for groups in (changes.groups.gone, changes.groups.new):
        found.update(group.claim for group in groups.values())
    groups = standing.work.survey.groups
    found.update(groups[name].claim for name in draining ^ standing.work.survey.draining if name in groups)
    for worker in rehoused(changes.workers):
        found.update(groups[name].claim for name in _groups_on(standing).get(worker, ()))
    return found


def _recalled(standing: Standing, remembered: Change[ClaimId, ClaimMemory]) -> set[ClaimId]:
    """Return the claims of which something else is remembered than before, unless it is what was said of them."""
    forgotten = (remembered.gone.keys() | standing.results.begun) - remembered.new.keys()
    return forgotten.union(name for name, one in remembered.new.items() if not _is_as_said(standing, name, one))


def _is_as_said(standing: Standing, name: ClaimId, now: ClaimMemory) -> bool:
    """Say whether what is remembered now is what the last decision said, and nothing else can follow from it.

    After a loss of memory something new is remembered of every claim. Of one that is served in full, or waits with
    nothing and is told apart by nothing, a wish rests on the rung that is remembered alone.
    """
    said, before = standing.results, standing.work.survey.remembered.get(name, NEW)
    known = said.memories.known.get(name)
    if (known is not now and known != now) or name in said.restless or name in standing.volatile:
        return False
    wish, lots = standing.wishes.get(name), standing.work.of_claim.get(name)
    if not is_quiet(now) and not (lots and lots[0].said is not None):
        return False
    return wish is not None and wish.rung == now.rung and before.lower_since_ms is before.idle_since_ms is None


_of_wish = attrgetter("rung", "lower_since_ms", "idle_since_ms")


def _is_wished_anew(remembered: Change[ClaimId, ClaimMemory], name: ClaimId) -> bool:
    """Say whether what is remembered now differs in something that a wish rests on."""
    return bool(_of_wish(remembered.gone.get(name, NEW)) != _of_wish(remembered.new.get(name, NEW)))


def _groups_on(standing: Standing) -> dict[WorkerId, set[GroupId]]:
    """Return the groups of each worker; found when first asked for."""
    if not standing.groups_on:
        for group in standing.work.survey.groups.values():
            standing.groups_on.setdefault(group.worker, set()).add(group.id)
    return standing.groups_on


def _seen(standing: Standing, changes: Changes, snapshot: Snapshot, now_ms: int) -> Survey:
    """Return the survey of the new snapshot, in the dictionaries of the old one."""
    seen = standing.work.survey
    for change, known in (
        (changes.devices, seen.devices), (changes.workers, seen.workers), (changes.groups, seen.groups),
        (changes.claims, seen.claims), (changes.demands, seen.demands), (changes.remembered, seen.remembered),
    ):  # fmt: skip
        change.apply(known)  # type: ignore[arg-type]  # each change is of its own list
    for name in changes.groups.gone:
        seen.latest.pop(name, None)
    on = standing.groups_on
    for group in changes.groups.gone.values():
        on.get(group.worker, set()).discard(group.id)
        seen.groups_of[group.claim] = tuple(one for one in seen.groups_of[group.claim] if one.id != group.id)
        if not seen.groups_of[group.claim]:
            del seen.groups_of[group.claim]
    for group in changes.groups.new.values():
        if on:
            on.setdefault(group.worker, set()).add(group.id)
        seen.groups_of[group.claim] = tuple(sorted((*seen.groups_of.get(group.claim, ()), group), key=_id))
    return replace(seen, snapshot=snapshot, now_ms=now_ms)
