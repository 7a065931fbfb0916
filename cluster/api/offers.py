"""What could I get now? The decision is taken with the wish in it, and nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cluster.api.claim_checks import accepted
from cluster.api.claims import visible_reason
from cluster.api.parts import Anyone, Platform
from policies.decide import decide
from policies.explaining.queueing import telling
from policies.model.decision import Decision, Reason
from policies.model.naming import tenant_of
from policies.model.units import ClaimId, FlavorId, ModelId, TenantId
from policies.model.workload import Claim, ClaimKind, Shape

routes = APIRouter(prefix="/v1/offers", tags=["claims"])

NAME = "offer-preview"


class Wish(BaseModel):
    """What would be asked for: a model of the catalogue, or devices."""

    tenant: str
    model: str | None = None
    replicas: int = Field(default=1, ge=1, le=10_000)
    devices: int = Field(default=1, ge=1, le=1_024)
    gpu_millis: int = Field(default=1_000, ge=1, le=1_000)
    memory_mib: int = Field(default=0, ge=0)
    flavors: tuple[str, ...] = ()
    priority_class: str = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the wish would bring, as of the latest snapshot. An estimate; nothing is reserved by asking."""

    sampled_at_ms: int
    granted_replicas: int
    wanted_replicas: int
    rung: int | None
    """Index into the ladder of what would run, 0 the best."""
    variant: str | None
    borrowed_millis: int
    """How much more the tenant would borrow than now; the owner may take it back."""
    displaces_own: tuple[ClaimId, ...]
    """Own claims that would lose something."""
    displaces_others: bool
    """Whether groups that use lent capacity would have to give it back."""
    reason: Reason


@routes.post("")
def offer(parts: Platform, caller: Anyone, wish: Wish) -> Offer:
    """Return what the wish would bring now, why not more, and when."""
    caller.require_sight("tenant", wish.tenant, wish.tenant)
    turn, policy = parts.view.latest(), parts.journal.policy()
    claim = accepted(_claim(wish, turn.decision.decided_at_ms), f"{wish.tenant}:{NAME}", policy, parts.models())
    asked = replace(turn.snapshot, claims=tuple(sorted((*turn.snapshot.claims, claim), key=lambda one: one.id)))
    memory = parts.journal.memory()
    before = decide(turn.snapshot, policy, memory, turn.decision.decided_at_ms)
    after = decide(asked, policy, memory, turn.decision.decided_at_ms)
    reason = telling(after, asked.claims)(next(found for found in after.reasons if found.claim == claim.id))
    variant = claim.ladder[reason.rung].variant if reason.rung is not None else None
    known = {eviction.group for eviction in before.evictions}
    losers = [eviction.claim for eviction in after.evictions if eviction.group not in known]
    own = {loser for loser in losers if caller.may_see(tenant_of(loser))}
    return Offer(
        sampled_at_ms=turn.snapshot.observed_at_ms,
        granted_replicas=reason.granted_replicas,
        wanted_replicas=reason.wanted_replicas,
        rung=reason.rung,
        variant=variant,
        borrowed_millis=_borrowed(after, claim.tenant) - _borrowed(before, claim.tenant),
        displaces_own=tuple(sorted(own)),
        displaces_others=len(set(losers)) > len(own),
        reason=visible_reason(caller, reason),
    )


def _claim(wish: Wish, now_ms: int) -> Claim:
    shape = Shape(
        flavors=tuple(FlavorId(flavor) for flavor in wish.flavors),
        devices=wish.devices,
        gpu_millis=wish.gpu_millis,
        memory_mib=wish.memory_mib,
    )
    return Claim(
        id=ClaimId(f"{wish.tenant}:{NAME}"),
        tenant=TenantId(wish.tenant),
        kind=ClaimKind.SERVING if wish.model else ClaimKind.JOB,
        model=ModelId(wish.model) if wish.model else None,
        ladder=() if wish.model else (shape,),
        min_replicas=1,
        desired_replicas=wish.replicas,
        max_replicas=wish.replicas,
        priority_class=wish.priority_class,
        submitted_at_ms=now_ms,
    )


def _borrowed(decision: Decision, tenant: TenantId) -> int:
    return sum(entry.borrowed_millis for entry in decision.entitlements if entry.tenant == tenant)
