"""The smallest change that would admit a waiting claim, found by deciding again as if it had been made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from policies.granting.avoiding import backoff_ms
from policies.model.decision import Change, Explained, PendingReason, Reason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.naming import tenant_of
from policies.model.tenancy import Quota
from policies.model.units import UNLIMITED, WHOLE_GPU_MILLIS, ClaimId, FlavorId
from policies.model.workload import Claim, Shape
from policies.pairing import Part, first_pair
from policies.supposing import KINDS, Situation
from policies.trying import MOST_MILLIS, Shares, Trial, least, sized, trial

TRIES = 400
"""Decisions taken in search of one change; beyond it what was found so far is returned."""
TRIES_LEAST = 12
"""Tried however large the platform is."""
LONGEST_WAIT_MS = 3_600_000
"""Who must wait longer than an hour is told what else would help."""
TAKEN = "; there is no more than the quotas say, so others are guaranteed less then"
"""Said of an amount that helps only by what it takes from others' guarantees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search for a change came to."""

    change: Change | None
    """The smallest that was found; None if none was."""
    code: PendingReason | None
    """``SEARCH_INCOMPLETE`` if not everything was tried: another change, or a smaller one, may help too. Else None."""


def unblocking(situation: Situation, claim: ClaimId, tries: int = TRIES) -> Change | None:
    """Return the smallest change that admits the claim; None if it is served or nothing tried here helps."""
    return search(situation, claim, tries).change


def search(situation: Situation, claim: ClaimId, tries: int = TRIES) -> Found:
    """Return the smallest single change that admits the claim, else two that do together, and whether all were tried.

    What is returned was tried: ``applied`` with the change, decided again, grants the claim more than now. The fewest
    millis of devices win, then the order of ``KINDS``: what takes no devices comes first. Amounts are found by doubling
    what the smallest replica needs, then by halving; those that help only since others' guarantees are rounded are
    whole replicas of the claim. Where no single change helps, every two are tried together, see ``pairing``. Nothing is
    looked for where the claim is served, unknown, or cannot be read. Cost: at most ``tries`` decisions.
    """
    trying = trial(situation, claim, tries)
    if trying is None or trying.before.granted_replicas >= trying.before.wanted_replicas > 0:
        return Found(change=None, code=None)
    if trying.before.code in (PendingReason.MISCONFIGURED, PendingReason.DOMAIN_FORBIDDEN):
        return Found(change=None, code=None)
    found = _first_free(trying) or _cheapest(trying) or first_pair(trying, _parts(trying))
    return Found(change=found, code=PendingReason.SEARCH_INCOMPLETE if trying.is_cut else None)


def explained(reason: Reason, found: Found | None = None) -> Explained:
    """Return the reason with what a search for a change came to; None is no search."""
    fields = {name: getattr(reason, name) for name in Reason.__dataclass_fields__}
    if found is not None:
        fields |= {"unblocking": found.change, "search": found.code}
    return Explained(**fields)


