"""Idle GPUs are divided as waiting claims ask; what runs is left alone; what cannot exist is refused by its name."""

from __future__ import annotations

from dataclasses import replace

from policies.decide import decide
from policies.fleet.layouts import impossible, proposals
from policies.fleet.mig import mig_parted
from policies.model.decision import PendingReason
from policies.model.inventory import Device, DeviceHealth, Flavor, Node
from policies.model.memory import Memory
from policies.model.tenancy import Quota
from policies.model.units import SecurityDomain
from policies.model.workload import Shape
from tests.policies.situations import NOW_MS, claim, rules, running, snapshot

WHOLE, PART = "H100-80GB", "H100-80GB-MIG-3g.40gb"
POLICY = replace(
    rules(), flavors=(), tenants=tuple(
        replace(one, floor_millis=(), quotas=tuple(Quota(flavor=name, nominal_millis=4000) for name in (WHOLE, PART)))
        for one in rules().tenants
    ),
)  # fmt: skip


def gpu(number: int, node: str = "n0", **state) -> Device:
    name = f"GPU-{number}"
    return Device(id=name, node=node, flavor=WHOLE, gpu=name, memory_mib=80_000, **state)


def asks(name: str, flavor: str, count: int = 1):
    return claim(name, ladder=(Shape(flavors=(flavor,)),), least=count)


def proposed(seen):
    seen = replace(seen, flavors=(Flavor(id=WHOLE, model="NVIDIA H100 80GB HBM3", memory_mib=80_000),))
    return proposals(seen, decide(seen, POLICY, Memory(), NOW_MS), POLICY)


def test_idle_gpus_are_divided_for_the_claims_that_wait_for_instances():
    [one, two] = proposed(snapshot([gpu(0), gpu(1), gpu(2)], [asks("civil/x:part", PART, 3)]))
    assert (one.gpu, two.gpu) == ("GPU-0", "GPU-1")
    assert [part.profile for part in one.layout].count("3g.40gb") == 2
    assert mig_parted({0: one.layout})["version"] == "v1"


def test_a_gpu_that_a_claim_runs_on_is_never_divided():
    holds = asks("civil/x:whole", WHOLE)
    seen = snapshot([gpu(0)], [holds, asks("civil/x:part", PART)], running(holds, ("GPU-0",)))
    assert proposed(seen) == ()


def test_two_domains_never_get_instances_of_one_gpu():
    seen = snapshot([gpu(0), gpu(1)], [asks("civil/x:part", PART), asks("defence/x:part", PART)])
    assert {one.gpu: one.domain for one in proposed(seen)} == {
        "GPU-0": SecurityDomain.CIVIL, "GPU-1": SecurityDomain.DEFENCE
    }  # fmt: skip


def test_nothing_is_divided_when_nobody_waits_for_instances():
    assert proposed(snapshot([gpu(0)], [asks("civil/x:whole", WHOLE)])) == ()


def test_a_profile_that_no_gpu_can_have_is_refused_by_its_name():
    seen = snapshot([gpu(0)], [asks("civil/x:odd", "H100-80GB-MIG-5g.60gb")])
    [reason] = decide(seen, POLICY, Memory(), NOW_MS).reasons
    assert reason.code is PendingReason.NO_MATCHING_FLAVOR
    assert "no MIG profile 5g.60gb" in reason.sentence
    assert proposed(seen) == ()


def test_a_model_is_known_with_and_without_its_memory_in_the_name():
    assert impossible("H200-MIG-1g.18gb") == ""
    assert impossible("L40S-MIG-1g.6gb") == "L40S is not known to be divided by MIG"
    assert impossible("H100-80GB") == ""


def waits(wanted: int, granted: int, *seen_claims, nodes=("n0",), closed=(), devices=()):
    """Return the hosts and GPUs that are divided while one claim has some of the replicas that it wants."""
    seen = snapshot(devices or [gpu(0), gpu(1)], seen_claims)
    seen = replace(seen, nodes=tuple(Node(id=name, cpu_millis=1, memory_mib=1, schedulable=name not in closed)
                                     for name in nodes))  # fmt: skip
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    reasons = tuple(replace(one, wanted_replicas=wanted, granted_replicas=granted) for one in decision.reasons)
    return [(one.node, one.gpu) for one in proposals(seen, replace(decision, reasons=reasons), POLICY)]


def test_instances_are_made_for_the_replicas_that_are_missing_alone():
    part = asks("civil/x:part", PART, 3)
    assert waits(3, 0, part) == [("n0", "GPU-0"), ("n0", "GPU-1")]
    assert waits(3, 1, part) == waits(3, 2, part) == [("n0", "GPU-0")]
    assert waits(3, 3, part) == waits(3, 4, part) == []
    assert waits(3, 0, asks("nobody:part", PART, 3)) == [], "a tenant that is not there has no domain"


def test_a_gpu_is_left_whole_on_a_host_that_is_closed_or_if_any_part_of_it_is_ill_or_held():
    part = asks("civil/x:part", PART, 1)
    ill = [gpu(0, health=DeviceHealth.SUSPECT), gpu(1)]
    assert waits(1, 0, part, devices=ill) == [("n0", "GPU-1")]
    halves = [replace(gpu(0), id=f"MIG-{n}", flavor=PART, health=health) for n, health in
              enumerate((DeviceHealth.HEALTHY, DeviceHealth.SUSPECT))]  # fmt: skip
    assert waits(1, 0, part, devices=halves) == []
    assert waits(1, 0, part, devices=halves[:1]) == [("n0", "GPU-0")]
    assert waits(1, 0, part, devices=[gpu(0), gpu(1, "n1")], nodes=("n0", "n1"), closed=("n0",)) == [("n1", "GPU-1")]


def test_gpus_of_hosts_that_are_partly_used_are_divided_before_whole_hosts():
    three = [gpu(0, "n0"), gpu(1, "n0"), gpu(2, "n1")]
    assert waits(1, 0, asks("civil/x:part", PART), devices=three, nodes=("n0", "n1")) == [("n1", "GPU-2")]
    two = [gpu(5, "n1"), gpu(9, "n0")]
    assert waits(1, 0, asks("civil/x:part", PART), devices=two, nodes=("n0", "n1")) == [("n0", "GPU-9")]
    assert waits(3, 0, asks("civil/x:part", PART, 3), devices=two, nodes=("n0", "n1")) == [
        ("n0", "GPU-9"), ("n1", "GPU-5")
    ]  # fmt: skip


def test_of_the_profiles_that_a_claim_accepts_the_first_that_exists_is_made():
    odd = claim(
        "civil/x:part", ladder=(Shape(flavors=(WHOLE, "H100-80GB-MIG-5g.60gb", "H100-80GB-MIG-2g.20gb", PART)),)
    )
    seen = snapshot([gpu(0)], [odd])
    decision = decide(seen, POLICY, Memory(), NOW_MS)
    [reason] = decision.reasons
    missing = replace(decision, reasons=(replace(reason, wanted_replicas=3, granted_replicas=0),))
    [one] = proposals(seen, missing, POLICY)
    assert [part.profile for part in one.layout].count("2g.20gb") == 3
    assert impossible("H100-MIG-1g.10gb").startswith("H100 is not known"), "of two memories, which one must be said"
    assert impossible("H100-80GB-MIG-5g.60gb").endswith("it has 7g.80gb, 4g.40gb, 3g.40gb, 2g.20gb, 1g.20gb, 1g.10gb")
