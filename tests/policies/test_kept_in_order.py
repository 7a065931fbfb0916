"""What is kept in order while places are taken is what sorting anew would give; nouns built quickly are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.evidence.survey import survey
from policies.fleet.board import Seat
from policies.fleet.empty_board import board
from policies.fleet.rating import SCORES
from policies.fleet.room import FEW, roomiest, with_free
from policies.granting.reclaim import Lot
from policies.model.building import builder
from policies.model.decision import ClaimState, Reason
from policies.model.inventory import Device
from policies.model.memory import Memory
from tests.policies.situations import NOW_MS, device, rules, snapshot
from tests.simulation.generate import Dice

HOSTS = tuple(f"n{index:02}" for index in range(4 * FEW))


@pytest.mark.parametrize("favoured", [0, 3, len(HOSTS) // 2, len(HOSTS)])
def test_the_roomiest_hosts_are_those_that_sorting_all_would_find_whatever_was_taken_and_left(favoured):
    devices = [device(f"{node}-{index}", node) for node in HOSTS for index in range(4)]
    made = board(survey(snapshot(devices, []), rules(), Memory(), NOW_MS), SCORES["partage"])
    dice, seated = Dice(favoured), []
    for _ in range(60):
        if seated and dice.random() < 0.4:
            made.leave(seated.pop(dice.randint(0, len(seated) - 1)))
        else:
            seated.append(_seat(dice.choice(devices), dice.choice((250, 500, 1000))))
            made.take(seated[-1])
        first = frozenset(dice.choice(HOSTS) for _ in range(favoured))
        by_hand = sorted(HOSTS, key=lambda node: (node not in first, -made.node_free[node], node))
        for count in (1, 6, len(HOSTS) + 1):
            assert roomiest(made, "A", first, count) == frozenset(by_hand[:count])


def test_a_host_without_the_flavor_is_never_roomy_for_it_and_free_is_counted_to_the_last_milli():
    other = replace(device("B0", "n9"), flavor="B")
    seen = snapshot([*(device(f"G{n}", f"n{n}") for n in range(9)), other], [])
    made = board(survey(seen, rules(), Memory(), NOW_MS), SCORES["partage"])
    assert roomiest(made, "A", frozenset({"n9"}), 2) == {"n0", "n1"}
    assert roomiest(made, "A", frozenset({"n9", "n5"}), 2) == {"n5", "n0"}
    made.take(_seat(device("G0"), 1))
    assert with_free(made, "A", 1000) == [f"n{n}" for n in range(1, 9)]
    assert with_free(made, "A", 999)[-1] == "n0"


def test_no_host_is_roomy_for_a_flavor_that_none_has():
    made = board(survey(snapshot([device("G0")], []), rules(), Memory(), NOW_MS), SCORES["partage"])
    assert roomiest(made, "B", frozenset({"n0"}), 4) == frozenset()


def test_a_noun_that_is_built_quickly_equals_one_made_as_usual():
    told = {"claim": "civil/x:chat", "state": ClaimState.WAITING, "code": None, "sentence": "it waits"}
    told |= {"granted_replicas": 0, "wanted_replicas": 1}
    made = builder(Reason)(**told)
    assert made == Reason(**told)
    assert type(made) is Reason
    assert hash(made) == hash(Reason(**told))


def test_what_a_factory_makes_belongs_to_one_noun_alone():
    build = builder(Lot)
    one, other = build(ask=None, size=1, is_base=True), build(ask=None, size=1, is_base=True)
    one.seats.append("a replica")
    assert other.seats == []


def test_a_noun_without_a_field_that_it_needs_is_not_built():
    with pytest.raises(TypeError, match="size"):
        builder(Lot)(ask=None, is_base=True)


def _seat(place: Device, millis: int) -> Seat:
    return Seat(
        claim="civil/x:c", domain="civil", rung=0, worker="w", node=place.node, devices=(place.id,),
        gpu_millis=millis, memory_mib=1, charge=millis, flavor="A",
    )  # fmt: skip
