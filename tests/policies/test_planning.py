"""The plan: what is safe now, give back before take, and a replacement before what it replaces where there is room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.model.inventory import Group, GroupState, Worker, WorkerState
from policies.model.memory import ClaimMemory, Memory
from policies.model.naming import group_id
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind, Job, Shape
from policies.planning import plan
from tests.policies.situations import LONG_AGO_MS, NOW_MS, claim, device, rules, running, snapshot, together

LADDER = (Shape(flavors=("A",), variant="best"), Shape(flavors=("A",), gpu_millis=500, variant="small"))
CIVIL = SecurityDomain.CIVIL


def climbing(*more):
    """A claim on its lower rung that may climb to a second, free device; ``more`` claims arrive beside it."""
    one = claim("civil/x:chat", ladder=LADDER)
    workers, groups = running(one, ("G0",))
    groups = [replace(groups[0], id=group_id(one.id, workers[0].id, 1), rung=1)]
    fixed = claim("civil/y:fixed", millis=500, priority_class="pinned")
    runs = running(fixed, ("G0",))
    memory = Memory(claims=(ClaimMemory(claim=one.id, rung=1, better_since_ms=LONG_AGO_MS),))
    devices = [device(f"G{i}") for i in range(3)]
    seen = snapshot(devices, [one, fixed, *more], (workers, [*groups, *runs[1]]))
    policy = rules(civil=4000, upgrade_hold_ms=1_000)
    return seen, policy, memory, groups[0]


def kinds(seen, policy, memory) -> list[tuple[str, str]]:
    decision = decide(seen, policy, memory, NOW_MS)
    return [
        (one.kind, getattr(one, "group", getattr(one, "worker", ""))) for one in plan(seen, decision, policy, 1).actions
    ]


def test_the_old_rung_answers_until_the_new_one_does_whatever_else_has_just_been_placed():
    seen, policy, memory, old = climbing(claim("civil/y:newcomer", submitted_at_ms=1))
    begun = kinds(seen, policy, memory)
    assert ("stop_routing", old.id) not in begun
    assert "start_worker" in {kind for kind, _ in begun}
    decision = decide(seen, policy, memory, NOW_MS)
    new = next(one for one in decision.placements if one.claim == old.claim)
    worker = Worker(id=new.worker, domain=CIVIL, node="n0", devices=new.devices, state=WorkerState.READY)
    started = Group(
        id=new.group, claim=new.claim, worker=new.worker, rung=0, variant="best", devices=new.devices, replicas=1,
        running=1, state=GroupState.RUNNING, routed=True, in_flight=0, since_ms=NOW_MS,
    )  # fmt: skip
    there = replace(seen, workers=(*seen.workers, worker), groups=(*seen.groups, started))
    assert ("stop_routing", old.id) in kinds(there, policy, decision.memory)


def test_a_job_leaves_one_place_before_it_begins_at_another_since_a_program_runs_once():
    seen, policy, memory, old = climbing(claim("civil/y:newcomer", submitted_at_ms=1))
    job = Job(command=("/usr/bin/train",))
    claims = tuple(replace(one, kind=ClaimKind.JOB, job=job) if one.id == old.claim else one for one in seen.claims)
    assert ("stop_routing", old.id) in kinds(replace(seen, claims=claims), policy, memory)


@pytest.mark.parametrize(("state", "is_ended"), [(GroupState.STARTING, True), (GroupState.RUNNING, False)])
def test_who_never_answered_is_ended_at_once_and_who_did_once_what_is_inside_is_done(state, is_ended):
    gone = claim("civil/x:gone")
    workers, groups = running(gone, ("G0",))
    left = replace(groups[0], state=state, running=0, routed=False, in_flight=3)
    seen = snapshot([device("G0")], [], (workers, [left]))
    assert (("stop_group", left.id) in kinds(seen, rules(), Memory())) == is_ended


def test_of_two_groups_that_grow_on_one_device_only_so_many_begin_as_there_is_room_for_now():
    """A quarter is free, another comes free once who ended has left; each of the two wants a quarter more."""
    growing = [claim(f"civil/x:{name}", millis=250, least=1, most=2) for name in "ab"]
    ended = claim("civil/y:ended", millis=250, expires_at_ms=NOW_MS)
    runs = [running(one, ("G0",)) for one in (*growing, ended)]
    policy = rules(civil=4000, defence=0, floor=0)
    for seen, begun in (
        (snapshot([device("G0")], [*growing, ended], *together(runs)), ["civil/x:a"]),
        (snapshot([device("G0")], growing, *together(runs[:2])), ["civil/x:a", "civil/x:b"]),
    ):
        decision = decide(seen, policy, Memory(), NOW_MS)
        assert {one.claim: one.replicas for one in decision.placements} == {"civil/x:a": 2, "civil/x:b": 2}
        made = plan(seen, decision, policy, 1)
        of = {one.id: one.claim for one in seen.groups}
        assert [of[one.group] for one in made.actions if one.kind == "scale_group"] == begun
