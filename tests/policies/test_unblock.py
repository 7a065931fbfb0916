"""Who waits is told the smallest change that admits it: made in simulation it does, and nothing smaller would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import example, given

from policies.decide import decide
from policies.explaining.releasing import for_operator
from policies.model.decision import Change
from policies.model.inventory import DeviceHealth
from policies.model.memory import ClaimMemory, Memory
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode, Policy
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota
from policies.model.workload import Reservation, Shape
from policies.supposing import Situation, alone, applied
from policies.unblock import unblocking
from tests.policies.looking import FEW, FOUR, SEEDS, some_world
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_explain import tight

WISH = claim("civil/x:new", submitted_at_ms=1)
OLD = claim("civil/x:old")
URGENT, FIRST = replace(WISH, priority_class="critical"), replace(OLD, priority_class="critical")
PART = claim(WISH.id, millis=500, priority_class="critical", submitted_at_ms=1)
THEIRS = claim("defence/x:theirs", most=4, least=4, priority_class="pinned")


def all_to_defence(**terms) -> Policy:
    return rules(civil=0, defence=4000, floor=0, **terms)


def crisis() -> Policy:
    return replace(
        rules(floor=0), overlays=(ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("standard",)),),
        declaration=ModeDeclaration(
            mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS + 10**9, approvers=("ana", "ben")
        ),
    )  # fmt: skip


def keeping() -> Policy:
    """The neighbour lends nothing."""
    policy = rules(defence=0, floor=0)
    return replace(policy, tenants=tuple(
        replace(one, quotas=tuple(replace(quota, lending_limit_millis=0) for quota in one.quotas))
        if one.id == "civil/y" else one for one in policy.tenants
    ))  # fmt: skip


def reserved(until_ms: int):
    kept = Reservation(id="r", tenant="defence", flavor="A", gpu_millis=1000, starts_at_ms=0, ends_at_ms=until_ms)
    return snapshot(FOUR[:1], [URGENT], reservations=(kept,)), rules(civil=0, defence=1000, floor=0)


CLOSED = snapshot(FOUR[:1], [URGENT])
CLOSED = replace(CLOSED, nodes=tuple(replace(one, schedulable=False) for one in CLOSED.nodes))
SITUATIONS = {
    "fix": (snapshot(FOUR, [replace(WISH, suspended=True)]), rules()),
    "wait": reserved(NOW_MS + 60_000),
    "reservation": reserved(NOW_MS + 10**9),
    "uncordon": (CLOSED, rules()),
    "sight": (
        snapshot(FOUR[:1], [WISH], gaps=(Gap(kind=GapKind.DEVICE, subject="G0", cause="timeout", since_ms=0),)),
        rules(),
    ),
    "mode": (snapshot(FOUR, [WISH]), crisis()),
    "class": (
        snapshot(FOUR[:1], [OLD, WISH], running(OLD, ("G0",))), rules(civil=1000, defence=0, floor=0),
    ),
    "flavor": (
        snapshot(FOUR, [replace(WISH, ladder=(Shape(flavors=("B",)),))]), rules(),
    ),
    "repair": (snapshot([device("G0", health=DeviceHealth.QUARANTINED)], [replace(WISH, priority_class="critical")]),
               rules()),
    "rung": (snapshot(FOUR[:1], [claim(WISH.id, devices=2, priority_class="critical")]), rules()),
    "replicas": (snapshot(FOUR, [claim(WISH.id, least=3, most=3, priority_class="critical")]), tight(1000)),
    "release": (snapshot(FOUR, [FIRST, URGENT], running(FIRST, ("G0",))), tight()),
    "borrowing_limit": (snapshot(FOUR, [FIRST, PART], running(FIRST, ("G0",))), tight()),
    "lending_limit": (snapshot(FOUR[:2], [FIRST, PART], running(FIRST, ("G0",))), keeping()),
    "quota": (
        snapshot(FOUR, [FIRST, replace(PART, priority_class="pinned")], running(FIRST, ("G0",))), tight(),
    ),
    "capacity": (
        snapshot(FOUR[:4], [THEIRS, claim(WISH.id, millis=100, priority_class="critical")],
                 running(THEIRS, *((one.id,) for one in FOUR))), all_to_defence(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SITUATIONS)
def test_p31_the_smallest_unblocking_change_really_admits_the_claim(kind):
    seen, policy = SITUATIONS[kind]
    now = Situation(snapshot=seen, policy=policy, memory=Memory(), now_ms=NOW_MS)
    change = unblocking(now, WISH.id)
    assert change is not None
    assert change.kind == kind
    assert admits(now, WISH.id, change)


def closed(seen):
    return replace(seen, nodes=tuple(replace(one, schedulable=False) for one in seen.nodes))


def borrowing_nothing() -> Policy:
    """Its tenant has no quota and may borrow nothing."""
    nothing = Quota(flavor="A", nominal_millis=0, borrowing_limit_millis=0)
    policy = rules(civil=0, defence=0, floor=0)
    return replace(policy, tenants=tuple(
        replace(one, quotas=(nothing,)) if one.id == "civil/x" else one for one in policy.tenants
    ))  # fmt: skip


PAIRS = {
    ("repair", "borrowing_limit"): (
        snapshot([replace(FOUR[0], health=DeviceHealth.QUARANTINED)], [URGENT]), borrowing_nothing(),
    ),
    ("fix", "uncordon"): (closed(snapshot(FOUR[:1], [replace(WISH, suspended=True)])), rules(civil=2000, floor=0)),
    ("uncordon", "mode"): (closed(snapshot(FOUR[:1], [claim(WISH.id, least=1, priority_class="standard")])), crisis()),
}  # fmt: skip


@pytest.mark.parametrize("kinds", PAIRS)
def test_p31_where_no_change_helps_alone_two_are_named_that_admit_together(kinds):
    seen, policy = PAIRS[kinds]
    now = Situation(snapshot=seen, policy=policy, memory=Memory(), now_ms=NOW_MS)
    change = unblocking(now, WISH.id)
    assert (change.kind, *(one.kind for one in change.also)) == kinds
    assert admits(now, WISH.id, change)
    assert not admits(now, WISH.id, replace(change, also=()))
    assert ", and " in change.sentence


def admits(now: Situation, name: str, change: Change) -> bool:
    """Say whether the claim is granted more once the change is made."""
    then = applied(now, change)
    before = decide(now.snapshot, now.policy, now.memory, now.now_ms)
    after = decide(then.snapshot, then.policy, then.memory, then.now_ms)
    return for_operator(after, name).granted_replicas > for_operator(before, name).granted_replicas


def is_by_right(now: Situation, name: str, change: Change) -> bool:
    """Say whether the claim's tenant is entitled to what it holds then, and does not run on what rounding takes."""
    then = applied(now, change)
    tenant, _, flavor = change.subject.rpartition(" ")
    shares = decide(then.snapshot, then.policy, then.memory, then.now_ms).entitlements
    mine = [one for one in shares if (one.tenant, one.flavor) == (tenant, flavor)]
    return all(one.held_millis <= one.entitled_millis for one in mine)


