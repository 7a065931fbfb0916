"""The observer of a Kubernetes cluster: copies of its objects in, one Snapshot out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cluster.kubernetes.mirror import Mirror
from cluster.observe.kubernetes import clusters, devices, nodes, workers
from cluster.observe.kubernetes.mirrors import Mirrors
from cluster.ports import Clock, Ledger
from policies.model.inventory import Group, Worker
from policies.model.routing import VariantLoad
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.units import SecurityDomain
from policies.model.workload import Demand

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one domain's Ray Serve and gateway say."""

    groups: tuple[Group, ...] = ()
    demands: tuple[Demand, ...] = ()
    gaps: tuple[Gap, ...] = ()
    ray_nodes: tuple[tuple[str, str], ...] = ()
    """Address of a Ray node and its id."""
    known: bool = True
    """False until the domain's applications were seen once since this process started."""
    traffic: tuple[VariantLoad, ...] = ()


class ServeView(Protocol):
    """Looks at the Ray Serve and the gateway of every domain."""

    def look(self) -> Mapping[SecurityDomain, Served]:
        """Return what is seen now; what is not seen is a gap. Never raises for a part that is down."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationRules:
    """Ages and waits of observation."""

    nodes: nodes.NodeRules = field(default_factory=nodes.NodeRules)
    report_max_age_ms: int = 180_000
    """A device that its agent has not spoken of for longer is a gap; agents speak at least once a minute."""
    mirror_max_age_ms: int = 120_000
    """A copy that the API server has not confirmed for longer is a gap; it sends bookmarks once a minute."""


class KubernetesObserver:
    """Sees the cluster through its copies; asks the API server nothing."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts that observation is made of
        self,
        mirrors: Mirrors,
        serve: ServeView,
        ledger: Ledger,
        clock: Clock,
        domains: Mapping[str, SecurityDomain],
        rules: ObservationRules | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._mirrors, self._serve, self._ledger, self._clock = mirrors, serve, ledger, clock
        self._domains = dict(domains)
        self._rules = rules or ObservationRules()
        self._before = before
        self._generation = 0

    def observe(self) -> Snapshot:
        """Return what is seen now; whatever is not seen is a Gap."""
        self._before()
        self._generation += 1
        now = self._clock.now_ms()
        found, away = nodes.in_nouns(self._mirrors.nodes.objects(), self._rules.nodes, now)
        pods = self._mirrors.pods.objects()
        seen = self._devices(now)
        staff = workers.in_nouns(
            pods, self._domains, seen.holders, nodes.lost(self._mirrors.nodes.objects(), self._rules.nodes, now)
        )
        ours = frozenset(workers.full_name(pod) for pod in pods if self._is_ours(pod))
        known, foreign = devices.with_foreign(seen, pods, ours, now)
        served = self._serve.look()
        return Snapshot(
            generation=self._generation,
            observed_at_ms=now,
            flavors=seen.flavors,
            nodes=found,
            devices=devices.with_records(known, self._ledger.devices()),
            workers=_joined(staff, served),
            groups=tuple(sorted((g for each in served.values() for g in each.groups), key=lambda group: group.id)),
            demands=tuple(sorted((d for s in served.values() for d in s.demands), key=lambda demand: demand.claim)),
            adopting=tuple(domain for domain, each in served.items() if not each.known),
            traffic=tuple(load for each in served.values() for load in each.traffic),
            gaps=self._gaps(now) + away + seen.gaps + foreign + tuple(g for each in served.values() for g in each.gaps),
        )

    def _devices(self, now_ms: int) -> devices.Seen:
        return devices.in_nouns(
            self._mirrors.reports.objects(),
            self._mirrors.slices.objects(),
            self._mirrors.nodes.objects(),
            self._rules.report_max_age_ms,
            now_ms,
        )

    def _is_ours(self, pod: Object) -> bool:
        return pod["metadata"]["namespace"] in self._domains and workers.is_worker(pod)

    def _gaps(self, now_ms: int) -> tuple[Gap, ...]:
        gaps = [self._cluster_gap(namespace, domain) for namespace, domain in sorted(self._domains.items())]
        return tuple(gap for gap in gaps if gap) + self._stale_copies(now_ms)

    def _cluster_gap(self, namespace: str, domain: SecurityDomain) -> Gap | None:
        services = _in(_all(self._mirrors.services), namespace)
        service = services[0] if services else None
        name = clusters.active_cluster(service) if service else ""
        cluster = next((c for c in _in(_all(self._mirrors.clusters), namespace) if c["metadata"]["name"] == name), None)
        return clusters.gap(domain, service, cluster, _in(self._mirrors.pods.objects(), namespace))

    def _stale_copies(self, now_ms: int) -> tuple[Gap, ...]:
        """Return gaps for copies that cannot be trusted: they hold every domain, nothing is taken away on old news."""
        gaps = []
        for mirror in self._mirrors.all():
            at = mirror.contact_ms
            if mirror is self._mirrors.slices and not mirror.served():
                continue
            if at is None or now_ms - at > self._rules.mirror_max_age_ms:
                cause = f"{mirror.kind.plural}_not_seen"
                gaps += [
                    Gap(kind=GapKind.CLUSTER, subject=domain, cause=cause, since_ms=at or 0)
                    for domain in self._domains.values()
                ]
        return tuple(gaps)


def _all(mirrors: tuple[Mirror, ...]) -> tuple[Object, ...]:
    return tuple(obj for mirror in mirrors for obj in mirror.objects())


def _in(objects: tuple[Object, ...], namespace: str) -> tuple[Object, ...]:
    return tuple(obj for obj in objects if obj["metadata"].get("namespace") == namespace)


def _joined(staff: tuple[tuple[Worker, str], ...], served: Mapping[SecurityDomain, Served]) -> tuple[Worker, ...]:
    ids = {domain: dict(each.ray_nodes) for domain, each in served.items()}
    return tuple(replace(worker, ray_node_id=ids[worker.domain].get(address)) for worker, address in staff)
