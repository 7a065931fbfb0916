"""Which devices a replica could use, and what would have to be done first: each rule where it alone decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from policies.evidence.survey import survey
from policies.fleet.board import Need, Reach, Seat, Site
from policies.fleet.empty_board import board
from policies.fleet.topology import common_rack, divided, island_of, left_over, roomy_rack
from policies.granting.fitting import find
from policies.granting.places import APART, EFFORT, order, sites_on, worker_for
from policies.model.inventory import DeviceHealth, ScrubState, Worker, WorkerState
from policies.model.memory import Memory
from policies.model.naming import worker_id
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from tests.policies.looking import FEW, SEEDS
from tests.policies.situations import NOW_MS, device, rules, snapshot
from tests.simulation.generate import Dice

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
PAIR = [device("G0"), device("G1")]
PARTS = [device("M0", gpu="G0"), device("M1", gpu="G0")]


def nearest(_need: Need, site: Site, _board) -> int:
    """A score for these tests: what is left on the fullest comes first."""
    return site.free_millis


def empty(devices, *workers: Worker, **seen):
    return board(survey(replace(snapshot(devices, []), workers=workers, **seen), rules(), Memory(), NOW_MS), nearest)


def held(domain: SecurityDomain, *devices: str, node: str = "n0") -> Worker:
    return Worker(id=worker_id(domain, devices), domain=domain, node=node, devices=devices, state=WorkerState.READY)


def need(devices: int = 1, millis: int = 1000, **terms) -> Need:
    return Need(**({
        "claim": "civil/x:new", "domain": CIVIL, "rung": 0, "flavor": "A", "devices": devices, "gpu_millis": millis,
        "memory_mib": 10_000, "charge": millis, "strength": (-3, 500),
    } | terms))  # fmt: skip


def seat(*devices: str, millis: int = 1000, domain=CIVIL, claim: str = "civil/x:old", **terms) -> Seat:
    return Seat(**({
        "claim": claim, "domain": domain, "rung": 0, "worker": "w", "node": "n0", "devices": devices,
        "gpu_millis": millis, "memory_mib": 10_000, "charge": millis, "flavor": "A",
    } | terms))  # fmt: skip


def places(made, wanted: Need) -> dict[tuple[str, ...], str]:
    return {site.devices: site.reach.name for site in sites_on(made, wanted, "n0")}


def last(domain, *names: str, state=ScrubState.DIRTY):
    return [replace(one, domain=domain, scrub=state) if one.id in names else one for one in PAIR]


SINGLE = {
    "free devices": (empty(PAIR), need(), {("G0",): "UNBOUND", ("G1",): "UNBOUND"}),
    "one that another domain held last": (empty(last(DEFENCE, "G0")), need(), {("G0",): "LEFT", ("G1",): "UNBOUND"}),
    "one that it held itself last": (empty(last(CIVIL, "G0")), need(), {("G0",): "UNBOUND", ("G1",): "UNBOUND"}),
    "one that was scrubbed since": (empty(last(DEFENCE, "G0", state=ScrubState.CLEAN)), need(),
                                    {("G0",): "UNBOUND", ("G1",): "UNBOUND"}),
    "an idle worker of its own": (empty(PAIR, held(CIVIL, "G0")), need(), {("G0",): "BOUND", ("G1",): "UNBOUND"}),
    "an idle worker of the other": (empty(PAIR, held(DEFENCE, "G0")), need(), {("G0",): "FOREIGN", ("G1",): "UNBOUND"}),
    "an idle worker of two": (empty(PAIR, held(CIVIL, "G0", "G1")), need(), {("G0",): "REBIND", ("G1",): "REBIND"}),
    "a part of an idle worker of two": (empty(PAIR, held(CIVIL, "G0", "G1")), need(millis=500),
                                        {("G0",): "REBIND", ("G1",): "REBIND"}),
    "a part of its own": (empty(PAIR, held(CIVIL, "G0")), need(millis=500), {("G0",): "BOUND", ("G1",): "UNBOUND"}),
    "a GPU of which the other holds a part": (empty(PARTS, held(DEFENCE, "M0")), need(),
                                              {("M0",): "FOREIGN", ("M1",): "FOREIGN"}),
    "a GPU of which the other held a part": (
        empty([replace(PARTS[0], domain=DEFENCE, scrub=ScrubState.DIRTY), PARTS[1]]), need(),
        {("M0",): "LEFT", ("M1",): "LEFT"}),
    "an unseen device of the other's worker": (
        empty(PARTS, held(DEFENCE, "M0"), gaps=(Gap(kind=GapKind.DEVICE, subject="M0", cause="", since_ms=0),)),
        need(), {}),
    "an unseen host of the other's worker": (
        empty(PARTS, held(DEFENCE, "M0", node="n9"),
              gaps=(Gap(kind=GapKind.NODE, subject="n9", cause="", since_ms=0),)),
        need(), {}),
    "a device that was held last by who is not seen": (empty(last(DEFENCE, "G0"), adopting=(DEFENCE,)), need(),
                                                       {("G1",): "UNBOUND"}),
    "a device that it held last and is not seen": (empty(last(CIVIL, "G0"), adopting=(CIVIL,)), need(),
                                                   {("G0",): "UNBOUND", ("G1",): "UNBOUND"}),
    "a worker of who is not seen": (empty(PAIR, held(DEFENCE, "G0"), adopting=(DEFENCE,)), need(),
                                    {("G1",): "UNBOUND"}),
    "devices where it failed": (empty(PAIR), need(avoid_devices=frozenset({"G0"})), {("G1",): "UNBOUND"}),
    "a host where it must not be": (empty(PAIR), need(avoid_nodes=frozenset({"n0"})), {}),
    "a kind that is not there": (empty(PAIR), need(flavor="B"), {}),
    "more memory than there is": (empty(PAIR), need(memory_mib=80_001), {}),
    "all the memory that there is": (empty(PAIR[:1]), need(memory_mib=80_000), {("G0",): "UNBOUND"}),
    "all the processors of the host": (empty(PAIR[:1]), need(cpu_millis=64_000), {("G0",): "UNBOUND"}),
    "more processors than the host has": (empty(PAIR), need(cpu_millis=64_001), {}),
    "all the memory of the host": (empty(PAIR[:1]), need(host_memory_mib=500_000), {("G0",): "UNBOUND"}),
    "more memory than the host has": (empty(PAIR), need(host_memory_mib=500_001), {}),
    "a device that is ill": (empty([replace(PAIR[0], health=DeviceHealth.SUSPECT), PAIR[1]]), need(),
                             {("G1",): "UNBOUND"}),
    "two free devices": (empty(PAIR), need(2), {("G0", "G1"): "UNBOUND"}),
    "three of two": (empty(PAIR), need(3), {}),
    "two that it holds apart": (empty(PAIR, held(CIVIL, "G0"), held(CIVIL, "G1")), need(2), {("G0", "G1"): "REBIND"}),
    "two of which the other holds one": (empty(PAIR, held(DEFENCE, "G0")), need(2), {("G0", "G1"): "FOREIGN"}),
    "two of which the other held one": (empty(last(DEFENCE, "G1")), need(2), {("G0", "G1"): "LEFT"}),
    "two of which one is held by who is not seen": (empty(PAIR, held(DEFENCE, "G0"), adopting=(DEFENCE,)), need(2), {}),
}  # fmt: skip


@pytest.mark.parametrize("what", SINGLE)
def test_what_must_be_done_before_a_free_device_can_be_used(what):
    made, wanted, found = SINGLE[what]
    assert places(made, wanted) == found


def test_two_devices_of_one_worker_are_used_as_they_are_bound_or_bound_anew():
    made = empty([*PAIR, device("G2")], held(CIVIL, "G0", "G1"))
    assert [(site.devices, site.reach.name) for site in sites_on(made, need(2), "n0")] == [
        (("G0", "G1"), "BOUND"), (("G0", "G2"), "REBIND")
    ]  # fmt: skip
    made.take(seat("G0", "G1", group="g"))
    assert places(made, need(2)) == {}
    assert places(made, need(1)) == {("G2",): "UNBOUND"}


def test_a_group_that_was_started_does_not_grow_onto_further_devices_of_its_worker():
    """Its replicas are on one device of the worker; another replica goes beside them only in a group of its own."""
    for group, found in (("g", {}), (None, {("G1",): "REBIND"})):
        made = empty(PAIR, held(CIVIL, "G0", "G1"))
        made.take(seat("G0", claim="civil/x:new", group=group))
        assert places(made, need()) == found
        assert places(made, need(claim="civil/x:other")) == {("G1",): "REBIND"}


def test_what_is_shared_is_shared_inside_one_domain_and_with_what_is_left():
    made = empty(PAIR[:1], held(CIVIL, "G0"))
    made.take(seat("G0", millis=600))
    assert places(made, need(millis=400)) == {("G0",): "SHARED"}
    assert places(made, need(millis=401)) == {}
    assert places(made, need(millis=400, memory_mib=70_000)) == {("G0",): "SHARED"}
    assert places(made, need(millis=400, memory_mib=70_001)) == {}
    assert places(made, need(millis=400, domain=DEFENCE)) == {}
    [site] = sites_on(made, need(millis=400), "n0")
    assert (site.worker, site.free_millis, site.free_memory_mib) == (held(CIVIL, "G0").id, 400, 70_000)
    loose = empty(PAIR[:1])
    loose.take(seat("G0", millis=600))
    assert places(loose, need(millis=400)) == {("G0",): "SHARED"}, "a place that was granted in this decision"
    parts = empty(PARTS)
    parts.take(seat("M0", domain=DEFENCE))
    assert places(parts, need()) == {}, "no part of a GPU beside the other domain"
    three = empty([*PARTS, device("M2", gpu="G0")])
    assert places(three, need(2)) == {("M0", "M1"): "UNBOUND"}
    three.take(seat("M2", domain=DEFENCE, millis=100))
    assert places(three, need(2)) == {}
    two = empty(PAIR, held(CIVIL, "G0", "G1"))
    two.take(seat("G0"))
    assert places(two, need(millis=500)) == {}, "the worker would have to end, and carries something"
    assert places(empty(PAIR), need(2, 400)) == {("G0", "G1"): "UNBOUND"}
    assert places(two, need(2)) == {}


KEPT = {
    "for itself": ({"civil/x:new": (-3, 500)}, {}, True),
    "for an equal of its tenant": ({"civil/x:first": (-3, 500)}, {}, False),
    "for a lower class of its tenant": ({"civil/x:first": (-3, 499)}, {}, True),
    "for a lower class of its tenant with a stronger right": ({"civil/x:first": (-1, 499)}, {}, True),
    "for an equal of another tenant": ({"civil/y:first": (-3, 500)}, {}, False),
    "for a weaker class of another": ({"civil/y:first": (-3, 499)}, {}, True),
    "for a weaker right of another": ({"civil/y:first": (-4, 900)}, {}, True),
    "for a stronger right of another": ({"civil/y:first": (-2, 1)}, {}, False),
    "for who would only borrow, from who is entitled": ({"civil/x:first": (-4, 900)}, {}, True),
    "for who would only borrow, from who would too": ({"civil/x:first": (-4, 900)}, {"strength": (-4, 500)}, False),
    "for two, one of them weaker": ({"civil/y:a": (-4, 1), "civil/y:b": (-2, 1)}, {}, False),
    "for later, and it ends before": ({"civil/y:first": (-2, 1)}, {"ends_ms": 100}, True),
    "for later, and it ends after": ({"civil/y:first": (-2, 1)}, {"ends_ms": 101}, False),
    "for later, and it never ends": ({"civil/y:first": (-2, 1)}, {"ends_ms": None}, False),
    "for nobody": ({}, {}, True),
}


@pytest.mark.parametrize("whom", KEPT)
def test_a_device_that_is_kept_is_kept_from_whoever_has_no_stronger_right(whom):
    kept, terms, free = KEPT[whom]
    made = empty(PAIR[:1])
    made.holder["G0"] = kept
    if "later" in whom:
        made.needed_at["G0"] = 100
    reach = "HELD" if whom == "for itself" else "UNBOUND"
    assert places(made, need(**terms)) == ({("G0",): reach} if free else {})
    assert (find(made, need(**terms)) is not None) == free


def test_what_was_freed_for_the_claim_comes_first_unless_another_domain_took_it_since():
    made = empty([*PAIR, device("G2")], held(CIVIL, "G0"), held(DEFENCE, "G2"))
    made.holder["G1"] = made.holder["G2"] = {"civil/x:new": (-3, 500)}
    found = {site.devices: order(made, need(), site)[0] for site in sites_on(made, need(), "n0")}
    assert found == {("G0",): EFFORT[Reach.BOUND], ("G1",): 0, ("G2",): EFFORT[Reach.FOREIGN]}
    assert find(made, need()).devices == ("G1",)
    beside = empty([*last(DEFENCE, "G0"), device("G2")])
    beside.holder["G2"] = {"civil/y:other": (-1, 900)}
    assert places(beside, need()) == {("G0",): "LEFT", ("G1",): "UNBOUND"}
    made.holder["G0"] = {"civil/x:new": (-3, 500)}
    assert {order(made, need(), site)[0] for site in sites_on(made, need(), "n0")} == {0, EFFORT[Reach.FOREIGN]}


def test_the_worker_of_a_place_is_the_one_that_holds_all_of_it_and_for_a_part_nothing_else():
    both, one = held(CIVIL, "G0", "G1"), held(CIVIL, "G0")
    made = empty(PAIR, both)
    assert worker_for(made, need(2), ("G0", "G1")) == worker_for(made, need(), ("G1",)) == both.id
    assert worker_for(made, need(millis=500), ("G0",)) == one.id
    assert worker_for(made, need(domain=DEFENCE), ("G0",)) == worker_id(DEFENCE, ("G0",))
    named = replace(one, id="of-old")
    assert worker_for(empty(PAIR, named), need(millis=500), ("G0",)) == "of-old", "however it was called"
    assert worker_for(empty(PAIR, one), need(2), ("G0", "G1")) == both.id
    assert worker_for(empty(PAIR, one), need(millis=500), ("G0",)) == one.id


@FEW
@given(SEEDS)
def test_the_place_that_is_found_is_the_first_in_order_of_all_places_of_all_hosts(seed):
    """While replicas come and go, devices are kept and let go, and needs of several kinds take turns."""
    dice = Dice(seed)
    devices = [device(f"{node}-{number}", node)
               for node in ("n0", "n1", "n2", "n3") for number in range(dice.randint(1, 3))]  # fmt: skip
    nodes = tuple(
        replace(one, rack=dice.choice(("", "a", "b")), cpu_millis=6_000) for one in snapshot(devices, []).nodes
    )
    workers = [held(dice.choice((CIVIL, DEFENCE)), one.id, node=one.node) for one in devices if dice.random() < 0.4]
    made = empty(devices, *workers, nodes=nodes)
    needs = [need(dice.choice((1, 1, 2)), dice.choice((1000, 500, 300)), claim=f"civil/x:{number}", cpu_millis=1_000,
                  rack=dice.choice(("", "a", "b")), domain=dice.choice((CIVIL, DEFENCE)))
             for number in range(5)]  # fmt: skip
    needs = [replace(one, gpu_millis=1000) if one.devices > 1 else one for one in needs]
    seated: list[Seat] = []
    for _ in range(30):
        wanted = dice.choice(needs)
        if dice.random() < 0.2:
            made.holder = {dice.choice(devices).id: {dice.choice(needs).claim: (-3, 500)}}
        keys = [(order(made, wanted, site), site) for node in made.on_node for site in sites_on(made, wanted, node)]
        best = find(made, wanted)
        if not keys:
            assert best is None
            if seated:
                made.leave(seated.pop(dice.randint(0, len(seated) - 1)))
            continue
        first = min(keys)[0]
        near = [key for key, site in keys if key[:2] == first[:2] and site.node in made.racks.get(wanted.rack, ())]
        assert order(made, wanted, best) == min(near, default=first)
        made.bind(best, wanted.domain)
        seated.append(seat(*best.devices, node=best.node, millis=wanted.gpu_millis, domain=wanted.domain,
                           worker=best.worker, claim=wanted.claim, cpu_millis=1_000))  # fmt: skip
        made.take(seated[-1])


def test_a_worker_of_the_other_domain_is_never_used_as_it_is():
    made = empty(PAIR, held(DEFENCE, "G0", "G1"))
    assert [(site.devices, site.reach.name) for site in sites_on(made, need(2), "n0")] == [(("G0", "G1"), "FOREIGN")]


def linked(islands: str):
    return empty([device(f"G{n}", island="" if letter == "." else letter) for n, letter in enumerate(islands)])


def test_devices_lie_over_as_many_islands_as_they_are_on_and_none_where_none_is_known():
    made = linked("AAB.")
    assert [divided(made, "n0", tuple(f"G{n}" for n in some)) for some in ((0,), (3,), (0, 1), (0, 2), (0, 2, 3))] == [
        0, 0, 0, 1, 2
    ]  # fmt: skip
    assert divided(linked("...."), "n0", ("G0", "G3")) == 0
    apart = Site(
        worker="w", node="n0", devices=("G0", "G2", "G3"), reach=Reach.UNBOUND, free_millis=3, free_memory_mib=0
    )
    assert order(made, need(3), apart)[:2] == (EFFORT[Reach.UNBOUND] + 2 * APART, 3)
    assert island_of(made, "G3") == ("G3",)
    assert island_of(linked("...."), "G3") == ()


def test_what_remains_of_the_islands_that_are_opened_is_counted_and_nothing_of_those_in_use():
    made = linked("AAABB.")
    assert [left_over(made, some) for some in (("G0",), ("G0", "G1"), ("G0", "G1", "G2"), ("G0", "G3"), ("G5",))] == [
        2, 1, 0, 3, 0
    ]  # fmt: skip
    made.take(seat("G0", millis=500))
    assert left_over(made, ("G0",)) == 0, "it is in pieces already"
    assert left_over(made, ("G1",)) == 1
    assert left_over(linked("..."), ("G0",)) == 0


def test_a_rack_is_common_to_most_and_roomy_for_as_few_as_there_are():
    devices = [device(f"{node}-{n}", node) for node, count in (("n0", 4), ("n1", 2), ("n2", 2), ("n3", 1))
               for n in range(count)]  # fmt: skip
    racks = {"n0": "a", "n1": "b", "n2": "b", "n3": "", "n9": "z"}
    nodes = tuple(replace(one, rack=racks[one.id]) for one in snapshot(devices, []).nodes)
    made = empty(devices, nodes=nodes)
    assert common_rack(made, ["n0", "n1", "n2"]) == "b"
    assert common_rack(made, ["n0", "n1"]) == "a", "the first by name of equal ones"
    assert common_rack(made, ["n3", "n9"]) == common_rack(made, []) == ""
    assert [roomy_rack(made, "A", size, count) for size, count in ((1, 4), (2, 2), (4, 1), (1, 5), (3, 1), (3, 2))] == [
        "a", "a", "a", "a", "a", "a"
    ]  # fmt: skip
    made.take(seat("n0-0"))
    assert roomy_rack(made, "A", 1, 4) == "b"
    assert roomy_rack(made, "A", 1, 3) == "a", "the fullest with room for all"
    assert roomy_rack(made, "A", 2, 2) == "b"
    assert roomy_rack(made, "A", 4, 1) == "a", "no rack has room: the first by name"
    assert roomy_rack(made, "B", 1, 1) in {"a", "b"}
    assert roomy_rack(empty(devices), "A", 1, 1) == ""
