"""A plan is held to what is there now: what a decision could not know, and what somebody could write into it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.invariants import check
from policies.model.inventory import GroupState
from policies.model.memory import Memory
from policies.model.plan import StartGroup
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.planning import plan
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot

CIVIL = SecurityDomain.CIVIL
HALF, NEW = claim("civil/x:half", millis=500), claim("civil/x:new", millis=500, least=0, most=4)
SEEN = snapshot(FOUR, [HALF, NEW], running(HALF, ("G0",)))


def broken(seen, *actions) -> set[str]:
    made = plan(seen, decide(seen, rules(), Memory(), NOW_MS), rules(), 1)
    return {one.rule for one in check(seen, replace(made, actions=actions), rules())}


def start(millis: int, replicas: int = 1) -> StartGroup:
    return StartGroup(
        domain=CIVIL, group="new", claim=NEW.id, worker=SEEN.workers[0].id, model=None, variant=None, devices=("G0",),
        gpu_millis=millis, memory_mib=0, replicas=replicas, concurrency=1, reason="wanted",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("action", "is_too_much"), [(start(500), False), (start(501), True), (start(250, 2), False), (start(250, 3), True),
                                (start(1000), True)],
)  # fmt: skip
def test_a_start_fills_a_device_to_the_last_unit_and_no_further(action, is_too_much):
    assert ("sums_within_capacity" in broken(SEEN, action)) == is_too_much


def test_two_starts_together_do_not_fill_a_device_twice():
    assert "sums_within_capacity" in broken(SEEN, start(300), replace(start(300), group="newer"))


def planned(seen, decided) -> list[str]:
    return [one.kind for one in plan(seen, decided, rules(), 1).actions]


def test_no_worker_starts_on_a_device_that_is_no_longer_seen():
    seen = snapshot(FOUR[:1], [HALF])
    decided = decide(seen, rules(), Memory(), NOW_MS)
    assert planned(seen, decided) == ["start_worker"]
    gap = Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=NOW_MS)
    assert planned(replace(seen, gaps=(gap,)), decided) == []


def test_nothing_leaves_a_domain_that_is_no_longer_seen():
    seen = snapshot(FOUR, [], running(HALF, ("G0",)))
    decided = decide(seen, rules(), Memory(), NOW_MS)
    assert planned(seen, decided) == ["stop_routing"]
    gap = Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=NOW_MS)
    assert planned(replace(seen, gaps=(gap,)), decided) == []


def test_what_is_stopping_is_not_told_to_stop_again():
    workers, groups = running(HALF, ("G0",))
    for state, told in ((GroupState.RUNNING, ["stop_group"]), (GroupState.STOPPING, [])):
        left = replace(groups[0], routed=False, in_flight=0, state=state)
        seen = snapshot(FOUR, [], (workers, [left]))
        assert planned(seen, decide(seen, rules(), Memory(), NOW_MS)) == told
