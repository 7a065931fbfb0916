"""The place that costs others least, beside one found by letting every possible set of replicas leave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, combinations

import pytest

from policies.decide import decide
from policies.fleet.board import FOREIGN, Board, Need, Seat, Site
from policies.granting.displacing import Moment, Price, Weak, find_by_displacing
from policies.granting.leaving import TRIED_AS_SETS
from policies.invariants import check_decision
from policies.model.inventory import Node
from policies.model.memory import Memory
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import DEPTH, FOUR, looked_at, wanting
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together
from tests.simulation.generate import Dice

WORLDS = 200 * DEPTH
DEVICES = {"n0": ("G0", "G1", "G2"), "n1": ("H0", "H1")}
SIZES = (0, 1, 2, 3, 4)
"""Of what is wanted of a host or of a device's memory, in steps of ``STEP`` and one unit more or less."""
STEP = 10_000
OWN, OTHER = SecurityDomain.CIVIL, SecurityDomain.DEFENCE


@dataclass(frozen=True)
class Host:
    """A fleet in which everything runs, and what it costs to move each claim; None for those that must stay."""

    board: Board
    costs: dict[str, int | None]

    def price(self, seat: Seat) -> int | None:
        return self.costs[seat.claim]

    def anybodys(self, seat: Seat) -> int | None:
        """No more than the price, and something for half of those that must stay."""
        cost = self.costs[seat.claim]
        return (cost if cost is None or len(seat.claim) % 2 else cost // 2) if cost is not None else None

    def seats(self, node: str) -> list[Seat]:
        return list({id(one): one for name in DEVICES[node] for one in self.board.seats[name]}.values())


def host(dice: Dice, most: int, *, of_host: bool) -> Host:
    """Two hosts, with at most so many replicas on a device, each of some GPU, memory and, if so, of its host."""
    lent, runs, costs = [], [], {}
    left = {name: [1000, 80_000] for names in DEVICES.values() for name in names}
    owner: dict[str, SecurityDomain] = {}
    for node, names in DEVICES.items():
        is_wide = most <= 3 and dice.random() < 0.3
        for number in range(most * len(names)):
            shape = _shape(dice, of_host=of_host)
            domain = OWN if is_wide else dice.choice((OWN, OWN, OWN, OTHER))
            if is_wide and shape.gpu_millis < 1000:
                continue
            able = [
                name for name in names if owner.get(name, domain) is domain
                and left[name][0] >= shape.gpu_millis and left[name][1] >= shape.memory_mib
                and (shape.devices == 1 or left[name] == [1000, 80_000])
            ]  # fmt: skip
            if len(able) < shape.devices or dice.random() < 0.1:
                continue
            place = tuple(able[: shape.devices])
            for name in place:
                owner[name] = domain
                left[name] = [0, 0] if shape.devices > 1 else [
                    left[name][0] - shape.gpu_millis, left[name][1] - shape.memory_mib
                ]  # fmt: skip
            one = claim(f"{domain}/x:{node}-{number}", ladder=(shape,))
            workers, groups = running(one, place)
            if is_wide:
                workers, _ = running(one, names)
                groups = [replace(groups[0], id=f"{one.id}-0", worker=workers[0].id)]
            runs.append(([replace(worker, node=node) for worker in workers], groups))
            lent.append(one)
            costs[one.id] = dice.choice((None, 0, 1, 2, 3, 5, 5, 8, 13))
    devices = [device(name, node) for node, names in DEVICES.items() for name in names]
    seen = snapshot(devices, lent, *together(runs))
    most_of_host = 6 * STEP if of_host else 100 * STEP
    nodes = tuple(Node(id=node, cpu_millis=most_of_host, memory_mib=most_of_host) for node in DEVICES)
    return Host(looked_at(replace(seen, nodes=nodes), rules(civil=0, defence=0, floor=0)).board, costs)


def _shape(dice: Dice, *, of_host: bool) -> Shape:
    devices = dice.choice((1, 1, 1, 2))
    millis = 1000 if devices > 1 else dice.choice((100, 200, 300, 500, 1000))
    cpu, memory = (dice.choice(SIZES) * STEP if of_host else 0 for _ in range(2))
    return Shape(flavors=("A",), devices=devices, gpu_millis=millis, memory_mib=dice.choice(SIZES) * STEP,
                 cpu_millis=cpu, host_memory_mib=memory)  # fmt: skip


def asked(dice: Dice, *, of_host: bool) -> Need:
    """What is wanted: part of a device, one or several; to the unit, or one unit more or less."""
    devices = dice.choice((1, 1, 1, 2))
    millis = 1000 if devices > 1 else dice.choice((100, 300, 500, 501, 700, 1000))

    def amount() -> int:
        return max(0, dice.choice((0, 2, 4, 5, 6)) * STEP + dice.choice((0, 0, 1, -1)))

    need = replace(wanting(millis), devices=devices, memory_mib=amount())
    return replace(need, cpu_millis=amount(), host_memory_mib=amount()) if of_host else need


def fits(here: Host, need: Need, node: str, some: tuple[str, ...], gone: tuple[Seat, ...]) -> bool:
    """Say whether the need fits on these devices once these are gone: alone if it wants whole devices."""
    board, left = here.board, [one for one in here.seats(node) if one not in gone]
    for name in some:
        on = [one for one in left if name in one.devices]
        millis, memory = 1000 - sum(one.gpu_millis for one in on), 80_000 - sum(one.memory_mib for one in on)
        if (on and not need.is_part) or not is_usable(board, need, some, left, name):
            return False
        if millis < need.gpu_millis or memory < need.memory_mib:
            return False
    cpu = board.node_cpu[node] + sum(one.cpu_millis for one in gone)
    memory = board.node_memory[node] + sum(one.host_memory_mib for one in gone)
    return cpu >= need.cpu_millis and memory >= need.host_memory_mib


def is_usable(board: Board, need: Need, some: tuple[str, ...], left: list[Seat], name: str) -> bool:
    """Say whether the device's worker carries nothing any more, or is of the domain and holds all that is wanted."""
    worker = board.worker_of.get(name)
    if worker is None or not any(set(one.devices) & set(worker.devices) for one in left):
        return True
    is_alone = len(worker.devices) == 1
    return worker.domain is need.domain and set(some) <= set(worker.devices) and (is_alone or not need.is_part)


def subsets(some: list[Seat]):
    return chain.from_iterable(combinations(some, size) for size in range(len(some) + 1))


def least(here: Host, need: Need) -> int | None:
    """The least that room costs, every set of those that may leave looked at on every host."""
    costs = [
        sum(here.price(one) or 0 for one in gone)
        for node, names in DEVICES.items()
        for gone in subsets([one for one in here.seats(node) if here.price(one) is not None])
        if any(fits(here, need, node, some, gone) for some in combinations(names, need.devices))
    ]
    return min(costs, default=None)


def search(here: Host, need: Need, price: Price | None = None, weak: Weak | None = None) -> Site | None:
    return find_by_displacing(here.board, need, price or here.price, here.anybodys, weak or known(here))


def known(here: Host) -> Weak:
    """The hosts, and the cheapest that may leave on each, by how many devices it has."""
    cheapest: dict[str, dict[int, int]] = {}
    for node in DEVICES:
        for seat in here.seats(node):
            cost, of_size = here.anybodys(seat), cheapest.setdefault(node, {})
            if cost is not None:
                of_size[len(seat.devices)] = min(cost, of_size.get(len(seat.devices), cost))
    return Weak(frozenset(DEVICES), cheapest, moment=Moment())


def is_needed(here: Host, need: Need, site: Site, victim: Seat) -> bool:
    """Say whether the place is none while this one stays."""
    fewer = tuple(one for one in site.victims if one is not victim)
    return not fits(here, need, site.node, site.devices, fewer)


@pytest.mark.parametrize("part", range(4))
def test_no_set_of_replicas_whose_leaving_makes_room_costs_less_than_the_one_that_is_found(part):
    found = 0
    for seed in range(part, WORLDS, 4):
        dice = Dice(seed)
        here = host(dice, 3, of_host=False)
        for _ in range(8):
            need = asked(dice, of_host=False)
            site = search(here, need)
            assert (None if site is None else site.cost) == least(here, need)
            found += site is not None
    assert found


@pytest.mark.parametrize(("most", "of_host"), [(3, True), (8, False), (8, True)])
def test_whoever_leaves_is_needed_and_together_they_are_enough_also_for_the_host(most, of_host):
    found = 0
    for seed in range(WORLDS):
        dice = Dice(seed)
        here = host(dice, most, of_host=of_host)
        for _ in range(3):
            need = asked(dice, of_host=of_host)
            site = search(here, need)
            if site is None:
                all_that_may = {
                    node: tuple(s for s in here.seats(node) if here.price(s) is not None) for node in DEVICES
                }
                assert not any(fits(here, need, node, some, all_that_may[node]) for node, names in DEVICES.items()
                               for some in combinations(names, need.devices))  # fmt: skip
                continue
            assert fits(here, need, site.node, site.devices, site.victims)
            assert all(here.price(one) is not None for one in site.victims)
            assert len(set(map(id, site.victims))) == len(site.victims)
            assert all(is_needed(here, need, site, one) for one in site.victims)
            assert site.cost == sum(here.price(one) or 0 for one in site.victims)
            owners = {here.board.survey.devices[one].domain for one in site.devices}
            assert (site.reach is FOREIGN) is (OTHER in owners)
            found += 1
    assert found


def test_for_cpu_and_memory_of_the_host_too_no_set_costs_less_where_few_may_leave():
    """Where up to six may leave each host, every set of them can be tried: which devices, and who else on the host."""
    found = 0
    for seed in range(WORLDS):
        dice = Dice(seed)
        here = host(dice, 3, of_host=True)
        is_few = all(sum(here.price(one) is not None for one in here.seats(node)) <= TRIED_AS_SETS for node in DEVICES)
        for _ in range(3 if is_few else 0):
            need = asked(dice, of_host=True)
            site = search(here, need)
            assert (None if site is None else site.cost) == least(here, need)
            found += site is not None and is_short_of_host(here, need, site)
    assert found


def is_short_of_host(here: Host, need: Need, site: Site) -> bool:
    """Say whether the host has too little as it is."""
    return here.board.node_cpu[site.node] < need.cpu_millis or here.board.node_memory[site.node] < need.host_memory_mib


def test_of_a_worker_that_is_used_as_it_is_nobody_leaves_who_is_on_neither_device_and_not_needed_for_the_host():
    """Three replicas on the domain's own worker; the two devices that cost least leave the host short of CPU."""
    lent = [claim(f"civil/x:s{index}", ladder=(part(1000, cpu),)) for index, cpu in enumerate((4, 0, 1))]
    workers, _ = running(lent[0], ("G0", "G1", "G2"))
    groups = [
        replace(running(one, (f"G{index}",))[1][0], worker=workers[0].id) for index, one in enumerate(lent)
    ]  # fmt: skip
    seen = snapshot([device(f"G{index}") for index in range(3)], lent, (workers, groups))
    seen = replace(seen, nodes=(Node(id="n0", cpu_millis=6, memory_mib=64_000),))
    board = looked_at(seen, rules(civil=0, defence=0, floor=0)).board
    here = Host(board, {one.id: cost for one, cost in zip(lent, (13, 3, 2), strict=True)})
    need = replace(wanting(1000), devices=2, cpu_millis=4)
    site = find_by_displacing(board, need, here.price, here.price, Weak(frozenset(["n0"])))
    assert site.devices == ("G0", "G2")
    assert sorted(one.claim for one in site.victims) == [lent[0].id, lent[2].id]


@pytest.mark.parametrize("kept", ["standard", "pinned"])
def test_of_two_that_share_a_worker_of_four_devices_one_makes_room_and_the_other_stays(kept):
    """The worker goes on as it is, so that nobody leaves for its end; where one may not leave the other does."""
    first, second = claim("civil/x:first", devices=2), claim("civil/y:second", devices=2, priority_class=kept)
    owner = claim("civil/x:owner", devices=2, priority_class="critical")
    workers, groups = running(first, tuple(one.id for one in FOUR))
    _, others = running(second, tuple(one.id for one in FOUR))
    runs = (
        (workers, [replace(groups[0], devices=("G0", "G1"))]), ([], [replace(others[0], devices=("G2", "G3"))])
    )  # fmt: skip
    seen, policy = snapshot(FOUR, [first, second, owner], *runs), rules(civil=4000, defence=0, floor=0)
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert check_decision(seen, decision, policy) == ()
    assert [(one.claim, one.beneficiary) for one in decision.evictions] == [(first.id, owner.id)]
    assert {one.claim: one.devices for one in decision.placements} == {owner.id: ("G0", "G1"), second.id: ("G2", "G3")}
    assert {one.worker for one in decision.placements} == {workers[0].id}


def test_what_was_found_for_others_in_the_same_moment_changes_nothing_for_whoever_asks_next():
    """One after the other looks, at other prices and for other needs; then somebody leaves, and all look again."""
    for seed in range(WORLDS // 4):
        dice = Dice(seed)
        here = host(dice, 3, of_host=False)
        needs, weak = [asked(dice, of_host=False) for _ in range(5)], known(here)
        for _ in range(2):
            for least_paid in (0, 4, 0, 9):
                prices = {name: None if cost is None else max(cost, least_paid) for name, cost in here.costs.items()}

                def price(seat: Seat, prices=prices) -> int | None:
                    return prices[seat.claim]

                for need in needs:
                    assert search(here, need, price, weak) == search(here, need, price)
            for gone in here.seats("n0")[:1]:
                here.board.leave(gone)


def beside(places: dict[str, list[tuple[int, int | None, Shape]]], most_cpu: int = 64_000, **rest) -> Host:
    """Hosts with one replica after the other on one device each: on which, at what cost, of what shape."""
    lent, runs, costs = [], [], {}
    names = sorted(places)
    devices = [device(f"{node}-{index}", node) for node in names for index in range(rest.get("devices", 1))]
    for node in names:
        for index, cost, shape in places[node]:
            one = claim(f"civil/x:{node}-{len(lent):02}", ladder=(shape,))
            workers, groups = running(one, (f"{node}-{index}",))
            lent.append(one)
            costs[one.id] = cost
            runs.append(([replace(made, node=node) for made in workers], groups))
    seen = snapshot(devices, lent, *together(runs))
    nodes = tuple(Node(id=node, cpu_millis=most_cpu, memory_mib=most_cpu) for node in names)
    return Host(looked_at(replace(seen, nodes=nodes), rules(civil=0, defence=0, floor=0)).board, costs)


def part(millis: int, cpu: int = 0) -> Shape:
    return Shape(flavors=("A",), gpu_millis=millis, cpu_millis=cpu)


def left_for(here: Host, need: Need, nodes) -> list[int]:
    """What those cost that leave, the cheapest first."""
    site = find_by_displacing(here.board, need, here.price, here.price, Weak(frozenset(nodes)))
    return sorted(here.costs[one.claim] for one in site.victims)


def test_of_many_hosts_the_cheapest_makes_room_and_of_equal_ones_the_first():
    for seed in range(20):
        dice = Dice(seed)
        nodes = [f"n{index:02}" for index in range(12)]
        costs = {node: dice.randint(3, 9) for node in nodes}
        here = beside({node: [(0, costs[node], part(1000))] for node in nodes})
        site = find_by_displacing(here.board, wanting(1000), here.price, here.price, Weak(frozenset(nodes)))
        assert site.node == min(nodes, key=lambda node: (costs[node], node))


def test_several_cheap_ones_leave_before_a_dear_one_and_a_cheap_one_before_several():
    halves = [(0, 1, part(200)), (0, 2, part(300)), (0, 5, part(500))]
    assert left_for(beside({"n0": halves}), wanting(500), ["n0"]) == [1, 2]
    halves = [(0, 2, part(200)), (0, 4, part(300)), (0, 5, part(500))]
    assert left_for(beside({"n0": halves}), wanting(500), ["n0"]) == [5]


@pytest.mark.parametrize(("number", "left"), [(6, [2]), (7, [2]), (9, [2])])
def test_of_many_on_one_device_none_leaves_whom_a_later_one_makes_needless(number, left):
    many = [(0, 1, part(50)) for _ in range(number - 1)] + [(0, 2, part(600))]
    need = wanting(1000 - 50 * (number - 1))
    assert left_for(beside({"n0": many}), need, ["n0"]) == left


def test_for_the_cores_of_a_host_the_dearest_stay_where_others_are_enough():
    """Of five cores all are in use and three are needed, on a device that is free."""
    on = [(0, 1, part(100, 1)), (0, 2, part(100, 1)), (0, 4, part(100, 2)), (0, None, part(100, 1))]
    here = beside({"n0": on}, most_cpu=5, devices=2)
    assert left_for(here, replace(wanting(1000), cpu_millis=3), ["n0"]) == [1, 4]
    here = beside({"n0": [*on[:2], (0, 4, part(100, 3))]}, most_cpu=5, devices=2)
    assert left_for(here, replace(wanting(1000), cpu_millis=3), ["n0"]) == [4]


@pytest.mark.parametrize(("pair", "left"), [(10, [10, 10, 10]), (14, [6] * 6), (12, [12] * 3)])
def test_where_too_many_sets_of_devices_are_to_be_tried_pairs_leave_if_they_cost_less_by_their_parts(pair, left):
    """A host of twelve devices of which six are needed: three replicas on two devices each, six on one."""
    lent = [claim(f"civil/x:p{index}", devices=2) for index in range(3)]
    lent += [claim(f"civil/x:s{index}") for index in range(6)]
    places = [(f"G{2 * index:02}", f"G{2 * index + 1:02}") for index in range(3)]
    places += [(f"G{6 + index:02}",) for index in range(6)]
    runs = [running(one, place) for one, place in zip(lent, places, strict=True)]
    seen = snapshot([device(f"G{index:02}") for index in range(12)], lent, *runs)
    board = looked_at(seen, rules(civil=0, defence=0, floor=0)).board
    here = Host(board, {one.id: pair if one.ladder[0].devices > 1 else 6 for one in lent})
    assert left_for(here, replace(wanting(1000), devices=6), ["n0"]) == left


def test_devices_on_one_island_are_taken_for_nothing_more_only_where_there_are_enough_of_them():
    """Nobody costs anything; one of three devices is linked to none of the others, the two have an island."""
    lent = [claim(f"civil/x:s{index}") for index in range(3)]
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(lent)]
    devices = [device("G0", island="0"), *(device(f"G{index}", island="1") for index in (1, 2))]
    board = looked_at(snapshot(devices, lent, *runs), rules(civil=0, defence=0, floor=0)).board
    here = Host(board, {one.id: 0 for one in lent})
    site = find_by_displacing(board, replace(wanting(1000), devices=2), here.price, here.price, Weak(frozenset(["n0"])))
    assert site.devices == ("G1", "G2")
