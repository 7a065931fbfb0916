"""A guarantee counts millis, places are indivisible: who has a right gets room, and nobody with a right loses it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.decide import decide
from policies.granting.reclaim import Tier, may_be_moved
from policies.invariants import check_decision
from policies.model.codec import to_json
from policies.model.decision import Decision, EvictionReason, PendingReason
from policies.model.inventory import ScrubState
from policies.model.memory import Memory
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.turns.standing import lay_out
from tests.policies.looking import DEPTH, FEW
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together
from tests.simulation.world import fleet

FOUR = [device(f"G{index}") for index in range(4)]
STANDS = {
    "civil/x:a": ("G0", 500), "civil/y:a": ("G0", 500), "civil/x:b": ("G1", 500), "civil/x:c": ("G1", 500),
    "civil/y:b": ("G2", 500), "civil/y:c": ("G2", 500), "defence/y:radar": ("G3", 1000),
}  # fmt: skip
"""Both civil tenants are guaranteed 1000 and hold 1500; on no device is all of it borrowed."""
LENT = {"civil/x:c", "civil/y:a"}


def crowded(**terms):
    """Return the fleet above, in which civil borrows a whole device in two halves that lie on two devices."""
    claims = {
        name: claim(name, millis=millis, submitted_at_ms=int(name in LENT), **terms.get(name, {}))
        for name, (_, millis) in STANDS.items()
    }
    runs = together(running(claims[name], (place,)) for name, (place, _) in STANDS.items())
    return snapshot(FOUR, [*claims.values(), claim("defence/x:triage", submitted_at_ms=2)], *runs)


def granted(decision) -> dict[str, int]:
    return {reason.claim: reason.granted_replicas for reason in decision.reasons}


def test_what_is_guaranteed_is_served_although_no_device_is_borrowed_as_a_whole():
    decision = decide(crowded(), rules(), Memory(), NOW_MS)
    held = granted(decision)
    assert held["defence/x:triage"] == 1
    assert {name for name, count in held.items() if not count} == LENT
    assert check_decision(crowded(), decision, rules()) == ()


def test_who_only_changes_its_place_is_said_to_be_moved_and_who_borrowed_to_have_given_back():
    reasons = {one.claim: one.reason for one in decide(crowded(), rules(), Memory(), NOW_MS).evictions}
    assert {reasons.pop(name) for name in LENT} == {EvictionReason.RECLAIM}
    assert set(reasons.values()) == {EvictionReason.CONSOLIDATE}
    assert len(reasons) == 1


def test_nobody_moves_for_a_claim_that_only_borrows():
    decision = decide(crowded(), rules(civil=3000, defence=1000), Memory(), NOW_MS)
    assert granted(decision)["defence/x:triage"] == 0
    assert decision.evictions == ()


@pytest.mark.parametrize("pinned", [("civil/x:a", "civil/x:b", "civil/y:b", "civil/y:c")])
def test_what_may_not_be_preempted_is_not_moved_either(pinned):
    seen = crowded(**{name: {"priority_class": "pinned"} for name in pinned})
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert granted(decision)["defence/x:triage"] == 0
    assert {one.claim for one in decision.evictions} & set(pinned) == set()


def test_a_search_for_moves_that_is_cut_short_leaves_everything_where_it_is():
    decision = decide(crowded(), rules(floor=0, search_steps=1), Memory(), NOW_MS)
    assert granted(decision)["defence/x:triage"] == 0
    assert decision.evictions == ()


def test_no_more_replicas_move_than_the_budget_of_evictions_allows():
    for budget, served in ((2, 0), (3, 1)):
        decision = decide(crowded(), rules(floor=0, evictions_per_window=budget), Memory(), NOW_MS)
        assert granted(decision)["defence/x:triage"] == served
        assert len(decision.evictions) <= budget


PARTS = st.lists(st.tuples(st.sampled_from((250, 500, 1000)), st.sampled_from("xy")), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(PARTS, st.randoms(use_true_random=False))
def test_a_domain_whose_guaranteed_replicas_can_be_packed_gets_all_of_them(parts, dice):
    """Sizes that divide each other pack without loss, so whatever is guaranteed has a place in some arrangement."""
    claims, runs, free = [], [], {one.id: 1000 for one in FOUR}
    for index, (millis, name) in enumerate(parts):
        one = claim(f"civil/{name}:c{index:02}", millis=millis, submitted_at_ms=dice.randrange(5))
        places = [place for place, left in free.items() if left >= millis]
        if not places:
            continue
        free[place := dice.choice(places)] -= millis
        claims.append(one)
        runs.append(running(one, (place,)))
    owners = [claim(f"defence/{name}:owner", millis=1000, submitted_at_ms=9) for name in "xy"]
    seen = snapshot(FOUR, [*claims, *owners], *together(runs))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    held: defaultdict[str, int] = defaultdict(int)
    sizes = {one.id: one.ladder[0].gpu_millis for one in (*claims, *owners)}
    for name, count in granted(decision).items():
        held[name.split(":", maxsplit=1)[0]] += sizes[name] * count
    assert all(granted(decision)[one.id] == 1 for one in owners)
    wanted = {name: sum(size for one, size in sizes.items() if one.startswith(name)) for name in ("civil/x", "civil/y")}
    assert all(held[name] >= _packed(sizes, name, min(1000, wanted[name])) for name in wanted)
    assert check_decision(seen, decision, rules()) == ()


def test_who_waits_longer_is_asked_again_once_somebody_left_before_a_sibling_has_what_it_could_not_use():
    """The first of civil/x found no place; another made room on G1, more than it needed itself."""
    stands = [
        ("civil/x:c00", 250, 1, "G0"), ("civil/y:c01", 250, 1, "G0"), ("civil/y:c02", 250, 1, "G0"),
        ("civil/y:c03", 250, 1, "G0"), ("civil/x:c04", 500, 0, "G1"), ("civil/x:c05", 500, 1, "G1"),
        ("civil/y:c06", 500, 0, "G2"), ("civil/y:c07", 500, 0, "G2"),
    ]  # fmt: skip
    claims = [claim(name, millis=millis, submitted_at_ms=at) for name, millis, at, _ in stands]
    runs = [running(one, (place,)) for one, (*_, place) in zip(claims, stands, strict=True)]
    owners = [claim(f"defence/{name}:owner", millis=1000, submitted_at_ms=9) for name in "xy"]
    seen = snapshot(FOUR, [*claims, *owners], *together(runs))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert {name for name, count in granted(decision).items() if count} == {
        "civil/x:c00", "civil/x:c04", "civil/y:c01", "civil/y:c06", "civil/y:c07", *(one.id for one in owners)
    }  # fmt: skip
    assert check_decision(seen, decision, rules()) == ()


def test_where_not_all_on_the_cheapest_device_can_be_spared_one_moves_on_another():
    """Each of two could be spared, both cannot: what is guaranteed moves aside instead, and the floor is served."""
    stands = [
        ("civil/y:c0", 250, "G1"), ("civil/x:c1", 500, "G2"), ("civil/x:c2", 250, "G0"), ("civil/x:c3", 250, "G0"),
        ("civil/y:c4", 1000, "G3"),
    ]  # fmt: skip
    claims = [claim(name, millis=millis) for name, millis, _ in stands]
    runs = [running(one, (place,)) for one, (*_, place) in zip(claims, stands, strict=True)]
    owners = [claim(f"defence/{name}:owner", submitted_at_ms=9) for name in "xy"]
    seen = snapshot(FOUR, [*claims, *owners], *together(runs))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    assert granted(decision) == {claims[4].id: 0} | {one.id: 1 for one in (*claims[:4], *owners)}
    assert {one.claim: one.reason for one in decision.evictions} == {
        "civil/y:c4": EvictionReason.RECLAIM, "civil/y:c0": EvictionReason.CONSOLIDATE,
    }  # fmt: skip
    assert check_decision(seen, decision, rules()) == ()


def _packed(sizes, name: str, quota: int) -> int:
    """Return the least that a tenant holds when the first of its claims that fit fill its quota."""
    return max(0, min(quota, quota - max((size for one, size in sizes.items() if one.startswith(name)), default=0) + 1))


@pytest.mark.parametrize("start_steps", [1, 4])
def test_what_is_started_in_another_place_is_not_given_up_while_the_old_one_still_answers(start_steps):
    made = fleet(rules(civil=2000, defence=2000), 1, 1, 1, flavor="A")
    radar, whole = claim("defence/x:radar"), claim("civil/y:whole", submitted_at_ms=9)
    stay, filler, moves = (claim(f"civil/{name}", millis=500) for name in ("x:a-stays", "y:filler", "x:b-moves"))
    made.claims = {one.id: one for one in (radar, stay, filler)}
    made.settle()
    made.claims[moves.id] = moves
    made.settle()
    made.claims = {one.id: one for one in (radar, stay, moves)}
    made.settle()
    made.claims[whole.id] = whole
    made.start_steps, made.history = start_steps, []
    made.in_flight = {one.id: 10 for one in made.groups.values() if one.claim == moves.id}
    made.run(40)
    assert all(made.running(one) == 1 for one in made.claims)
    assert made.history.count("start_group") == 2, "the half that moved, and the whole one"


WHOLE = "civil/x:whole"
"""Asks for one whole device and has a right to it; on no device is that much free."""
TWO_MOVES = {
    "one after the other": {
        "civil/x:a": ("G0", 500), "civil/y:b": ("G1", 300), "civil/y:pinned": ("G1", 500), "civil/y:d": ("G2", 700),
    },
    "not for the first device that was tried": {
        "civil/y:pinned": ("G2", 200), "civil/x:a": ("G1", 500), "civil/y:b": ("G2", 500), "civil/y:d": ("G0", 600),
    },
}  # fmt: skip
"""Where a replica can leave its device only if another one leaves its own before."""


def asked(stands) -> tuple:
    """Return what is decided on three devices of civil where these stand, all inside their quota."""
    claims = {
        name: claim(name, millis=millis, priority_class="pinned" if "pinned" in name else "standard")
        for name, (_, millis) in stands.items()
    }
    runs = together(running(claims[name], (place,)) for name, (place, _) in stands.items())
    seen, policy = (
        snapshot(FOUR[:3], [*claims.values(), claim(WHOLE, submitted_at_ms=9)], *runs),
        rules(3000, 0, floor=0),
    )
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    return granted(decision), {one.claim: one.reason for one in decision.evictions}


def can_move(stands, moves: int) -> bool:
    """Say by trying everything whether the whole device comes free, each replica moving for one that moves, so deep."""
    free = {"G0": 1000, "G1": 1000, "G2": 1000}
    for place, millis in stands.values():
        free[place] -= millis
    return any(_seated(1000, free, dict(stands), frozenset(), moves))


def _seated(size: int, free, stands, busy: frozenset[str], moves: int):
    """Yield what is free and what stands after each way to seat so much."""
    yield from ((free | {place: left - size}, stands, busy) for place, left in free.items() if left >= size)
    for place in free if moves else ():
        here = [name for name, (at, _) in stands.items() if at == place and name not in busy and "pinned" not in name]
        for some in (some for count in range(1, len(here) + 1) for some in permutations(here, count)):
            left = free[place] + sum(stands[name][1] for name in some) - size
            if left >= 0:
                rest = {name: one for name, one in stands.items() if name not in some}
                yield from _all_seated([stands[name][1] for name in some], free | {place: left}, rest,
                                       busy | set(some), moves - 1)  # fmt: skip


def _all_seated(sizes, free, stands, busy, moves: int):
    if not sizes:
        yield free, stands, busy
        return
    for now_free, now_stands, now_busy in _seated(sizes[0], free, stands, busy, moves):
        yield from _all_seated(sizes[1:], now_free, now_stands, now_busy, moves)


@pytest.mark.parametrize("stands", TWO_MOVES.values(), ids=TWO_MOVES)
def test_a_replica_moves_for_one_that_moves_where_one_move_is_not_enough(stands):
    assert (can_move(stands, 1), can_move(stands, 2)) == (False, True)
    held, moved = asked(stands)
    assert set(held.values()) == {1}, "the one that waited runs, and nobody else lost anything"
    assert len(moved) == 2
    assert set(moved.values()) == {EvictionReason.CONSOLIDATE}


THREE = st.lists(
    st.tuples(st.sampled_from((200, 300, 400, 500, 600, 700)), st.sampled_from("xy"), st.sampled_from("012"),
              st.sampled_from(("pinned", "c", "c", "c"))), min_size=3, max_size=7,
)  # fmt: skip


@FEW
@given(THREE)
@example([(500, "x", "2", "pinned"), (500, "y", "0", "pinned"), (600, "y", "1", "c")])
def test_whatever_comes_free_by_moving_once_is_found_and_what_cannot_come_free_moves_nobody(parts):
    free, left, stands = {"G0": 1000, "G1": 1000, "G2": 1000}, {"x": 500, "y": 1500}, {}
    for index, (millis, name, host, kind) in enumerate(parts):
        if free[f"G{host}"] >= millis and left[name] >= millis:
            free[f"G{host}"], left[name] = free[f"G{host}"] - millis, left[name] - millis
            stands[f"civil/{name}:{kind}{index}"] = (f"G{host}", millis)
    held, moved = asked(stands)
    assert all(held[name] == 1 for name in stands), "nobody loses what it has a right to"
    if can_move(stands, 1):
        assert held[WHOLE] == 1
    if not can_move(stands, 2):
        assert (held[WHOLE], moved) == (0, {})


def test_in_the_next_turn_nothing_moves_again():
    domains = {one.domain for one in decide(crowded(), rules(), Memory(), NOW_MS).bindings}
    assert domains == {SecurityDomain.CIVIL, SecurityDomain.DEFENCE}


def test_a_whole_device_comes_free_of_its_fragments_and_everybody_runs_again():
    made = fleet(rules(civil=4000, defence=0, floor=0), 4, flavor="A")
    halves = [claim(f"civil/x:h{index}", millis=500) for index in range(4)]
    workers, groups = zip(*(running(one, (f"GPU-0-{index}",)) for index, one in enumerate(halves)), strict=True)
    for one in halves:
        made.claims[one.id] = one
    for (worker,), (group,) in zip(workers, groups, strict=True):
        made.workers[worker.id] = replace(worker, node="node-0")
        made.groups[group.id] = group
        made.devices[worker.devices[0]] = replace(
            made.devices[worker.devices[0]], domain=SecurityDomain.CIVIL, scrub=ScrubState.DIRTY
        )
    whole = claim("civil/y:whole", submitted_at_ms=9)
    made.claims[whole.id] = whole
    made.settle()
    assert all(made.running(one.id) == 1 for one in (*halves, whole))
    moved = [one for one in made.groups.values() if one.id not in {group.id for (group,) in groups}]
    assert len(moved) == 2, "one half moved beside another, and the whole device went to who waited"


@pytest.mark.parametrize("least", [0, 1, 2])
def test_of_those_that_could_move_as_well_the_one_moves_that_loses_least(least):
    """Three halves on a device each, all with a right; a whole device comes free where one moves beside another."""
    halves = [claim(f"civil/x:h{index}", millis=500) for index in range(3)]
    runs = []
    for index, one in enumerate(halves):
        workers, groups = running(one, (f"G{index}",))
        runs.append((workers, [replace(groups[0], cold_start_ms=1_000 if index == least else 9_000)]))
    whole = claim("civil/y:whole", submitted_at_ms=9)
    decision = decide(snapshot(FOUR[:3], [*halves, whole], *runs), rules(civil=6000, floor=0), Memory(), NOW_MS)
    assert set(granted(decision).values()) == {1}
    assert [one.claim for one in decision.evictions] == [halves[least].id]


ASKER, OWNER = claim("civil/x:asker"), claim("civil/y:owner")


def may_move(own=OWNER, tier=Tier.GUARANTEED, **rest) -> bool:
    """Whether the owner's replica may change its place for the asker."""
    seen = snapshot(FOUR, [ASKER, own], running(own, ("G0",), since_ms=NOW_MS - 59_999), **rest)
    work = lay_out(seen, rules(), Memory(), NOW_MS).work
    (asker,), (owner,) = work.of_claim[ASKER.id], work.of_claim[own.id]
    (seat,) = owner.seats
    assert not may_be_moved(work.victims, owner, tier, owner, seat), "for itself nobody moves"
    return may_be_moved(work.victims, asker, tier, owner, seat)


