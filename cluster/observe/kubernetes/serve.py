"""What each domain's Ray Serve and gateway say, looked at together and each within a deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cluster.observe.groups import acknowledged, active, demands, groups, traffic
from cluster.observe.kubernetes.observer import Served
from cluster.observe.parallel import Looker
from cluster.observe.sights import DomainLooks, DomainSight
from cluster.ports import Clock
from policies.model.snapshot import GapKind
from policies.model.units import SecurityDomain


class RayServeView:
    """Looks at every domain at once; a part that hangs or lies is a gap and keeps its last picture."""

    def __init__(self, looks: tuple[DomainLooks, ...], deadline_ms: int, clock: Clock) -> None:
        self._clock = clock
        self._sights = {each.domain: DomainSight(domain=each.domain) for each in looks}
        self._looker: Looker[Any] = Looker(_named(looks), deadline_ms / 1000)

    def look(self) -> dict[SecurityDomain, Served]:
        """Return what is seen now, by domain."""
        seen, now_ms = self._looker.look(), self._clock.now_ms()
        return {domain: self._renewed(domain, seen, now_ms) for domain in self._sights}

    def close(self) -> None:
        """End the threads."""
        self._looker.close()

    def _renewed(self, domain: SecurityDomain, seen: dict[str, Any], now_ms: int) -> Served:
        before = self._sights[domain]
        after = replace(
            before,
            apps=before.apps.renewed(seen[f"{domain}/apps"], now_ms),
            nodes=before.nodes.renewed(seen[f"{domain}/nodes"], now_ms),
            load=before.load.renewed(seen[f"{domain}/load"], now_ms),
        )
        after = replace(after, acknowledged=acknowledged(after), active_ms=active(before, after, now_ms))
        self._sights[domain] = after
        cluster = after.apps.gaps(GapKind.CLUSTER, domain) or after.nodes.gaps(GapKind.CLUSTER, domain)
        return Served(
            groups=groups(after, now_ms),
            demands=demands(after),
            gaps=cluster + after.load.gaps(GapKind.GATEWAY, domain),
            ray_nodes=tuple((node.address, node.id) for node in after.nodes.picture or () if node.address),
            known=after.apps.picture is not None,
            traffic=traffic(after),
        )


def _named(looks: tuple[DomainLooks, ...]) -> dict[str, Callable[[], Any]]:
    named: dict[str, Callable[[], Any]] = {}
    for each in looks:
        named |= {
            f"{each.domain}/apps": each.apps,
            f"{each.domain}/nodes": each.nodes,
            f"{each.domain}/load": each.load,
        }
    return named
