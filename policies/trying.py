"""Changes tried by deciding again as if they had been made: how many, which were left out, and whom they serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from policies.decide import decide
from policies.explaining.queueing import BLOCKERS_SHOWN, blockers
from policies.model.decision import Change, Decision, Entitlement, Reason
from policies.model.units import WHOLE_GPU_MILLIS, ClaimId, FlavorId, TenantId
from policies.model.workload import Claim
from policies.supposing import Situation, applied

CHOICES_TRIED = 16
"""Claims, devices, hosts, tenants or moments of one kind that are tried."""
MOST_MILLIS = 64 * WHOLE_GPU_MILLIS
"""Largest amount considered."""
C = TypeVar("C")
Test = Callable[[Change], bool]
Shares = Mapping[tuple[TenantId, FlavorId], Entitlement]


@dataclass(slots=True)
class Trial:
    """One search for what would admit a claim."""

    situation: Situation
    claim: Claim
    before: Reason
    shares: Shares
    """As they are now."""
    tries: int
    """Decisions that may still be taken."""
    is_cut: bool = False
    """Whether something was left out that might have helped: there were too many, or no more tries."""

    def helps(self, change: Change) -> bool:
        """Say whether the claim is granted more once the change is made; False once nothing may be tried any more."""
        after = self._after(change)
        reason = None if after is None else _reason_in(after, self.claim.id)
        return reason is not None and reason.granted_replicas > self.before.granted_replicas

    def shares_after(self, change: Change) -> Shares:
        """Return what each tenant is entitled to of each flavor once the change is made; nothing if it is not tried."""
        after = self._after(change)
        return {} if after is None else _shares_in(after)

    def first(self, some: Sequence[C]) -> Sequence[C]:
        """Return those that are tried of changes that are alike, or of what they concern."""
        self.is_cut = self.is_cut or len(some) > CHOICES_TRIED
        return some[:CHOICES_TRIED]

    def _after(self, change: Change) -> Decision | None:
        if self.tries <= 0:
            self.is_cut = True
            return None
        self.tries -= 1
        return _decided(applied(self.situation, change))


def trial(situation: Situation, claim: ClaimId, tries: int) -> Trial | None:
    """Return a search for what would admit the claim; None where the decision knows no such claim."""
    decision = _decided(situation)
    before = _reason_in(decision, claim)
    asked = next((one for one in situation.snapshot.claims if one.id == claim), None)
    if before is None or asked is None:
        return None
    told = replace(before, blockers=blockers(decision, before))
    return Trial(situation, asked, told, _shares_in(decision), tries, is_cut=len(told.blockers) >= BLOCKERS_SHOWN)


def sized(form: Change, amount: int) -> Change:
    """Return the change of this form with so many millis; its sentence has a gap for them."""
    return replace(form, amount_millis=amount, sentence=form.sentence.format(amount))


def least(helps: Test, form: Change, below: int, *, first: int) -> Change | None:
    """Return the change of this form with the fewest millis that passes the test; None if none below the bound does.

    ``first``: millis that are tried first, what a small replica needs; then twice as many, and so on. Between the last
    that do not pass and the first that do the search is by halves, as if every larger amount passed too: where more
    serves another instead, fewer than found may pass. For whole devices, amounts between them are looked at only
    where one milli less passes.
    """
    step = WHOLE_GPU_MILLIS if form.kind == "capacity" or first % WHOLE_GPU_MILLIS == 0 else 1

    def halved(low: int, high: int, step: int) -> int:
        while high - low > step:
            middle = low + max(step, (high - low) // 2 // step * step)
            low, high = (low, middle) if helps(sized(form, middle)) else (middle, high)
        return high

    low, high = 0, WHOLE_GPU_MILLIS if step > 1 else first
    while not helps(sized(form, min(high, below - 1))):
        low, high = high, high * 2
        if low >= below - 1:
            return None
    found = halved(low, min(high, below - 1), step)
    if form.kind != "capacity" and step > 1 and helps(sized(form, found - 1)):  # others of the tenant hold parts
        found = halved(max(low, found - step), found - 1, 1)
    return sized(form, found)


def _decided(situation: Situation) -> Decision:
    return decide(situation.snapshot, situation.policy, situation.memory, situation.now_ms)


def _shares_in(decision: Decision) -> Shares:
    return {(one.tenant, one.flavor): one for one in decision.entitlements}


def _reason_in(decision: Decision, claim: ClaimId) -> Reason | None:
    return next((reason for reason in decision.reasons if reason.claim == claim), None)
