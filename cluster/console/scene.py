"""Everything that one viewer may see at one moment: the only input of every screen."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.usage import DayUse
from policies.model.catalogue import Model
from policies.model.decision import Entitlement, Reason
from policies.model.inventory import Device, Flavor, Group, Node, Worker
from policies.model.policy import ModeDeclaration
from policies.model.routing import VariantLoad
from policies.model.snapshot import Gap
from policies.model.units import DeviceId, TenantId
from policies.model.workload import Claim

STALE_AFTER_MS = 10_000
"""A scene older than this is called stale on every screen; also the age at which a person starts to doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who looks."""

    name: str
    tenant: TenantId | None = None
    """None for operators, who see all."""

    @property
    def is_operator(self) -> bool:
        """Whether the viewer may see and do what operators may."""
        return self.tenant is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimView:
    """A claim with what became of it."""

    claim: Claim
    reason: Reason | None = None
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one tenant may hold of one flavor, and holds."""

    entitlement: Entitlement
    nominal_millis: int
    floor_millis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What telemetry says of a device. None where it is not seen or not supported: never zero."""

    device: DeviceId
    utilisation_percent: int | None = None
    memory_used_mib: int | None = None
    power_w: int | None = None
    temperature_c: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened, with the reasons that were given."""

    number: int
    at_ms: int
    actor: str
    text: str
    whys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A proposal that waits for a second person."""

    id: str
    text: str
    proposer: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key as it may be shown: never the key itself."""

    prefix: str
    tenant: TenantId
    expires_at_ms: int | None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One viewer's picture of the platform. Empty parts are parts that the viewer may not see."""

    viewer: Viewer
    now_ms: int
    observed_at_ms: int
    """0 if nothing was ever seen."""
    simulated: bool
    trouble: str = ""
    """Why the control plane does not move, in its words; empty if it does."""
    mode: str = "normal"
    declaration: ModeDeclaration | None = None
    policy_revision: str = ""
    shares: tuple[Share, ...] = ()
    claims: tuple[ClaimView, ...] = ()
    flavors: tuple[Flavor, ...] = ()
    nodes: tuple[Node, ...] = ()
    devices: tuple[Device, ...] = ()
    workers: tuple[Worker, ...] = ()
    groups: tuple[Group, ...] = ()
    gaps: tuple[Gap, ...] = ()
    cordoned: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    models: tuple[Model, ...] = ()
    timeline: tuple[Entry, ...] = ()
    """Newest first."""
    approvals: tuple[Approval, ...] = ()
    keys: tuple[Key, ...] = ()
    usage: tuple[DayUse, ...] = ()
    traffic: tuple[VariantLoad, ...] = ()
    """How each claim's variants have answered."""
    decide_ms: int = 0
    can: frozenset[str] = field(default_factory=frozenset)
    """What the viewer may do here; a button for anything else is not drawn."""

    @property
    def age_ms(self) -> int:
        """How old the picture is."""
        return max(0, self.now_ms - self.observed_at_ms)

    @property
    def is_stale(self) -> bool:
        """Whether the picture is too old to act on."""
        return self.age_ms > STALE_AFTER_MS
