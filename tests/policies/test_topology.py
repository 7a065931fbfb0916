"""A shape of several devices gets devices that NVLink joins, and a gang one rack, where that costs nobody anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.decide import Decider, decide
from policies.evidence.survey import survey
from policies.fleet.board import Need, Seat
from policies.fleet.empty_board import board
from policies.granting.displacing import Weak, find_by_displacing
from policies.invariants import check_decision
from policies.model.codec import to_json
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, event, world

ROOM = rules(civil=64_000, defence=64_000, floor=0)


def host(islands: str, node: str = "n0"):
    """Devices of one host, a letter of the island for each; a dot for a device on none."""
    return [
        device(f"{node}-{index}", node, island="" if letter == "." else f"{node}/{letter}")
        for index, letter in enumerate(islands)
    ]


def decided(seen: Snapshot, policy: Policy = ROOM):
    made = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, made, policy) == ()
    return made


def places(seen: Snapshot, name: str) -> list[tuple[str, ...]]:
    return sorted(one.devices for one in decided(seen).placements if one.claim == name)


def busy(*names: str):
    """A whole-device replica of another claim on each of these devices."""
    other = claim("civil/y:busy", least=len(names))
    return other, running(other, *((name,) for name in names))


def at_home(run):
    """What runs, with each worker on the host that its devices are named after."""
    workers, groups = run
    return [replace(one, node=one.devices[0].split("-")[0]) for one in workers], groups


def in_racks(seen: Snapshot, racks: dict[str, str]) -> Snapshot:
    return replace(seen, nodes=tuple(replace(node, rack=racks.get(node.id, "")) for node in seen.nodes))


def test_two_devices_are_taken_from_one_island_though_lower_ones_are_free():
    other, run = busy("n0-0", "n0-2")
    seen = snapshot(host("ABABABAB"), [other, claim("civil/x:pair", devices=4)], run)
    assert places(seen, "civil/x:pair") == [("n0-1", "n0-3", "n0-5", "n0-7")]


def test_without_islands_the_lowest_devices_are_taken_as_ever():
    other, run = busy("n0-0", "n0-2")
    seen = snapshot(host("........"), [other, claim("civil/x:pair", devices=4)], run)
    assert places(seen, "civil/x:pair") == [("n0-1", "n0-3", "n0-4", "n0-5")]


def test_the_island_that_is_then_full_is_taken_and_the_whole_one_stays_whole():
    other, run = busy("n0-4", "n0-5")
    seen = snapshot(host("AAAABBBB"), [other, claim("civil/x:pair", devices=2)], run)
    assert places(seen, "civil/x:pair") == [("n0-6", "n0-7")]


def test_one_device_is_taken_from_the_island_that_is_in_pieces_already():
    other, run = busy("n0-4")
    seen = snapshot(host("AAAABBBB"), [other, claim("civil/x:one")], run)
    assert places(seen, "civil/x:one") == [("n0-5",)]


def test_whole_islands_stay_whole_on_other_hosts_too():
    other, run = busy("n0-0", "n0-1", "n0-2", "n0-3", "n1-0", "n1-1", "n1-4", "n1-5")
    both = [*host("AAAABBBB"), *host("AAAABBBB", "n1")]
    seen = snapshot(both, [other, claim("civil/x:pair", devices=2)], at_home(run))
    assert places(seen, "civil/x:pair") == [("n1-2", "n1-3")]


def test_a_claim_is_never_refused_for_the_lack_of_a_link():
    other, run = busy("n0-0", "n0-1", "n0-4", "n0-5")
    seen = snapshot(host("AAAABBBB"), [other, claim("civil/x:four", devices=4)], run)
    assert places(seen, "civil/x:four") == [("n0-2", "n0-3", "n0-6", "n0-7")]


def test_a_replica_larger_than_any_island_lies_on_as_few_as_possible():
    seen = snapshot(host("ABCABCBB"), [claim("civil/x:six", devices=6)])
    (chosen,) = places(seen, "civil/x:six")
    letters = Counter("ABCABCBB"[int(name.split("-")[1])] for name in chosen)
    assert len(letters) == 2, letters


def test_another_host_with_an_island_comes_before_a_host_where_the_devices_are_apart():
    other, run = busy("n0-0", "n0-1", "n0-4", "n0-5")
    seen = snapshot([*host("AAAABBBB"), *host("CCCC", "n1")], [other, claim("civil/x:four", devices=4)], run)
    assert places(seen, "civil/x:four") == [("n1-0", "n1-1", "n1-2", "n1-3")]


def test_a_device_without_links_is_taken_last_for_a_shape_of_several():
    seen = snapshot(host("..AA"), [claim("civil/x:pair", devices=2)])
    assert places(seen, "civil/x:pair") == [("n0-2", "n0-3")]


def test_nobody_moves_for_a_link():
    low = claim("civil/y:low", least=2, priority_class="batch", submitted_at_ms=0)
    pair = claim("civil/x:pair", devices=2, priority_class="critical")
    seen = snapshot(host("AABB"), [low, pair], running(low, ("n0-1",), ("n0-3",)))
    assert places(seen, "civil/x:pair") == [("n0-0", "n0-2")]
    assert places(seen, "civil/y:low") == [("n0-1",), ("n0-3",)]


@pytest.mark.parametrize(
    ("prices", "left"),
    [((7, 7, 7, 7), ("n0-0", "n0-3")), ((9, 7, 7, 9), ("n0-1", "n0-2")), ((7, 7, 9, 9), ("n0-0", "n0-1"))],
    ids=["all cost the same", "the other island is cheaper", "a link would cost more"],
)
def test_of_places_that_cost_others_the_same_the_one_on_an_island_is_taken(prices, left):
    made = board(survey(snapshot(host("ABBA"), []), ROOM, Memory(), NOW_MS), lambda *_: 0)
    common = {
        "domain": SecurityDomain.CIVIL,
        "rung": 0,
        "gpu_millis": 1000,
        "memory_mib": 0,
        "charge": 0,
        "flavor": "A",
    }
    cost = {f"n0-{index}": price for index, price in enumerate(prices)}
    for name in cost:
        made.take(Seat(claim="civil/y:low", worker=f"w{name}", node="n0", devices=(name,), **common))
    need = Need(claim="civil/x:pair", devices=2, **common)
    site = find_by_displacing(made, need, price := lambda seat: cost[seat.devices[0]], price, Weak(frozenset({"n0"})))
    assert site is not None
    assert site.devices == left


def fleet_of(racks: dict[str, str], *claims) -> Snapshot:
    return in_racks(snapshot([one for node in racks for one in host("AAAA", node)], claims), racks)


def racks_of(seen: Snapshot, name: str) -> list[str]:
    rack = {node.id: node.rack for node in seen.nodes}
    return sorted(rack[one[0].split("-")[0]] for one in places(seen, name))


def gang(**terms):
    return claim("civil/x:gang", devices=4, kind=ClaimKind.JOB, **{"least": 3, **terms})


MIXED = {"n0": "r1", "n1": "r2", "n2": "r3", "n3": "r2", "n4": "r1", "n5": "r2", "n6": "r3"}


def test_a_gang_begins_in_the_rack_that_has_room_for_all_of_it():
    assert racks_of(fleet_of(MIXED, gang()), "civil/x:gang") == ["r2", "r2", "r2"]


def test_without_racks_a_gang_takes_the_first_hosts():
    seen = fleet_of(dict.fromkeys(MIXED, ""), gang())
    assert [one[0] for one in places(seen, "civil/x:gang")] == ["n0-0", "n1-0", "n2-0"]


def test_a_gang_larger_than_any_rack_is_placed_all_the_same():
    assert Counter(racks_of(fleet_of(MIXED, gang(least=5)), "civil/x:gang"))["r2"] == 3


def test_a_further_replica_goes_to_the_rack_of_those_that_run():
    wish = gang(least=1, most=2)
    run = at_home(running(wish, tuple(f"n3-{index}" for index in range(4))))
    seen = in_racks(snapshot(fleet_of(MIXED).devices, [wish], run), MIXED)
    assert racks_of(seen, "civil/x:gang") == ["r2", "r2"]


def test_replicas_that_must_not_fail_together_are_not_drawn_into_one_rack():
    seen = fleet_of(MIXED, gang(spread=True))
    assert [one[0] for one in places(seen, "civil/x:gang")] == ["n0-0", "n1-0", "n2-0"]


def test_a_rack_never_costs_room():
    """n1 is in the gang's rack, but taking it would break a whole host where n2 has just enough."""
    racks = {"n0": "r1", "n1": "r1", "n2": "r2"}
    wish, other = claim("civil/x:pairs", devices=2, least=1, most=2), claim("civil/y:busy", least=4)
    mine = running(wish, ("n0-0", "n0-1"))
    theirs = at_home(running(other, ("n0-2",), ("n0-3",), ("n2-0",), ("n2-1",)))
    seen = snapshot([one for node in racks for one in host("AAAA", node)], [wish, other], mine, theirs)
    assert ("n2-2", "n2-3") in places(in_racks(seen, racks), wish.id)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("ABC."), st.booleans()), min_size=2, max_size=8), st.integers(1, 4))
