"""Idle GPUs are divided as waiting claims ask; what runs is left alone; what cannot exist is refused by its name."""

from __future__ import annotations

from dataclasses import replace

from policies.decide import decide
from policies.layouts import impossible, proposals
from policies.mig import mig_parted
from policies.model.decision import PendingReason
from policies.model.inventory import Device, Flavor
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
