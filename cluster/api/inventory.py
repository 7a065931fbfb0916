"""What there is and who holds it: tenants, shares, devices, workers, groups, moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from cluster.api.access import Caller
from cluster.api.parts import Anyone, Cursor, Limit, Operator, Page, Platform, page_of
from cluster.loop import Turn
from cluster.moves import Move
from cluster.refusals import NotFound
from policies.model.decision import Entitlement
from policies.model.inventory import Cordon, Device, Group, Node, Worker
from policies.model.naming import tenant_of
from policies.model.policy import Policy
from policies.model.tenancy import Quota, Tenant
from policies.model.units import UNLIMITED
from policies.model.units import Limit as Cap

routes = APIRouter(prefix="/v1", tags=["inventory"])

Subject = Annotated[str, Path(max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one tenant may hold of one flavor, and holds."""

    entitlement: Entitlement
    nominal_millis: int
    lending_limit_millis: Cap
    borrowing_limit_millis: Cap
    floor_millis: int
    fair_weight: int


class Drain(BaseModel):
    """Why something is taken out of use."""

    reason: str


@routes.get("/tenants")
def tenants(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Tenant]:
    """Return the tenants that the caller may see, with their quotas and promises."""
    seen = [tenant for tenant in parts.journal.policy().tenants if caller.may_see(tenant.id)]
    return page_of(parts, seen, lambda tenant: tenant.id, limit, cursor)


@routes.get("/shares")
def shares(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Share]:
    """Return who is entitled to what and holds what, by tenant and flavor."""
    turn, policy = parts.view.latest(), parts.journal.policy()
    seen = [_share(entry, policy) for entry in turn.decision.entitlements if caller.may_see(entry.tenant)]
    return page_of(parts, seen, lambda s: f"{s.entitlement.tenant} {s.entitlement.flavor}", limit, cursor)


@routes.get("/nodes")
def nodes(parts: Platform, _caller: Operator, limit: Limit = 500, cursor: Cursor = None) -> Page[Node]:
    """Return the hosts."""
    return page_of(parts, parts.view.latest().snapshot.nodes, lambda node: node.id, limit, cursor)


@routes.get("/devices")
def devices(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Device]:
    """Return the devices; a tenant sees those that its own groups use."""
    turn = parts.view.latest()
    own = {device for group in visible_groups(turn, caller) for device in group.devices}
    seen = [device for device in turn.snapshot.devices if caller.tenant is None or device.id in own]
    return page_of(parts, seen, lambda device: device.id, limit, cursor)


@routes.get("/workers")
def workers(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Worker]:
    """Return the workers; a tenant sees those that carry its own groups."""
    turn = parts.view.latest()
    own = {group.worker for group in visible_groups(turn, caller)}
    seen = [worker for worker in turn.snapshot.workers if caller.tenant is None or worker.id in own]
    return page_of(parts, seen, lambda worker: worker.id, limit, cursor)


@routes.get("/groups")
def groups(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Group]:
    """Return the groups of the claims that the caller may see."""
    seen = visible_groups(parts.view.latest(), caller)
    return page_of(parts, seen, lambda group: group.id, limit, cursor)


@routes.get("/moves")
def moves(parts: Platform, _caller: Operator) -> tuple[Move, ...]:
    """Return the changes of domain that are remembered, oldest first, with the time at which each stage was reached."""
    return parts.view.moves()


@routes.get("/cordons")
def cordons(parts: Platform, _caller: Operator) -> tuple[Cordon, ...]:
    """Return what operators took out of use."""
    return parts.journal.cordons()


@routes.put("/cordons/{subject}")
def cordon(parts: Platform, caller: Operator, subject: Subject, drain: Drain) -> Cordon:
    """Take a node or device out of use: it is emptied and receives nothing."""
    snapshot = parts.view.latest().snapshot
    kinds = {str(node.id): "node" for node in snapshot.nodes}
    kinds |= {str(device.id): "device" for device in snapshot.devices}
    kind = kinds.get(subject)
    if kind is None:
        raise NotFound("device", subject)
    parts.registry.by(caller.name).cordon(subject, kind, drain.reason[:500])
    parts.wake()
    return next(found for found in parts.journal.cordons() if found.subject == subject)


@routes.delete("/cordons/{subject}", status_code=204)
def uncordon(parts: Platform, caller: Operator, subject: Subject) -> None:
    """Put a node or device back into use."""
    parts.registry.by(caller.name).uncordon(subject)
    parts.wake()


def visible_groups(turn: Turn, caller: Caller) -> list[Group]:
    """Return the groups of claims that the caller may see."""
    return [group for group in turn.snapshot.groups if caller.may_see(tenant_of(group.claim))]


def _share(entry: Entitlement, policy: Policy) -> Share:
    tenant = next((found for found in policy.tenants if found.id == entry.tenant), None)
    quotas = tenant.quotas if tenant else ()
    quota = next(
        (found for found in quotas if found.flavor == entry.flavor), Quota(flavor=entry.flavor, nominal_millis=0)
    )
    return Share(
        entitlement=replace(entry),
        nominal_millis=quota.nominal_millis,
        lending_limit_millis=quota.lending_limit_millis if quota else UNLIMITED,
        borrowing_limit_millis=quota.borrowing_limit_millis if quota else UNLIMITED,
        floor_millis=dict(tenant.floor_millis).get(entry.flavor, 0) if tenant else 0,
        fair_weight=tenant.fair_weight if tenant else 0,
    )