@FEW
@given(SEEDS)
@example(4077)  # more of a quota serves another of the tenant instead
def test_p31_in_random_worlds_every_change_that_is_named_admits_and_no_smaller_one_would(seed):
    _, made = some_world(seed, 10)
    now = Situation(snapshot=made.observe(), policy=made.policy, memory=made.memory, now_ms=made.now_ms)
    decision = decide(now.snapshot, now.policy, now.memory, now.now_ms)
    waiting = [one for one in decision.reasons if one.granted_replicas < one.wanted_replicas]
    for reason in waiting[:1]:
        change = unblocking(now, reason.claim)
        if change is not None:
            assert admits(now, reason.claim, change)
            assert not change.also or not admits(now, reason.claim, replace(change, also=()))
        smaller = every_change(now, reason.claim, below=2_000 if change is None else change.amount_millis)
        helping = [one for one in smaller if admits(now, reason.claim, one) and is_by_right(now, reason.claim, one)]
        assert not helping, (change, helping)


def test_who_wants_whole_devices_is_told_the_part_of_one_that_its_tenant_lacks():
    part = claim("civil/x:part", millis=500, priority_class="critical")
    seen = snapshot(FOUR, [part, URGENT], running(part, ("G0",)))
    now = Situation(snapshot=seen, policy=tight(250), memory=Memory(), now_ms=NOW_MS)
    change = unblocking(now, URGENT.id)
    assert (change.kind, change.amount_millis) == ("borrowing_limit", 250)
    assert admits(now, URGENT.id, change)


