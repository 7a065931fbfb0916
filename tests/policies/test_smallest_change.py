"""Which change is named: exactly what it takes, in which words, and of several that would do which one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.decide import decide
from policies.fleet.board import UNBOUNDED
from policies.granting.avoiding import backoff_ms
from policies.model.decision import Change
from policies.model.inventory import Device, DeviceHealth, Node, ScrubState
from policies.model.memory import ClaimMemory, Drain, Memory, UsageRecord
from policies.model.policy import ModeDeclaration, OperatingMode
from policies.model.tenancy import Quota
from policies.model.units import UNLIMITED
from policies.model.workload import Reservation, Shape
from policies.supposing import KINDS, Situation, alone, applied
from policies.unblock import TRIES, affordable, unblocking
from tests.policies.crowds import NOW_MS as CROWDED_MS
from tests.policies.crowds import crowd, in_every_crowd
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_explain import tight
from tests.policies.test_unblock import OLD, SITUATIONS, URGENT, WISH, all_to_defence

TOLD = {
    "fix": (WISH.id, 0, "", "its owner resumes it"),
    "wait": (WISH.id, 0, "60000", "60 s pass in which nothing else changes"),
    "reservation": ("r", 1000, "", "reservation r is given up"),
    "uncordon": ("n0", 0, "", "host n0 takes new work again"),
    "sight": ("G0", 0, "", "G0 is seen again"),
    "mode": ("crisis", 0, "", "the declared mode is ended"),
    "class": (WISH.id, 0, "critical", "civil/x:new is of the class critical"),
    "flavor": (WISH.id, 0, "A", "civil/x:new accepts A too"),
    "repair": ("G0", 1000, "", "device G0 is healthy again"),
    "rung": (WISH.id, 1000, "1x1000", "civil/x:new has a rung of 1000 thousandths of a device"),
    "replicas": (WISH.id, 1000, "2", "civil/x:new may begin with 2 of its 3 replicas"),
    "release": (OLD.id, 1000, "", "civil/x:old is released"),
    "borrowing_limit": ("civil/x A", 500, "", "civil/x may borrow 500 millis of A more"),
    "lending_limit": ("civil/y A", 500, "", "civil/y lends 500 millis of A more"),
    "quota": ("civil/x A", 500, "", "the nominal quota of civil/x is 500 millis of A more"),
    "capacity": ("A", 1000, "", "there are 1000 millis of A more, on one healthy host"),
}


def named(seen, policy, memory=Memory(), tries: int = TRIES, claim: str = WISH.id):  # noqa: B008  # a frozen noun
    return unblocking(Situation(snapshot=seen, policy=policy, memory=memory, now_ms=NOW_MS), claim, tries)


@pytest.mark.parametrize("kind", SITUATIONS)
def test_the_change_says_what_it_concerns_how_much_it_takes_and_in_which_words(kind):
    change = named(*SITUATIONS[kind])
    subject, amount, value, sentence = TOLD[kind]
    assert change == Change(kind=kind, subject=subject, amount_millis=amount, value=value, sentence=sentence)


def shaped(devices: int, millis: int, least: int, there: int):
    """So much is asked for, least replicas at once, where there are so many whole devices."""
    wish = claim(WISH.id, devices=devices, millis=millis, least=least, most=least, priority_class="critical")
    return snapshot([device(f"G{index}") for index in range(there)], [wish]), rules(civil=8000, defence=0, floor=0)


@pytest.mark.parametrize(
    ("shape", "kind", "value", "amount"),
    [((4, 1000, 1, 3), "rung", "3x1000", 1000), ((4, 1000, 1, 2), "rung", "2x1000", 2000),
     ((2, 1000, 2, 2), "rung", "1x1000", 2000), ((2, 1000, 4, 2), "rung", "1x500", 6000),
     ((1, 1000, 2, 1), "rung", "1x500", 1000), ((1, 1000, 4, 1), "rung", "1x250", 3000),
     ((1, 500, 4, 1), "rung", "1x250", 1000), ((1, 300, 4, 1), "rung", "1x250", 200),
     ((1, 250, 5, 1), "replicas", "4", 250), ((1, 500, 3, 1), "replicas", "2", 500)],
)  # fmt: skip
def test_what_asks_for_less_gives_up_as_little_as_it_can(shape, kind, value, amount):
    """A smaller shape for each replica, or fewer replicas to begin with: whichever takes less."""
    change = named(*shaped(*shape))
    assert (change.kind, change.value, change.amount_millis) == (kind, value, amount)


def test_who_needs_several_devices_is_told_of_devices_and_of_one_in_thousandths():
    said = {named(*shaped(4, 1000, 1, there)).sentence for there in (2, 1)}
    assert said == {"civil/x:new has a rung of 2 devices", "civil/x:new has a rung of 1000 thousandths of a device"}


def test_of_its_own_claims_the_one_that_holds_least_is_named_and_of_equals_the_first():
    """Three critical claims of the tenant use all that it may hold; the new one needs a half."""
    some = [claim(f"civil/x:{name}", millis=millis, priority_class="pinned", submitted_at_ms=index)
            for index, (name, millis) in enumerate((("big", 1000), ("b", 500), ("a", 500)))]  # fmt: skip
    runs = [running(one, (f"G{index}",)) for index, one in enumerate(some)]
    wish = claim(WISH.id, millis=500, priority_class="pinned", submitted_at_ms=9)
    policy = rules(civil=4000, defence=0, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=tuple(replace(quota, borrowing_limit_millis=0) for quota in one.quotas))
        for one in policy.tenants if one.id != "civil/y"
    ))  # fmt: skip
    seen = snapshot(FOUR, [*some, wish], *runs)
    change = named(seen, policy)
    assert (change.kind, change.subject, change.amount_millis) == ("release", "civil/x:a", 500)


WAITS = {
    "a job that just began may leave": 60_000,
    "an eviction is out of the window": 40_000,
    "it has rested": 20_000,
    "its class may ask": 25_000,
}


def held_up(by: str):
    """One device that is lent; the claim has a right to it, and gets it as soon as something has passed."""
    lent = claim("defence/x:guest", priority_class="batch" if "began" in by else "standard")
    wish = replace(WISH, priority_class="batch" if "ask" in by else "standard")
    policy = rules(civil=2000, defence=0, floor=0, evictions_per_window=1)
    since_ms = NOW_MS if "began" in by else 1
    seen = snapshot(FOUR[:1], [wish, lent], running(lent, ("G0",), since_ms=since_ms))
    known = ClaimMemory(claim=wish.id, waiting_since_ms=NOW_MS - 5_000)
    if "window" in by:
        return seen, policy, Memory(evictions_ms=(NOW_MS - 20_000,))
    if "rested" in by:
        return seen, policy, Memory(claims=(replace(known, evicted_at_ms=NOW_MS - 10_000),))
    return seen, policy, Memory(claims=(known,))


@pytest.mark.parametrize("by", WAITS)
def test_who_only_has_to_wait_is_told_until_when(by):
    change = named(*held_up(by))
    assert (change.kind, change.value) == ("wait", str(WAITS[by]))


@pytest.mark.parametrize(("ends_ms", "kind"), [(NOW_MS + 3_600_000, "wait"), (NOW_MS + 3_600_001, "reservation")])
def test_who_must_wait_longer_than_an_hour_is_told_what_else_would_help(ends_ms, kind):
    kept = Reservation(id="r", tenant="defence", flavor="A", gpu_millis=1000, starts_at_ms=0, ends_at_ms=ends_ms)
    seen = snapshot(FOUR[:1], [URGENT], reservations=(kept,))
    assert named(seen, rules(civil=0, defence=1000, floor=0)).kind == kind


def test_who_failed_to_start_is_told_when_it_is_tried_again():
    memory = Memory(claims=(ClaimMemory(claim=WISH.id, failed_at_ms=NOW_MS - 1_000, failures=2),))
    change = named(snapshot(FOUR, [WISH]), rules(), memory)
    again = backoff_ms(rules().bounds, 2) - 1_000
    assert (change.kind, change.value) == ("wait", str(again))


def test_a_mode_that_ends_soon_is_waited_for():
    seen, policy = SITUATIONS["mode"]
    ends = replace(policy.declaration, expires_at_ms=NOW_MS + 1_500)
    change = named(seen, replace(policy, declaration=ends))
    assert (change.kind, change.value, change.sentence) == ("wait", "1500", "2 s pass in which nothing else changes")


@pytest.mark.parametrize("sick", [{"health": DeviceHealth.SUSPECT}, {"scrub": ScrubState.FAILED}])
def test_a_device_that_is_suspected_or_could_not_be_wiped_may_be_repaired_too(sick):
    seen = snapshot([device("G1", **sick), device("G0", **sick)], [replace(WISH, priority_class="critical")])
    change = named(seen, rules())
    assert (change.kind, change.subject) == ("repair", "G0")


@pytest.mark.parametrize(("replicas", "amount"), [(10, 1000), (11, 2000), (25, 3000)])
def test_as_many_whole_devices_are_missing_as_the_gang_fills(replicas, amount):
    theirs = claim("defence/x:theirs", most=4, least=4, priority_class="pinned")
    gang = claim(WISH.id, millis=100, least=replicas, most=replicas, priority_class="critical")
    change = named(snapshot(FOUR, [theirs, gang], running(theirs, *((one.id,) for one in FOUR))), all_to_defence())
    assert (change.kind, change.amount_millis) == ("capacity", amount)


def test_a_claim_that_is_suspended_is_told_of_nothing_but_its_owner():
    seen = snapshot(FOUR[:1], [OLD, replace(WISH, suspended=True)], running(OLD, ("G0",)))
    change = named(seen, tight())
    assert change is None or change.kind == "fix"


@pytest.mark.parametrize(
    ("claims", "work", "tries"), [(0, 100, 100), (1, 100, 100), (10, 1_000, 100), (1, 10**6, TRIES), (10**6, 10**6, 12)]
)
def test_the_larger_the_platform_the_fewer_changes_are_tried_but_never_less_than_a_dozen(claims, work, tries):
    assert affordable(claims, work) == tries


def test_one_try_is_enough_for_what_is_tried_first_and_without_any_nothing_is_named():
    assert [named(*SITUATIONS["fix"], tries=tries) is None for tries in (0, 1)] == [True, False]


@pytest.mark.parametrize("millis", [1, 250, 333, 500, 999])
def test_of_quota_as_many_thousandths_are_missing_as_are_missing(millis):
    seen, policy = SITUATIONS["quota"]
    wish = claim(WISH.id, millis=millis, priority_class="pinned", submitted_at_ms=1)
    change = named(replace(seen, claims=(seen.claims[0], wish)), policy)
    assert (change.kind, change.amount_millis) == ("quota", millis)


def test_who_could_do_with_half_a_device_is_not_told_of_a_whole_one():
    seen, policy = SITUATIONS["quota"]
    ladder = (*claim(WISH.id).ladder, *claim(WISH.id, millis=400).ladder)
    wish = claim(WISH.id, ladder=ladder, priority_class="pinned", submitted_at_ms=1)
    change = named(replace(seen, claims=(seen.claims[0], wish)), policy)
    assert (change.kind, change.amount_millis) == ("quota", 400)


@in_every_crowd
def test_a_situation_without_the_others_is_that_of_somebody_who_has_the_platform_alone(seed):
    here = crowd(seed)
    seen, memory = here.snapshot, replace(here.memory, usage=(
        UsageRecord(tenant="civil/x", flavor="A", milli_seconds=5, at_ms=1),
    ))  # fmt: skip
    left = alone(Situation(snapshot=seen, policy=here.policy, memory=memory, now_ms=CROWDED_MS), civil)
    mine = [one for one in seen.groups if civil(one.claim)]
    held = {device for one in mine for device in one.devices}
    assert left.snapshot == replace(
        seen, groups=tuple(mine), claims=tuple(one for one in seen.claims if civil(one.id)), reservations=(),
        workers=tuple(one for one in seen.workers if any(group.worker == one.id for group in mine)),
        demands=tuple(one for one in seen.demands if civil(one.claim)),
        devices=tuple(
            one if one.id in held or one.scrub is ScrubState.FAILED
            else replace(one, domain=None, scrub=ScrubState.CLEAN) for one in seen.devices
        ),
    )  # fmt: skip
    assert left.memory == Memory(
        claims=tuple(one for one in memory.claims if civil(one.claim)),
        drains=tuple(one for one in memory.drains if one.group in {group.id for group in mine}),
        holds=tuple(one for one in memory.holds if civil(one.claim)),
    )
    assert (left.policy, left.now_ms) == (here.policy, CROWDED_MS)


def civil(claim: str) -> bool:
    return claim.startswith("civil/")


SMALL = Shape(flavors=("A",), variant="small")
HERE = Situation(
    snapshot=replace(
        snapshot([device("G0"), device("G1", health=DeviceHealth.SUSPECT, scrub=ScrubState.DIRTY, domain="civil")],
                 [WISH, OLD, replace(WISH, id="civil/x:last", suspended=True)], demands=((OLD.id, 1),)),
        adopting=("civil",),
    ),
    policy=replace(tight(), declaration=ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS * 2, approvers=("ana", "ben"))),
    memory=Memory(drains=(Drain(group="g", since_ms=1),)), now_ms=NOW_MS,
)  # fmt: skip


def after(kind: str, subject: str, amount: int = 0, value: str = "", here: Situation = HERE) -> Situation:
    return applied(here, Change(kind=kind, subject=subject, amount_millis=amount, value=value))


def with_claim(**terms) -> Situation:
    claims = tuple(replace(one, **terms) if one.id == WISH.id else one for one in HERE.snapshot.claims)
    return replace(HERE, snapshot=replace(HERE.snapshot, claims=claims))


def test_what_is_thought_of_concerns_its_claim_and_nothing_else():
    assert after("fix", "civil/x:last").snapshot.claims[2].suspended is False
    assert after("fix", WISH.id) == HERE
    assert after("class", WISH.id, value="critical") == with_claim(priority_class="critical")
    assert after("replicas", WISH.id, value="3") == with_claim(min_replicas=3)
    assert after("flavor", WISH.id, value="B") == with_claim(ladder=(replace(WISH.ladder[0], flavors=("A", "B")),))
    lower = replace(WISH.ladder[0], devices=2, gpu_millis=250)
    assert after("rung", WISH.id, value="2x250") == with_claim(ladder=(WISH.ladder[0], lower))
    released = after("release", OLD.id).snapshot
    assert released == replace(HERE.snapshot, claims=(HERE.snapshot.claims[0], HERE.snapshot.claims[2]))


def test_time_that_passes_ages_nothing_that_is_seen():
    later = after("wait", WISH.id, value="1500")
    assert later.now_ms == NOW_MS + 1500
    assert later.snapshot.observed_at_ms == NOW_MS + 1500
    assert [one.observed_at_ms for one in later.snapshot.demands] == [NOW_MS + 1500]


def test_what_is_seen_opened_or_repaired_again_is_that_alone():
    assert after("sight", "civil").snapshot == replace(HERE.snapshot, adopting=())
    assert after("sight", "defence") == HERE
    repaired = after("repair", "G1").snapshot.devices
    assert repaired == (HERE.snapshot.devices[0], device("G1"))
    shut = replace(HERE, snapshot=replace(HERE.snapshot, nodes=tuple(
        Node(id=name, cpu_millis=1, memory_mib=1, schedulable=False) for name in ("n0", "n1")
    )))  # fmt: skip
    assert [one.schedulable for one in after("uncordon", "n1", here=shut).snapshot.nodes] == [False, True]
    assert after("mode", "crisis").policy == replace(HERE.policy, declaration=None)


@pytest.mark.parametrize("kind", ["quota", "borrowing_limit", "lending_limit"])
def test_a_quota_or_limit_is_raised_for_the_tenant_and_all_above_it_and_for_nobody_else(kind):
    field = "nominal_millis" if kind == "quota" else f"{kind}_millis"
    limited = replace(HERE.policy, tenants=tuple(
        replace(one, quotas=tuple(replace(q, lending_limit_millis=100) for q in one.quotas))
        for one in HERE.policy.tenants
    ))  # fmt: skip
    here = replace(HERE, policy=limited)
    for tenant, raised in (("civil/x", {"civil", "civil/x"}), ("civil", {"civil"})):
        then = after(kind, f"{tenant} A", 300, here=here).policy.tenants
        for before, now in zip(limited.tenants, then, strict=True):
            expected = before.quotas[0]
            if before.id in raised:
                expected = replace(expected, **{field: getattr(expected, field) + 300})
            assert now == replace(before, quotas=(expected,))


def test_what_is_unlimited_stays_so_and_a_flavor_without_a_quota_gets_one():
    free = replace(HERE, policy=rules())
    for kind in ("borrowing_limit", "lending_limit"):
        assert after(kind, "civil/x A", 300, here=free) == free
    tenant = next(one for one in after("quota", "civil/x B", 300).policy.tenants if one.id == "civil/x")
    assert tenant.quotas[1] == Quota(flavor="B", nominal_millis=300)
    assert tenant.quotas[1].lending_limit_millis == UNLIMITED
    twice = after("quota", "civil/x B", 200, here=after("quota", "civil/x B", 300)).policy.tenants
    assert [one.nominal_millis for one in twice[-2].quotas] == [1000, 500]


def test_devices_that_are_added_are_alike_the_least_of_their_flavor_and_on_a_host_that_refuses_nothing():
    small = replace(HERE, snapshot=replace(HERE.snapshot, devices=(
        device("G0"), replace(device("G1"), memory_mib=40_000), replace(device("G2"), flavor="B", memory_mib=9),
    )))  # fmt: skip
    then = after("capacity", "A", 2000, here=small).snapshot
    assert then.nodes == (*small.snapshot.nodes, Node(id="added", cpu_millis=UNBOUNDED, memory_mib=UNBOUNDED))
    assert then.devices == (*small.snapshot.devices, *(
        Device(id=f"added-{index}", node="added", flavor="A", gpu=f"added-{index}", memory_mib=40_000)
        for index in range(2)
    ))  # fmt: skip
    none = replace(small, snapshot=replace(small.snapshot, devices=()))
    assert after("capacity", "A", 1000, here=none).snapshot.devices[0].memory_mib == 80_000
    assert after("capacity", "C", 1000, here=none).snapshot.devices[0].memory_mib == 0


def test_what_takes_nothing_from_anybody_is_named_before_what_does():
    assert KINDS.index("flavor") < KINDS.index("repair") < KINDS.index("rung") < KINDS.index("capacity")


FULL = [claim(f"defence/{name}", submitted_at_ms=index, priority_class="critical")
        for index, name in enumerate(("x:a", "x:b", "y:c"))]  # fmt: skip


@pytest.mark.parametrize(("millis", "amount"), [(1000, 1000), (500, 500), (250, 250)])
def test_where_quotas_are_as_large_as_the_fleet_nobody_is_told_of_a_milli_but_of_what_it_takes(millis, amount):
    """One milli of quota would take one from another's guarantee, and with it the last whole replica, which starts."""
    wish = claim("civil/x:bulk", millis=millis, submitted_at_ms=9, priority_class="batch")
    seen = snapshot(FOUR[:3], [*FULL, wish], *(running(one, (f"G{index}",)) for index, one in enumerate(FULL[:2])))
    quotas = {"defence": 3000, "defence/x": 3000}
    policy = rules(floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=quotas.get(one.id, 0)),)) for one in policy.tenants
    ))  # fmt: skip
    now = Situation(snapshot=seen, policy=policy, memory=Memory(), now_ms=NOW_MS)
    assert after_quota(now, wish.id, 1) > 0
    change = unblocking(now, wish.id)
    assert (change.kind, change.subject, change.amount_millis) == ("quota", "civil/x A", amount)
    assert change.sentence.endswith("so others are guaranteed less then")
    assert after_quota(now, wish.id, amount) > 0


def after_quota(now: Situation, name: str, millis: int) -> int:
    then = applied(now, Change(kind="quota", subject="civil/x A", amount_millis=millis))
    decision = decide(then.snapshot, then.policy, then.memory, then.now_ms)
    return next(one.granted_replicas for one in decision.reasons if one.claim == name)
