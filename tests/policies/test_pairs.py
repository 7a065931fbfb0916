"""Where no single change admits a claim, two that do are named if there are any; a plain search of every two agrees."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given

from policies.decide import decide
from policies.model.decision import Change, FurtherChange, PendingReason
from policies.model.inventory import DeviceHealth
from policies.model.memory import ClaimMemory, Memory
from policies.model.snapshot import Gap, GapKind
from policies.model.workload import Reservation
from policies.supposing import Situation, applied
from policies.unblock import search
from tests.policies.looking import FEW, SEEDS
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_unblock import PAIRS, SITUATIONS, WISH, crisis
from tests.simulation.generate import Dice

ALL = 10**6
"""Tries that never run out on worlds as small as these."""
OBSTACLES = (
    "closed",
    "sick",
    "unseen",
    "suspended",
    "flavor",
    "quota",
    "limit",
    "paused",
    "reserved",
    "full",
    "resting",
)


def hindered(seed: int) -> Situation:
    """A small world in which two or three things may stand in the claim's way."""
    dice = Dice(seed)
    some = {dice.choice(OBSTACLES) for _ in range(3)}
    wish = claim(WISH.id, millis=dice.choice((500, 1000)), priority_class=dice.choice(("standard", "critical")))
    wish = replace(wish, suspended="suspended" in some, submitted_at_ms=1)
    if "flavor" in some:
        wish = replace(wish, ladder=(replace(wish.ladder[0], flavors=("B",)),))
    health = DeviceHealth.QUARANTINED if "sick" in some else DeviceHealth.HEALTHY
    devices = [device(f"G{index}", health=health) for index in range(dice.choice((1, 2)))]
    pinned = claim("defence/x:theirs", most=len(devices), priority_class="pinned")
    runs = [running(pinned, *((one.id,) for one in devices))] if "full" in some else []
    kept = Reservation(id="r", tenant="defence", flavor="A", gpu_millis=8000, starts_at_ms=0, ends_at_ms=NOW_MS * 2)
    gap = Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=0)
    seen = snapshot(
        devices, [wish, *([pinned] if runs else [])], *runs,
        reservations=(kept,) if "reserved" in some else (), gaps=(gap,) if "unseen" in some else (),
    )  # fmt: skip
    if "closed" in some:
        seen = replace(seen, nodes=tuple(replace(one, schedulable=False) for one in seen.nodes))
    policy = crisis() if "paused" in some else rules(floor=0)
    limits = {"nominal_millis": 0} if "quota" in some else {}
    limits |= {"borrowing_limit_millis": 0} if "limit" in some else {}
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=tuple(replace(quota, **limits) for quota in one.quotas)) if "civil" in one.id else one
        for one in policy.tenants
    ))  # fmt: skip
    failed = ClaimMemory(claim=wish.id, failed_at_ms=NOW_MS - 1_000, failures=2)
    memory = Memory(claims=(failed,)) if "resting" in some else Memory()
    return Situation(snapshot=seen, policy=policy, memory=memory, now_ms=NOW_MS)


