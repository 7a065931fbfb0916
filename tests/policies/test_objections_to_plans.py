"""What the second program says of each action: nothing where it may be done, one rule where it may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.invariants import check
from policies.model.inventory import GroupState, ScrubState
from policies.model.memory import Drain, Memory
from policies.model.plan import (
    Plan,
    ScrubDevice,
    StartGroup,
    StartRouting,
    StartWorker,
    StopGroup,
    StopRouting,
    StopWorker,
)
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
HALF, WIDE, NEW = claim("civil/x:half", millis=500), claim("civil/x:wide", devices=2), claim("civil/x:new", millis=250)
THEIRS = claim("defence/x:theirs")
SEEN = snapshot(FOUR, [HALF, WIDE, NEW, THEIRS], running(HALF, ("G0",)), running(WIDE, ("G1", "G2")))
OWN, WIDER = SEEN.workers
GROUP = SEEN.groups[0]
POLICY = rules(drain_deadline_ms=30_000)


def objections(seen, *actions, memory=None, generation=None) -> list[tuple[str, str]]:
    plan = Plan(
        id="p", snapshot_generation=seen.generation if generation is None else generation, fencing_generation=1,
        decided_at_ms=NOW_MS, actions=actions,
    )  # fmt: skip
    return [(one.rule, one.subject) for one in check(seen, plan, POLICY, memory)]


def test_a_plan_that_does_nothing_has_no_objection_unless_it_was_made_from_another_picture():
    assert objections(SEEN) == []
    assert objections(SEEN, generation=2) == [("plan_is_of_this_snapshot", "p")]


def leaving(**state):
    return replace(SEEN, groups=(replace(GROUP, **({"routed": False, "in_flight": 3} | state)), *SEEN.groups[1:]))


DRAINS = {
    "it answers requests still": ({"routed": True, "in_flight": 0}, 0, False),
    "nobody waits for an answer": ({"in_flight": 0}, 29_999, True),
    "it runs nothing": ({"running": 0}, 29_999, True),
    "requests wait for an answer": ({}, 29_999, False),
    "they have waited as long as they may": ({}, 30_000, True),
    "it is not known whether they wait": ({"in_flight": None}, 29_999, False),
}


@pytest.mark.parametrize("why", DRAINS)
def test_a_group_stops_once_it_is_drained_or_its_deadline_has_passed(why):
    state, waited_ms, may = DRAINS[why]
    stop = StopGroup(domain=CIVIL, group=GROUP.id, reason="")
    memory = Memory(drains=(Drain(group=GROUP.id, since_ms=NOW_MS - waited_ms),))
    told = [] if may else [("no_group_stops_undrained", GROUP.id)]
    assert objections(leaving(**state), stop, memory=memory) == told
    assert objections(leaving(**state), replace(stop, group="gone"), memory=memory) == []


def test_without_a_memory_every_group_without_requests_counts_as_past_its_deadline():
    stop = StopGroup(domain=CIVIL, group=GROUP.id, reason="")
    assert objections(leaving(), stop) == []
    assert objections(leaving(), stop, memory=Memory()) == [("no_group_stops_undrained", GROUP.id)]
    assert objections(leaving(routed=True), stop) == [("no_group_stops_undrained", GROUP.id)]


def test_a_worker_stops_when_no_group_is_on_it():
    stop = StopWorker(domain=CIVIL, worker=OWN.id, devices=("G0",), reason="")
    assert objections(SEEN, stop) == [("no_worker_stops_under_a_group", OWN.id)]
    assert objections(replace(SEEN, groups=SEEN.groups[1:]), stop) == []


@pytest.mark.parametrize(("name", "told"), [("G3", []), ("G1", [("no_held_device_is_scrubbed", "G1")])])
def test_a_device_is_scrubbed_when_no_worker_holds_it(name, told):
    assert (
        objections(SEEN, ScrubDevice(device=name, node="n0", from_domain=CIVIL, to_domain=DEFENCE, reason="")) == told
    )


def bind(*devices: str, domain=CIVIL, worker="new", node="n0") -> StartWorker:
    return StartWorker(domain=domain, worker=worker, node=node, devices=devices, reason="")


def scrubbed(state: ScrubState, domain=None):
    return replace(SEEN, devices=(*SEEN.devices[:3], replace(SEEN.devices[3], scrub=state, domain=domain)))


BINDINGS = {
    "a clean device": (SEEN, (bind("G3"),), []),
    "a device that is held": (SEEN, (bind("G3", "G0"),), [("one_worker_per_device", "G0")]),
    "a device that the same worker holds": (SEEN, (bind("G0", worker=OWN.id),), []),
    "a device twice": (SEEN, (bind("G3"), bind("G3", worker="newer")), [("one_worker_per_device", "G3")]),
    "a device that is not there": (SEEN, (bind("G9"),), [("only_seen_devices_are_bound", "G9")]),
    "a device that nobody proved clean": (scrubbed(ScrubState.SCRUBBING), (bind("G3"),),
                                          [("scrub_proof_before_domain_change", "G3")]),
    "a device of the same domain": (scrubbed(ScrubState.DIRTY, CIVIL), (bind("G3"),), []),
    "a device of another domain": (scrubbed(ScrubState.DIRTY, DEFENCE), (bind("G3"),),
                                   [("scrub_proof_before_domain_change", "G3")]),
    "a device that failed its scrub": (scrubbed(ScrubState.FAILED, CIVIL), (bind("G3"),),
                                       [("scrub_proof_before_domain_change", "G3")]),
}  # fmt: skip


@pytest.mark.parametrize("what", BINDINGS)
def test_a_worker_starts_on_devices_that_are_free_and_proven_clean(what):
    seen, actions, told = BINDINGS[what]
    assert objections(seen, *actions) == told


def test_two_domains_are_never_on_one_gpu_although_on_parts_of_their_own():
    parts = [device("M0", gpu="G0"), device("M1", gpu="G0"), device("M2", gpu="G0")]
    seen = snapshot(parts, [HALF, THEIRS], running(HALF, ("M0",)))
    assert objections(seen, bind("M1")) == []
    assert objections(seen, bind("M1", domain=DEFENCE)) == [("one_domain_per_gpu", "G0")]
    empty = snapshot(parts, [])
    assert objections(empty, bind("M1", domain=DEFENCE), bind("M2", worker="other")) == [("one_domain_per_gpu", "G0")]
    gone = replace(seen, devices=seen.devices[1:])
    assert objections(gone, bind("M1", domain=DEFENCE)) == [], "of what is not there nothing is known"


def start(name=NEW.id, worker=OWN.id, devices=("G0",), millis=250, replicas=1, group="new") -> StartGroup:
    return StartGroup(
        domain=CIVIL, group=group, claim=name, worker=worker, model=None, variant=None, devices=devices,
        gpu_millis=millis, memory_mib=0, replicas=replicas, concurrency=1, reason="",
    )  # fmt: skip


STARTS = {
    "on its domain's worker": ((start(),), []),
    "until the device is full": ((start(replicas=2),), []),
    "beyond what is left": ((start(replicas=3),), [("sums_within_capacity", "G0")]),
    "two that fill it together": ((start(), start(group="newer")), []),
    "two that together are too much": ((start(), start(group="newer", millis=251)), [("sums_within_capacity", "G0")]),
    "on two devices that are taken": ((start(worker=WIDER.id, devices=("G1", "G2"), millis=1),),
                                      [("sums_within_capacity", "G1"), ("sums_within_capacity", "G2")]),
    "on a device of another worker": ((start(devices=("G1",)),),
                                      [("groups_stay_inside_their_worker", "new"), ("sums_within_capacity", "G1")]),
    "on a worker that is not there": ((start(worker="none", devices=("G3",)),),
                                      [("groups_stay_inside_their_worker", "new")]),
    "of the other domain": ((start(THEIRS.id),), [("tenants_run_in_their_own_domain", "new")]),
    "of nobody": ((start("civil/x:gone"),), [("tenants_run_in_their_own_domain", "new")]),
}  # fmt: skip


@pytest.mark.parametrize("what", STARTS)
def test_a_group_starts_on_devices_of_its_own_domains_worker_that_have_room(what):
    actions, told = STARTS[what]
    assert objections(SEEN, *actions) == told


def test_replicas_of_whole_devices_each_take_one_and_shares_are_spread_evenly():
    idle = snapshot(FOUR, [NEW, WIDE], running(WIDE, ("G0", "G1")))
    held = replace(idle, groups=())
    whole = start(WIDE.id, held.workers[0].id, ("G0", "G1"), 1000, 1)
    assert objections(held, whole) == objections(held, replace(whole, replicas=2)) == []
    quarters = start(NEW.id, held.workers[0].id, ("G0", "G1"), 250, 8)
    assert objections(held, quarters) == []
    assert objections(held, replace(quarters, replicas=10)) == [
        ("sums_within_capacity", "G0"), ("sums_within_capacity", "G1")
    ]  # fmt: skip


def test_what_runs_counts_with_its_replicas_and_whole_where_its_shape_is_not_known():
    two = replace(SEEN, groups=(replace(GROUP, replicas=2), *SEEN.groups[1:]))
    assert objections(two, start(millis=1)) == [("sums_within_capacity", "G0")]
    odd = replace(SEEN, groups=(replace(GROUP, rung=7), *SEEN.groups[1:]))
    assert objections(odd, start(millis=1)) == [("sums_within_capacity", "G0")]
    none = replace(SEEN, groups=(replace(GROUP, replicas=0), *SEEN.groups[1:]))
    assert objections(none, start(millis=500)) == [], "a group that is going still holds its share"
    assert objections(none, start(millis=501)) == [("sums_within_capacity", "G0")]
    quarter = claim(HALF.id, ladder=(Shape(flavors=("A",), gpu_millis=250),))
    spread = replace(SEEN, claims=(quarter, *SEEN.claims[1:]), groups=(
        replace(GROUP, worker=WIDER.id, devices=("G1", "G2"), replicas=4),))  # fmt: skip
    beside = start(NEW.id, WIDER.id, ("G1",), 500)
    assert objections(spread, beside) == []
    assert objections(spread, replace(beside, gpu_millis=501)) == [("sums_within_capacity", "G1")]


@pytest.mark.parametrize(("running_now", "told"), [(1, []), (0, [("requests_go_to_running_replicas", GROUP.id)])])
def test_requests_go_where_a_replica_runs(running_now, told):
    seen = replace(SEEN, groups=(replace(GROUP, running=running_now, state=GroupState.STARTING), *SEEN.groups[1:]))
    assert objections(seen, StartRouting(domain=CIVIL, group=GROUP.id, reason="")) == told
    assert objections(seen, StartRouting(domain=CIVIL, group="gone", reason="")) == [
        ("requests_go_to_running_replicas", "gone")
    ]  # fmt: skip


def without_sight(kind: GapKind, subject: str, **more):
    return replace(SEEN, gaps=(Gap(kind=kind, subject=subject, cause="timeout", since_ms=0),), **more)


SCRUB = ScrubDevice(device="G3", node="n0", from_domain=CIVIL, to_domain=DEFENCE, reason="")
STOP = StopWorker(domain=CIVIL, worker="w", devices=("G3",), reason="")
GAPS = {
    "a scrub of a device": (SCRUB, GapKind.DEVICE, "G3", [("no_move_rests_on_a_gap", "G3, n0")]),
    "a scrub on a host": (SCRUB, GapKind.NODE, "n0", [("no_move_rests_on_a_gap", "G3, n0")]),
    "a scrub beside": (SCRUB, GapKind.DEVICE, "G2", []),
    "a scrub for a domain": (SCRUB, GapKind.CLUSTER, "civil", []),
    "a worker's end on a device": (STOP, GapKind.DEVICE, "G3", [("no_move_rests_on_a_gap", "G3")]),
    "a worker's end in a domain": (STOP, GapKind.CLUSTER, "civil", [("no_move_rests_on_a_gap", "G3")]),
    "a worker's end in the other domain": (STOP, GapKind.CLUSTER, "defence", []),
    "a worker on a host": (bind("G3"), GapKind.NODE, "n0", [("no_move_rests_on_a_gap", "G3, n0")]),
    "a worker on a device": (bind("G3"), GapKind.DEVICE, "G3",
                             [("no_move_rests_on_a_gap", "G3, n0"), ("only_seen_devices_are_bound", "G3")]),
    "a worker in a domain": (bind("G3"), GapKind.CLUSTER, "civil", [("no_move_rests_on_a_gap", "G3, n0")]),
    "requests in a domain": (StopRouting(domain=CIVIL, group=GROUP.id, reason=""), GapKind.CLUSTER, "civil",
                             [("no_move_rests_on_a_gap", "civil")]),
    "requests without a count of demand": (StopRouting(domain=CIVIL, group=GROUP.id, reason=""), GapKind.DEMAND,
                                           "civil", []),
}  # fmt: skip


@pytest.mark.parametrize("what", GAPS)
def test_nothing_is_done_to_what_was_not_seen(what):
    action, kind, subject, told = GAPS[what]
    assert objections(without_sight(kind, subject), action) == told


def test_nothing_is_done_in_a_domain_that_is_taken_over():
    adopting = replace(SEEN, adopting=(CIVIL,))
    assert objections(adopting, STOP) == [("no_move_rests_on_a_gap", "G3")]
