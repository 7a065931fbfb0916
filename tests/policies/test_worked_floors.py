"""Floors that anybody can check by hand: which are promised, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.certificate import certify
from policies.model.inventory import DeviceHealth
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

WORST_MS = 30_000 + 2_000 + 10_000


def policy(deadline_s: int = 120, **floors: int):
    """The rules with these floors: ``civil=1000`` or, for a team, ``civil_x=1000``."""
    made = rules(civil=8000, defence=8000, floor=0)
    named = {name.replace("_", "/"): amount for name, amount in floors.items()}
    return replace(made, tenants=tuple(
        replace(one, floor_millis=(("A", named[one.id]),) if one.id in named else (), reclaim_deadline_s=deadline_s)
        for one in made.tenants
    ))  # fmt: skip


def told(seen, of) -> dict[str, str]:
    """What is said of each floor that is refused, and an empty text of each that is promised."""
    return {
        one.tenant: "" if one.is_recoverable else one.sentence.removeprefix(f"{one.tenant}: ")
        for one in certify(seen, of, NOW_MS)
    }


EMPTY = snapshot(FOUR, [])
STAYS = "GPUs of A carry work that nobody may preempt; too few remain for all floors at once"
PARTS = "GPUs of A carry work that nobody may preempt; too few whole ones remain for all floors at once"
THEIRS = "GPUs of A carry other domains' work that nobody may preempt; too few remain"


def parts(*gpus: str):
    return [device(f"{gpu}-{number}", gpu=gpu) for number, gpu in enumerate(gpus)]


def short(needed: int, gpus: int, may: str = "") -> str:
    return f"the floors of all domains {may}need {needed} whole GPUs of A, {gpus} are healthy"


COUNTS = {
    "as many as there are": (EMPTY, policy(civil=2000, defence=2000), {"civil": "", "defence": ""}),
    "a milli more takes a whole one": (EMPTY, policy(civil=2000, defence=2001),
                                       {"civil": short(5, 4), "defence": short(5, 4)}),
    "a floor of nothing is none": (EMPTY, policy(civil=0, defence=1), {"defence": ""}),
    "floors below count together": (EMPTY, policy(civil=1000, civil_x=1500, civil_y=500, defence=2000),
                                    {"civil": "", "civil/x": "", "civil/y": "", "defence": ""}),
    "floors below are more than the one above": (
        EMPTY, policy(civil=1000, civil_x=1500, civil_y=501, defence=2000),
        dict.fromkeys(("civil", "civil/x", "civil/y", "defence"), short(5, 4))),
    "an ill device": (snapshot([*FOUR[:3], replace(FOUR[3], health=DeviceHealth.SUSPECT)], []), policy(civil=4000),
                      {"civil": short(4, 3)}),
    "a closed host": (replace(EMPTY, nodes=(replace(EMPTY.nodes[0], schedulable=False),)), policy(civil=1),
                      {"civil": "no healthy device of A exists"}),
    "two devices on each GPU": (snapshot(parts("g", "g", "h", "h"), []), policy(civil=2000, defence=2000),
                                {"civil": "", "defence": ""}),
    "two domains never on one GPU": (snapshot(parts("g", "g", "h", "h"), []), policy(civil=2001, defence=1),
                                     {"civil": short(3, 2), "defence": short(3, 2)}),
    "GPUs of one and of two devices": (snapshot(parts("g", "h", "h"), []), policy(civil=3000),
                                       {"civil": short(3, 2, "may ")}),
}  # fmt: skip


@pytest.mark.parametrize("what", COUNTS)
def test_floors_are_promised_as_far_as_whole_gpus_suffice_for_all_at_once(what):
    seen, of, said = COUNTS[what]
    assert told(seen, of) == said


def pinned(name: str, count: int = 1, millis: int = 1000, devices: int = 1):
    return claim(name, least=count, millis=millis, devices=devices, priority_class="pinned")


def stays(*runs, devices=FOUR):
    return snapshot(devices, [one for one, *_ in runs], *(running(one, *places) for one, *places in runs))


def doubled(seen):
    return replace(seen, groups=tuple(replace(one, replicas=2, running=2) for one in seen.groups))


FIXED = {
    "a floor that what stays uses itself": (
        stays((pinned("civil/x:p", 2), ("G0",), ("G1",))), policy(civil=2000, defence=2000),
        {"civil": "", "defence": ""}),
    "what stays beside the floor of its own team's neighbour": (
        stays((pinned("civil/x:p", 2), ("G0",), ("G1",))), policy(civil_y=2000, defence=1000),
        {"civil/y": f"2 {STAYS}", "defence": f"2 {STAYS}"}),
    "who holds its floor already has it": (
        stays((pinned("civil/x:p", 2), ("G0",), ("G1",))), policy(civil=2000, civil_y=2000, defence=1000),
        {"civil": "", "civil/y": f"2 {STAYS}", "defence": f"2 {STAYS}"}),
    "who holds a milli less has not": (
        stays((pinned("civil/x:p", 2), ("G0",), ("G1",))), policy(civil=2001, civil_y=2000, defence=1000),
        dict.fromkeys(("civil", "civil/y", "defence"), f"2 {STAYS}")),
    "what may be preempted is not in the way": (
        stays((claim("civil/x:c", least=4), *((one.id,) for one in FOUR))), policy(defence=4000), {"defence": ""}),
    "what the other domain keeps": (
        stays((pinned("civil/x:p", 2), ("G0",), ("G1",))), policy(defence=3000), {"defence": f"2 {THEIRS}"}),
    "as much as is left beside what the other domain keeps": (
        stays((pinned("civil/x:p", 2), ("G0",), ("G1",))), policy(defence=2000), {"defence": ""}),
    "halves on two devices leave no whole one": (
        stays((pinned("civil/x:p", 2, 500), ("G0",), ("G1",))), policy(civil_y=1000, defence=2000),
        {"civil/y": f"2 {PARTS}", "defence": f"2 {PARTS}"}),
    "two halves on one device leave the others": (
        doubled(stays((pinned("civil/x:p", 2, 500), ("G0",)))), policy(civil_y=1000, defence=2000),
        {"civil/y": "", "defence": ""}),
    "two halves of one group on two devices leave no whole one": (
        replace(stays((pinned("civil/x:p", 2, 500), ("G0", "G1"))), groups=(
            replace(stays((pinned("civil/x:p", 2, 500), ("G0", "G1"))).groups[0], replicas=2),)),
        policy(civil_y=1000, defence=2000), {"civil/y": f"2 {PARTS}", "defence": f"2 {PARTS}"}),
    "a replica of two devices keeps both": (
        stays((pinned("civil/x:p", 1, devices=2), ("G0", "G1"))), policy(civil_y=1000, defence=2000),
        {"civil/y": f"2 {STAYS}", "defence": f"2 {STAYS}"}),
    "a replica of two devices leaves the other two": (
        stays((pinned("civil/x:p", 1, devices=2), ("G0", "G1"))), policy(civil_y=1000, defence=1000),
        {"civil/y": "", "defence": ""}),
    "a part of a GPU keeps all of it": (
        stays((pinned("civil/x:p"), ("g-0",)), devices=parts("g", "g", "h", "h")), policy(defence=2001),
        {"defence": f"1 {THEIRS}"}),
    "a rung that is no more counts as a whole device": (
        replace(stays((pinned("civil/x:p", 1, 500), ("G0",))), groups=(
            replace(stays((pinned("civil/x:p", 1, 500), ("G0",))).groups[0], rung=3),)),
        policy(civil=4000, defence=0), {"civil": ""}),
    "a device of another kind": (
        stays((pinned("civil/x:p"), ("B0",)), devices=[*FOUR, replace(device("B0"), flavor="B")]), policy(defence=4000),
        {"defence": ""}),
    "who holds its floor in parts of two devices": (
        replace(stays((pinned("civil/x:p", 2, 500), ("G0", "G1"))), groups=(
            replace(stays((pinned("civil/x:p", 2, 500), ("G0", "G1"))).groups[0], replicas=2),)),
        policy(civil_x=1000, defence=3000), {"civil/x": "", "defence": f"2 {THEIRS}"}),
    "what is not seen stays whatever its class": (
        replace(stays((claim("civil/x:c", least=2), ("G0",), ("G1",))), adopting=(SecurityDomain.CIVIL,)),
        policy(defence=3000), {"defence": f"2 {THEIRS}"}),
    "a claim that was deleted leaves": (
        replace(stays((pinned("civil/x:p"), ("G0",))), claims=()), policy(defence=4000), {"defence": ""}),
    "a worker that is gone": (
        replace(stays((pinned("civil/x:p"), ("G0",))), workers=()), policy(defence=4000), {"defence": ""}),
}  # fmt: skip


@pytest.mark.parametrize("what", FIXED)
def test_what_nobody_may_preempt_is_counted_as_it_stands(what):
    seen, of, said = FIXED[what]
    assert told(seen, of) == said


@pytest.mark.parametrize(("start_ms", "deadline_s", "fits"), [(5_000, 47, True), (5_001, 47, False), (0, 42, True)])
def test_a_floor_is_back_before_its_deadline_or_not_promised(start_ms, deadline_s, fits):
    slow, quick = claim("civil/x:slow"), claim("civil/y:quick")
    seen = snapshot(FOUR, [slow, quick], running(slow, ("G0",)), running(quick, ("G1",)))
    seen = replace(seen, groups=tuple(
        replace(one, cold_start_ms=start_ms if one.claim == slow.id else start_ms // 2) for one in seen.groups
    ))  # fmt: skip
    proofs = {one.tenant: one for one in certify(seen, policy(deadline_s, civil=1000, defence=1000, civil_y=7), NOW_MS)}
    assert list(proofs) == ["civil", "civil/y", "defence"]
    assert [one.worst_case_ms - WORST_MS for one in proofs.values()] == [start_ms, start_ms // 2, 0]
    one = proofs["civil"]
    assert (one.flavor, one.floor_millis, one.deadline_ms, one.is_recoverable) == ("A", 1000, deadline_s * 1000, fits)
    takes, may = WORST_MS + start_ms, deadline_s * 1000
    late = f"drain, scrub and start may take {takes} ms, only {may} are promised"
    assert one.sentence == f"civil: {f'1000 of A come back within {takes} ms, {may} are promised' if fits else late}"


HOSTS = [device("G0", "n0"), device("G1", "n0"), device("G2", "n1")]


def wish(least: int = 1, *, spread: bool = False, more=(), **shape):
    return claim("civil/x:wish", ladder=(Shape(**({"flavors": ("A",)} | shape)), *more), least=least, spread=spread)


HALF = Shape(flavors=("A",), gpu_millis=500)
HOST = {
    "as many devices as a host has": (wish(devices=2), ""),
    "one more": (wish(devices=3), "needs 3 devices of one host, the largest has 2"),
    "all memory of a device": (wish(memory_mib=80_000), ""),
    "more": (wish(memory_mib=80_001), "needs 80001 MiB of a device, the smallest of A has 80000"),
    "all processors": (wish(cpu_millis=64_000), ""),
    "more processors": (wish(cpu_millis=64_001), "needs 1 replicas at once, the empty hosts have room for 0"),
    "all memory of a host": (wish(host_memory_mib=500_000), ""),
    "the least part of a device": (wish(gpu_millis=1, host_memory_mib=500_001),
                                   "needs 1 replicas at once, the empty hosts have room for 0"),
    "more memory than a host has": (wish(host_memory_mib=500_001),
                                    "needs 1 replicas at once, the empty hosts have room for 0"),
    "on both hosts": (wish(2, spread=True), ""),
    "on three hosts": (wish(3, spread=True), "needs 3 hosts at once, the empty hosts have room for 2"),
    "three replicas of half the processors": (wish(3, cpu_millis=32_000), ""),
    "three of more than half": (wish(3, cpu_millis=32_001),
                                "needs 3 replicas at once, the empty hosts have room for 2"),
    "six halves": (wish(6, gpu_millis=500), ""),
    "seven of two on a device": (wish(7, gpu_millis=400), "needs 7 replicas at once, the empty hosts have room for 6"),
    "two pairs, more than the floor": (wish(2, devices=2), ""),
    "a rung that fits": (wish(devices=3, more=(HALF,)), ""),
    "the smallest of those that do not": (wish(4, devices=3, more=(replace(HALF, memory_mib=80_001),)),
                                          "needs 80001 MiB of a device, the smallest of A has 80000"),
    "a claim for another kind": (wish(devices=3, flavors=("B",)), ""),
    "a claim for any kind": (wish(devices=3, flavors=()), "needs 3 devices of one host, the largest has 2"),
    "a claim without devices": (wish(devices=0), ""),
    "a claim of no part": (wish(gpu_millis=0), ""),
    "no replica at least": (wish(0, devices=3), "needs 3 devices of one host, the largest has 2"),
    "no replica at least and no host": (wish(0, cpu_millis=64_001),
                                        "needs 1 replicas at once, the empty hosts have room for 0"),
    "more than the floor": (wish(2, devices=3), ""),
    "halves for which a host has processors": (wish(5, gpu_millis=500, cpu_millis=20_000), ""),
}  # fmt: skip


@pytest.mark.parametrize("what", HOST)
def test_a_claim_inside_a_floor_that_the_empty_hosts_cannot_carry_is_named_with_what_is_missing(what):
    one, missing = HOST[what]
    seen = snapshot(HOSTS, [one])
    said = told(seen, policy(civil=3000))["civil"]
    assert said == (f"{one.id} {missing}" if missing else "")


def test_a_claim_is_named_at_its_team_and_above_and_nowhere_else():
    one = wish(devices=3)
    seen = snapshot([*HOSTS, device("G3", "n1")], [one])
    said = told(seen, policy(civil=3000, civil_x=3000, civil_y=1000))
    assert [bool(said[name]) for name in ("civil", "civil/x", "civil/y")] == [True, True, False]
    assert told(replace(seen, nodes=()), policy(civil=1000)) == {"civil": ""}, "less than the claim needs at least"


def test_replicas_that_must_be_on_different_hosts_count_the_hosts_that_can_carry_one():
    seen = snapshot(HOSTS, [wish(2, spread=True, cpu_millis=100)])
    narrow = replace(seen, nodes=tuple(replace(one, cpu_millis=99 if one.id == "n1" else 100) for one in seen.nodes))
    assert told(narrow, policy(civil=3000))["civil"].endswith("needs 2 hosts at once, the empty hosts have room for 1")
    assert told(seen, policy(civil=3000)) == {"civil": ""}
