"""Room on the cheapest host: every host, every set of its devices and everybody on them, tried one after the other."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings

from policies.decide import decide
from policies.granting.displacing import Moment, Weak, find_by_displacing
from policies.model.inventory import Node
from policies.model.memory import Memory
from policies.model.workload import Shape
from tests.policies.looking import DEPTH, SEEDS, granted, looked_at, wanting
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together
from tests.simulation.generate import Dice

MANY = settings(max_examples=80 * DEPTH, deadline=None, derandomize=DEPTH == 1)
HOSTS = ("n0", "n1", "n2")


def fleet(dice: Dice, sizes: tuple[int, ...], cores: int):
    """Three hosts of up to four devices, partly in use; each replica uses a core, of which there are some more."""
    devices = [device(f"{host}-{index}", host) for host in HOSTS for index in range(dice.randint(1, 4))]
    free, runs, standing = {one.id: 1000 for one in devices}, [], {}
    for index in range(12):
        one, millis = dice.choice(devices), dice.choice(sizes)
        if free[one.id] >= millis:
            free[one.id] -= millis
            lent = claim(f"civil/x:l{index:02}", ladder=(Shape(flavors=("A",), gpu_millis=millis, cpu_millis=1000),))
            workers, groups = running(lent, (one.id,))
            runs.append(([replace(worker, node=one.node) for worker in workers], groups))
            standing[lent.id] = (one.id, millis, dice.choice((None, *range(1, 9), *range(1, 9))))
    claims = [claim(name, ladder=(Shape(flavors=("A",), gpu_millis=millis, cpu_millis=1000),))
              for name, (_, millis, _) in standing.items()]  # fmt: skip
    seen = snapshot(devices, claims, *together(runs))
    on = {host: sum(place.startswith(host) for place, *_ in standing.values()) for host in HOSTS}
    nodes = tuple(Node(id=host, cpu_millis=(on[host] + cores) * 1000, memory_mib=0) for host in HOSTS)
    return looked_at(replace(seen, nodes=nodes), rules(civil=0, defence=0, floor=0)), devices, free, standing


def found(work, need, standing, hosts=HOSTS):
    def price(seat):
        return standing[seat.claim][2]

    def anybodys(seat):
        return (price(seat) or 0) // 2

    site = find_by_displacing(work.board, need, price, anybodys, Weak(frozenset(hosts)))
    if site is not None:
        assert len({seat.claim for seat in site.victims}) == len(site.victims), "nobody leaves twice"
        assert site.cost == sum(price(seat) for seat in site.victims), "and it costs what they cost"
        assert {work.board.survey.devices[one].node for one in site.devices} == {site.node}
    return site


def least(devices, free, standing, count: int, millis: int, cores: int) -> int | None:
    """The cheapest of all sets of replicas of one host that make room, on so many devices, with so many cores."""
    costs = []
    for host in HOSTS:
        here = {name: one for name, one in standing.items() if one[0].startswith(host)}
        movable = [name for name, one in here.items() if one[2] is not None]
        for size in range(len(movable) + 1):
            for some in combinations(movable, size):
                left = {one.id: free[one.id] for one in devices if one.node == host}
                for name in some:
                    left[here[name][0]] += here[name][1]
                if sum(amount >= millis for amount in left.values()) >= count and size >= cores:
                    costs.append(sum(here[name][2] for name in some))
    return min(costs, default=None)


@MANY
@given(SEEDS)
def test_whole_devices_come_free_on_the_host_where_that_is_cheapest_cores_included(seed):
    dice = Dice(seed)
    count, spare, cores = dice.randint(1, 3), dice.randint(0, 2), dice.randint(0, 3)
    work, devices, free, standing = fleet(dice, (1000,), spare)
    need = replace(wanting(1000), devices=count, cpu_millis=cores * 1000)
    site = found(work, need, standing)
    expected = least(devices, free, standing, count, 1000, max(0, cores - spare))
    assert (None if site is None else site.cost) == expected
    if site is not None:
        assert len(site.devices) == count == len(set(site.devices))


@MANY
@given(SEEDS)
def test_a_part_of_a_device_comes_free_where_that_is_cheapest_and_nobody_leaves_who_need_not(seed):
    dice = Dice(seed)
    millis = dice.choice((100, 250, 500, 1000))
    work, devices, free, standing = fleet(dice, (100, 250, 500), 0)
    site = found(work, wanting(millis), standing)
    assert (None if site is None else site.cost) == least(devices, free, standing, 1, millis, 0)
    for gone in () if site is None else site.victims:
        (place,) = site.devices
        rest = [seat for seat in site.victims if seat is not gone]
        assert free[place] + sum(seat.gpu_millis for seat in rest) < millis, "without any one of them it does not fit"


@MANY
@given(SEEDS)
def test_room_is_looked_for_on_the_hosts_that_are_named_alone(seed):
    dice = Dice(seed)
    work, devices, free, standing = fleet(dice, (500, 1000), 0)
    site = found(work, wanting(1000), standing, ("n1",))
    only = {name: one for name, one in standing.items() if one[0].startswith("n1")}
    here = [one for one in devices if one.node == "n1"]
    assert (None if site is None else site.cost) == least(here, free, only, 1, 1000, 0)


@MANY
@given(SEEDS)
def test_what_is_known_of_a_moment_changes_neither_what_is_found_nor_who_is_asked_about_nor_the_steps(seed):
    """Some look one after the other, each with its own say over who may leave; now and then somebody goes."""
    dice = Dice(seed)
    work, _, _, standing = fleet(dice, dice.choice(((500, 1000), (1000,), (100, 250, 500))), 1)
    board, known, anew = work.board, Weak(frozenset(HOSTS), moment=Moment()), Weak(frozenset(HOSTS))
    needs = [replace(wanting(millis), devices=count) for millis, count in ((1000, 2), (1000, 1), (250, 1))]
    for _ in range(12):
        need, told = dice.choice(needs), []
        must_stay = {name for name in standing if dice.random() < 0.2}
        for hosts in (known, anew):
            asked, steps = set(), board.steps

            def price(seat, must_stay=must_stay, asked=asked):
                asked.add(seat.claim)
                return None if seat.claim in must_stay else standing[seat.claim][2]

            site = find_by_displacing(board, need, price, lambda seat: (standing[seat.claim][2] or 0) // 2, hosts)
            told.append((site, asked, board.steps - steps))
        assert told[0] == told[1]
        there = [seat for some in board.seats.values() for seat in some]
        if there and dice.random() < 0.2:
            board.leave(dice.choice(there))


@pytest.mark.parametrize("much", [7, 12])
def test_of_many_small_replicas_on_a_device_the_needless_stay(much):
    """More than are tried as sets: the cheapest leave first, and who turns out not to be needed stays."""
    lent = [claim(f"civil/x:l{index:02}", millis=80) for index in range(much)]
    runs = [running(one, ("G0",)) for one in lent]
    prices = {one.id: index + 1 for index, one in enumerate(lent)}
    work = looked_at(snapshot([device("G0")], lent, *together(runs)), rules(civil=0, defence=0, floor=0))
    need = 1000 - 80 * much + 80 * 2

    def price(seat):
        return prices[seat.claim]

    site = find_by_displacing(work.board, wanting(need), price, price, Weak(frozenset(("n0",))))
    assert sorted(prices[seat.claim] for seat in site.victims) == [1, 2]
    work = looked_at(snapshot([device("G0")], lent, *together(runs)), rules(civil=0, defence=0, floor=0))
    site = find_by_displacing(work.board, wanting(1000), price, price, Weak(frozenset(("n0",))))
    assert len(site.victims) == much


def test_the_needless_stay_although_they_were_the_cheapest():
    """Seven leave one after the other until the eighth, a large one, makes room alone."""
    small = [claim(f"civil/x:l{index:02}", millis=50) for index in range(7)]
    large = claim("civil/x:large", millis=600)
    runs = [running(one, ("G0",)) for one in (*small, large)]
    prices = {**{one.id: 1 for one in small}, large.id: 9}
    work = looked_at(snapshot([device("G0")], [*small, large], *together(runs)), rules(civil=0, defence=0, floor=0))

    def price(seat):
        return prices[seat.claim]

    site = find_by_displacing(work.board, wanting(600), price, price, Weak(frozenset(("n0",))))
    assert [seat.claim for seat in site.victims] == [large.id]


def spanning(owner_devices: int, lent_devices: int):
    """Civil borrows four devices by replicas that each use so many; the owner wants back so many at once."""
    lent = [claim(f"civil/x:l{index}", devices=lent_devices) for index in range(4 // lent_devices)]
    places = [tuple(f"G{index * lent_devices + i}" for i in range(lent_devices)) for index in range(len(lent))]
    owner = claim("defence/x:owner", devices=owner_devices)
    runs = [running(one, place) for one, place in zip(lent, places, strict=True)]
    seen = snapshot([device(f"G{index}") for index in range(4)], [*lent, owner], *runs)
    return decide(seen, rules(civil=0, defence=8000, floor=0), Memory(), NOW_MS), owner


@pytest.mark.parametrize(
    ("owner_devices", "lent_devices", "leave"),
    [(1, 1, 1), (2, 1, 2), (4, 1, 4), (1, 2, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (1, 4, 1), (3, 4, 1), (4, 4, 1)],
)
def test_who_stands_on_several_devices_leaves_all_of_them_and_no_more_leave_than_must(
    owner_devices, lent_devices, leave
):
    decision, owner = spanning(owner_devices, lent_devices)
    assert granted(decision, owner.id) == 1
    assert len(decision.evictions) == leave


@pytest.mark.parametrize(("devices", "needed"), [(1, 1), (3, 3), (3, 2), (3, 1), (7, 7), (8, 3)])
def test_of_hosts_on_which_one_replica_costs_the_same_only_the_first_is_looked_at(devices, needed):
    """What it costs is divided among its devices: nothing of it may be lost, or no host would rule out another."""
    lent = [claim(f"civil/x:l{host}", devices=devices) for host in HOSTS]
    runs = []
    for one, host in zip(lent, HOSTS, strict=True):
        workers, groups = running(one, tuple(f"{host}-{index}" for index in range(devices)))
        runs.append(([replace(worker, node=host) for worker in workers], groups))
    there = [device(f"{host}-{index}", host) for host in HOSTS for index in range(devices)]
    work = looked_at(snapshot(there, lent, *together(runs)), rules(civil=0, defence=0, floor=0))
    cost, steps = 1_000_000_007, work.board.steps
    least = {host: {devices: cost} for host in HOSTS}
    for weak in (Weak(frozenset(HOSTS)), Weak(frozenset(HOSTS), least)):
        site = find_by_displacing(
            work.board, replace(wanting(1000), devices=needed), lambda _: cost, lambda _: cost, weak
        )
        assert (site.node, site.cost) == ("n0", cost)
        assert work.board.steps - steps == devices
        steps = work.board.steps