def test_trying_every_set_of_devices_finds_no_better_one(devices, count):
    """Of all sets of idle devices: the fewest islands, then the least left of those islands, then the lowest ids."""
    letters = [letter for letter, _ in devices]
    free = [f"n0-{index}" for index, (_, is_busy) in enumerate(devices) if not is_busy]
    taken = [f"n0-{index}" for index, (_, is_busy) in enumerate(devices) if is_busy]
    other, run = busy(*taken) if taken else (claim("civil/y:busy"), ([], []))
    seen = snapshot(host("".join(letters)), [*([other] if taken else []), claim("civil/x:some", devices=count)], run)
    island = {f"n0-{index}": letter if letter != "." else index for index, letter in enumerate(letters)}

    def rank(some: tuple[str, ...]):
        on = {island[one] for one in some}
        return len(on), sum(island[one] in on for one in free) - len(some), some

    best = min(map(rank, combinations(free, count)), default=None)
    chosen = places(seen, "civil/x:some")
    if best is None:
        assert chosen == []
    elif set(letters) == {"."}:
        assert chosen == [tuple(free[:count])]
    elif best[0] == 1:
        assert chosen == [best[2]]
    else:
        assert rank(chosen[0])[0] == best[0]


@pytest.mark.parametrize("field", ["island", "rack"])
def test_a_change_of_islands_or_racks_is_decided_from_nothing(field):
    seen, decider = fleet_of(MIXED, gang()), Decider()
    memory = decider.decide(seen, ROOM, Memory(), NOW_MS).memory
    later = replace(seen, generation=2)
    if field == "island":
        later = replace(later, devices=tuple(replace(one, island=one.island + "x") for one in later.devices))
    else:
        later = in_racks(later, dict.fromkeys(MIXED, "one"))
    again = decider.decide(later, ROOM, memory, NOW_MS + 1000)
    assert to_json(again) == to_json(decide(later, ROOM, memory, NOW_MS + 1000))
    assert decider.age == 0


