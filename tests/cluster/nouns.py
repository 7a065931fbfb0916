"""Small, valid nouns for tests."""

from __future__ import annotations

from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.plan import Action, Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import ClaimId, FlavorId, ModelId, SecurityDomain, TenantId, VariantId
from policies.model.workload import Claim, ClaimKind, Shape

FLAVOR = FlavorId("H100-80GB")
DEFENCE, CIVIL = SecurityDomain.DEFENCE, SecurityDomain.CIVIL


def a_claim(name: str = "chat", tenant: str = "civil/justice", replicas: int = 1, maximum: int = 4) -> Claim:
    """Return a serving claim of half-device replicas."""
    shape = Shape(flavors=(FLAVOR,), gpu_millis=500, memory_mib=20_000, variant=VariantId("q8"))
    return Claim(
        id=ClaimId(f"{tenant}:{name}"),
        tenant=TenantId(tenant),
        kind=ClaimKind.SERVING,
        ladder=(shape,),
        model=ModelId("tiny"),
        desired_replicas=replicas,
        max_replicas=maximum,
    )


def a_policy(revision: str = "test") -> Policy:
    """Return two domains with two devices each, one tenant in each, all of it lendable."""
    return Policy(
        revision=revision,
        tenants=(
            _domain(DEFENCE),
            _tenant("defence/cyber", DEFENCE),
            _domain(CIVIL),
            _tenant("civil/justice", CIVIL),
        ),
        priority_classes=(PriorityClass(name="standard", value=100),),
    )


def a_snapshot(generation: int = 1) -> Snapshot:
    """Return an empty world."""
    return Snapshot(generation=generation, observed_at_ms=0)


def a_decision(memory: Memory | None = None) -> Decision:
    """Return a decision that changes nothing."""
    return Decision(
        snapshot_generation=1,
        decided_at_ms=0,
        policy_digest="",
        mode="normal",
        entitlements=(),
        bindings=(),
        placements=(),
        evictions=(),
        reasons=(),
        memory=memory or Memory(),
    )


def a_plan(fencing: int, *actions: Action) -> Plan:
    """Return a plan of these actions."""
    return Plan(id="p", snapshot_generation=1, fencing_generation=fencing, decided_at_ms=0, actions=actions)


def _domain(domain: SecurityDomain) -> Tenant:
    return Tenant(id=TenantId(domain), domain=domain, quotas=(Quota(flavor=FLAVOR, nominal_millis=2000),))


def _tenant(path: str, domain: SecurityDomain) -> Tenant:
    return Tenant(
        id=TenantId(path),
        domain=domain,
        parent=TenantId(domain),
        quotas=(Quota(flavor=FLAVOR, nominal_millis=2000),),
        floor_millis=((FLAVOR, 1000),),
    )
