"""What is said of a whole fleet before anything is decided: what is short, what isolation costs, what is expected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.decide import decide
from policies.explaining.shortage import shortages
from policies.fleet.board import Seat
from policies.fleet.isolation import isolation_price, price_of_isolation
from policies.fleet.placement import Ask, Room, Slot
from policies.granting.appraisal import CPU_CELLS, LEAST_SHARE, MOST_KINDS, Appraiser, _known, _rounded
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, ScrubState
from policies.model.memory import Memory
from policies.model.snapshot import Gap, GapKind
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from policies.packing.arrays import Fleet, Kinds, Typical
from policies.packing.worth import outlook_of, prices
from tests.policies.looking import FOUR, looked_at
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE


def ill(*names: str, **state):
    return [replace(one, **state) if one.id in names else one for one in FOUR]


def hidden(kind: GapKind, *subjects: str):
    return {"gaps": tuple(Gap(kind=kind, subject=one, cause="timeout", since_ms=0) for one in subjects)}


SHORT = {
    "nothing is": (snapshot(FOUR, []), {}),
    "a device is ill": (snapshot(ill("G0", health=DeviceHealth.SUSPECT), []), {"A": PendingReason.CAPACITY_LOST}),
    "a device failed its scrub": (snapshot(ill("G0", scrub=ScrubState.FAILED), []),
                                  {"A": PendingReason.CAPACITY_LOST}),
    "a device was not seen": (snapshot(FOUR, [], **hidden(GapKind.DEVICE, "G0")),
                              {"A": PendingReason.TELEMETRY_STALE}),
    "a host was not seen": (snapshot(FOUR, [], **hidden(GapKind.NODE, "n0")), {"A": PendingReason.TELEMETRY_STALE}),
    "one is ill and one was not seen": (
        snapshot(ill("G1", health=DeviceHealth.RETIRED), [], **hidden(GapKind.DEVICE, "G0")),
        {"A": PendingReason.CAPACITY_LOST}),
    "an ill device was not seen either": (
        snapshot(ill("G0", health=DeviceHealth.RETIRED), [], **hidden(GapKind.NODE, "n0")),
        {"A": PendingReason.CAPACITY_LOST}),
    "a device that failed its scrub was not seen": (
        snapshot(ill("G0", scrub=ScrubState.FAILED), [], **hidden(GapKind.DEVICE, "G0", "G1")),
        {"A": PendingReason.CAPACITY_LOST}),
    "a host is closed": (
        replace(snapshot([device("G9", "n1"), *FOUR[1:]], []), nodes=tuple(
            replace(one, schedulable=one.id != "n1") for one in snapshot([device("G9", "n1"), *FOUR], []).nodes
        )), {"A": PendingReason.CAPACITY_LOST}),
    "there never was more": (snapshot(FOUR[:3], []), {}),
    "one is ill and there is more than was promised": (
        snapshot([*ill("G0", health=DeviceHealth.SUSPECT), device("G4")], []), {}),
    "one of another kind is ill": (
        snapshot([*FOUR, replace(device("B0", health=DeviceHealth.SUSPECT), flavor="B")], []), {}),
}  # fmt: skip


@pytest.mark.parametrize("what", SHORT)
def test_a_kind_is_short_where_less_is_sound_than_was_promised_and_why_is_told(what):
    """Four devices are promised: two to each domain."""
    seen, told = SHORT[what]
    assert shortages(looked_at(seen, rules())) == told


@pytest.mark.parametrize(("terms", "told"), [
    ({"health": DeviceHealth.SUSPECT}, PendingReason.CAPACITY_LOST), ({}, PendingReason.TELEMETRY_STALE),
])  # fmt: skip
def test_of_two_kinds_only_that_is_short_of_which_less_is_left_than_was_promised(terms, told):
    """One of two devices of B is missing too, and the other is all that is promised of it."""
    policy = rules()
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(*one.quotas, Quota(flavor="B", nominal_millis=1000))) if one.id == "civil" else one
        for one in policy.tenants
    ))  # fmt: skip
    kinds = [replace(device(f"B{number}"), flavor="B") for number in range(2)]
    devices = [replace(one, **terms) if one.id in {"G0", "B0"} else one for one in (*FOUR, *kinds)]
    seen = snapshot(devices, [], **({} if terms else hidden(GapKind.DEVICE, "G0", "B0")))
    assert shortages(looked_at(seen, policy)) == {"A": told}


ASKED = Shape(flavors=("A",), gpu_millis=300, memory_mib=1_000, cpu_millis=4_000, host_memory_mib=8_000)
FULL = Slot(device="G", millis=300, memory_mib=1_000, domain=DEFENCE, is_held=True)
HOST = Room(node="n", flavor="A", cpu_millis=4_000, memory_mib=8_000, slots=(FULL,))
PRICES = {
    "all that it needs": (HOST, ASKED, 300),
    "nobody holds it": (replace(HOST, slots=(replace(FULL, is_held=False),)), ASKED, 0),
    "its own domain holds it": (replace(HOST, slots=(replace(FULL, domain=CIVIL),)), ASKED, 0),
    "who holds it is not known": (replace(HOST, slots=(replace(FULL, domain=None),)), ASKED, 0),
    "the host is closed": (replace(HOST, is_open=False), ASKED, 0),
    "the device is ill": (replace(HOST, slots=(replace(FULL, is_healthy=False),)), ASKED, 0),
    "too little is idle": (replace(HOST, slots=(replace(FULL, millis=299),)), ASKED, 0),
    "it asks for no device": (HOST, replace(ASKED, gpu_millis=0), 0),
    "it asks for the least": (HOST, replace(ASKED, gpu_millis=1), 300),
    "too little memory": (replace(HOST, slots=(replace(FULL, memory_mib=999),)), ASKED, 0),
    "another kind": (replace(HOST, flavor="B"), ASKED, 0),
    "any kind will do": (replace(HOST, flavor="B"), replace(ASKED, flavors=()), 300),
    "too few processors": (replace(HOST, cpu_millis=3_999), ASKED, 0),
    "too little of the host's memory": (replace(HOST, memory_mib=7_999), ASKED, 0),
}


@pytest.mark.parametrize("why", PRICES)
def test_isolation_costs_what_only_the_other_domain_keeps(why):
    room, shape, millis = PRICES[why]
    assert isolation_price([room], [Ask(shape=shape, domain=CIVIL)]) == {CIVIL: millis, DEFENCE: 0}
    theirs = 300 if why == "its own domain holds it" else 0
    assert isolation_price([room], [Ask(shape=shape, domain=DEFENCE)]) == {CIVIL: 0, DEFENCE: theirs}


def test_what_isolation_costs_is_counted_from_what_the_decided_replicas_leave():
    """Three quarters of the device are theirs; what waits would fit into the quarter that is left."""
    theirs = claim("defence/x:radar", millis=250, least=3, priority_class="pinned",
                   ladder=(Shape(flavors=("A",), gpu_millis=250, memory_mib=20_000),))  # fmt: skip
    waits = claim("civil/x:chat", ladder=(Shape(flavors=("A",), gpu_millis=250, memory_mib=20_000),), least=2)
    seen = snapshot([device("G0")], [theirs, waits], running(theirs, ("G0",)))
    seen = replace(seen, groups=(replace(seen.groups[0], replicas=3, running=3),))
    policy = rules(civil=1000, defence=1000, floor=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert price_of_isolation(seen, decision, policy) == {(DEFENCE, "A"): 0, (CIVIL, "A"): 250}
    narrow = replace(seen, devices=(replace(seen.devices[0], memory_mib=79_999),))
    assert price_of_isolation(narrow, decision, policy)[CIVIL, "A"] == 0
    for terms in (
        {"nodes": ()}, {"nodes": tuple(replace(one, schedulable=False) for one in seen.nodes)},
        {"devices": (replace(seen.devices[0], health=DeviceHealth.SUSPECT),)}, {"claims": (theirs,)},
    ):  # fmt: skip
        assert price_of_isolation(replace(seen, **terms), decision, policy)[CIVIL, "A"] == 0
    served = replace(decision, reasons=tuple(replace(one, granted_replicas=one.wanted_replicas)
                                             for one in decision.reasons))  # fmt: skip
    assert price_of_isolation(seen, served, policy)[CIVIL, "A"] == 0
    nobody = replace(decision, bindings=())
    assert price_of_isolation(seen, nobody, policy)[CIVIL, "A"] == 0


def test_replicas_on_several_devices_take_their_part_of_each():
    wide, waits = claim("defence/x:wide", devices=2, priority_class="pinned"), claim("civil/x:chat", millis=500)
    seen = snapshot(FOUR, [wide, waits], running(wide, ("G0", "G1")))
    policy = rules(civil=0, defence=4000, floor=0)
    decided = decide(seen, policy, Memory(), NOW_MS)
    decision = replace(decided, placements=tuple(one for one in decided.placements if one.claim == wide.id))
    both = replace(decision, placements=tuple(
        replace(one, devices=("G0", "G1", "G2", "G3"), replicas=2) for one in decision.placements
    ))  # fmt: skip
    assert set(price_of_isolation(seen, both, policy).values()) == {0}
    parts = replace(seen, claims=(replace(wide, ladder=(Shape(flavors=("A",), gpu_millis=250),)), waits,
                                  claim("nobody:lost")))  # fmt: skip
    spread = replace(decision, placements=tuple(
        replace(one, devices=("G0", "G1", "gone"), replicas=6) for one in decision.placements
    ))  # fmt: skip
    lacking = replace(spread, reasons=tuple(replace(one, granted_replicas=0, wanted_replicas=1)
                                            for one in spread.reasons))  # fmt: skip
    lost = replace(lacking.reasons[0], claim="nobody:lost")
    told = price_of_isolation(parts, replace(lacking, reasons=(*lacking.reasons, lost)), policy)
    assert told == {(DEFENCE, "A"): 0, (CIVIL, "A"): 1000}, "two quarters on each of the two that are there"


def test_each_share_of_the_mix_is_rounded_down_to_a_power_of_two_and_what_is_too_rare_is_left_out():
    size = [(number, 1, 100, 1) for number in range(5)]
    assert _rounded({size[0]: 1}) == ((size[0], 256),)
    assert _rounded({size[0]: 3, size[1]: 1}) == ((size[0], 256), (size[1], 64))
    assert _rounded({size[0]: 1, size[1]: 1}) == ((size[0], 128), (size[1], 128))
    assert _rounded({size[0]: 361, size[1]: 1})[1:] == ((size[1], 1),)
    assert _rounded({size[0]: 362, size[1]: 1})[1:] == ()
    rare = {(number, 1, 100, 1): 1 for number in range(LEAST_SHARE + 1)}
    assert _rounded(rare) == tuple((one, 1) for one in list(rare)[:MOST_KINDS]), "but never all of it"
    assert len(_rounded({(number, 1, 100, 1): 1 for number in range(100)})) == MOST_KINDS


def test_processors_of_a_host_that_was_not_seen_or_is_overfull_are_planned_with_as_none():
    assert _known(np.array([-5, 0, 7, 2**49 - 1, 2**49, 2**50])).tolist() == [0, 0, 7, 2**49 - 1, 0, 0]


def mix(*claims):
    """The work of a decision over two kinds of devices in which these claims ask."""
    return looked_at(snapshot([*FOUR, replace(device("B0", "n1"), flavor="B")], claims), rules())


def test_the_mix_is_of_what_is_wanted_by_kind_and_what_is_wanted_no_more_is_left_out():
    one = claim("civil/x:one", least=3, ladder=(Shape(flavors=("A",), gpu_millis=500, cpu_millis=2_000),))
    other = claim("civil/y:other", ladder=(Shape(flavors=(), gpu_millis=500, cpu_millis=1_000),))
    work = mix(one, other)
    asked = {lots[0].ask.claim.id: lots[0].ask for lots in work.of_claim.values()}
    appraiser = Appraiser(asked.values())
    shapes = [(tuple(kind.shape.flavors), kind.shape.cpu_millis, kind.share) for kind in appraiser(work.board).expected]
    assert shapes == [(("A",), 2_000, 0.8), (("A", "B"), 1_000, 0.2)]
    appraiser.add(asked[one.id], -1)
    assert [kind.share for kind in appraiser(work.board).expected] == [1.0]
    appraiser.add(asked[one.id], 1)
    assert [kind.share for kind in appraiser(work.board).expected] == [0.8, 0.2]
    appraiser.add(replace_wanted(asked[other.id], 0), -1)
    assert [kind.share for kind in appraiser(work.board).expected] == [0.8, 0.2], "who wants nothing counts nothing"
    assert Appraiser([replace_wanted(asked[one.id], 0)])(work.board).expected == ()
    ladder = (Shape(flavors=("A",), gpu_millis=700), Shape(flavors=("A",), gpu_millis=200))
    both = mix(claim("civil/x:both", ladder=ladder))
    assert [kind.shape.gpu_millis for kind in both.board.appraise(both.board).expected] == [700], "its best rung"
    nowhere = claim("civil/x:nowhere", ladder=(Shape(flavors=("Z",)),))
    assert Appraiser([])(work.board).expected == ()
    blind = looked_at(replace(snapshot(FOUR, [one]), nodes=()), rules())
    assert len(blind.board.appraise(blind.board).expected) == 1, "of hosts nothing is known but their devices"
    assert [kind.shape for kind in mix(nowhere).board.appraise(work.board).expected] == []


@pytest.mark.parametrize("taken", [(), ("G1", "B0")])
def test_capacity_is_priced_as_it_stands_on_the_board_by_the_mix_and_what_is_asked_for(taken):
    one = claim("civil/x:one", least=3, ladder=(Shape(flavors=("A",), gpu_millis=500, cpu_millis=2_000),))
    other = claim("civil/y:other", ladder=(Shape(flavors=(), gpu_millis=500, cpu_millis=1_000),))
    work, left = mix(one, other), np.array([[1000] * 4, [1000, 0, 0, 0]])
    cpu = [64_000, 64_000]
    for name in taken:
        row = int(name.startswith("B"))
        node = work.survey.devices[name].node
        work.board.take(Seat(claim="c", domain=CIVIL, rung=0, worker="w", node=node, devices=(name,), gpu_millis=400,
                             memory_mib=0, charge=400, flavor="AB"[row], cpu_millis=5_000))  # fmt: skip
        left[row, int(name[1])] -= 400
        cpu[row] -= 5_000
    asked = [lots[0].ask for lots in work.of_claim.values()]
    typical = Typical(cpu=np.array([2_000, 1_000]), devices=np.array([1, 1]), millis=np.array([500, 500]),
                      models=np.array([1, 3]), share=np.array([0.8, 0.2]))  # fmt: skip
    here = replace(outlook_of(typical, 2, 4, max(cpu), CPU_CELLS), fleet_millis=5_000, fleet_cpu=128_000)
    nothing = np.zeros((2, 4), np.int64)
    fleet = Fleet(cpu=np.array(cpu), memory=nothing[:, 0], model=np.array([0, 1]), devices=np.array([4, 1]), left=left,
                  owner=nothing, tags=nothing)  # fmt: skip
    kinds = Kinds(cpu=typical.cpu, memory=nothing[:, 0], devices=typical.devices, millis=typical.millis,
                  models=typical.models, domain=nothing[:, 0])  # fmt: skip
    exact = prices(here, fleet, kinds, np.array([3, 1]))
    found = Appraiser(asked)(work.board).tables
    assert [found.holes["A"], found.holes["B"]] == exact.holes.tolist()
    assert (found.stranded, found.blocks) == (exact.stranded.tolist(), exact.blocks.tolist())
    assert ([found.scarcity["A"], found.scarcity["B"]], found.cpu_cell) == (exact.scarcity.tolist(), exact.cpu_cell)


def replace_wanted(ask, wanted: int):
    made = type(ask)(**{name: getattr(ask, name) for name in type(ask).__slots__})
    made.wanted = wanted
    return made
