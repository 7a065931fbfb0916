"""What the floor certificate promises is kept when it is really asked for, and what it refuses rests on a reason."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given

from policies.certificate import FloorProof, certify
from policies.decide import decide
from policies.model.inventory import GroupState
from policies.model.memory import Memory
from policies.model.policy import Bounds, Policy
from policies.model.tenancy import Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.looking import FEW, FOUR, SEEDS, granted
from tests.policies.situations import CLASSES, NOW_MS, claim, device, rules, running, snapshot
from tests.simulation.generate import Dice, world
from tests.simulation.world import World

FLAVORS = ("A", "B")
QUICK = Bounds(drain_deadline_ms=6_000, scrub_time_ms=3_000, worker_start_ms=12_000, cooldown_ms=3_000,
               victim_hold_ms=15_000)  # fmt: skip


def random_floors(dice: Dice) -> Policy:
    """Two domains of up to two tenants, with floors at both levels up to the quotas."""
    tenants = []
    for domain in SecurityDomain:
        leaves = [f"{domain}/{name}" for name in "xy"[: dice.randint(1, 2)]]
        quota = {(leaf, flavor): dice.choice((0, 1000, 2000)) for leaf in leaves for flavor in FLAVORS}
        total = {flavor: sum(quota[leaf, flavor] for leaf in leaves) for flavor in FLAVORS}
        tenants.append(_tenant(domain, str(domain), None, [(f, total[f], dice.choice((0, total[f]))) for f in FLAVORS]))
        tenants += [
            _tenant(domain, leaf, str(domain), [(f, quota[leaf, f], dice.choice((0, quota[leaf, f]))) for f in FLAVORS])
            for leaf in leaves
        ]
    return Policy(revision="floors", tenants=tuple(tenants), priority_classes=CLASSES, bounds=QUICK)


def _tenant(domain, name, parent, amounts):
    return Tenant(
        id=name, domain=domain, parent=parent, reclaim_deadline_s=40,
        quotas=tuple(Quota(flavor=flavor, nominal_millis=nominal) for flavor, nominal, _ in amounts),
        floor_millis=tuple((flavor, floor) for flavor, _, floor in amounts),
    )  # fmt: skip


def lent_out(seed: int) -> World:
    """A world in which a few claims took what there was, some of them such that nobody may preempt them."""
    dice = Dice(seed)
    made = world(dice)
    made.policy = random_floors(dice)
    leaves = [tenant.id for tenant in made.policy.tenants if tenant.parent]
    for number in range(dice.randint(1, 4)):
        shape = Shape(flavors=(dice.choice(FLAVORS),), gpu_millis=dice.choice((1000, 1000, 500)), variant="v")
        one = claim(
            f"{dice.choice(leaves)}:lend{number}", ladder=(shape,), least=dice.choice((0, 1)), most=dice.randint(1, 6),
            priority_class=dice.choice(("standard", "critical", "pinned", "pinned")),
        )  # fmt: skip
        made.claims[one.id] = one
    made.run(25)
    return made


def ask_for(made: World, proof: FloorProof, name: str) -> None:
    """Let the tenant, or one below it that may hold as much, ask for all of the floor."""
    tenants = [one for one in made.policy.tenants if proof.tenant in (one.id, one.parent)]
    able = [t for t in tenants if t.parent and any(
        quota.flavor == proof.flavor and quota.nominal_millis >= proof.floor_millis for quota in t.quotas
    )]  # fmt: skip
    asker = able[0].id if able else proof.tenant
    count = proof.floor_millis // 1000
    one = claim(
        f"{asker}:{name}", ladder=(Shape(flavors=(proof.flavor,), variant="v"),), least=0, most=count,
        priority_class="critical", submitted_at_ms=made.now_ms,
    )  # fmt: skip
    made.claims[one.id] = one


def served(made: World, proof: FloorProof) -> int:
    """Return the millis of the flavor on which the tenant, with all below it, is served."""
    held: Counter[str] = Counter()
    for group in made.groups.values():
        if group.state is GroupState.RUNNING and made.devices[group.devices[0]].flavor == proof.flavor:
            shape = made.claims[group.claim].ladder[group.rung]
            held[made.claims[group.claim].tenant] += group.running * shape.gpu_millis * shape.devices
    return sum(millis for tenant, millis in held.items() if f"{tenant}/".startswith(f"{proof.tenant}/"))


@FEW
@given(SEEDS)
def test_p2_every_promised_floor_is_served_within_its_deadline_while_all_others_ask_for_theirs(seed):
    made = lent_out(seed)
    proofs = certify(made.observe(), made.policy, made.now_ms)
    for proof in [one for one in proofs if one.is_recoverable]:
        asked = deepcopy(made)
        for number, other in enumerate(proofs):
            if seed % 2 or other is proof:
                ask_for(asked, other, f"floor{number}")
        while served(asked, proof) + 1000 <= proof.floor_millis:  # what it asks for comes in whole devices
            assert asked.now_ms - made.now_ms <= proof.deadline_ms, proof
            asked.step()


@FEW
@given(SEEDS)
def test_p2_floors_that_are_refused_for_want_of_gpus_cannot_all_be_had(seed):
    made = lent_out(seed)
    proofs = certify(made.observe(), made.policy, made.now_ms)
    short = [
        one
        for one in proofs
        if not one.is_recoverable
        and "GPUs" in one.sentence
        and "may need" not in one.sentence
        and "may remain" not in one.sentence
        and "whole ones remain" not in one.sentence
    ]
    for number, proof in enumerate(proofs):
        ask_for(made, proof, f"floor{number}")
    if short:
        made.run(45)
    for flavor in {one.flavor for one in short}:
        assert any(served(made, one) < one.floor_millis for one in proofs if one.flavor == flavor)


def proof_of(tenant: str, seen, policy) -> FloorProof:
    return next(one for one in certify(seen, policy, NOW_MS) if one.tenant == tenant)


def test_a_neighbours_work_that_nobody_may_preempt_is_in_the_way_of_a_floor_too():
    policy = rules(civil=4000, defence=0, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, floor_millis=(("A", 1000),)) if one.id == "civil/x" else one for one in policy.tenants
    ))  # fmt: skip
    pinned = claim("civil/y:pinned", most=4, priority_class="pinned")
    seen = snapshot(FOUR, [pinned], running(pinned, *((one.id,) for one in FOUR)))
    assert "4 GPUs of A carry work that nobody may preempt" in proof_of("civil/x", seen, policy).sentence
    assert proof_of("civil/x", snapshot(FOUR, [pinned]), policy).is_recoverable


def test_what_runs_and_nobody_may_preempt_uses_up_its_tenants_guarantee_before_a_higher_class_does():
    """Else a tenant would have its guarantee twice, and the second time from the floor of another domain."""
    pinned = claim("civil/x:pinned", priority_class="pinned")
    more = claim("civil/x:more", priority_class="critical", submitted_at_ms=1)
    owner = claim("defence/x:owner", submitted_at_ms=2)
    seen = snapshot(FOUR[:2], [pinned, more, owner], running(pinned, ("G0",)), running(more, ("G1",)))
    policy = rules(civil=1000, defence=1000, floor=1000)
    policy = replace(policy, tenants=tuple(
        replace(one, quotas=(Quota(flavor="A", nominal_millis=1000),)) if one.id.endswith("/x") else one
        for one in policy.tenants
    ))  # fmt: skip
    decision = decide(seen, policy, Memory(), NOW_MS)
    assert {one.id: granted(decision, one.id) for one in seen.claims} == {pinned.id: 1, more.id: 0, owner.id: 1}


def test_the_slowest_start_that_was_measured_counts():
    one = claim("defence/x:large")
    workers, groups = running(one, ("G0",))
    seen = snapshot(FOUR, [one], (workers, [replace(groups[0], cold_start_ms=90_000)]))
    slow = proof_of("defence", seen, rules())
    assert slow.worst_case_ms == 30_000 + 2_000 + 10_000 + 90_000
    assert "only 120000 are promised" in slow.sentence
    assert proof_of("civil", seen, rules()).is_recoverable


@pytest.mark.parametrize(
    ("shape", "terms", "said"),
    [
        ({"devices": 2}, {"least": 1}, "needs 2 devices of one host, the largest has 1"),
        ({"memory_mib": 90_000}, {"least": 1}, "needs 90000 MiB of a device, the smallest of A has 80000"),
        ({"cpu_millis": 100_000}, {"least": 1}, "needs 1 replicas at once, the empty hosts have room for 0"),
        ({}, {"least": 3, "spread": True}, "needs 3 hosts at once, the empty hosts have room for 2"),
    ],
)
def test_a_claim_inside_the_floor_that_no_host_could_carry_is_named(shape, terms, said):
    hosts = [device("G0", node="n0"), device("G1", node="n1")]
    wish = claim("defence/x:wish", ladder=(Shape(flavors=("A",), **shape),), **terms)
    policy = rules(civil=0, defence=4000, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, floor_millis=(("A", 3000),)) if one.id == "defence" else one for one in policy.tenants
    ))  # fmt: skip
    proof = proof_of("defence", snapshot([*hosts, *(device(f"H{n}", node="n1") for n in range(2))] if "spread" in terms
                                         else [*hosts, device("G2", node="n2")], [wish]), policy)  # fmt: skip
    assert said in proof.sentence


def test_a_domain_that_is_not_seen_is_promised_nothing():
    seen = replace(snapshot(FOUR, []), adopting=(SecurityDomain.CIVIL,))
    assert "civil is not seen now" in proof_of("civil", seen, rules()).sentence
    assert proof_of("defence", seen, rules()).is_recoverable


def test_a_floor_above_other_floors_holds_theirs_however_deep_the_tree_is():
    deep = [
        Tenant(id=name, domain=SecurityDomain.CIVIL, parent=parent, quotas=(Quota(flavor="A", nominal_millis=2000),),
               floor_millis=(("A", 2000),))
        for name, parent in (("civil", None), ("civil/a", "civil"), ("civil/a/b", "civil/a"))
    ]  # fmt: skip
    policy = Policy(revision="deep", tenants=tuple(deep), priority_classes=CLASSES)
    assert all(proof.is_recoverable for proof in certify(snapshot(FOUR[:2], []), policy, NOW_MS))


def test_parts_of_devices_that_nobody_may_preempt_leave_no_whole_one():
    pinned = claim("civil/y:pinned", millis=500, most=2, priority_class="pinned")
    policy = rules(civil=2000, defence=0, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, floor_millis=(("A", 1000),)) if one.id == "civil/x" else one for one in policy.tenants
    ))  # fmt: skip
    apart = snapshot(FOUR[:2], [pinned], running(pinned, ("G0",), ("G1",)))
    together = snapshot(FOUR[:2], [pinned], running(pinned, ("G0",)))
    assert "too few whole ones remain" in proof_of("civil/x", apart, policy).sentence
    whole = claim("civil/y:whole", most=2, priority_class="pinned")
    filled = snapshot(FOUR[:2], [whole], running(whole, ("G0",), ("G1",)))
    assert "too few remain" in proof_of("civil/x", filled, policy).sentence
    assert proof_of("civil/x", together, policy).is_recoverable


def test_where_gpus_are_divided_differently_a_refusal_says_only_that_too_few_may_remain():
    """Each counts as the one with the fewest devices: the other one has room for the whole floor."""
    pinned = claim("civil/y:pinned", priority_class="pinned")
    halves = [device(f"G1{part}", gpu="G1") for part in "ab"]
    seen = snapshot([device("G0"), *halves], [pinned], running(pinned, ("G0",)))
    policy = rules(civil=1000, defence=2000, floor=0)
    policy = replace(policy, tenants=tuple(
        replace(one, floor_millis=(("A", 2000),)) if one.id == "defence" else one for one in policy.tenants
    ))  # fmt: skip
    proof = proof_of("defence", seen, policy)
    assert not proof.is_recoverable
    assert "too few may remain" in proof.sentence
