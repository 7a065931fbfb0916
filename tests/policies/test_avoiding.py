"""A device on which a claim failed to start is left aside for its next tries, while there is another place."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from policies.decide import decide
from policies.evidence.survey import survey
from policies.granting.avoiding import MOST_REMEMBERED, STARTS_REMEMBERED, avoided, failures, spoilt
from policies.model.codec import from_json, to_json
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, Flavor, Group, GroupState, Worker, WorkerState
from policies.model.memory import ClaimMemory, Memory, Spoilt
from policies.model.naming import group_id, worker_id
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import code
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

CHAT = claim("civil/x:chat")
START_MS = 2_000
RULES = rules(worker_start_ms=START_MS)
LATER_MS = NOW_MS + 2 * START_MS + 1
"""After the back-off that follows one failed start."""


def failed(one=CHAT, place="G0", rung=0):
    """The worker and the group of a start that failed."""
    domain = SecurityDomain.CIVIL
    worker = Worker(id=worker_id(domain, (place,)), domain=domain, node="n0", devices=(place,), state=WorkerState.READY)
    group = Group(
        id=group_id(one.id, worker.id, rung), claim=one.id, worker=worker.id, rung=rung, variant=None, devices=(place,),
        replicas=1, state=GroupState.FAILED, since_ms=NOW_MS - 1_000, message="CUDA out of memory",
    )  # fmt: skip
    return [worker], [group]


def after_a_failure(devices, claims, *runs, policy=RULES, place="G0"):
    """The memory after the failure was seen."""
    seen = snapshot(devices, claims, failed(claims[0], place), *runs)
    return decide(seen, policy, Memory(), NOW_MS)


def places(decision, name=CHAT.id):
    return {device for one in decision.placements if one.claim == name for device in one.devices}


def reason(decision, name=CHAT.id):
    return next(one for one in decision.reasons if one.claim == name)


def tried_again(devices, claims, *runs, policy=RULES, at_ms=LATER_MS, memory=None):
    known = after_a_failure(devices, claims, *runs, policy=policy).memory if memory is None else memory
    return decide(snapshot(devices, claims, *runs), policy, known, at_ms)


def test_f12_the_next_try_is_on_another_device_and_the_reason_says_so():
    devices = [device("G0"), device("G1")]
    waiting = after_a_failure(devices, [CHAT])
    assert code(waiting, CHAT.id) is PendingReason.ON_HOLD
    assert "(G0)" in reason(waiting).sentence
    again = tried_again(devices, [CHAT])
    assert places(again) == {"G1"}
    assert "its last start failed on G0" in reason(again).sentence


def test_without_the_failure_it_would_have_gone_there_again():
    devices = [device("G0"), device("G1")]
    known = after_a_failure(devices, [CHAT]).memory
    forgotten = replace(known, claims=tuple(replace(one, spoilt=()) for one in known.claims))
    assert places(tried_again(devices, [CHAT], memory=forgotten)) == {"G0"}


def test_where_there_is_no_other_place_the_same_device_is_tried_again():
    assert places(tried_again([device("G0")], [CHAT])) == {"G0"}


def test_an_idle_worker_of_the_claims_domain_on_the_device_draws_it_back_no_more_than_a_free_device():
    devices = [device("G0"), device("G1")]
    [worker], _ = failed()
    assert places(tried_again(devices, [CHAT], ([worker], []))) == {"G1"}


def test_nobody_is_moved_so_that_it_can_go_elsewhere():
    bulk = claim("civil/x:bulk", priority_class="batch")
    assert places(tried_again([device("G0"), device("G1")], [CHAT, bulk], running(bulk, ("G1",)))) == {"G0"}


def test_a_device_of_its_own_claim_alone_is_left_aside_and_others_may_use_it():
    other = claim("civil/y:other", submitted_at_ms=1)
    devices = [device("G0"), device("G1")]
    again = tried_again(devices, [CHAT, other], memory=after_a_failure(devices, [CHAT]).memory)
    assert places(again) == {"G1"}
    assert places(again, other.id) == {"G0"}


def test_each_device_that_fails_it_is_left_aside_until_none_is_left():
    devices = [device("G0"), device("G1"), device("G2")]
    memory, tried, now_ms, place = Memory(), [], NOW_MS, "G0"
    for _ in range(4):
        now_ms += 1_000_000
        tried.append(place)
        broken = failed(place=place)
        broken[1][0] = replace(broken[1][0], since_ms=now_ms - 1)
        # The policy's starts are long enough that nothing is forgotten in between.
        policy = rules(worker_start_ms=100_000)
        memory = decide(snapshot(devices, [CHAT], broken), policy, memory, now_ms).memory
        now_ms += 100_000 << 4
        (place,) = places(decide(snapshot(devices, [CHAT]), policy, memory, now_ms))
    assert tried[:3] == ["G0", "G1", "G2"]
    assert tried[3] in {"G0", "G1", "G2"}


def test_it_is_forgotten_after_the_longest_back_off():
    devices = [device("G0"), device("G1")]
    at_ms = NOW_MS + START_MS * STARTS_REMEMBERED
    assert places(tried_again(devices, [CHAT], at_ms=at_ms - 1)) == {"G1"}
    assert places(tried_again(devices, [CHAT], at_ms=at_ms)) == {"G0"}


def test_a_replica_that_runs_there_clears_the_device():
    known = Memory(claims=(ClaimMemory(claim=CHAT.id, spoilt=(Spoilt(device="G0", rung=0, since_ms=NOW_MS),)),))
    decision = decide(snapshot([device("G0"), device("G1")], [CHAT], running(CHAT, ("G0",))), RULES, known, NOW_MS + 1)
    assert all(not one.spoilt for one in decision.memory.claims)


def test_a_rung_that_needs_less_may_use_the_device():
    ladder = (Shape(flavors=("A",), memory_mib=60_000), Shape(flavors=("A",), memory_mib=20_000))
    known = Memory(claims=(ClaimMemory(claim=CHAT.id, spoilt=(Spoilt(device="G0", rung=0, since_ms=NOW_MS),)),))
    seen = [device("G0"), device("G1")]
    both = claim(CHAT.id, ladder=ladder)
    assert places(decide(snapshot(seen, [both]), RULES, known, NOW_MS + 1)) == {"G1"}
    small = claim(CHAT.id, ladder=ladder[1:])
    lower = replace(known.claims[0], spoilt=(Spoilt(device="G0", rung=-1, since_ms=NOW_MS),))
    assert places(decide(snapshot(seen, [small]), RULES, Memory(claims=(lower,)), NOW_MS + 1)) == {"G0"}


def test_of_one_rung_another_kind_of_device_comes_before_the_one_that_failed():
    policy = replace(RULES, tenants=tuple(
        replace(one, quotas=(*one.quotas, Quota(flavor="B", nominal_millis=one.quotas[0].nominal_millis)))
        for one in RULES.tenants
    ))  # fmt: skip
    either = claim(CHAT.id, ladder=(Shape(flavors=("A", "B")),))
    devices = [device("G0"), replace(device("H0"), flavor="B")]
    kinds = (Flavor(id="A", model="A", memory_mib=80_000), Flavor(id="B", model="B", memory_mib=80_000))
    known = Memory(claims=(ClaimMemory(claim=CHAT.id, spoilt=(Spoilt(device="G0", rung=0, since_ms=NOW_MS),)),))
    seen = replace(snapshot(devices, [either]), flavors=kinds)
    assert places(decide(seen, policy, Memory(), NOW_MS + 1)) == {"G0"}
    assert places(decide(seen, policy, known, NOW_MS + 1)) == {"H0"}


def test_a_replica_of_several_devices_leaves_the_whole_set_aside_only_as_far_as_it_must():
    wide = claim("civil/x:wide", devices=2)
    domain, pair = SecurityDomain.CIVIL, ("G0", "G1")
    worker = Worker(id=worker_id(domain, pair), domain=domain, node="n0", devices=pair, state=WorkerState.READY)
    group = Group(
        id=group_id(wide.id, worker.id, 0), claim=wide.id, worker=worker.id, rung=0, variant=None, devices=pair,
        replicas=1, state=GroupState.FAILED, since_ms=NOW_MS - 1,
    )  # fmt: skip
    devices = [device(f"G{index}") for index in range(4)]
    known = decide(snapshot(devices, [wide], ([worker], [group])), RULES, Memory(), NOW_MS).memory
    assert places(decide(snapshot(devices, [wide]), RULES, known, LATER_MS), wide.id) == {"G2", "G3"}


def test_it_survives_a_restart_and_memory_from_before_is_still_read():
    known = after_a_failure([device("G0")], [CHAT]).memory
    assert from_json(Memory, to_json(known)) == known
    assert known.claims[0].spoilt == (Spoilt(device="G0", rung=0, since_ms=NOW_MS),)
    old = to_json(replace(known.claims[0], spoilt=())).replace(',"spoilt":[]', "")
    assert "spoilt" not in old
    assert from_json(ClaimMemory, old).spoilt == ()


def looked(*groups, devices=("G0", "G1"), spoilt_at=(), at_ms=NOW_MS, **state):
    """What is remembered of the claim's failed starts while these groups of it stand."""
    known = ClaimMemory(claim=CHAT.id, spoilt=tuple(spoilt_at), failures=2, failed_at_ms=NOW_MS - 500)
    inventory = [replace(device(name), **state) for name in devices]
    seen = replace(snapshot(inventory, [CHAT]), groups=tuple(groups))
    return survey(seen, RULES, Memory(claims=(known,)), at_ms), known


