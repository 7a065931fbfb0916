"""What the policy and the claims promise reaches the gateway: limits, names, sharing, fallback."""

from __future__ import annotations

from dataclasses import replace

from cluster.actuate.routing import next_table, promises
from policies.model.policy import Policy
from policies.model.routing import RoutingTable
from policies.model.tenancy import GatewayLimits, PriorityClass, Tenant
from policies.model.units import ModelId, SecurityDomain, TenantId
from policies.model.workload import ModelAccess
from tests.cluster.nouns import a_claim

CIVIL = SecurityDomain.CIVIL
LIMITS = GatewayLimits(requests_per_minute=60, tokens_per_minute=9_000, tokens_per_day=1_000_000, tokens_per_month=7)


OWN_ONLY, UNLIMITED = ModelAccess(), GatewayLimits()


def table(access: ModelAccess = OWN_ONLY, limits: GatewayLimits = UNLIMITED) -> RoutingTable:
    tenant = Tenant(id=TenantId("civil/justice"), domain=CIVIL, limits=limits)
    policy = Policy(revision="r", tenants=(tenant,), priority_classes=(PriorityClass(name="standard", value=1),))
    claim = replace(a_claim("chat"), access=access)
    known = promises(CIVIL, policy, (claim,), (), simulated=True)
    return next_table(RoutingTable(generation=1, domain=CIVIL), known, {}, frozenset())


def test_the_limits_of_a_tenant_reach_its_gateway() -> None:
    share = table(limits=LIMITS).shares[0]
    told = (share.requests_per_minute, share.tokens_per_minute, share.tokens_per_day, share.tokens_per_month)
    assert told == (60, 9_000, 1_000_000, 7)
    unlimited = table().shares[0]
    assert (unlimited.requests_per_minute, unlimited.tokens_per_day) == (None, None)


def test_aliases_sharing_and_fallback_of_a_claim_reach_its_gateway() -> None:
    health, large = TenantId("civil/health"), ModelId("large")
    route = table(ModelAccess(aliases=("assistant",), shared_with=(health,), fallback=large)).routes[0]
    assert (route.aliases, route.shared_with, route.fallback) == (("assistant",), (health,), large)
