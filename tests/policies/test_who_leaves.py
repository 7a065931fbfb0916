"""Of those who could make room, who does: by cost, by right, by what was seen of them, and how long they have run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.model.decision import EvictionReason
from policies.model.inventory import GroupState, UsageState
from policies.model.memory import ClaimMemory, Drain, Memory
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota
from policies.model.workload import ClaimKind
from tests.policies.looking import FOUR, granted
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together

LENT = [claim(f"civil/x:lent{index}", submitted_at_ms=index) for index in range(2)]
OWNER = claim("defence/x:owner")
LENDING = rules(civil=0, defence=2000, floor=0)
"""All that runs in civil is borrowed from defence."""


def leaving(seen, policy=LENDING, memory=Memory()) -> dict[str, EvictionReason]:  # noqa: B008  # a frozen noun
    return {one.claim: one.reason for one in decide(seen, policy, memory, NOW_MS).evictions}


def two(first: dict, second: dict, lent=LENT, **rest):
    """Two borrowers, each on a device, in these states; the owner wants one device back."""
    runs = []
    for one, name, state in zip(lent, ("G0", "G1"), (first, second), strict=True):
        workers, groups = running(one, (name,))
        runs.append((workers, [replace(groups[0], **state)]))
    return snapshot(FOUR[:2], [*lent, OWNER], *runs, **rest)


CHEAPER = {
    "whose load was not seen is taken to answer one request": ({"in_flight": None}, {"in_flight": 2}, 0),
    "not even one request beats a load that was not seen": ({"in_flight": None}, {"in_flight": 0}, 1),
    "nothing runs in it yet": ({"cold_start_ms": 1}, {"running": 0, "cold_start_ms": 90_000}, 1),
    "every request pays the cold start": ({"in_flight": 1, "cold_start_ms": 5_000},
                                          {"in_flight": 4, "cold_start_ms": 1_900}, 1),
    "the cold start is paid once even with nobody inside": ({"in_flight": 0, "cold_start_ms": 5_000},
                                                            {"in_flight": 1, "cold_start_ms": 2_499}, 1),
    "work since the last checkpoint is lost": ({"checkpoint_ms": NOW_MS - 9_000}, {"checkpoint_ms": NOW_MS - 8_999}, 1),
    "without a checkpoint nothing is lost": ({"checkpoint_ms": NOW_MS - 1}, {"checkpoint_ms": None}, 1),
}  # fmt: skip


ONE_OF_TWO = rules(civil=0, defence=2000, floor=0, evictions_per_window=1)
"""The owner wants both devices back, and may take one at a time."""
BOTH = replace(OWNER, min_replicas=0, desired_replicas=2, max_replicas=2)


@pytest.mark.parametrize(("first", "second", "index"), CHEAPER.values(), ids=CHEAPER)
def test_of_two_borrowers_the_one_leaves_that_costs_less(first, second, index):
    for states, name in (((first, second), LENT[index].id), ((second, first), LENT[1 - index].id)):
        assert list(leaving(replace(two(*states), claims=(*LENT, BOTH)), ONE_OF_TWO)) == [name]


def test_who_borrows_beyond_its_fair_share_leaves_before_who_does_not_whatever_that_costs():
    assert list(leaving(two({"in_flight": 0}, {"in_flight": 900}))) == [LENT[1].id]
    assert list(leaving(two({"in_flight": 900}, {"in_flight": 0}))) == [LENT[1].id]


def test_who_drains_already_leaves_however_much_more_it_costs():
    seen = two({"in_flight": 0}, {"in_flight": 900, "routed": False})
    memory = Memory(drains=(Drain(group=seen.groups[1].id, since_ms=NOW_MS - 1_000),))
    assert list(leaving(seen, memory=memory)) == [LENT[1].id]


@pytest.mark.parametrize(("kind", "subject"), [(GapKind.DEVICE, "G0"), (GapKind.NODE, "n0")])
def test_who_stands_where_nothing_was_seen_is_not_asked_to_leave(kind, subject):
    gap = Gap(kind=kind, subject=subject, cause="timeout", since_ms=NOW_MS)
    seen = two({"in_flight": 0}, {"in_flight": 9}, gaps=(gap,))
    expected = [LENT[1].id] if kind is GapKind.DEVICE else []
    assert list(leaving(seen)) == expected


def test_nobody_of_a_domain_that_is_not_seen_is_asked_to_leave():
    gap = Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=NOW_MS)
    assert leaving(two({}, {}, gaps=(gap,))) == {}


@pytest.mark.parametrize(("ran_ms", "leaves"), [(59_999, False), (60_000, True)])
def test_a_class_is_protected_for_its_minimum_runtime_to_the_millisecond(ran_ms, leaves):
    lent = [replace(one, priority_class="batch") for one in LENT]
    seen = two({"since_ms": NOW_MS - ran_ms}, {"since_ms": NOW_MS - ran_ms}, lent)
    assert bool(leaving(seen)) is leaves


def test_the_floor_of_its_own_tenant_does_not_end_a_minimum_runtime_and_that_of_another_does():
    """Two batch jobs of the tenant just began; a critical claim, of the same tenant or of another, has a floor."""
    young = [claim(f"defence/x:young{index}", priority_class="batch", submitted_at_ms=index) for index in range(2)]
    runs = [running(one, (f"G{index}",), since_ms=NOW_MS - 1) for index, one in enumerate(young)]
    policy = rules(civil=0, defence=2000, floor=2000)
    for name, served in (("defence/x:owner", 0), ("defence/y:owner", 1)):
        owner = claim(name, priority_class="critical")
        decision = decide(snapshot(FOUR[:2], [*young, owner], *runs), policy, Memory(), NOW_MS)
        assert granted(decision, owner.id) == served


@pytest.mark.parametrize(("ago_ms", "leaves"), [(29_999, False), (30_000, True)])
def test_who_was_evicted_rests_for_the_cool_down_before_it_asks_others_to_leave(ago_ms, leaves):
    memory = Memory(claims=(
        ClaimMemory(claim=OWNER.id, evicted_at_ms=NOW_MS - ago_ms, waiting_since_ms=NOW_MS - ago_ms),
    ))  # fmt: skip
    assert bool(leaving(two({}, {}), memory=memory)) is leaves


def test_a_class_with_a_delay_does_not_ask_the_moment_it_comes():
    for name, leaves in (("standard", True), ("batch", False)):
        seen = two({}, {})
        late = replace(OWNER, priority_class=name)
        assert bool(leaving(replace(seen, claims=(*LENT, late)))) is leaves


def test_the_wait_of_a_class_counts_from_when_it_began_to_wait_and_a_floor_waits_for_nothing():
    late = replace(OWNER, priority_class="batch")
    seen = replace(two({}, {}), claims=(*LENT, late))
    known = Memory(claims=(ClaimMemory(claim=late.id, rung=0),))
    assert leaving(seen, memory=known) == {}
    assert len(leaving(seen, rules(civil=0, defence=2000, floor=1000), known)) == 1


@pytest.mark.parametrize(("waited_ms", "leaves"), [(29_999, False), (30_000, True)])
def test_the_delay_of_a_class_ends_to_the_millisecond(waited_ms, leaves):
    late = replace(OWNER, priority_class="batch")
    known = Memory(claims=(ClaimMemory(claim=late.id, waiting_since_ms=NOW_MS - waited_ms),))
    assert bool(leaving(replace(two({}, {}), claims=(*LENT, late)), memory=known)) is leaves


IDLE = {"usage": UsageState.TRULY_IDLE}
LONG_IDLE = Memory(claims=tuple(ClaimMemory(claim=one.id, rung=0, idle_since_ms=1) for one in LENT))


@pytest.mark.parametrize(("state", "leaves"), [(IDLE, True), ({"usage": UsageState.UNKNOWN}, False)])
def test_what_has_been_idle_for_long_makes_room_even_for_a_borrower_but_only_while_it_is_seen_idle(state, leaves):
    """Civil owns all; the idle ones hold what their tenant has a right to."""
    borrower = replace(OWNER, id="defence/x:borrower")
    seen = two(state, state)
    seen = replace(seen, claims=(*LENT, borrower))
    policy = rules(civil=4000, defence=0, floor=0)
    found = leaving(seen, policy, LONG_IDLE)
    assert found == ({LENT[0].id: EvictionReason.IDLE} if leaves else {})


def test_what_works_does_not_make_room_for_a_borrower():
    borrower = replace(OWNER, id="defence/x:borrower")
    seen = replace(two({}, {}), claims=(*LENT, borrower))
    assert leaving(seen, rules(civil=4000, defence=0, floor=0)) == {}


def inside(rank: str, others: str = "standard", *, least: int = 1, most: int | None = None):
    """One tenant with one device, used by one of its claims; another of its claims wants it."""
    first = claim("civil/x:first", priority_class=others, least=least, most=most)
    urgent = claim("civil/x:urgent", priority_class=rank, submitted_at_ms=1)
    places = [(f"G{index}",) for index in range(first.max_replicas)]
    count = len(places) * 1000
    policy = rules(civil=2 * count, defence=0, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=tuple(replace(quota, nominal_millis=count) for quota in one.quotas))
        if one.id.startswith("civil") else one for one in policy.tenants if one.id != "civil/y"
    ))  # fmt: skip
    return leaving(snapshot(FOUR[: len(places)], [first, urgent], running(first, *places)), policy)


def test_inside_a_tenant_the_higher_class_takes_and_an_equal_or_lower_one_does_not():
    assert inside("critical") == {"civil/x:first": EvictionReason.PREEMPT}
    assert inside("standard") == {}
    assert inside("batch") == {}


def test_inside_a_tenant_the_minimum_of_one_claim_goes_before_what_an_equal_has_beyond_its_minimum():
    assert inside("standard", least=1, most=2) == {"civil/x:first": EvictionReason.REBALANCE}
    assert inside("standard", least=2, most=2) == {}


def paused():
    overlay = ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",))
    declared = ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS + 10**6, approvers=("ana", "ben")
    )
    return replace(rules(civil=4000, defence=0, floor=0), overlays=(overlay,), declaration=declared)


def test_whom_the_mode_pauses_is_said_to_leave_for_the_mode():
    lent = [replace(one, priority_class="batch") for one in LENT]
    other = claim("civil/y:other")
    seen = replace(two({}, {}, lent), claims=(*lent, other))
    found = leaving(seen, paused())
    assert set(found.values()) == {EvictionReason.MODE_CHANGE}


def shared_out(x: int, y: int):
    """Civil owns two devices, of which its tenants own so much each."""
    policy = rules(civil=2000, defence=0, floor=0)
    nominal = {"civil/x": x, "civil/y": y}
    return replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=nominal[one.id]),)) if one.id in nominal else one
        for one in policy.tenants
    ))  # fmt: skip


def test_who_takes_back_its_own_quota_is_said_to_reclaim_and_who_gets_a_share_of_the_surplus_to_rebalance():
    lent, taker = claim("civil/x:lent", least=0, most=2), claim("civil/y:taker")
    seen = snapshot(FOUR[:2], [lent, taker], running(lent, ("G0",), ("G1",)))
    assert leaving(seen, shared_out(1000, 1000)) == {lent.id: EvictionReason.RECLAIM}
    theirs = claim("defence/x:taker")
    fair = rules(civil=0, defence=0, floor=0)
    assert leaving(replace(seen, claims=(lent, theirs)), fair) == {lent.id: EvictionReason.REBALANCE}


def test_who_holds_no_more_than_it_is_guaranteed_loses_nothing_to_a_fair_share():
    mine, taker = claim("civil/x:mine", least=0, most=2), claim("civil/y:taker")
    seen = snapshot(FOUR[:2], [mine, taker], running(mine, ("G0",), ("G1",)))
    assert leaving(seen, shared_out(2000, 0)) == {}


@pytest.mark.parametrize(("left", "served"), [(1, True), (0, False)])
def test_no_more_evictions_than_the_window_allows_are_begun_counting_those_of_late(left, served):
    memory = Memory(evictions_ms=(NOW_MS - 59_999, NOW_MS - 60_000, NOW_MS - 90_000))
    policy = rules(civil=0, defence=2000, floor=0, evictions_per_window=1 + left)
    assert bool(leaving(two({}, {}), policy, memory)) is served


def test_floors_are_outside_the_budget():
    policy = rules(civil=0, defence=2000, floor=1000, evictions_per_window=0)
    assert len(leaving(two({}, {}), policy)) == 1


def test_who_ends_halfway_anyway_is_taken_before_anybody_else():
    seen = two({"state": GroupState.FAILED, "running": 0, "routed": False}, {"in_flight": 0})
    failed = {LENT[0].id: EvictionReason.DRAIN}
    assert leaving(seen) == failed


def test_the_owner_of_a_device_frees_it_of_the_cheapest_halves_and_no_replica_leaves_that_need_not():
    """Two devices with two borrowed halves each, of which one or two are wanted."""
    halves = [claim(f"civil/x:h{index}", millis=500) for index in range(4)]
    runs = [running(one, (f"G{index // 2}",)) for index, one in enumerate(halves)]
    load = (3, 4, 2, 9)
    runs = [
        (workers, [replace(groups[0], in_flight=inside)])
        for (workers, groups), inside in zip(runs, load, strict=True)
    ]  # fmt: skip
    owner = claim("civil/y:owner", millis=500, least=0, most=4)
    for budget, gone in ((1, {2}), (2, {2, 0}), (3, {0, 1, 2})):
        policy = replace(shared_out(0, 2000), bounds=replace(LENDING.bounds, evictions_per_window=budget))
        seen = snapshot([device("G0"), device("G1")], [*halves, owner], *together(runs))
        assert set(leaving(seen, policy)) == {halves[index].id for index in gone}
    whole = claim("civil/y:whole", least=0, most=2)
    policy = replace(shared_out(0, 2000), bounds=replace(LENDING.bounds, evictions_per_window=2))
    seen = replace(seen, claims=(*halves, whole))
    assert set(leaving(seen, policy)) == {halves[0].id, halves[1].id}


def test_a_gang_takes_back_all_that_it_needs_or_nothing():
    lent = [claim(f"civil/x:l{index}", submitted_at_ms=index) for index in range(4)]
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(lent)]
    for protected, count in ((0, 4), (1, 0)):
        some = [replace(one, priority_class="pinned") if index < protected else one for index, one in enumerate(lent)]
        gang = claim("defence/x:gang", least=4, most=4, kind=ClaimKind.JOB)
        found = leaving(snapshot(FOUR, [*some, gang], *runs), rules(civil=0, defence=8000, floor=0))
        assert len(found) == count


def test_who_loses_a_replica_of_its_minimum_keeps_the_minimum_with_one_that_it_had_beyond():
    """The further replica began a moment ago and may not be ended yet, so that one of the minimum makes room."""
    gang = claim("civil/x:gang", least=2, most=3, priority_class="batch")
    urgent = claim("civil/x:urgent", priority_class="critical")
    workers, groups = running(gang, ("G0",), ("G1",), ("G2",))
    groups[2] = replace(groups[2], since_ms=NOW_MS - 1)
    seen = snapshot(FOUR[:3], [gang, urgent], (workers, groups))
    decision = decide(seen, rules(civil=2000, defence=0, floor=0), Memory(), NOW_MS)
    assert (granted(decision, urgent.id), granted(decision, gang.id)) == (1, 2)
    assert [one.beneficiary for one in decision.evictions] == [urgent.id]
    assert groups[2].id not in {one.group for one in decision.evictions}