def stands(place="G0", rung=0, since_ms=NOW_MS - 100, **state):
    _, [group] = failed(place=place, rung=rung)
    return replace(group, since_ms=since_ms, **state)


RUNS = {"state": GroupState.RUNNING, "running": 1}


def test_a_device_is_left_aside_for_what_needs_as_much_or_more():
    """A rung further down needs less."""
    seen, _ = looked(stands(rung=1), stands("G1", rung=1, **RUNS))
    assert [avoided(seen, CHAT.id, rung) for rung in (0, 1, 2)] == [{"G0"}, {"G0"}, frozenset()]
    noted, _ = looked(spoilt_at=(Spoilt(device="G1", rung=1, since_ms=NOW_MS),))
    assert [avoided(noted, CHAT.id, rung) for rung in (0, 1, 2)] == [{"G1"}, {"G1"}, frozenset()]
    lost, _ = looked(stands(), health=DeviceHealth.RETIRED)
    assert avoided(lost, CHAT.id, 0) == avoided(lost, "civil/x:other", 0) == frozenset()


def test_failed_starts_are_counted_once_each_and_not_those_of_lost_devices():
    def counted(*groups, held=(), **state):
        seen, before = looked(*groups, **state)
        wish = SimpleNamespace(claim=CHAT, held=held)
        return failures(seen, wish, before)

    assert counted() == (2, NOW_MS - 500)
    assert counted(stands()) == (3, NOW_MS)
    assert counted(stands(since_ms=NOW_MS - 500)) == (2, NOW_MS - 500), "it was counted when it failed"
    assert counted(stands(since_ms=NOW_MS - 499), stands("G1")) == (3, NOW_MS), "two at a time are one"
    assert counted(stands(**RUNS)) == (2, NOW_MS - 500), "what runs did not fail"
    assert counted(stands(), health=DeviceHealth.QUARANTINED) == (2, NOW_MS - 500)
    assert counted(stands(), held=(stands("G1", **RUNS),)) == (0, None)
    assert counted(stands(), held=(stands("G1", state=GroupState.STARTING),)) == (3, NOW_MS)


