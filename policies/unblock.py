"""The smallest change that would admit a waiting claim, found by deciding again as if it had been made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from policies.decide import decide
from policies.explaining.queueing import blockers
from policies.granting.avoiding import backoff_ms
from policies.model.decision import Change, FurtherChange, PendingReason, Reason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.naming import tenant_of
from policies.model.tenancy import Quota
from policies.model.units import UNLIMITED, WHOLE_GPU_MILLIS, ClaimId, FlavorId
from policies.model.workload import Claim, Shape
from policies.supposing import KINDS, Situation, applied

TRIES = 400
"""Decisions taken in search of one change; beyond it what was found so far is returned."""
TRIES_LEAST = 12
"""Tried however large the platform is."""
MOST_MILLIS = 64 * WHOLE_GPU_MILLIS
"""Largest amount considered."""
CHOICES_TRIED = 16
"""Claims, devices, hosts, tenants or moments of one kind that are tried."""
PAIRED_OF_A_KIND = 2
"""Changes of each kind of which two are tried together, where none helps alone."""
TWICE = frozenset({"sight", "uncordon", "repair", "release", "reservation", "lending_limit"})
"""Kinds of which two changes are tried together: each is of something else."""
LONGEST_WAIT_MS = 3_600_000
"""Who must wait longer than an hour is told what else would help."""


@dataclass(slots=True)
class _Search:
    situation: Situation
    claim: Claim
    before: Reason
    tries: int

    def helps(self, change: Change) -> bool:
        """Say whether the claim is granted more once the change is made; False once nothing may be tried any more."""
        if self.tries <= 0:
            return False
        self.tries -= 1
        after = _reason(applied(self.situation, change), self.claim.id)
        return after is not None and after.granted_replicas > self.before.granted_replicas


def unblocking(situation: Situation, claim: ClaimId, tries: int = TRIES) -> Change | None:
    """Return the smallest single change that admits the claim; None if it is served or nothing tried here helps.

    What is returned was tried: ``applied`` with the change, decided again, grants the claim more than now. The fewest
    millis of devices win, then the order of ``KINDS``: what takes no devices comes first. Amounts are found by
    halving: of the same kind and subject, more never helps less. Where no single change helps, two together are tried,
    see ``PAIRED_OF_A_KIND``. Cost: at most ``tries`` decisions.
    """
    before = _reason(situation, claim)
    asked = next((one for one in situation.snapshot.claims if one.id == claim), None)
    if before is None or asked is None or before.granted_replicas >= before.wanted_replicas > 0:
        return None
    search = _Search(situation, asked, before, tries)
    if before.code in (PendingReason.MISCONFIGURED, PendingReason.DOMAIN_FORBIDDEN):
        return None
    for change in sorted(_free(search), key=lambda one: KINDS.index(one.kind)):
        if search.helps(change):
            return change
    return _cheapest(search) or _first_pair(search)


def affordable(claims: int, work: int) -> int:
    """Return how many changes may be tried where each takes a decision on so many claims, for this much work in all."""
    return min(TRIES, max(TRIES_LEAST, work // max(1, claims)))


def _reason(situation: Situation, claim: ClaimId) -> Reason | None:
    decision = decide(situation.snapshot, situation.policy, situation.memory, situation.now_ms)
    reason = next((reason for reason in decision.reasons if reason.claim == claim), None)
    return None if reason is None else replace(reason, blockers=blockers(decision, reason))


def _cheapest(search: _Search) -> Change | None:
    best: Change | None = None
    whole = sorted(_whole(search), key=lambda one: (one.amount_millis, KINDS.index(one.kind)))
    for change in whole:
        if search.helps(change):
            best = change
            break
    for form in _measured(search):
        found = _smallest(search, form, best.amount_millis if best is not None else MOST_MILLIS + 1)
        best = found or best
    return best


def _free(search: _Search) -> Iterator[Change]:
    """Yield changes that take no devices from anybody."""
    seen, policy, claim = search.situation.snapshot, search.situation.policy, search.claim
    if claim.suspended:
        yield Change(kind="fix", subject=claim.id, sentence="its owner resumes it")
        return
    for passed in _moments(search):
        said = f"{-(-passed // 1000)} s pass in which nothing else changes"
        yield Change(kind="wait", subject=claim.id, value=str(passed), sentence=said)
    subjects = [*(gap.subject for gap in seen.gaps), *seen.adopting]
    for subject in dict.fromkeys(subjects[:CHOICES_TRIED]):
        yield Change(kind="sight", subject=subject, sentence=f"{subject} is seen again")
    closed = [node.id for node in seen.nodes if not node.schedulable]
    for node in sorted(closed)[:CHOICES_TRIED]:
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


def _moments(search: _Search) -> list[int]:
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
    return sorted(at - now for at in found if 0 < at - now <= LONGEST_WAIT_MS)[:CHOICES_TRIED]


def _whole(search: _Search) -> Iterator[Change]:
    """Yield changes that are made or not made, each with the millis that it takes."""
    seen, claim = search.situation.snapshot, search.claim
    sick = [one for one in seen.devices if one.health is not DeviceHealth.HEALTHY or one.scrub is ScrubState.FAILED]
    for device in sorted(sick, key=lambda one: one.id)[:CHOICES_TRIED]:
        said = f"device {device.id} is healthy again"
        yield Change(kind="repair", subject=device.id, amount_millis=WHOLE_GPU_MILLIS, sentence=said)
    if claim.ladder:
        yield from _smaller(claim, claim.ladder[-1])
        yield from _fewer(claim, claim.ladder[-1])
    held = _held(search.situation)
    for other in _releasable(search, held):
        yield Change(kind="release", subject=other, amount_millis=held[other], sentence=f"{other} is released")
    for one in seen.reservations[:CHOICES_TRIED]:
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


def _fewer(claim: Claim, last: Shape) -> Iterator[Change]:
    for least in range(claim.min_replicas - 1, 0, -1)[:CHOICES_TRIED]:
        amount = (claim.min_replicas - least) * last.devices * last.gpu_millis
        said = f"{claim.id} may begin with {least} of its {claim.min_replicas} replicas"
        yield Change(kind="replicas", subject=claim.id, amount_millis=amount, value=str(least), sentence=said)


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


def _releasable(search: _Search, held: dict[ClaimId, int]) -> list[ClaimId]:
    """Return those who hold least: of the claim's own tenant, then of those that stand in its way."""
    own = [one for one in held if tenant_of(one) == search.claim.tenant and one != search.claim.id]
    others = [one for one in search.before.blockers if one in held and one not in own]
    return [*sorted(own, key=lambda one: (held[one], one))[:CHOICES_TRIED], *others]