def conceivable(now: Situation) -> list[Change]:
    """Return every change that anybody could think of here, of what there may be more or less a great deal."""
    seen, asked = now.snapshot, next(one for one in now.snapshot.claims if one.id == WISH.id)
    found = [Change(kind="fix", subject=asked.id)]
    found += [Change(kind="wait", subject=asked.id, value=str(ms)) for ms in (60_000, 3_600_000)]
    found += [Change(kind="sight", subject=one.subject) for one in seen.gaps]
    found += [Change(kind="uncordon", subject=one.id) for one in seen.nodes if not one.schedulable]
    found += [Change(kind="mode", subject="crisis")] if now.policy.declaration is not None else []
    found += [Change(kind="class", subject=asked.id, value=name) for name in ("critical", "pinned")]
    found += [Change(kind="flavor", subject=asked.id, value="A")]
    found += [Change(kind="repair", subject=one.id) for one in seen.devices if one.health is not DeviceHealth.HEALTHY]
    found += [Change(kind="rung", subject=asked.id, value=f"1x{millis}") for millis in (100, 250, 500)]
    found += [Change(kind="release", subject=one.id) for one in seen.claims if one.id != asked.id]
    found += [Change(kind="reservation", subject=one.id) for one in seen.reservations]
    found += [
        Change(kind=kind, subject=f"{tenant} A", amount_millis=20_000)
        for kind in ("quota", "borrowing_limit") for tenant in ("civil/x",)
    ]  # fmt: skip
    found += [Change(kind="lending_limit", subject=f"{one.id} A", amount_millis=20_000) for one in now.policy.tenants]
    return [*found, Change(kind="capacity", subject="A", amount_millis=20_000)]


def both(first: Change, second: Change) -> Change:
    also = FurtherChange(
        kind=second.kind, subject=second.subject, amount_millis=second.amount_millis, value=second.value
    )  # fmt: skip
    return replace(first, also=(also,))


def granted(now: Situation) -> int:
    decision = decide(now.snapshot, now.policy, now.memory, now.now_ms)
    return next(one.granted_replicas for one in decision.reasons if one.claim == WISH.id)


def admits(now: Situation, change: Change) -> bool:
    return granted(applied(now, change)) > granted(now)


@FEW
@given(SEEDS)
def test_p31_of_every_two_changes_none_admits_where_none_is_named_and_those_named_do_together_alone(seed):
    now = hindered(seed)
    found = search(now, WISH.id, ALL)
    assert found.code is None
    if found.change is not None:
        assert admits(now, found.change)
        for one in found.change.also:
            assert not admits(now, replace(found.change, also=()))
            assert not admits(now, Change(
                kind=one.kind, subject=one.subject, amount_millis=one.amount_millis, value=one.value
            ))  # fmt: skip
    elif granted(now) == 0:
        every = conceivable(now)
        helping = [two for two in itertools.starmap(both, itertools.combinations(every, 2)) if admits(now, two)]
        assert not helping


@pytest.mark.parametrize("kinds", PAIRS)
def test_who_runs_out_of_tries_before_every_two_were_tried_says_so(kinds):
    seen, policy = PAIRS[kinds]
    now = Situation(snapshot=seen, policy=policy, memory=Memory(), now_ms=NOW_MS)
    whole = search(now, WISH.id, ALL)
    assert (whole.code, bool(whole.change.also)) == (None, True)
    for tries in range(0, 30, 3):
        found = search(now, WISH.id, tries)
        assert found.change == whole.change or found.code is PendingReason.SEARCH_INCOMPLETE
        assert found.change is None or admits(now, found.change)
    assert search(now, WISH.id, 3).code is PendingReason.SEARCH_INCOMPLETE


def test_who_finds_one_change_with_tries_to_spare_has_tried_all_that_is_smaller():
    for seen, policy in SITUATIONS.values():
        now = Situation(snapshot=seen, policy=policy, memory=Memory(), now_ms=NOW_MS)
        assert search(now, WISH.id, ALL).code is None


def test_where_more_things_of_a_kind_are_in_the_way_than_are_tried_it_is_said_too():
    sick = [device(f"G{index}", health=DeviceHealth.QUARANTINED) for index in range(20)]
    wish = claim(WISH.id, devices=3, priority_class="critical")
    now = Situation(snapshot=snapshot(sick, [wish]), policy=rules(civil=20_000), memory=Memory(), now_ms=NOW_MS)
    found = search(now, WISH.id, 5)
    assert found.code is PendingReason.SEARCH_INCOMPLETE
    few = replace(now, snapshot=snapshot(sick[:2], [replace(wish, ladder=(replace(wish.ladder[0], devices=1),))]))
    assert search(few, WISH.id, ALL).code is None
