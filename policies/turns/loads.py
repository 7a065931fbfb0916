"""What changes by itself from turn to turn while everything runs on: requests inside, checkpoints, samples of demand.

Under live traffic that is nearly every group and claim. None of it is laid out anew for that alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TypeVar

from policies.evidence.survey import Survey
from policies.model.inventory import Group
from policies.model.units import ClaimId, GroupId
from policies.model.workload import Demand
from policies.turns.changes import Change, between
from policies.wishes.admission import Ask, by_worth

N = TypeVar("N")
K = TypeVar("K")

LIVE = ("in_flight", "checkpoint_ms")
"""Fields of a group that only prices rest on, and the order of a claim's own groups: see ``Survey.latest``."""
LOOKED_AT = 256
"""Groups of the whole list that show whether most are the same objects as before."""
FEW = 8
"""If more than one of these in so many is not, each group is looked at by itself."""
_settled = attrgetter(*(one.name for one in fields(Group) if one.name not in LIVE))
_id, _claim = attrgetter("id"), attrgetter("claim")


def groups_between(
    seen: Survey, before: Sequence[Group], after: Sequence[Group]
) -> tuple[Change[GroupId, Group], list[Group]]:
    """Return which groups are no more, are new, or differ in more than what is live; last, all that differ at all.

    Ids must be unique. Cost: where nearly all are the same objects as before, that of ``between``; else a look at each,
    and a comparison of each that is not.
    """
    latest, known = seen.latest, seen.groups
    some = after[:: max(1, len(after) // LOOKED_AT)]
    if sum(1 for one in some if latest.get(one.id) is not one) * FEW > len(some):
        return _one_by_one(seen, after)
    change = between(before, after, _id)
    fresh = list(change.new.values())
    on = {one.id for one in fresh if one.id in change.gone and _settled(known[one.id]) == _settled(one)}
    gone = {name: known[name] for name in change.gone if name not in on}
    return Change(gone=gone, new={name: one for name, one in change.new.items() if name not in on}), fresh


def _one_by_one(seen: Survey, after: Sequence[Group]) -> tuple[Change[GroupId, Group], list[Group]]:
    latest, known = seen.latest, seen.groups
    fresh = [one for one in after if latest.get(one.id) is not one]
    new, came = dict[GroupId, Group](), 0
    for one in fresh:
        before = known.get(one.id)
        if before is None:
            came += 1
        elif before is one or _settled(before) == _settled(one):
            continue
        new[one.id] = one
    return Change(gone=_gone(known, new, len(after) - came, map(_id, after)), new=new), fresh


def demands_between(known: Mapping[ClaimId, Demand], after: Sequence[Demand]) -> Change[ClaimId, Demand]:
    """Return which demands are no more, are new or were sampled again. Claims must be unique."""
    new = {one.claim: one for one in after if known.get(one.claim) is not one}
    came = sum(1 for name in new if name not in known)
    return Change(gone=_gone(known, new, len(after) - came, map(_claim, after)), new=new)


def _gone(known: Mapping[K, N], new: Mapping[K, N], stayed: int, names: Iterable[K]) -> dict[K, N]:
    missing = known.keys() - set(names) if stayed != len(known) else ()
    return {name: known[name] for name in (*missing, *(name for name in new if name in known))}


def asking_anew(change: Change[ClaimId, Demand]) -> set[ClaimId]:
    """Return the claims whose demand came, went, or asks for another number of replicas.

    What else a sample says is only looked at for claims that may be idle, which are asked each turn anyway, and once
    it is too old: see ``stale``.
    """
    gone, new = change.gone, change.new
    return {name for name in gone.keys() | new.keys()
            if name not in gone or name not in new or gone[name].replicas != new[name].replicas}  # fmt: skip


def stale(seen: Survey) -> frozenset[ClaimId]:
    """Return the claims whose demand was sampled too long ago."""
    oldest = seen.now_ms - seen.policy.bounds.telemetry_max_age_ms
    return frozenset([one.claim for one in seen.demands.values() if one.observed_at_ms < oldest])


def resorted(seen: Survey, wishes: Mapping[ClaimId, Ask], fresh: Iterable[Group]) -> set[ClaimId]:
    """Return the claims of several groups that are now worth keeping in another order."""
    found = {one.claim for one in fresh if len(seen.groups_of.get(one.claim, ())) > 1 and one.claim in wishes}
    return {name for name in found if by_worth(seen, wishes[name].held) != wishes[name].held}
