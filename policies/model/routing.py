"""What control plane and gateway tell each other. Travels as Serve ``user_config`` one way, as JSON over HTTP back."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from policies.model.units import ClaimId, GroupId, ModelId, SecurityDomain, TenantId, VariantId

KEY_PREFIX_CHARACTERS = 12
"""Length of ``KeyRecord.prefix``; a key is ``pk-<random>``, at least 128 bits of it after the prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedGroup:
    """A group that may receive requests."""

    group: GroupId
    """Also the name of its Serve application; its deployment is ``Engine``."""
    variant: VariantId | None
    rung: int
    replicas: int
    concurrency: int
    """Requests that one replica answers at once."""
    gpu_millis: int = 0
    """Thousandths of a device that one replica holds; 0 if not known. Usage is metered by it."""
    claim: ClaimId | None = None
    """Claim that holds it, where that is not the route's: a canary's. Its use is written down for that claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """A part of the requests for one variant, in thousandths."""

    variant: VariantId
    permille: int
    """0..1000."""
    claim: ClaimId | None = None
    """Only groups that this claim holds are meant; None: whichever groups have the variant."""

    def means(self, group: RoutedGroup) -> bool:
        """Return whether the part is for this group."""
        return group.variant == self.variant if self.claim is None else group.claim == self.claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A model as one tenant's claim serves it. No groups means that it waits: requests queue, then 503."""

    claim: ClaimId
    tenant: TenantId
    model: ModelId
    groups: tuple[RoutedGroup, ...]
    min_replicas: int
    max_replicas: int
    shared_with: tuple[TenantId, ...] = ()
    """Further tenants of the domain that may call it."""
    aliases: tuple[str, ...] = ()
    """Further names under which clients may ask for the model."""
    fallback: ModelId | None = None
    """Model that answers instead while this one has no group or sheds; the tenant must be allowed to call it."""
    canary: Portion | None = None
    """This part of the requests goes to its groups, the rest to the others; if only one side has room, that answers.

    A part of 0 gets nothing at all while there are other groups.
    """
    shadow: Portion | None = None
    """Groups of the variant get copies of this part of the requests; the answers are thrown away, nobody is charged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """An API key as the gateway knows it: never the key itself."""

    prefix: str
    """First characters of the key; finds the record and is safe to log."""
    mac: str
    """HMAC-SHA256 of the key with the domain's pepper, hex."""
    tenant: TenantId
    expires_at_ms: int | None = None
    """None: no end."""
    models: tuple[ModelId, ...] = ()
    """Models allowed; empty means all that the tenant may call."""
    scopes: tuple[str, ...] = ("inference",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantShare:
    """Promises to one tenant at the gateway."""

    tenant: TenantId
    weight: int = 1
    """Weight between tenants in the fair queue, >= 1."""
    priority: int = 0
    """Higher is shed later."""
    requests_per_minute: int | None = None
    """None: no limit."""
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    """Budget, by calendar day in UTC; None: no budget."""
    tokens_per_month: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """Everything that one domain's gateway needs. Replaced whole; in place, without a restart."""

    generation: int
    """Grows with each change; the gateway refuses an older one and reports the one in force."""
    domain: SecurityDomain
    routes: tuple[Route, ...] = ()
    keys: tuple[KeyRecord, ...] = ()
    shares: tuple[TenantShare, ...] = ()
    simulated: bool = False
    """Whether the devices are simulated; said in responses and screens."""
    usage_retention_days: int | None = None
    """Whole days that the ledger is kept; None keeps it for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLoad:
    """Requests inside one group, by the gateway's count. Groups no longer routed are listed until they are empty."""

    group: GroupId
    in_flight: int
    completed: int = 0
    """Since the gateway started."""
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLoad:
    """Traffic for one claim and the replicas that it asks for, from serving/demand.py."""

    claim: ClaimId
    in_flight: int
    queued: int
    desired_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantLoad:
    """How a claim's variant has answered, so that two variants can be compared: both counts begin with the trial.

    Without one they begin with the gateway. Times are of the latest 512 streamed answers, from a request's entry into
    a group to its first piece; None if there was none.
    """

    claim: ClaimId
    """Claim that holds the groups: the canary's for a canary."""
    variant: VariantId | None
    """Variant that answered."""
    completed: int
    """Answers that came to their end."""
    failed: int
    """Answers that a group broke off or never began; another group may have answered instead."""
    first_p50_ms: int | None = None
    """Median of the times to the first piece."""
    first_p95_ms: int | None = None
    """Time to the first piece that 95 in 100 streams did not exceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLoad:
    """What a gateway reports at ``GET /-/partage/load`` to a bearer of the domain's control token."""

    domain: SecurityDomain
    generation: int
    """Of the routing table in force; routing decisions of an older one have ended."""
    observed_at_ms: int
    groups: tuple[GroupLoad, ...] = ()
    claims: tuple[ClaimLoad, ...] = ()
    variants: tuple[VariantLoad, ...] = ()


def key_mac(pepper: str, key: str) -> str:
    """Return what ``KeyRecord.mac`` holds for the key: HMAC-SHA256 with the domain's pepper, hex."""
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()