@pytest.mark.parametrize(("kind", "subject"), [
    (GapKind.DEVICE, "G0"), (GapKind.NODE, "n0"), (GapKind.CLUSTER, "civil"),
])  # fmt: skip
def test_what_was_not_seen_is_not_moved(kind, subject):
    gap = Gap(kind=kind, subject=subject, cause="timeout", since_ms=NOW_MS)
    assert may_move()
    assert not may_move(gaps=(gap,))
    elsewhere = replace(gap, subject="defence" if kind is GapKind.CLUSTER else "elsewhere")
    assert may_move(gaps=(elsewhere,))


def test_a_replica_of_which_one_device_was_not_seen_is_not_moved():
    pair = claim("civil/y:pair", devices=2)
    runs = running(pair, ("G0", "G1"))
    for subject, moves in (("G1", False), ("G2", True)):
        gap = Gap(kind=GapKind.DEVICE, subject=subject, cause="timeout", since_ms=NOW_MS)
        work = lay_out(snapshot(FOUR, [ASKER, pair], runs, gaps=(gap,)), rules(), Memory(), NOW_MS).work
        (asker,), (owner,) = work.of_claim[ASKER.id], work.of_claim[pair.id]
        assert may_be_moved(work.victims, asker, Tier.FLOOR, owner, owner.seats[0]) is moves


