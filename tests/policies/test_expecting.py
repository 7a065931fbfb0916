"""Who waits behind jobs that announced how long they take is told when its turn comes, and then it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.explaining.releasing import for_operator
from policies.model.memory import Memory
from policies.model.workload import ClaimKind
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot
from tests.policies.test_explain import tight
from tests.simulation.world import fleet

QUICK = {"drain_deadline_ms": 6_000, "scrub_time_ms": 3_000, "worker_start_ms": 4_000}


def job(name: str, seconds: int | None, **terms):
    return claim(name, kind=ClaimKind.JOB, duration_s=seconds, **terms)


def told(decision, name: str) -> tuple[int | None, str]:
    reason = for_operator(decision, name)
    return (None if reason.eta_ms is None else (reason.eta_ms - NOW_MS) // 1000), reason.eta_assumption


def test_each_place_in_the_queue_has_its_own_time():
    first = job("civil/x:first", 100)
    queue = [job(f"civil/x:{name}", 50, submitted_at_ms=place) for place, name in enumerate("abc", start=1)]
    seen = snapshot(FOUR, [first, *queue], running(first, ("G0",), since_ms=NOW_MS - 40_000))
    decision = decide(seen, tight(), Memory(), NOW_MS)
    assert [told(decision, one.id)[0] for one in queue] == [70, 130, 190]
    assert "end as announced" in told(decision, queue[0].id)[1]


def test_who_waits_behind_somebody_without_an_announced_end_is_told_no_time():
    first, open_ended = job("civil/x:first", 100), job("civil/x:open", None, submitted_at_ms=1)
    last = job("civil/x:last", 10, submitted_at_ms=2)
    seen = snapshot(FOUR, [first, open_ended, last], running(first, ("G0",), since_ms=NOW_MS))
    decision = decide(seen, tight(), Memory(), NOW_MS)
    assert told(decision, open_ended.id)[0] == 110
    assert told(decision, last.id) == (None, "")


def test_a_large_claim_waits_until_enough_has_ended():
    runs = [job(f"civil/x:r{place}", seconds) for place, seconds in enumerate((30, 60))]
    wide = job("civil/x:wide", 10, devices=2, submitted_at_ms=5)
    policy = replace(tight(), tenants=tuple(
        replace(one, quotas=tuple(replace(quota, nominal_millis=2000) for quota in one.quotas))
        if one.id == "civil/x" else one for one in tight().tenants if one.id != "civil/y"
    ))  # fmt: skip
    seen = snapshot(FOUR[:2], [*runs, wide], *(
        running(one, (f"G{place}",), since_ms=NOW_MS) for place, one in enumerate(runs)
    ))  # fmt: skip
    assert told(decide(seen, policy, Memory(), NOW_MS), wide.id)[0] == 70


@pytest.mark.parametrize("lengths", [(20, 30, 10, 40), (15, 15, 15), (60, 5, 5, 5, 5), (7, 33, 12, 25, 18, 9)])
def test_in_simulation_each_turn_comes_when_it_was_told_within_the_time_that_starts_may_take(lengths):
    made = fleet(replace(rules(civil=2000, defence=0, floor=0, **QUICK)), 2, flavor="A")
    for place, seconds in enumerate(lengths):
        one = job(f"civil/x:j{place}", seconds, submitted_at_ms=place)
        made.claims[one.id] = one
    told_at: dict[str, int] = {}
    served: dict[str, int] = {}
    for turn in range(400):
        _, decision, _ = made.step()
        if turn == 12:
            told_at = {one.claim: one.eta_ms for one in decision.reasons if one.eta_ms is not None}
        for group in list(made.groups.values()):
            if group.running:
                served.setdefault(group.claim, made.now_ms)
            lasted = made.now_ms - group.since_ms
            if group.claim in made.claims and lasted >= made.claims[group.claim].duration_s * 1000:
                del made.claims[group.claim]
    assert len(told_at) >= len(lengths) - 3
    for name, at_ms in told_at.items():
        place = int(name.rpartition("j")[2])
        assert abs(served[name] - at_ms) <= (place + 1) * 5_000, (name, served[name], at_ms)
