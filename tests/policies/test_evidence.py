"""What was not seen may hold a move, never cause one; what is idle is lent and comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.model.decision import EvictionReason, PendingReason
from policies.model.inventory import GroupState, UsageState
from policies.model.memory import Drain, Memory
from policies.model.snapshot import Gap, GapKind
from tests.policies.looking import FEW, FOUR, SEEDS, granted, some_world
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot


@FEW
@given(SEEDS, st.sampled_from((GapKind.CLUSTER, GapKind.NODE, GapKind.DEVICE, GapKind.GATEWAY)))
def test_p33_not_seeing_something_never_takes_a_place_that_would_otherwise_be_kept(seed, kind):
    dice, made = some_world(seed, 10)
    made.gaps, made.adopting = [], ()
    made.run(6)
    seen = made.observe()
    subjects = {GapKind.NODE: sorted(made.nodes), GapKind.DEVICE: sorted(made.devices)}.get(kind, ["civil", "defence"])
    gap = Gap(kind=kind, subject=dice.choice(subjects), cause="timeout", since_ms=made.now_ms)
    calm = {one.group for one in decide(seen, made.policy, made.memory, made.now_ms).evictions}
    blind = decide(replace(seen, gaps=(gap,)), made.policy, made.memory, made.now_ms).evictions
    concerned = {group.id for group in seen.groups if _is_hidden(seen, group, gap)}
    assert not (concerned & {one.group for one in blind if one.beneficiary}) - calm


def test_p33_a_demand_that_is_too_old_keeps_what_runs():
    chat = claim("civil/x:chat", least=1, most=4)
    seen = snapshot(FOUR, [chat], running(chat, ("G0",), ("G1",), ("G2",)), demands=[(chat.id, 1)])
    late = NOW_MS + 60_000
    assert granted(decide(seen, rules(civil=4000), Memory(), late), chat.id) == 3


def _is_hidden(seen, group, gap) -> bool:
    worker = next((one for one in seen.workers if one.id == group.worker), None)
    if worker is None:
        return False
    return gap.subject in (*group.devices, worker.node, str(worker.domain))


def test_idle_capacity_is_lent_and_comes_back_when_work_arrives():
    mine = claim("defence/x:night", least=1)
    workers, groups = running(mine, ("G0",))
    idle = [replace(one, usage=UsageState.TRULY_IDLE, in_flight=0) for one in groups]
    other = claim("civil/x:chat")
    memory = Memory()
    seen = snapshot([device("G0")], [mine, other], (workers, idle), demands=[(mine.id, 1), (other.id, 1)])
    policy = rules(idle_after_ms=60_000, floor=0)
    assert granted(decide(seen, policy, memory, NOW_MS), other.id) == 0
    memory = decide(seen, policy, memory, NOW_MS).memory
    fresh = replace(seen, demands=tuple(replace(one, observed_at_ms=NOW_MS + 60_000) for one in seen.demands))
    lent = decide(fresh, policy, memory, NOW_MS + 60_000)
    assert granted(lent, other.id) == 1
    assert {one.reason for one in lent.evictions} == {EvictionReason.IDLE}
    busy = replace(fresh, demands=tuple(replace(one, in_flight=1) for one in fresh.demands))
    assert granted(decide(busy, policy, memory, NOW_MS + 60_000), mine.id) == 1


def lent_while_idle():
    """A claim whose replica was idle for a minute: another domain's runs there now. With what is remembered of it."""
    mine, other = claim("defence/x:night"), claim("civil/x:chat")
    workers, groups = running(mine, ("G0",))
    idle = [replace(one, usage=UsageState.TRULY_IDLE, in_flight=0) for one in groups]
    seen = snapshot([device("G0")], [mine, other], (workers, idle), demands=[(mine.id, 1), (other.id, 1)])
    policy = rules(civil=0, defence=2000, idle_after_ms=60_000, floor=0)
    memory = decide(seen, policy, Memory(), NOW_MS).memory
    fresh = replace(seen, demands=tuple(replace(one, observed_at_ms=NOW_MS + 60_000) for one in seen.demands))
    lent = decide(fresh, policy, memory, NOW_MS + 60_000)
    after = snapshot([device("G0")], [mine, other], running(other, ("G0",)), demands=[(mine.id, 1), (other.id, 1)])
    return mine, after, policy, lent.memory


def asked(seen, name: str, queued: int, at_ms: int):
    demands = (replace(one, observed_at_ms=at_ms, queued=queued if one.claim == name else 0) for one in seen.demands)
    return replace(seen, demands=tuple(demands))


def test_who_was_idle_and_is_lent_asks_for_nothing_and_is_told_so():
    mine, seen, policy, memory = lent_while_idle()
    later = NOW_MS + 61_000
    decision = decide(asked(seen, mine.id, 0, later), policy, memory, later)
    assert decision.evictions == ()
    told = next(one for one in decision.reasons if one.claim == mine.id)
    assert told.sentence == "0 of 1 replicas: it was idle, so what it held is lent; it comes back with its next request"


def test_what_was_lent_while_idle_comes_back_with_the_next_request_without_a_cool_down():
    mine, seen, policy, memory = lent_while_idle()
    later = NOW_MS + 61_000
    decision = decide(asked(seen, mine.id, 1, later), policy, memory, later)
    assert granted(decision, mine.id) == 1
    assert {one.reason for one in decision.evictions} == {EvictionReason.RECLAIM}