def affordable(claims: int, work: int) -> int:
    """Return how many changes may be tried where each takes a decision on so many claims, for this much work in all."""
    return min(TRIES, max(TRIES_LEAST, work // max(1, claims)))


def _first_free(search: Trial) -> Change | None:
    return next(filter(search.helps, sorted(_free(search), key=lambda one: KINDS.index(one.kind))), None)


def _cheapest(search: Trial) -> Change | None:
    best: Change | None = None
    whole = sorted(_whole(search), key=lambda one: (one.amount_millis, KINDS.index(one.kind)))
    for change in whole:
        if search.helps(change):
            best = change
            break
    accepted = (one for shape in search.claim.ladder for one in shape.flavors or _flavors(search.situation))
    for form in _measured(search, tuple(dict.fromkeys(accepted))):
        found = _smallest(search, form, best.amount_millis if best is not None else MOST_MILLIS + 1)
        best = found or best
    return best


def _free(search: Trial) -> Iterator[Change]:
    """Yield changes that take no devices from anybody."""
    seen, policy, claim = search.situation.snapshot, search.situation.policy, search.claim
    if claim.suspended:
        yield Change(kind="fix", subject=claim.id, sentence="its owner resumes it")
        return
    for passed in _moments(search):
        said = f"{-(-passed // 1000)} s pass in which nothing else changes"
        yield Change(kind="wait", subject=claim.id, value=str(passed), sentence=said)
    subjects = [*(gap.subject for gap in seen.gaps), *seen.adopting]
    for subject in search.first(tuple(dict.fromkeys(subjects))):
        yield Change(kind="sight", subject=subject, sentence=f"{subject} is seen again")
    closed = [node.id for node in seen.nodes if not node.schedulable]
    for node in search.first(sorted(closed)):
        yield Change(kind="uncordon", subject=node, sentence=f"host {node} takes new work again")
    if policy.declaration is not None:
        yield Change(kind="mode", subject=policy.declaration.mode, sentence="the declared mode is ended")
    own = next((cls for cls in policy.priority_classes if cls.name == claim.priority_class), None)
    for cls in sorted(policy.priority_classes, key=lambda one: (one.value, one.name)):
        if own is not None and cls.value > own.value:
            said = f"{claim.id} is of the class {cls.name}"
            yield Change(kind="class", subject=claim.id, value=cls.name, sentence=said)
    for flavor in _flavors(search.situation):
        if any(shape.flavors and flavor not in shape.flavors for shape in claim.ladder):
            said = f"{claim.id} accepts {flavor} too"
            yield Change(kind="flavor", subject=claim.id, value=flavor, sentence=said)


def _moments(search: Trial) -> list[int]:
    """Return after how many milliseconds something ends that may hold the claim up, the soonest first."""
    situation, bounds = search.situation, search.situation.policy.bounds
    seen, memory, now = situation.snapshot, situation.memory, situation.now_ms
    classes = {cls.name: cls for cls in situation.policy.priority_classes}
    rank = {one.id: classes.get(one.priority_class) for one in seen.claims}
    found = {one.expires_at_ms for one in memory.holds} | {one.ends_at_ms for one in seen.reservations}
    if situation.policy.declaration is not None:
        found.add(situation.policy.declaration.expires_at_ms)
    for group in seen.groups:
        cls = rank.get(group.claim)
        if cls is not None and cls.min_runtime_s:
            found.add(group.since_ms + cls.min_runtime_s * 1000)
    found |= {at + bounds.eviction_window_ms for at in memory.evictions_ms}
    own = next((one for one in memory.claims if one.claim == search.claim.id), None)
    if own is not None:
        mine = rank.get(search.claim.id)
        delay = 0 if mine is None else mine.preemption_delay_s * 1000
        found.add((own.evicted_at_ms or 0) + bounds.cooldown_ms)
        found.add((now if own.waiting_since_ms is None else own.waiting_since_ms) + delay)
        found.add((own.failed_at_ms or 0) + backoff_ms(bounds, own.failures))
    return list(search.first(sorted(at - now for at in found if 0 < at - now <= LONGEST_WAIT_MS)))


def _whole(search: Trial) -> Iterator[Change]:
    """Yield changes that are made or not made, each with the millis that it takes."""
    seen, claim = search.situation.snapshot, search.claim
    sick = [one for one in seen.devices if one.health is not DeviceHealth.HEALTHY or one.scrub is ScrubState.FAILED]
    for device in search.first(sorted(sick, key=lambda one: one.id)):
        said = f"device {device.id} is healthy again"
        yield Change(kind="repair", subject=device.id, amount_millis=WHOLE_GPU_MILLIS, sentence=said)
    if claim.ladder:
        yield from _smaller(claim, claim.ladder[-1])
        yield from _fewer(search, claim.ladder[-1])
    held = _held(search.situation)
    for other in _releasable(search, held):
        yield Change(kind="release", subject=other, amount_millis=held[other], sentence=f"{other} is released")
    for one in search.first(seen.reservations):
        said = f"reservation {one.id} is given up"
        yield Change(kind="reservation", subject=one.id, amount_millis=one.gpu_millis, sentence=said)


def _smaller(claim: Claim, last: Shape) -> Iterator[Change]:
    """Yield rungs below the last one: fewer devices, or a smaller part of one."""
    whole, gang = last.devices * last.gpu_millis, max(1, claim.min_replicas)
    sizes = [(count, WHOLE_GPU_MILLIS) for count in range(last.devices - 1, 0, -1)]
    sizes += [(1, millis) for millis in (500, 250, 100) if last.devices > 1 or millis < last.gpu_millis]
    for devices, millis in sizes:
        amount = f"{millis} thousandths of a device" if devices == 1 else f"{devices} devices"
        said = f"{claim.id} has a rung of {amount}"
        yield Change(
            kind="rung", subject=claim.id, amount_millis=(whole - devices * millis) * gang, value=f"{devices}x{millis}",
            sentence=said,
        )  # fmt: skip


def _fewer(search: Trial, last: Shape) -> Iterator[Change]:
    claim = search.claim
    for fewer in search.first(range(claim.min_replicas - 1, 0, -1)):
        amount = (claim.min_replicas - fewer) * last.devices * last.gpu_millis
        said = f"{claim.id} may begin with {fewer} of its {claim.min_replicas} replicas"
        yield Change(kind="replicas", subject=claim.id, amount_millis=amount, value=str(fewer), sentence=said)


def _held(situation: Situation) -> dict[ClaimId, int]:
    """Return the millis that each claim with groups holds."""
    found: dict[ClaimId, int] = {}
    ladders = {one.id: one.ladder for one in situation.snapshot.claims}
    for group in situation.snapshot.groups:
        ladder = ladders.get(group.claim, ())
        if 0 <= group.rung < len(ladder):
            shape = ladder[group.rung]
            amount = shape.devices * shape.gpu_millis * group.replicas
            found[group.claim] = found.get(group.claim, 0) + amount
    return found


def _releasable(search: Trial, held: dict[ClaimId, int]) -> list[ClaimId]:
    """Return those who hold least: of the claim's own tenant, then of those that stand in its way."""
    own = [one for one in held if tenant_of(one) == search.claim.tenant and one != search.claim.id]
    others = [one for one in search.before.blockers if one in held and one not in own]
    return [*search.first(sorted(own, key=lambda one: (held[one], one))), *others]


def _measured(search: Trial, flavors: Iterable[FlavorId]) -> Iterator[Change]:
    """Yield changes of which there may be more or less, of these flavors."""
    asked, policy = search.claim, search.situation.policy
    for flavor in flavors:
        mine = f"{asked.tenant} {flavor}"
        said = f"{asked.tenant} may borrow {{0}} millis of {flavor} more"
        yield Change(kind="borrowing_limit", subject=mine, sentence=said)
        for tenant in search.first([one.id for one in policy.tenants if _keeps(one.quotas, flavor)]):
            said = f"{tenant} lends {{0}} millis of {flavor} more"
            yield Change(kind="lending_limit", subject=f"{tenant} {flavor}", sentence=said)
        said = f"the nominal quota of {asked.tenant} is {{0}} millis of {flavor} more"
        yield Change(kind="quota", subject=mine, sentence=said)
        said = f"there are {{0}} millis of {flavor} more, on one healthy host"
        yield Change(kind="capacity", subject=str(flavor), sentence=said)


def _keeps(quotas: tuple[Quota, ...], flavor: FlavorId) -> bool:
    return any(one.flavor == flavor and one.lending_limit_millis != UNLIMITED for one in quotas)


def _flavors(situation: Situation) -> tuple[FlavorId, ...]:
    return tuple(sorted({device.flavor for device in situation.snapshot.devices}))


def _smallest(search: Trial, form: Change, below: int) -> Change | None:
    """Return the change of this form with the fewest millis that helps; None if none below the bound does."""
    found = least(search.helps, form, below, first=min(_millis(shape) for shape in search.claim.ladder))
    return None if found is None else _given(search, found, form, below)


def _given(search: Trial, found: Change, form: Change, below: int) -> Change | None:
    """Return the change as it can be given; None if it is then not below the bound.

    Where quotas are as large as what is there, one milli more for the claim's tenant takes one from what another is
    guaranteed, and with it a whole replica. The claim would run, and not by its tenant's right: what it takes is named.
    """
    unit = _millis(search.claim.ladder[-1])
    amount = -(-found.amount_millis // unit) * unit
    if form.kind == "capacity" or amount == found.amount_millis:
        return found
    flavor = FlavorId(form.subject.rpartition(" ")[2])
    after = search.shares_after(found)
    mine = after.get((search.claim.tenant, flavor))
    if mine is None or mine.held_millis <= mine.entitled_millis:
        return found
    given = sized(form, amount)
    if _takes_from_others(search, after, flavor):
        given = replace(given, sentence=given.sentence + TAKEN)
    if amount >= below:
        return None
    return given if search.helps(given) else found


def _takes_from_others(search: Trial, after: Shares, flavor: FlavorId) -> bool:
    """Say whether somebody is guaranteed less of the flavor than now."""
    return any(
        after[tenant, of].guaranteed_millis < share.guaranteed_millis
        for (tenant, of), share in search.shares.items()
        if of == flavor and (tenant, of) in after
    )


def _parts(search: Trial) -> Iterator[Part]:
    """Yield the changes of which two are tried together.

    What a claim would be if it were not suspended, or accepted another flavor, is paired with what helps it then.
    """
    free = sorted(_free(search), key=lambda one: KINDS.index(one.kind))
    if search.claim.suspended:
        resumed = replace(search, claim=replace(search.claim, suspended=False))
        free += _free(resumed)
        search.is_cut = resumed.is_cut
    whole = sorted(_whole(search), key=lambda one: (one.amount_millis, KINDS.index(one.kind)))
    yield from (Part(one, one.amount_millis) for one in (*free, *whole))
    likely = max(1, search.claim.min_replicas) * _millis(search.claim.ladder[-1])
    search.is_cut = search.is_cut or likely > MOST_MILLIS
    for form in _measured(search, _flavors(search.situation)):
        yield Part(sized(form, MOST_MILLIS), likely, form)


def _millis(shape: Shape) -> int:
    return shape.devices * shape.gpu_millis