def mapped(seen: Snapshot) -> Snapshot:
    """The snapshot with two islands on each host and two racks."""
    devices = tuple(replace(one, island=f"{one.node}/{one.id[-1] in '02468ace'}") for one in seen.devices)
    return in_racks(replace(seen, devices=devices), {one.id: f"r{number % 2}" for number, one in enumerate(seen.nodes)})


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 100_000))
def test_with_islands_and_racks_too_deciding_again_gives_the_bytes_of_deciding_from_nothing(seed):
    dice = Dice(seed)
    made, decider = world(dice), Decider()
    for number in range(20):
        if dice.random() < 0.6:
            event(dice, made, number)
        seen = mapped(made.observe())
        again = decider.decide(seen, made.policy, made.memory, made.now_ms)
        assert to_json(again) == to_json(decide(seen, made.policy, made.memory, made.now_ms)), (seed, number)
        assert check_decision(seen, again, made.policy) == ()
        made.step()


def test_a_single_replica_is_drawn_into_no_rack():
    """r2 has room for exactly one, which matters to a gang alone."""
    assert places(fleet_of({"n0": "r1", "n1": "r1", "n2": "r2"}, gang(least=1)), "civil/x:gang")[0][0] == "n0-0"
    assert racks_of(fleet_of({"n0": "r1", "n1": "r2", "n2": "r2"}, gang(least=2)), "civil/x:gang") == ["r2", "r2"]