def test_who_may_not_be_ended_or_has_only_just_begun_is_not_moved_but_for_the_floor_of_another_tenant():
    assert not may_move(replace(OWNER, priority_class="pinned"))
    young, same = replace(OWNER, priority_class="batch"), claim("civil/x:owner", priority_class="batch")
    assert not may_move(young)
    assert may_move(young, Tier.FLOOR)
    assert not may_move(same, Tier.FLOOR)
    assert may_move(replace(same, priority_class="standard"))


TERMS = st.tuples(
    st.sampled_from(("civil/x", "civil/y", "defence/x", "defence/y")), st.sampled_from((250, 500, 1000)),
    st.sampled_from(("standard", "critical", "batch")), st.integers(0, 2), st.integers(0, 2), st.integers(1, 4),
)  # fmt: skip
"""Claims that wait, all alike: tenant, size, class, minimum, replicas beyond it, and how many of them."""


@settings(max_examples=40 * DEPTH, deadline=None)
@given(PARTS, st.randoms(use_true_random=False), st.lists(TERMS, min_size=1, max_size=4), st.sampled_from((1, 3, 32)))
def test_p34_what_was_not_found_for_one_by_moving_others_is_not_there_for_its_equals(parts, dice, waiting, budget):
    """Equals that wait share a failed search; where each is searched for by itself the same is decided, in bytes."""
    claims, runs, free = [], [], {one.id: 1000 for one in FOUR}
    for index, (millis, name) in enumerate(parts):
        kind = dice.choice(("standard", "standard", "batch", "pinned"))
        one = claim(f"civil/{name}:c{index:02}", millis=millis, submitted_at_ms=dice.randrange(5), priority_class=kind)
        places = [place for place, left in free.items() if left >= millis]
        if places:
            free[place := dice.choice(places)] -= millis
            claims.append(one)
            runs.append(running(one, (place,)))
    alike = [
        claim(f"{tenant}:w{kind}{index}", millis=millis, least=least, most=max(1, least + more), priority_class=rank,
              submitted_at_ms=index)
        for kind, (tenant, millis, rank, least, more, count) in enumerate(waiting) for index in range(count)
    ]  # fmt: skip
    policy = rules(floor=dice.choice((0, 1000)), evictions_per_window=budget)
    shared, single = decided_both_ways(claims, alike, runs, policy)
    if any(one.code is PendingReason.SEARCH_INCOMPLETE for one in single.reasons):
        return  # searched for one by one, they use up what a decision may look at, which those that share may not
    assert to_json(replace(shared, search_steps=0)) == to_json(replace(single, search_steps=0))


