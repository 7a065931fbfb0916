"""API keys: made here, shown once, known afterwards only by their prefix."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from cluster.api.access import CONTROL_SCOPE, Caller
from cluster.api.parts import Anyone, Cursor, Limit, Page, Parts, Platform, page_of
from cluster.api.problems import ApiRefusal
from cluster.refusals import NotFound
from policies.model.routing import KEY_PREFIX_CHARACTERS, KeyRecord, key_mac
from policies.model.units import ModelId, SecurityDomain, TenantId

routes = APIRouter(prefix="/v1/keys", tags=["keys"])

RANDOM_BYTES = 32
DAY_MS = 86_400_000
DAYS_MAX = 366


class KeyOrder(BaseModel):
    """What a new key shall allow."""

    tenant: str
    days: int = Field(default=90, ge=1, le=DAYS_MAX)
    models: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("inference", CONTROL_SCOPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """A key as it may be shown afterwards."""

    prefix: str
    tenant: TenantId
    expires_at_ms: int | None
    models: tuple[ModelId, ...]
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key, the only time that it is shown."""

    key: str
    record: KeyView


@routes.get("")
def list_keys(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[KeyView]:
    """Return the keys of the tenants that the caller may see."""
    seen = [_shown(key) for key in _all(parts) if caller.may_see(key.tenant)]
    return page_of(parts, seen, lambda key: key.prefix, limit, cursor)


@routes.post("", status_code=201)
def make_key(parts: Platform, caller: Anyone, order: KeyOrder, response: Response) -> NewKey:
    """Make a key and return it; it cannot be shown again."""
    caller.require_sight("tenant", order.tenant, order.tenant)
    tenant = next((found for found in parts.journal.policy().tenants if found.id == order.tenant), None)
    if tenant is None:
        raise NotFound("tenant", order.tenant)
    if not set(order.scopes) <= {"inference", CONTROL_SCOPE} or not order.scopes:
        raise ApiRefusal("invalid", f"scopes are inference and {CONTROL_SCOPE}")
    key = f"pk-{secrets.token_urlsafe(RANDOM_BYTES)}"
    record = KeyRecord(
        prefix=key[:KEY_PREFIX_CHARACTERS],
        mac=key_mac(pepper(parts, tenant.domain), key),
        tenant=tenant.id,
        expires_at_ms=parts.clock.now_ms() + order.days * DAY_MS,
        models=tuple(ModelId(model) for model in order.models),
        scopes=order.scopes,
    )
    parts.registry.by(caller.name).put_key(record)
    parts.wake()
    response.headers["Cache-Control"] = "no-store"
    return NewKey(key=key, record=_shown(record))


@routes.delete("/{prefix}", status_code=204)
def revoke_key(parts: Platform, caller: Anyone, prefix: str) -> None:
    """Revoke a key; gateways refuse it from their next table on."""
    key = _find(parts, caller, prefix)
    parts.registry.by(caller.name).delete_key(key.prefix)
    parts.wake()


def pepper(parts: Parts, domain: SecurityDomain) -> str:
    """Return the secret that the domain's keys are hashed with. Raises ``not_ready`` before there is one."""
    path = parts.settings.secret(domain, "pepper")
    if not path.exists():
        raise ApiRefusal("not_ready", f"domain {domain} has no pepper yet; start the platform with `partage up`")
    return path.read_text().strip()


def _all(parts: Parts) -> list[KeyRecord]:
    return [key for domain in SecurityDomain for key in parts.registry.keys(domain)]


def _find(parts: Parts, caller: Caller, prefix: str) -> KeyRecord:
    for key in _all(parts):
        if key.prefix == prefix and caller.may_see(key.tenant):
            return key
    raise NotFound("key", prefix)


def _shown(key: KeyRecord) -> KeyView:
    return KeyView(
        prefix=key.prefix, tenant=key.tenant, expires_at_ms=key.expires_at_ms, models=key.models, scopes=key.scopes
    )