def test_where_starts_failed_is_remembered_by_device_as_far_as_it_still_matters():
    def remembered(*groups, **more):
        seen, before = looked(*groups, **more)
        return spoilt(seen, SimpleNamespace(claim=CHAT, held=()), before)

    old = Spoilt(device="G0", rung=3, since_ms=NOW_MS - 50)
    assert remembered() == ()
    assert remembered(stands()) == (Spoilt(device="G0", rung=0, since_ms=NOW_MS),)
    assert remembered(spoilt_at=(old,)) == (old,)
    assert remembered(stands(since_ms=NOW_MS - 50), spoilt_at=(old,)) == (old,), "it was noted"
    assert remembered(stands(since_ms=NOW_MS - 49), spoilt_at=(old,)) == (Spoilt(device="G0", rung=0, since_ms=NOW_MS),)
    assert remembered(stands(**RUNS), spoilt_at=(old,)) == ()
    assert remembered(stands("G1", **RUNS), spoilt_at=(old,)) == (old,)
    assert remembered(stands(), health=DeviceHealth.RETIRED) == (), "nothing goes there in any case"
    assert remembered(spoilt_at=(old,), devices=("G1",)) == ()
    lasts_ms = START_MS * STARTS_REMEMBERED
    assert remembered(spoilt_at=(old,), at_ms=old.since_ms + lasts_ms - 1) == (old,)
    assert remembered(spoilt_at=(old,), at_ms=old.since_ms + lasts_ms) == ()
    names = tuple(f"D{number:02}" for number in range(MOST_REMEMBERED + 2))
    many = tuple(Spoilt(device=name, rung=0, since_ms=NOW_MS - number) for number, name in enumerate(names))
    assert remembered(spoilt_at=many[::-1], devices=names) == many[:MOST_REMEMBERED], "the earliest are forgotten"
