"""A claim with a right to what others use is told why they do not leave for it yet, and when that is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.explaining.releasing import for_tenant
from policies.model.decision import PendingReason
from policies.model.memory import ClaimMemory, Memory
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot

LENT, OWNER = claim("civil/x:lent", least=0, most=4), claim("defence/x:owner")
LATE = replace(OWNER, priority_class="batch")
SHORT_S = 10
WAITED = ClaimMemory(claim=OWNER.id, waiting_since_ms=NOW_MS - SHORT_S * 1000)
EVICTED = replace(WAITED, evicted_at_ms=NOW_MS - SHORT_S * 1000)


def said(owner, memory=Memory(), since_ms: int = 1, lent=LENT, **bounds):  # noqa: B008  # a frozen noun
    seen = snapshot(FOUR, [lent, owner], running(lent, *((one.id,) for one in FOUR), since_ms=since_ms))
    decision = decide(seen, rules(floor=0, **bounds), memory, NOW_MS)
    return next(one for one in decision.reasons if one.claim == owner.id), decision, seen


@pytest.mark.parametrize(
    ("owner", "memory", "bounds", "sentence", "in_s"),
    [
        (LATE, Memory(claims=(WAITED,)), {}, "its class batch waits 30 s before it asks others to leave", 20),
        (OWNER, Memory(claims=(EVICTED,)), {}, "it made room for others itself lately: it asks nobody", 20),
        (OWNER, Memory(evictions_ms=(NOW_MS - 5_000,)), {"evictions_per_window": 1}, "others may not leave for it", 55),
    ],
    ids=["the delay of its class", "its own rest", "the budget of evictions"],
)
def test_who_may_not_ask_others_to_leave_yet_is_told_why_and_from_when_it_may(owner, memory, bounds, sentence, in_s):
    reason, _, seen = said(owner, memory, **bounds)
    assert (reason.code, reason.granted_replicas) == (PendingReason.WAITING_FOR_VICTIMS, 0)
    assert sentence in reason.sentence
    assert reason.eta_ms == NOW_MS + in_s * 1000
    later = decide(seen, rules(floor=0, **bounds), memory, reason.eta_ms)
    assert [one.beneficiary for one in later.evictions] == [owner.id], "from then on it gets its place"


def test_who_finds_only_what_is_protected_is_not_told_that_its_quota_is_used_up():
    young = replace(LENT, priority_class="batch")
    reason, *_ = said(OWNER, since_ms=NOW_MS - 1000, lent=young)
    assert reason.code is PendingReason.WAITING_FOR_VICTIMS
    assert "others use what it has a right to, and none of them may leave yet" in reason.sentence


def test_a_tenant_is_not_told_what_others_do():
    for memory, since_ms in ((Memory(claims=(EVICTED,)), 1), (Memory(), NOW_MS - 1000)):
        _, decision, seen = said(OWNER, memory, since_ms, lent=replace(LENT, priority_class="batch"))
        told = for_tenant(decision, OWNER.id, seen.claims)
        assert (told.code, told.eta_ms) == (PendingReason.WAITING_FOR_QUOTA, None)
        free = "nothing that its tenant may hold is free now: it is in use, or kept for a claim ahead of it"
        assert told.sentence == f"0 of 1 replicas: {free}"