def every_change(now: Situation, name: str, below: int) -> Iterator[Change]:
    """Yield changes of several kinds that take less than so many millis, each amount by itself: slow and obvious."""
    asked = next(one for one in now.snapshot.claims if one.id == name)
    held = {one.id: 0 for one in now.snapshot.claims}
    for group in now.snapshot.groups:
        if group.claim in held:
            claimed = next(one for one in now.snapshot.claims if one.id == group.claim)
            shape = claimed.ladder[group.rung]
            held[group.claim] += shape.devices * shape.gpu_millis * group.replicas
    for other, millis in held.items():
        if other != name and 0 < millis < below and other.split(":")[0] == asked.tenant:
            yield Change(kind="release", subject=other, amount_millis=millis)
    for one in now.snapshot.devices:
        if one.health is not DeviceHealth.HEALTHY and below > 1000:
            yield Change(kind="repair", subject=one.id, amount_millis=1000)
    for flavor in {one.flavor for one in now.snapshot.devices}:
        if any(not shape.flavors or flavor in shape.flavors for shape in asked.ladder):
            for amount in range(250, below, 250):
                yield Change(kind="quota", subject=f"{asked.tenant} {flavor}", amount_millis=amount)
                yield Change(kind="borrowing_limit", subject=f"{asked.tenant} {flavor}", amount_millis=amount)


def test_who_is_served_or_unknown_or_misconfigured_is_told_of_no_change():
    odd = claim("civil/x:odd", priority_class="unheard-of")
    seen = snapshot(FOUR, [OLD, odd], running(OLD, ("G0",)))
    now = Situation(snapshot=seen, policy=rules(), memory=Memory(), now_ms=NOW_MS)
    assert [unblocking(now, name) for name in (OLD.id, odd.id, "civil/x:ghost")] == [None, None, None]


def test_the_search_ends_with_its_tries_and_names_only_what_it_tried():
    seen, policy = SITUATIONS["quota"]
    now = Situation(snapshot=seen, policy=policy, memory=Memory(), now_ms=NOW_MS)
    for tries in range(12):
        change = unblocking(now, WISH.id, tries)
        assert change is None or admits(now, WISH.id, change)


def test_who_must_wait_before_it_may_take_others_places_is_told_for_how_long():
    wish, borrower = claim("civil/x:bulk", priority_class="batch"), claim("defence/x:guest")
    seen = snapshot(FOUR[:1], [wish, borrower], running(borrower, ("G0",)))
    memory = Memory(claims=(ClaimMemory(claim=wish.id, waiting_since_ms=NOW_MS - 10_000),))
    now = Situation(snapshot=seen, policy=rules(civil=1000, defence=0, floor=0), memory=memory, now_ms=NOW_MS)
    policy = replace(now.policy, tenants=tuple(
        replace(one, quotas=tuple(replace(quota, nominal_millis=1000) for quota in one.quotas))
        if one.id == "civil/x" else one for one in now.policy.tenants if one.id != "civil/y"
    ))  # fmt: skip
    change = unblocking(replace(now, policy=policy), wish.id)
    assert (change.kind, change.value) == ("wait", "20000")


def test_p32_the_change_that_a_tenant_is_told_does_not_depend_on_what_others_have_or_keep():
    wish = claim("civil/x:new", millis=500, priority_class="critical", submitted_at_ms=1)
    theirs = claim("defence/x:theirs", most=3)
    quiet = snapshot(FOUR, [FIRST, wish], running(FIRST, ("G0",)))
    crowd = snapshot(
        FOUR, [FIRST, wish, theirs], running(FIRST, ("G0",)), running(theirs, ("G1",), ("G2",)),
        reservations=(Reservation(
            id="r", tenant="defence", flavor="A", gpu_millis=1000, starts_at_ms=0, ends_at_ms=NOW_MS + 10_000
        ),),
    )  # fmt: skip
    told = []
    for seen in (quiet, crowd):
        now = Situation(snapshot=seen, policy=tight(), memory=Memory(), now_ms=NOW_MS)
        told.append(unblocking(alone(now, lambda name: name.startswith("civil/x:")), wish.id))
    assert told[0] == told[1]
    assert told[0].kind == "borrowing_limit"
