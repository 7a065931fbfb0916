"""Who calls, and what they may see. Deny by default; the tenant comes from the token, never from the request."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cluster.api.problems import ApiRefusal
from cluster.ports import Clock, Registry
from cluster.refusals import NotFound
from cluster.settings import Settings
from policies.model.routing import KEY_PREFIX_CHARACTERS, key_mac
from policies.model.units import SecurityDomain, TenantId

CONTROL_SCOPE = "control"
PERSON = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Role(StrEnum):
    """What a caller is."""

    OPERATOR = "operator"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The bearer of a valid token."""

    name: str
    """For the audit log: a person among the operators, or the tenant's path with the key's prefix."""
    role: Role
    tenant: TenantId | None = None
    """None for operators."""

    def may_see(self, tenant: str) -> bool:
        """Return whether the tenant is the caller's own or below it; operators see all."""
        return self.tenant is None or tenant == self.tenant or tenant.startswith(f"{self.tenant}/")

    def require_sight(self, kind: str, subject: str, tenant: str) -> None:
        """Raise ``NotFound`` for what is foreign: its existence is not told either."""
        if not self.may_see(tenant):
            raise NotFound(kind, subject)

    def require_operator(self) -> None:
        """Raise ``forbidden`` unless the caller is an operator."""
        if self.role is not Role.OPERATOR:
            raise ApiRefusal("forbidden", "this needs an operator's token; a tenant's key does not allow it")


class Gate:
    """Turns a bearer token into a Caller."""

    def __init__(self, settings: Settings, registry: Registry, clock: Clock) -> None:
        self._settings = settings
        self._registry = registry
        self._clock = clock

    def admit(self, authorization: str | None) -> Caller:
        """Return who bears the token of an Authorization header. Raises ``unauthenticated``, all alike."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and token and token.isascii() and len(token) <= 512:
            caller = self._operator(token) or self._tenant(token)
            if caller is not None:
                return caller
        raise ApiRefusal("unauthenticated", "give a valid token: Authorization: Bearer <token>")

    def _operator(self, token: str) -> Caller | None:
        found = None
        for name, path in operators(self._settings).items():
            if path.exists() and hmac.compare_digest(path.read_text().strip(), token):
                found = Caller(name=name, role=Role.OPERATOR)
        return found

    def _tenant(self, token: str) -> Caller | None:
        for domain in SecurityDomain:
            pepper = self._settings.secret(domain, "pepper")
            if not pepper.exists():
                continue
            mac = key_mac(pepper.read_text().strip(), token)
            for key in self._registry.keys(domain):
                fits = key.prefix == token[:KEY_PREFIX_CHARACTERS] and hmac.compare_digest(key.mac, mac)
                current = key.expires_at_ms is None or self._clock.now_ms() < key.expires_at_ms
                if fits and current and CONTROL_SCOPE in key.scopes:
                    return Caller(name=f"{key.tenant}#{key.prefix}", role=Role.TENANT, tenant=key.tenant)
        return None


def operators(settings: Settings) -> dict[str, Path]:
    """Return the token file of every operator: ``operator`` itself, and each person with a file of their own."""
    people = {
        path.stem: path for path in sorted(settings.secrets.glob("operators/*.token")) if PERSON.fullmatch(path.stem)
    }
    return {**people, "operator": settings.operator_token}
