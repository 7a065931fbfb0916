"""For whom devices are kept, how strongly, and what whoever waits before them is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.explaining.kept import kept_from
from policies.granting.holding import keep_for_the_large, recall_holds
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation
from policies.model.memory import ClaimMemory, Hold, Memory
from policies.model.policy import Bounds, Policy
from policies.model.snapshot import Gap, GapKind
from policies.model.units import UNLIMITED
from policies.model.workload import ClaimKind, Shape
from policies.turns.standing import lay_out
from tests.policies.crowds import Crowd
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot, together
from tests.policies.test_taken_back import begun
from tests.policies.test_two_flavors import ON_A, ON_B, owning, shut

WAITS = claim("civil/x:waits", ladder=(Shape(flavors=("A", "B")),))


def waiting(policy: Policy, *, one=WAITS) -> tuple[Allocation, Lot]:
    """A claim that waits on two hosts, of four devices of A and of B, all free."""
    work = lay_out(snapshot([*ON_A, *ON_B], [one]), policy, Memory(), NOW_MS).work
    return work, work.of_claim[one.id][0]


def test_of_a_flavor_that_it_may_not_have_nobody_is_told_that_it_is_kept_from_it():
    theirs = {"A": (0, UNLIMITED), "B": (4000, 0)}
    for policy, named in (
        (owning(rules(), defence=theirs, defence_x=theirs), " civil/y:a, ahead"),
        (owning(rules()), " civil/y:a and civil/y:b, ahead"),
    ):
        work, lot = waiting(policy)
        work.board.holder.update({"G0": {"civil/y:a": (0, 0)}, "H0": {"civil/y:b": (0, 0)}})
        assert lot.tier is Tier.NONE, "it has no right: what is left is offered to it"
        assert named in kept_from(work, lot)


def test_nothing_is_said_of_what_is_kept_for_itself_or_of_hosts_without_room():
    work, lot = waiting(owning(rules()), one=replace(WAITS, ladder=(Shape(flavors=("A",)),)))
    assert kept_from(work, lot) == ""
    work.board.holder.update({"G0": {lot.ask.claim.id: (0, 0)}, "H0": {"civil/y:b": (0, 0)}})
    assert kept_from(work, lot) == ""


def test_its_own_tenants_claims_are_named_first_then_by_name_and_no_more_than_four():
    work, lot = waiting(owning(Policy(**_parts(rules(), bounds=Bounds(victim_hold_ms=1_000_000)))))
    work.board.holder["G0"] = dict.fromkeys(
        ("civil/y:b", "civil/x:z", "civil/y:a", "defence/x:c", "civil/y:d", "civil/x:m"), (0, 0)
    )
    steps = work.board.steps
    said = kept_from(work, lot)
    assert "kept for civil/x:m and civil/x:z and civil/y:a and civil/y:b, ahead of it" in said
    assert said.endswith("for at most 1000 s if they were freed for it")
    assert work.board.steps == steps, "to say it is no step of the search"


def _parts(policy: Policy, **other) -> dict:
    return {name: getattr(policy, name) for name in Policy.__slots__} | other


RUNS = claim("civil/x:runs", most=2, priority_class="critical")
FIRST, SECOND = (
    claim(f"civil/x:{name}", devices=2, submitted_at_ms=at, spread=True) for at, name in enumerate(("first", "second"))
)
LONG = Memory(claims=tuple(ClaimMemory(claim=one.id, waiting_since_ms=1) for one in (FIRST, SECOND)))


def holding(*holds: Hold, quota: int = 2000, one=RUNS, **rest) -> Allocation:
    """Rated, nothing granted: one runs on one of four devices, and two behind it need two of one host each."""
    policy = owning(rules(), civil={"A": (quota, UNLIMITED)}, civil_x={"A": (quota, UNLIMITED)})
    seen = snapshot(FOUR, [one, FIRST, SECOND], running(one, ("G0",)), **rest)
    return begun(Crowd(seen, policy, replace(LONG, holds=holds)), NOW_MS)


def hold(one, ends_ms: int = NOW_MS + 1, name: str = "G1") -> Hold:
    return Hold(device=name, claim=one.id, expires_at_ms=ends_ms)


@pytest.mark.parametrize(("quota", "right"), [(1999, Tier.ENTITLED), (2000, Tier.GUARANTEED)])
def test_what_was_freed_is_kept_with_the_right_of_what_is_missing_and_not_of_what_stands(quota, right):
    work = holding(hold(RUNS), quota=quota)
    assert work.of_claim[RUNS.id][0].tier is Tier.GUARANTEED
    recall_holds(work)
    assert work.board.holder == {"G1": {RUNS.id: (-right, 1000)}}


@pytest.mark.parametrize(("quota", "right"), [(1999, Tier.ENTITLED), (2000, Tier.GUARANTEED)])
def test_for_the_first_that_waits_with_its_minimum_devices_are_kept_as_if_it_ran_alone(quota, right):
    """What stands before it in the queue, and beyond the minimum of what runs, is as if it were not there."""
    work = holding(hold(FIRST), hold(SECOND, name="G2"), quota=quota)
    assert [work.of_claim[one.id][0].tier for one in (FIRST, SECOND)] == [Tier.ENTITLED, Tier.LEFTOVER]
    recall_holds(work)
    assert work.board.holder == {"G1": {FIRST.id: (-right, 500)}, "G2": {SECOND.id: (-Tier.LEFTOVER, 500)}}


def test_nothing_is_kept_for_who_has_all_it_wants_nor_when_the_hold_ends_nor_of_what_is_gone():
    served = replace(RUNS, desired_replicas=1, max_replicas=1)
    work = holding(hold(served), hold(FIRST, NOW_MS, "G2"), hold(FIRST, name="gone"), one=served)
    recall_holds(work)
    assert work.board.holder == {}


def test_free_devices_of_a_host_are_kept_for_large_claims_that_have_a_right_and_are_seen():
    work = holding()
    keep_for_the_large(work)
    assert work.kept_for == {"G1": FIRST.id, "G2": FIRST.id}, "the second would only borrow what nobody wants"
    gap = Gap(kind=GapKind.CLUSTER, subject="civil", cause="timeout", since_ms=NOW_MS)
    work = holding(gaps=(gap,))
    keep_for_the_large(work)
    assert work.kept_for == {}


@pytest.mark.parametrize(("entitled", "right"), [(2000, Tier.ENTITLED), (1999, Tier.LEFTOVER)])
def test_who_could_borrow_enough_if_it_ran_alone_has_devices_kept_with_that_right_to_the_unit(entitled, right):
    """Its tenant is guaranteed one device and uses it; alone its minimum of two would be inside what it may borrow."""
    work = holding(hold(FIRST), quota=1000)
    (first,), shares = work.of_claim[FIRST.id], work.shares["A"]
    work.shares = {"A": {**shares, "civil/x": replace(shares["civil/x"], entitled=entitled)}}
    first.tier = Tier.LEFTOVER
    recall_holds(work)
    assert work.board.holder == {"G1": {FIRST.id: (-right, 500)}}


HOSTS = [replace(one, id=f"{host}{one.id}", gpu=f"{host}{one.id}", node=host)
         for host in ("n0", "n1", "n2") for one in FOUR[:2]]  # fmt: skip
EQUALS = [claim(f"civil/x:equal{index}", devices=2, submitted_at_ms=index) for index in range(3)]


def on_three_hosts(own: int) -> Allocation:
    """Of each of three hosts one of two devices is in use; three equals wait for both, for long."""
    pinned = [claim(f"defence/x:pinned{index}", priority_class="pinned") for index in range(3)]
    runs = [running(one, (f"n{index}G0",)) for index, one in enumerate(pinned)]
    runs = [([replace(made, node=f"n{index}") for made in workers], groups)
            for index, (workers, groups) in enumerate(runs)]  # fmt: skip
    mine = {"A": (own, UNLIMITED)}
    policy = shut(owning(rules(), civil=mine, civil_x=mine))
    memory = Memory(claims=tuple(ClaimMemory(claim=one.id, waiting_since_ms=1) for one in EQUALS))
    return begun(Crowd(snapshot(HOSTS, [*pinned, *EQUALS], *runs), policy, memory), NOW_MS)


@pytest.mark.parametrize(("own", "served"), [(6000, 3), (4000, 2), (2000, 1)])
def test_for_each_of_several_equals_that_has_a_right_devices_of_a_host_are_kept(own, served):
    work = on_three_hosts(own)
    keep_for_the_large(work)
    assert work.kept_for == {f"n{index}G1": EQUALS[index].id for index in range(served)}


@pytest.mark.parametrize(("first", "second"), [(600, 900), (900, 600), (900, None), (None, 900)])
def test_a_shared_device_is_free_when_the_last_job_on_it_ends_if_all_of_them_end(first, second):
    """One device of two is free, on the other two jobs have a half each; a large claim waits for both devices."""
    jobs = [claim(f"civil/x:job{index}", kind=ClaimKind.JOB, millis=500, duration_s=seconds)
            for index, seconds in enumerate((first, second))]  # fmt: skip
    runs = together(running(one, ("G0",), since_ms=NOW_MS) for one in jobs)
    seen = snapshot(FOUR[:2], [*jobs, FIRST], *runs)
    work = begun(Crowd(seen, owning(rules(), civil={"A": (2000, UNLIMITED)}, civil_x={"A": (2000, UNLIMITED)}), LONG),
                 NOW_MS)  # fmt: skip
    keep_for_the_large(work)
    assert work.kept_for == {"G1": FIRST.id}
    assert work.board.needed_at == ({"G1": NOW_MS + 900_000} if first and second else {})


def test_of_a_device_that_is_kept_for_another_nobody_knows_when_it_is_free():
    job = claim("civil/x:job", kind=ClaimKind.JOB, duration_s=600)
    policy = owning(rules(), civil={"A": (4000, UNLIMITED)}, civil_x={"A": (4000, UNLIMITED)})
    for wide, begins in ((2, {"G1": NOW_MS + 600_000}), (3, {})):
        large = replace(FIRST, ladder=(Shape(flavors=("A",), devices=wide),))
        seen = snapshot(FOUR[:3], [job, large], running(job, ("G0",), since_ms=NOW_MS))
        work = begun(Crowd(seen, policy, LONG), NOW_MS)
        work.board.holder["G2"] = {"civil/y:other": (0, 0)}
        keep_for_the_large(work)
        assert work.kept_for == {"G1": large.id}
        assert work.board.needed_at == begins
