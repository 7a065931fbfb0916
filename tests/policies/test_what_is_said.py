"""Each reason in full: state, code, sentence, place in the queue, when, on what that rests, and who is in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.explaining.explain import not_yet
from policies.explaining.queueing import told
from policies.explaining.releasing import NOTHING_FREE, for_operator, for_tenant
from policies.model.decision import PendingReason, Reason
from policies.model.inventory import GroupState, ScrubState, UsageState
from policies.model.memory import ClaimMemory, Memory, Spoilt
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.workload import ClaimKind, Job
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_explain import tight

ONE = claim("civil/x:one", submitted_at_ms=NOW_MS - 7_999)
OTHER = claim("civil/x:other", submitted_at_ms=NOW_MS - 9_000)
LENT = claim("defence/x:lent", least=0, most=4)
ALL_LENT = running(LENT, *((one.id,) for one in FOUR))
PLENTY = rules(civil=4000, defence=0, floor=0)


def said(seen, policy=PLENTY, memory=Memory(), name: str = ONE.id) -> Reason:  # noqa: B008  # a frozen noun
    return for_operator(told(decide(seen, policy, memory, NOW_MS), seen.claims), name)


def brief(reason: Reason) -> tuple:
    after = None if reason.eta_ms is None else reason.eta_ms - NOW_MS
    return (str(reason.state), str(reason.code or ""), reason.sentence, reason.position, after, reason.eta_assumption)


def starting(state: GroupState, cold_ms: int):
    workers, groups = running(ONE, ("G0",))
    return workers, [replace(groups[0], state=state, running=0, routed=False, cold_start_ms=cold_ms)]


def declared():
    overlay = ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("standard",))
    until = ModeDeclaration(mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS * 2, approvers=("a", "b"))
    return replace(PLENTY, overlays=(overlay,), declaration=until)


def gap(kind: GapKind, subject: str) -> tuple[Gap, ...]:
    return (Gap(kind=kind, subject=subject, cause="timeout", since_ms=NOW_MS),)


THREE = replace(ONE, desired_replicas=3, max_replicas=3)
STALE = "what it needs was not seen; what runs is held, nothing new starts there"
SUSPENDED_JOB = "it is suspended: its owner did that, or its program failed too often in a row; its events say which"
OVER = "the end that its owner announced has passed: it wants a later one, or to be deleted"
SAID = {
    "served": (
        (snapshot(FOUR, [ONE], running(ONE, ("G0",))),),
        ("served", "", "its replica is served", None, None, ""),
    ),
    "several served": (
        (snapshot(FOUR, [THREE], running(THREE, ("G0",), ("G1",), ("G2",))),),
        ("served", "", "all 3 replicas are served", None, None, ""),
    ),
    "nothing asked for": (
        (snapshot(FOUR, [replace(ONE, min_replicas=0, desired_replicas=0)]),),
        ("served", "", "nothing is asked for", None, None, ""),
    ),
    "starting anew": (
        (snapshot(FOUR, [ONE]),),
        ("served", "STARTING", "1 of 1 replicas: its replicas are starting", None, 10_000,
         "starts take as long as before"),
    ),
    "starting for longer than usual": (
        (snapshot(FOUR, [ONE], starting(GroupState.STARTING, 60_000)),),
        ("served", "STARTING", "1 of 1 replicas: its replicas are starting", None, 60_000,
         "starts take as long as before"),
    ),
    "starting, usually quick": (
        (snapshot(FOUR, [ONE], starting(GroupState.STARTING, 1)),),
        ("served", "STARTING", "1 of 1 replicas: its replicas are starting", None, 10_000,
         "starts take as long as before"),
    ),
    "being wiped": (
        (snapshot([device("G0", domain="defence", scrub=ScrubState.DIRTY)], [ONE]),),
        ("served", "WAITING_FOR_SCRUB", "1 of 1 replicas: its device is being cleaned and bound", None, 12_000,
         "cleaning and starting take their usual time"),
    ),
    "its own device needs no wiping": (
        (snapshot([device("G0", domain="civil", scrub=ScrubState.DIRTY)], [ONE]),),
        ("served", "STARTING", "1 of 1 replicas: its replicas are starting", None, 10_000,
         "starts take as long as before"),
    ),
    "others leave": (
        (snapshot(FOUR, [ONE, LENT], ALL_LENT),),
        ("served", "WAITING_FOR_VICTIMS", "1 of 1 replicas: others are making room for it", None, 42_000,
         "draining takes no longer than its deadline"),
    ),
    "others may not leave": (
        (snapshot(FOUR, [ONE, replace(LENT, priority_class="pinned")], ALL_LENT),),
        ("waiting", "WAITING_FOR_VICTIMS",
         "0 of 1 replicas: others use what it has a right to, and none of them may leave yet", 1, None, ""),
    ),
    "no quota": (
        (snapshot(FOUR, [OTHER, ONE], running(OTHER, ("G0",))), tight()),
        ("waiting", "WAITING_FOR_QUOTA", "0 of 1 replicas: nothing that its tenant may hold is free now", 1, None, ""),
    ),
    "some have a place, and no quota for the others": (
        (snapshot(FOUR, [THREE], running(THREE, ("G0",))), tight()),
        ("degraded", "WAITING_FOR_QUOTA", "1 of 3 replicas: nothing that its tenant may hold is free now", 1, None, ""),
    ),
    "no shape": (
        (snapshot(FOUR[:2], [replace(ONE, min_replicas=2, desired_replicas=2, max_replicas=2, spread=True)]),),
        ("waiting", "TOPOLOGY_UNSATISFIED",
         "0 of 2 replicas: there is quota, but no free place of the shape that it needs", 1, None, ""),
    ),
    "no host": (
        (snapshot([device("G0"), device("G1", "n1")], [claim(ONE.id, devices=2)]),),
        ("waiting", "TOPOLOGY_UNSATISFIED", "0 of 1 replicas: no host has so many healthy devices of its flavors",
         None, None, ""),
    ),
    "more than there may ever be": (
        (snapshot(FOUR, [claim(ONE.id, least=5, most=6)]),),
        ("waiting", "EXCEEDS_MAX_QUOTA",
         "0 of 6 replicas: its minimum, on its smallest shape, is more than its tenant may ever hold, or than there is",
         None, None, ""),
    ),
    "suspended by its owner": (
        (snapshot(FOUR, [replace(ONE, suspended=True)]),),
        ("held", "SUSPENDED", "0 of 0 replicas: its owner suspended it", None, None, ""),
    ),
    "a job that is suspended": (
        (snapshot(FOUR, [replace(ONE, suspended=True, kind=ClaimKind.JOB, job=Job(command=("/bin/true",)))]),),
        ("held", "SUSPENDED", f"0 of 0 replicas: {SUSPENDED_JOB}", None, None, ""),
    ),
    "over": (
        (snapshot(FOUR, [replace(ONE, expires_at_ms=NOW_MS)]),),
        ("held", "DEACTIVATED", f"0 of 0 replicas: {OVER}", None, None, ""),
    ),
    "paused by the mode": (
        (snapshot(FOUR, [ONE]), declared()),
        ("held", "SUSPENDED", "0 of 1 replicas: its priority class is paused by the declared mode", 1, None, ""),
    ),
    "its domain is not seen": (
        (snapshot(FOUR, [ONE], gaps=gap(GapKind.CLUSTER, "civil")),),
        ("held", "TELEMETRY_STALE", f"0 of 1 replicas: {STALE}", 1, None, ""),
    ),
    "what it needs is not seen": (
        (snapshot(FOUR[:1], [ONE], gaps=gap(GapKind.DEVICE, "G0")),),
        ("waiting", "TELEMETRY_STALE", f"0 of 1 replicas: {STALE}", 1, None, ""),
    ),
    "after a failed start": (
        (snapshot(FOUR, [ONE]), PLENTY, Memory(claims=(ClaimMemory(claim=ONE.id, failed_at_ms=NOW_MS, failures=1),))),
        ("waiting", "ON_HOLD", "0 of 1 replicas: its last starts failed; the next one waits a little", 1, None, ""),
    ),
    "of a class that nobody knows": (
        (snapshot(FOUR, [replace(ONE, priority_class="odd")]),),
        ("waiting", "MISCONFIGURED", "0 of 1 replicas: the policy names no priority class odd", None, None, ""),
    ),
    "of a flavor that is not here": (
        (snapshot(FOUR, [replace(ONE, ladder=(replace(ONE.ladder[0], flavors=("B",)),))]),),
        ("waiting", "NO_MATCHING_FLAVOR",
         "0 of 1 replicas: no device here is of a flavor that it accepts, with enough memory", None, None, ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), SAID.values(), ids=SAID)
def test_a_claim_is_told_where_it_stands_why_and_until_when(given, expected):
    assert brief(said(*given)) == expected


def test_what_its_place_rests_on_is_told_in_figures():
    late = replace(ONE, kind=ClaimKind.JOB, duration_s=100, deadline_ms=NOW_MS + 200_000)
    reason = said(snapshot([], [late]))
    assert reason.score_terms == (("class", 500), ("deadline", 50), ("right", 0), ("waited_s", 7))
    waits = said(snapshot(FOUR, [OTHER, ONE], running(OTHER, ("G0",))), tight())
    assert waits.score_terms == (("class", 500), ("deadline", 0), ("right", 4), ("waited_s", 7))


def test_each_waiting_claim_is_told_its_place_in_its_own_tenants_queue():
    queue = [claim(f"civil/x:q{index}", submitted_at_ms=index + 1) for index in range(3)]
    urgent = claim("civil/x:urgent", submitted_at_ms=9, priority_class="critical", millis=1000, least=2, most=2)
    theirs = [claim(f"defence/y:q{index}", submitted_at_ms=index + 1) for index in range(2)]
    full = claim("civil/x:full", priority_class="pinned"), claim("defence/y:full", priority_class="pinned")
    seen = snapshot(FOUR, [*full, *queue, urgent, *theirs], running(full[0], ("G0",)), running(full[1], ("G1",)))
    decision = told(decide(seen, tight(), Memory(), NOW_MS), seen.claims)
    places = {one.claim: one.position for one in decision.reasons}
    assert [places[one.id] for one in (*queue, *theirs, *full)] == [1, 2, 3, 1, 2, None, None]
    assert places[urgent.id] is None, "its minimum is more than the tenant may ever hold"


def test_those_in_the_way_are_named_weakest_first_eight_at_the_most_and_never_itself():
    lent = [claim(f"defence/x:l{index}", millis=250, priority_class="pinned" if index < 3 else "standard",
                  submitted_at_ms=index) for index in range(12)]  # fmt: skip
    runs = [running(one, (f"G{index // 4}",)) for index, one in enumerate(lent)]
    seen = snapshot(FOUR[:3], [*lent, claim(ONE.id, devices=3)], *runs)
    reason = said(replace(seen, workers=tuple({one.id: one for one in seen.workers}.values())), rules(civil=0, floor=0))
    assert len(reason.blockers) == 8
    assert ONE.id not in reason.blockers
    ranks = [{one.id: one.priority_class for one in lent}[name] for name in reason.blockers]
    assert ranks == sorted(ranks, reverse=True), "those of the lower class first"
    served = said(snapshot(FOUR, [ONE], running(ONE, ("G0",))))
    assert served.blockers == ()


def test_who_was_lent_while_idle_is_told_that_it_comes_back():
    idle, taker = claim("civil/x:one"), claim("defence/x:taker")
    workers, groups = running(idle, ("G0",))
    groups = [replace(groups[0], usage=UsageState.TRULY_IDLE)]
    memory = Memory(claims=(ClaimMemory(claim=idle.id, rung=0, idle_since_ms=1),))
    reason = said(snapshot(FOUR[:1], [idle, taker], (workers, groups)), rules(civil=1000, defence=0, floor=0), memory)
    assert reason.sentence == (
        "0 of 1 replicas: it was idle, so what it held is lent; it comes back with its next request"
    )


def test_where_starts_failed_is_named_four_devices_at_the_most():
    devices = [device(f"G{index}") for index in range(7)]
    spoilt = tuple(Spoilt(rung=0, device=f"G{index}", since_ms=NOW_MS - 60_000) for index in range(6))
    waits = ClaimMemory(claim=ONE.id, failed_at_ms=NOW_MS, failures=1, spoilt=spoilt)
    reason = said(snapshot(devices, [ONE]), PLENTY, Memory(claims=(waits,)))
    assert reason.sentence.endswith(
        "; while there is another place it goes where none failed (G0, G1, G2, G3 and 2 more)"
    )
    goes_on = replace(waits, failed_at_ms=NOW_MS - 60_000, spoilt=spoilt[:2])
    reason = said(snapshot(devices, [ONE]), PLENTY, Memory(claims=(goes_on,)))
    assert reason.sentence == (
        "1 of 1 replicas: its replicas are starting; its last start failed on G0, G1, so it is elsewhere"
    )


def test_a_claim_on_which_nothing_was_decided_yet_is_told_so():
    assert not_yet(THREE) == Reason(
        claim=ONE.id, state="waiting", code=PendingReason.PENDING_EVALUATION, wanted_replicas=3,
        sentence="0 of 3 replicas: no decision was taken on it yet; the next one is seconds away",
    )  # fmt: skip


RELEASED = {
    "others leave": ("served", "STARTING", "1 of 1 replicas: its replicas are starting"),
    "others may not leave": (
        "waiting", "WAITING_FOR_QUOTA", f"0 of 1 replicas: {NOTHING_FREE}"),
    "being wiped": ("served", "STARTING", "1 of 1 replicas: its replicas are starting"),
    "no host": (
        "waiting", "TOPOLOGY_UNSATISFIED", "0 of 1 replicas: no host has so many healthy devices of its flavors"),
    "no shape": ("waiting", "WAITING_FOR_QUOTA", f"0 of 2 replicas: {NOTHING_FREE}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RELEASED)
def test_its_tenant_is_told_the_same_but_for_what_others_do(kind):
    seen, *rest = SAID[kind][0]
    decision = decide(seen, *(rest or (PLENTY,)), Memory(), NOW_MS)
    reason = for_tenant(decision, ONE.id, seen.claims)
    assert (str(reason.state), str(reason.code), reason.sentence) == RELEASED[kind]
    assert (reason.blockers, reason.unblocking, "right" in dict(reason.score_terms)) == ((), None, False)
    if kind != "no host":
        assert (reason.eta_ms, reason.eta_assumption) == (None, "")
    assert for_tenant(decision, "civil/x:unknown", seen.claims) is None
    assert for_tenant(decision, ONE.id, ()) is None