def test_who_is_owed_what_an_unseen_domain_holds_is_told_that_it_was_not_seen():
    """Nothing leaves a domain that was not seen, so its borrower keeps what is the waiting claim's by right."""
    owner, borrower = claim("defence/x:owner"), claim("civil/x:guest", most=4)
    seen = snapshot(FOUR, [owner, borrower], running(borrower, *((one.id,) for one in FOUR)))
    blind = replace(seen, gaps=(Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=0),))
    decision = decide(blind, rules(civil=0, defence=4000, floor=0), Memory(), NOW_MS)
    assert decision.evictions == ()
    assert next(one.code for one in decision.reasons if one.claim == owner.id) is PendingReason.TELEMETRY_STALE


def test_a_worker_that_names_no_device_in_an_unseen_domain_stops_no_decision():
    """A pod that somebody else made, or whose note of its devices was lost, is seen like any other."""
    owner, borrower = claim("defence/x:owner"), claim("civil/x:guest", most=4)
    seen = snapshot(FOUR, [owner, borrower], running(borrower, *((one.id,) for one in FOUR)))
    gap = Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=0)
    blind, policy = replace(seen, gaps=(gap,)), rules(civil=0, defence=4000, floor=0)
    odd = replace(seen.workers[0], id="civil-odd", devices=())
    with_it = decide(replace(blind, workers=(*seen.workers, odd)), policy, Memory(), NOW_MS)
    without = decide(blind, policy, Memory(), NOW_MS)
    assert (with_it.reasons, with_it.placements) == (without.reasons, without.placements)


@pytest.mark.parametrize(
    ("kind", "subject", "said"),
    [
        (GapKind.NODE, "n0", "node n0 was not seen (timeout): nothing starts there, and nothing there leaves"),
        (GapKind.DEVICE, "G1", "device G1 was not seen (timeout): nothing starts there, and nothing there leaves"),
        (GapKind.CLUSTER, "civil", "cluster civil was not seen (timeout): nothing starts, stops or moves there"),
        (GapKind.GATEWAY, "civil", "gateway civil was not seen (timeout): no replica there goes for want of requests"),
        (GapKind.DEMAND, "civil/x:chat", "no replica of it goes for want of requests"),
    ],
)
def test_each_kind_of_gap_says_what_it_holds_and_holds_it(kind, subject, said):
    """A claim with three replicas is asked for one, and its domain lends all of them to it."""
    chat = claim("civil/x:chat", most=3, least=1)
    seen = snapshot(FOUR, [chat], running(chat, ("G0",), ("G1",), ("G2",)), demands=[(chat.id, 1)])
    gap = Gap(kind=kind, subject=subject, cause="timeout", since_ms=0)
    policy = rules(civil=4000, scale_down_hold_ms=0)
    held = decide(replace(seen, gaps=(gap,)), policy, Memory(), NOW_MS)
    assert len(held.held_by_gaps) == 1
    assert said in held.held_by_gaps[0]
    assert len(decide(seen, policy, Memory(), NOW_MS).evictions) == 2
    if kind not in (GapKind.NODE, GapKind.DEVICE):
        assert held.evictions == ()


@pytest.mark.parametrize("gap", [(GapKind.NODE, "n0"), (GapKind.DEVICE, "G0")])
def test_nothing_leaves_a_device_that_was_not_seen_for_others_and_nothing_starts_there(gap):
    guest, owner = claim("civil/x:guest"), claim("defence/x:owner", most=2, least=2)
    seen = snapshot(FOUR[:2], [guest, owner], running(guest, ("G0",)))
    gaps = (Gap(kind=gap[0], subject=gap[1], cause="timeout", since_ms=0),)
    policy = rules(civil=0, defence=2000, floor=0)
    assert decide(seen, policy, Memory(), NOW_MS).evictions
    held = decide(replace(seen, gaps=gaps), policy, Memory(), NOW_MS)
    assert held.evictions == ()
    assert {one.claim for one in held.placements} == {guest.id}


def test_a_domain_that_is_adopted_after_a_restart_holds_and_says_so():
    chat = claim("civil/x:chat", most=3, least=1)
    seen = snapshot(FOUR, [chat], running(chat, ("G0",), ("G1",), ("G2",)), demands=[(chat.id, 1)])
    held = decide(replace(seen, adopting=("civil",)), rules(civil=4000, scale_down_hold_ms=0), Memory(), NOW_MS)
    assert held.held_by_gaps == ("domain civil is being adopted: it holds what runs",)
    assert held.evictions == ()


def test_what_is_moved_counts_once_while_fewer_are_wanted():
    """Two are wanted; of these one moves from G1 to G2. Three are seen meanwhile, and nothing is scaled down."""
    chat = claim("civil/x:chat", most=2, least=1)
    workers, (stays, old, new) = running(chat, ("G0",), ("G1",), ("G2",))
    groups = [stays, replace(old, routed=False), replace(new, running=0, state=GroupState.STARTING, routed=False)]
    memory = Memory(drains=(Drain(group=old.id, since_ms=NOW_MS - 1),))
    decision = decide(snapshot(FOUR, [chat], (workers, groups)), rules(civil=4000), memory, NOW_MS)
    assert [(one.group, one.reason) for one in decision.evictions] == [(old.id, EvictionReason.RELEASED)]
    assert decision.memory.claims[0].lower_since_ms is None