def _measured(search: _Search) -> Iterator[Change]:
    """Yield changes of which there may be more or less."""
    asked, policy = search.claim, search.situation.policy
    for flavor in dict.fromkeys(one for shape in asked.ladder for one in (shape.flavors or _flavors(search.situation))):
        mine = f"{asked.tenant} {flavor}"
        said = f"{asked.tenant} may borrow {{0}} millis of {flavor} more"
        yield Change(kind="borrowing_limit", subject=mine, sentence=said)
        for tenant in [one.id for one in policy.tenants if _keeps(one.quotas, flavor)][:CHOICES_TRIED]:
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


def _smallest(search: _Search, form: Change, below: int) -> Change | None:
    """Return the change of this form with the fewest millis that helps; None if none below the bound does."""
    step = WHOLE_GPU_MILLIS if form.kind == "capacity" or _counts_whole(search.claim) else 1

    def at(amount: int) -> Change:
        return replace(form, amount_millis=amount, sentence=form.sentence.format(amount))

    def halved(low: int, high: int, step: int) -> int:
        while high - low > step:
            middle = low + max(step, (high - low) // 2 // step * step)
            low, high = (low, middle) if search.helps(at(middle)) else (middle, high)
        return high

    low, high = 0, WHOLE_GPU_MILLIS
    while not search.helps(at(min(high, below - 1))):
        low, high = high, high * 2
        if low >= below - 1 or search.tries <= 0:
            return None
    found = halved(low, min(high, below - 1), step)
    if form.kind != "capacity" and step > 1 and search.helps(at(found - 1)):  # others of the tenant hold parts
        found = halved(max(low, found - step), found - 1, 1)
    return at(found)


def _first_pair(search: _Search) -> Change | None:
    """Return the first two changes that admit the claim together; None if none of those tried does.

    Of each kind a few are tried, those that take least first; of what there may be more or less as much as the claim's
    smallest rung needs.
    """
    free = sorted(_free(search), key=lambda one: KINDS.index(one.kind))
    if search.claim.suspended:
        free += _free(replace(search, claim=replace(search.claim, suspended=False)))
    whole = sorted(_whole(search), key=lambda one: (one.amount_millis, KINDS.index(one.kind)))
    count: Counter[str] = Counter()
    some: list[Change] = []
    for one in (*free, *whole, *(_enough(search.claim, form) for form in _measured(search))):
        count[one.kind] += 1
        some += [one] if count[one.kind] <= PAIRED_OF_A_KIND else []
    pairs = sorted(combinations(some, 2), key=lambda two: two[0].amount_millis + two[1].amount_millis)
    return next(filter(search.helps, (_both(first, second) for first, second in pairs)), None)


def _enough(claim: Claim, form: Change) -> Change:
    last = claim.ladder[-1]
    amount = max(1, claim.min_replicas) * last.devices * last.gpu_millis
    if form.kind == "capacity":
        amount = -(-amount // WHOLE_GPU_MILLIS) * WHOLE_GPU_MILLIS
    return replace(form, amount_millis=amount, sentence=form.sentence.format(amount))


def _both(first: Change, second: Change) -> Change:
    also = FurtherChange(
        kind=second.kind, subject=second.subject, amount_millis=second.amount_millis, value=second.value
    )  # fmt: skip
    return replace(first, also=(also,), sentence=f"{first.sentence}, and {second.sentence}")


def _counts_whole(claim: Claim) -> bool:
    return all(shape.gpu_millis == WHOLE_GPU_MILLIS for shape in claim.ladder)