def decided_both_ways(claims, alike, runs, policy) -> tuple[Decision, Decision]:
    """What is decided where equals share what is found out for one of them, and where each is looked at by itself."""
    apart = [replace(one, model=f"m{index}") for index, one in enumerate(alike)]  # no host has any of them at hand
    shared, single = (
        decide(snapshot(FOUR, [*claims, *some], *together(runs)), policy, Memory(), NOW_MS) for some in (alike, apart)
    )
    return shared, single


def test_p34_who_had_nothing_to_spare_is_asked_again_by_the_next_of_equals_once_it_was_granted_more():
    """The third of the equals finds nothing that may move for it; then one that left for the first is placed again."""
    stands = [
        ("civil/x:c0", 500, "standard", "G1"), ("civil/x:c1", 250, "pinned", "G0"), ("civil/x:c2", 250, "batch", "G3"),
        ("civil/x:c3", 250, "standard", "G3"), ("civil/x:c4", 250, "standard", "G1"),
        ("civil/y:c5", 250, "standard", "G2"), ("civil/x:c6", 500, "pinned", "G0"),
        ("civil/y:c7", 500, "standard", "G3"), ("civil/y:c8", 500, "pinned", "G2"),
    ]  # fmt: skip
    claims = [
        claim(name, millis=millis, priority_class=rank, submitted_at_ms=3 * (name == "civil/x:c4"))
        for name, millis, rank, _ in stands
    ]
    runs = [running(one, (place,)) for one, (*_, place) in zip(claims, stands, strict=True)]
    alike = [claim(f"civil/x:w{index}", millis=250, least=0, most=1, submitted_at_ms=0) for index in range(3)]
    alike += [claim(f"defence/x:w{index}", millis=500, submitted_at_ms=index) for index in range(4)]
    shared, single = decided_both_ways(claims, alike, runs, rules(evictions_per_window=3))
    assert len([one for one in single.placements if one.claim.startswith("defence/x")]) == 4
    assert to_json(replace(shared, search_steps=0)) == to_json(replace(single, search_steps=0))
