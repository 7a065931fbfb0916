"""Each figure of a policy, a claim or a snapshot at the last value that is accepted, and one beyond it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.documents.soundness import MOST_LEVELS, MOST_VALUE, faults_of_claim, faults_of_policy, faults_of_snapshot
from policies.model.inventory import Group, Node
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.tenancy import GatewayLimits, PriorityClass, Quota, Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind, Demand, Reservation, Shape
from tests.policies.looking import FOUR
from tests.policies.situations import claim, rules, running, snapshot

BASE = rules()
ID = {one.id: index for index, one in enumerate(BASE.tenants)}
X = ID["civil/x"]
CRISIS = ModeOverlay(mode=OperatingMode.CRISIS)
DECLARED = ModeDeclaration(
    mode=OperatingMode.CRISIS, declared_at_ms=10, expires_at_ms=11, approvers=("ana", "ben"),
)  # fmt: skip


def tenant(**terms):
    """The policy in which civil/x is so."""
    return replace(BASE, tenants=tuple(
        replace(one, **terms) if one.id == "civil/x" else one for one in BASE.tenants
    ))  # fmt: skip


def quota(**terms):
    return tenant(quotas=(replace(BASE.tenants[X].quotas[0], **terms),))


def rank(**terms):
    return replace(
        BASE, priority_classes=(*BASE.priority_classes, PriorityClass(**({"name": "new", "value": 1} | terms)))
    )


def overlay(**terms):
    return replace(BASE, overlays=(replace(CRISIS, **terms),))


def declared(**terms):
    return replace(BASE, declaration=replace(DECLARED, **terms))


def named(name: str, parent: str | None = "civil", domain: SecurityDomain = SecurityDomain.CIVIL):
    return replace(BASE, tenants=(*BASE.tenants, Tenant(id=name, domain=domain, parent=parent)))


NEW = len(BASE.tenants)
LAST = len(BASE.priority_classes)
POLICIES = {
    "as shipped": (BASE, []),
    "no revision": (replace(BASE, revision=" "), [("revision",)]),
    "no tenant": (replace(BASE, tenants=()), [("tenants",)]),
    "a tenant twice": (replace(BASE, tenants=(*BASE.tenants, BASE.tenants[0])), [("tenants", NEW)]),
    "a weight of zero": (tenant(fair_weight=0), []),
    "a weight below zero": (tenant(fair_weight=-1), [("tenants", X, "fair_weight")]),
    "no limit": (tenant(limits=GatewayLimits()), []),
    "a limit of nothing": (tenant(limits=GatewayLimits(tokens_per_day=0)), []),
    "a limit below nothing": (tenant(limits=GatewayLimits(tokens_per_day=-1)),
                              [("tenants", X, "limits", "tokens_per_day")]),
    "a deadline of a second": (tenant(reclaim_deadline_s=1), []),
    "a deadline of no time": (tenant(reclaim_deadline_s=0), [("tenants", X, "reclaim_deadline_s")]),
    "a quota of nothing": (quota(nominal_millis=0, lending_limit_millis=0, borrowing_limit_millis=0), []),
    "a quota below nothing": (quota(nominal_millis=-1), [("tenants", X, "quotas", 0, "nominal_millis")]),
    "nothing lent below a quota of less than nothing": (
        quota(nominal_millis=-5, lending_limit_millis=0), [("tenants", X, "quotas", 0, "nominal_millis")]),
    "lending all": (quota(nominal_millis=7, lending_limit_millis=7), []),
    "lending more than all": (quota(nominal_millis=7, lending_limit_millis=8),
                              [("tenants", X, "quotas", 0, "lending_limit_millis")]),
    "lending less than nothing": (quota(lending_limit_millis=-1),
                                  [("tenants", X, "quotas", 0, "lending_limit_millis")]),
    "borrowing less than nothing": (quota(borrowing_limit_millis=-1),
                                    [("tenants", X, "quotas", 0, "borrowing_limit_millis")]),
    "a flavor twice": (tenant(quotas=BASE.tenants[X].quotas * 2),
                       [("tenants", X, "quotas", 1), ("tenants", ID["civil"], "quotas")]),
    "a floor of the whole quota": (tenant(floor_millis=(("A", 1000),)), []),
    "a floor above the quota": (tenant(floor_millis=(("A", 1001),)), [("tenants", X, "floor_millis", 0)]),
    "a floor of nothing": (tenant(floor_millis=(("A", 0),)), []),
    "a floor below nothing": (tenant(floor_millis=(("A", -1),)), [("tenants", X, "floor_millis", 0)]),
    "a floor of nothing without a quota": (tenant(floor_millis=(("B", 0),)), []),
    "a floor without a quota": (tenant(floor_millis=(("B", 1),)), [("tenants", X, "floor_millis", 0)]),
    "two floors for a flavor": (tenant(floor_millis=(("A", 1), ("A", 2))), [("tenants", X, "floor_millis", 1)]),
    "children promised all of their parent's": (quota(nominal_millis=1000), []),
    "children promised more": (quota(nominal_millis=1001), [("tenants", ID["civil"], "quotas")]),
    "children promised of what a parent has no quota for": (
        tenant(quotas=(*BASE.tenants[X].quotas, Quota(flavor="B", nominal_millis=9))), []),
    "a name that is no path": (named("civil/Z"), [("tenants", NEW, "id")]),
    "a name that ends in a hyphen": (named("civil/z-"), [("tenants", NEW, "id")]),
    "a name of digits and hyphens": (named("civil/0-z"), []),
    "a tenant of two domains": (named("civil/z", domain=SecurityDomain.DEFENCE),
                                [("tenants", NEW, "domain"), ("tenants", NEW, "parent")]),
    "below the other domain": (named("civil/z", "defence"), [("tenants", NEW, "parent")]),
    "below nobody by its path": (named("civil/z", None), [("tenants", NEW, "parent")]),
    "below a neighbour": (named("civil/z", "civil/y"), [("tenants", NEW, "parent")]),
    "far below by its path": (named("civil/x/far/below", "civil/x"), []),
    "below somebody unknown": (named("civil/z", "civil/w"), [("tenants", NEW, "parent")]),
    "a class without a name": (rank(name=" "), [("priority_classes", LAST, "name")]),
    "the highest class": (rank(value=MOST_VALUE), []),
    "too high a class": (rank(value=MOST_VALUE + 1), [("priority_classes", LAST, "value")]),
    "the lowest class": (rank(value=-MOST_VALUE), []),
    "too low a class": (rank(value=-MOST_VALUE - 1), [("priority_classes", LAST, "value")]),
    "no time": (rank(min_runtime_s=0, preemption_delay_s=0), []),
    "time below nothing": (rank(min_runtime_s=-1), [("priority_classes", LAST, "min_runtime_s")]),
    "delay below nothing": (rank(preemption_delay_s=-1), [("priority_classes", LAST, "preemption_delay_s")]),
    "a class twice": (rank(name="batch"), [("priority_classes", LAST)]),
    "no class": (replace(BASE, priority_classes=()), [("priority_classes",)]),
    "an overlay for a mode": (overlay(fair_weights=(("civil", 0),), paused_classes=("batch",),
                                      paused_tenants=("civil/x",), waived_floors=("defence",)), []),
    "an overlay twice": (replace(BASE, overlays=(CRISIS, CRISIS)), [("overlays", 1)]),
    "an overlay of no mode": (overlay(mode=OperatingMode.NORMAL), [("overlays", 0, "mode")]),
    "a weight twice in a mode": (overlay(fair_weights=(("civil", 1), ("civil", 2))),
                                 [("overlays", 0, "fair_weights", 1)]),
    "a weight below zero in a mode": (overlay(fair_weights=(("civil", -1),)), [("overlays", 0, "fair_weights")]),
    "a weight of nobody in a mode": (overlay(fair_weights=(("mars", 1),)), [("overlays", 0)]),
    "a pause of nobody": (overlay(paused_tenants=("mars",)), [("overlays", 0)]),
    "a floor of nobody waived": (overlay(waived_floors=("mars",)), [("overlays", 0)]),
    "a pause of no class": (overlay(paused_classes=("lunch",)), [("overlays", 0, "paused_classes")]),
    "a mode for a millisecond": (declared(), []),
    "a mode for no time": (declared(expires_at_ms=10), [("declaration", "expires_at_ms")]),
    "a mode that ended before": (declared(expires_at_ms=9), [("declaration", "expires_at_ms")]),
    "a mode of one person": (declared(approvers=("ana", " ana")), [("declaration", "approvers")]),
    "a mode of one person and a blank": (declared(approvers=("ana", " ")), [("declaration", "approvers")]),
    "no bound": (replace(BASE, bounds=replace(BASE.bounds, cooldown_ms=0)), []),
    "a bound below zero": (replace(BASE, bounds=replace(BASE.bounds, cooldown_ms=-1)), [("bounds", "cooldown_ms")]),
    "a score that does not exist": (replace(BASE, scoring="best"), [("scoring",)]),
    "use kept for no day": (replace(BASE, usage_retention_days=0), []),
    "use kept for less": (replace(BASE, usage_retention_days=-1), [("usage_retention_days",)]),
    "flavors in use": (replace(BASE, flavors=("A",)), []),
    "a flavor in use twice": (replace(BASE, flavors=("A", "B", "A")), [("flavors", 2)]),
    "no quota's flavor in use": (replace(BASE, flavors=("B",)),
                                 [("tenants", index, "quotas", 0, "flavor") for index in range(NEW)]),
}  # fmt: skip


@pytest.mark.parametrize("what", POLICIES)
def test_a_policy_is_accepted_up_to_its_limits_and_refused_beyond_with_the_path(what):
    policy, paths = POLICIES[what]
    assert [path for path, _ in faults_of_policy(policy)] == paths


def test_as_many_tenants_above_each_other_as_may_be_are_accepted():
    paths = ["/".join(["civil", *["d"] * depth]) for depth in range(MOST_LEVELS)]
    tenants = tuple(
        Tenant(id=path, domain=SecurityDomain.CIVIL, parent=path.rpartition("/")[0] or None) for path in paths
    )
    assert list(faults_of_policy(replace(BASE, tenants=tenants))) == []
    deeper = Tenant(id=f"{paths[-1]}/d", domain=SecurityDomain.CIVIL, parent=paths[-1])
    assert len(list(faults_of_policy(replace(BASE, tenants=(*tenants, deeper))))) == 1


def test_tenants_that_are_above_each_other_in_a_circle_are_refused_each_with_its_path():
    def below(name, parent):
        return Tenant(id=name, domain=SecurityDomain.CIVIL, parent=parent)

    ring = (below("civil/a", "civil/b"), below("civil/b", "civil/a"))
    assert [path for path, _ in faults_of_policy(replace(BASE, tenants=ring))] == [
        ("tenants", 0, "parent"), ("tenants", 1, "parent")
    ]  # fmt: skip


def shape(**terms):
    return {"ladder": (Shape(flavors=("A",), **terms),)}


CLAIMS = {
    "as usual": ({}, []),
    "a name of another tenant": ({"id": "civil/y:c"}, [("id",)]),
    "a name of capitals": ({"id": "civil/x:C"}, [("id",)]),
    "a name of dots": ({"id": "civil/x:c.1-2"}, []),
    "a ladder left to the catalogue": ({"ladder": (), "model": "m"}, []),
    "no ladder and no model": ({"ladder": ()}, [("ladder",)]),
    "a job without a ladder": ({"ladder": (), "model": "m", "kind": ClaimKind.JOB}, [("ladder",)]),
    "a shape without processors": (shape(cpu_millis=0, memory_mib=0, host_memory_mib=0, concurrency=1), []),
    "processors below nothing": (shape(cpu_millis=-1), [("ladder", 0)]),
    "host memory below nothing": (shape(host_memory_mib=-1), [("ladder", 0)]),
    "memory below nothing": (shape(memory_mib=-1), [("ladder", 0)]),
    "no request at a time": (shape(concurrency=0), [("ladder", 0)]),
    "a second": ({"duration_s": 1}, []),
    "no second": ({"duration_s": 0}, [("duration_s",)]),
    "the first end": ({"expires_at_ms": 1}, []),
    "no end": ({"expires_at_ms": 0}, [("expires_at_ms",)]),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_a_claim_is_accepted_up_to_its_limits_and_refused_beyond_with_the_path(what):
    terms, paths = CLAIMS[what]
    assert [path for path, _ in faults_of_claim(replace(claim("civil/x:c"), **terms))] == paths


ONE = claim("civil/x:one")
SEEN = snapshot(FOUR[:1], [ONE], running(ONE, ("G0",)), demands=[(ONE.id, 0)])
KEPT = Reservation(id="civil:r", tenant="civil", flavor="A", gpu_millis=1, starts_at_ms=5, ends_at_ms=6)


def grouped(**terms) -> list[Group]:
    return [replace(SEEN.groups[0], **terms)]


SNAPSHOTS = {
    "as usual": ({}, []),
    "a demand twice": ({"demands": (Demand(claim="c", replicas=0, observed_at_ms=1),) * 2}, [("demands", 1)]),
    "a demand below nothing": ({"demands": (Demand(claim="c", replicas=-1, observed_at_ms=1),)},
                               [("demands", 0, "replicas")]),
    "a host of nothing": ({"nodes": (Node(id="n0", cpu_millis=0, memory_mib=0),)}, []),
    "a host of less than nothing": ({"nodes": (Node(id="n0", cpu_millis=-1, memory_mib=-1),)},
                                    [("nodes", 0, "cpu_millis"), ("nodes", 0, "memory_mib")]),
    "a device of no memory": ({"devices": (replace(SEEN.devices[0], memory_mib=0),)}, []),
    "a device of less": ({"devices": (replace(SEEN.devices[0], memory_mib=-1),)}, [("devices", 0, "memory_mib")]),
    "a rung below the first": ({"groups": grouped(rung=-1)}, [("groups", 0, "rung")]),
    "a group of no replica": ({"groups": grouped(replicas=0)}, []),
    "a group of less": ({"groups": grouped(replicas=-1)}, [("groups", 0)]),
    "a group on nothing": ({"groups": grouped(devices=())}, [("groups", 0)]),
    "a reservation of the least": ({"reservations": (KEPT,)}, []),
    "a reservation of nothing": ({"reservations": (replace(KEPT, gpu_millis=0),)}, [("reservations", 0, "gpu_millis")]),
    "a reservation for no time": ({"reservations": (replace(KEPT, ends_at_ms=5),)},
                                  [("reservations", 0, "ends_at_ms")]),
    **{f"of the {name} one twice": ({name: getattr(SEEN, name) * 2}, [(name, 1)])
       for name in ("flavors", "nodes", "devices", "workers", "groups", "claims")},
    "a reservation twice": ({"reservations": (KEPT,) * 2}, [("reservations", 1)]),
}  # fmt: skip


@pytest.mark.parametrize("what", SNAPSHOTS)
def test_a_snapshot_is_accepted_up_to_its_limits_and_refused_beyond_with_the_path(what):
    terms, paths = SNAPSHOTS[what]
    assert [path for path, _ in faults_of_snapshot(replace(SEEN, **terms))] == paths
