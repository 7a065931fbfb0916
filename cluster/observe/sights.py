"""What was seen of each domain, now and last: the raw material of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from cluster.observe.parallel import Unseen
from cluster.ray_rest import RayNode, ServeApp
from policies.model.routing import GatewayLoad
from policies.model.snapshot import Gap, GapKind
from policies.model.units import GroupId, SecurityDomain

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight(Generic[Seen]):
    """One part of the world: the newest picture of it, and whether that is of now."""

    picture: Seen | None = None
    """None if it was never seen."""
    seen_ms: int = 0
    """When the picture was taken; 0 if never."""
    cause: str = ""
    """Why there is no picture of now; empty if there is."""

    @property
    def is_current(self) -> bool:
        """Whether the picture is of now."""
        return not self.cause

    def renewed(self, seen: Seen | Unseen, now_ms: int) -> Sight[Seen]:
        """Return the sight after another look."""
        if isinstance(seen, Unseen):
            return replace(self, cause=seen.cause)
        return Sight(picture=seen, seen_ms=now_ms)

    def gaps(self, kind: GapKind, subject: str) -> tuple[Gap, ...]:
        """Return the gap that this part of the world is, if it is one."""
        return () if self.is_current else (Gap(kind=kind, subject=subject, cause=self.cause, since_ms=self.seen_ms),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSight:
    """One domain: its applications, its Ray nodes, its traffic."""

    domain: SecurityDomain
    apps: Sight[Mapping[str, ServeApp]] = Sight()
    nodes: Sight[tuple[RayNode, ...]] = Sight()
    load: Sight[GatewayLoad] = Sight()
    acknowledged: frozenset[GroupId] | None = None
    """Groups in the last routing table that the gateway was seen to have in force; None before the first."""
    active_ms: Mapping[GroupId, int] = field(default_factory=dict)
    """When each group was last seen to work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainLooks:
    """How to look at one domain. Each raises, with a ``cause``, when there is nothing to see."""

    domain: SecurityDomain
    apps: Callable[[], Mapping[str, ServeApp]]
    nodes: Callable[[], tuple[RayNode, ...]]
    load: Callable[[], GatewayLoad]
