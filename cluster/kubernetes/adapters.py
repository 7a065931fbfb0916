"""Observer, actuator and leadership on a Kubernetes cluster, tied together. The only place that knows them all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded below, for jitter only

import kopf

from cluster.actuate.kubernetes.actuator import KubernetesActuator
from cluster.actuate.kubernetes.custody import Shown, settle
from cluster.actuate.kubernetes.serve import PodServeDomain, ServeOnKubernetes, ServiceDashboard
from cluster.actuate.kubernetes.staffing import worker_of
from cluster.actuate.routing import Promises, promises
from cluster.actuate.serve_domain import DomainEnd, EngineRoom
from cluster.api.parts import Parts
from cluster.catalogue import Catalogue
from cluster.embedded.processes import ProcessFolder
from cluster.kubernetes.api import Api, Connection, Patience
from cluster.kubernetes.controller import Controller, Office
from cluster.kubernetes.election import Election, LeaseTerms
from cluster.observe.gateway import GatewayClient
from cluster.observe.kubernetes.mirrors import Mirrors, mirrors
from cluster.observe.kubernetes.nodes import unreachable
from cluster.observe.kubernetes.observer import KubernetesObserver
from cluster.observe.kubernetes.serve import RayServeView
from cluster.observe.sights import DomainLooks
from cluster.observe.telemetry.observer import Root
from cluster.observe.telemetry.store import TelemetryStore
from cluster.ports import Clock, Journal, Ledger, Observer, Registry
from cluster.ray_rest import RayDashboard
from cluster.refusals import NoPolicy
from cluster.serve_apps import EngineLimits
from cluster.settings import SettingInvalid, Settings
from cluster.watching import watch_reports
from policies.model.policy import Policy
from policies.model.units import SecurityDomain, WorkerId

OBSERVE_DEADLINE_MS = 3_000
ACT_TIMEOUT_S = 15.0
DASHBOARD_PORT = 8265
GATEWAY_PORT = 8000
RECORDS = "/var/lib/partage"
"""Where the chart mounts the volume of a head: usage, audit records, files and batches of its domain alone."""
ELECTION_PATIENCE = Patience(attempts=1, timeout_s=2)
"""A renewal is tried again by the next one; waiting here would only use up the lease."""


def namespaces(settings: Settings) -> dict[SecurityDomain, str]:
    """Return the namespace of each domain. Raises ``SettingInvalid``."""
    try:
        pairs = [pair.split("=") for pair in settings.domain_namespaces.split(",")]
        return {SecurityDomain(domain): namespace for domain, namespace in pairs}
    except ValueError as error:
        needs = "a list such as defence=partage-defence,civil=partage-civil"
        raise SettingInvalid("PARTAGE_DOMAIN_NAMESPACES", settings.domain_namespaces, needs) from error


def gateway_arguments(domain: SecurityDomain) -> dict[str, str]:
    """Return what the chart's seed gives the gateway too: the first write by the platform changes nothing."""
    return {
        "pepper_file": "/etc/partage/gateway/pepper",
        "control_token_file": "/etc/partage/gateway/control",
        "door_host": "0.0.0.0",  # noqa: S104 - the pod's own address; network policies say who reaches it
        "door_port": str(GATEWAY_PORT),
        "ledger_dir": f"{RECORDS}/ledger/{domain}",
        "batch_dir": f"{RECORDS}/batches/{domain}",
    }


def dashboard_url(domain: SecurityDomain, namespace: str) -> str:
    """Return the address of the head's dashboard: the service that KubeRay makes."""
    return f"http://{domain}-head-svc.{namespace}.svc:{DASHBOARD_PORT}"


def gateway_url(domain: SecurityDomain, namespace: str) -> str:
    """Return the address of the gateway: a service of the chart's, as KubeRay's would name workers too."""
    return f"http://{domain}-gateway.{namespace}.svc:{GATEWAY_PORT}"


def _connection(settings: Settings) -> Connection:
    return Connection.from_kubeconfig(settings.kubeconfig) if settings.kubeconfig else Connection.from_inside()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """How the cluster is reached. The default is from a pod of it, or as the kubeconfig in the settings says."""

    connection: Callable[[Settings], Connection] = _connection
    dashboard_url: Callable[[SecurityDomain, str], str] = dashboard_url
    gateway_url: Callable[[SecurityDomain, str], str] = gateway_url

    def api(self, settings: Settings, clock: Clock, jitter: Random, patience: Patience) -> Api:
        """Return requests to the API server that are tried with this patience."""
        connection = self.connection(settings)
        connection.patience = patience
        return Api(connection, clock, jitter)


INSIDE = Site()


def election(settings: Settings, clock: Clock, site: Site = INSIDE) -> Election:
    """Return the election among the control planes of this installation."""
    api = site.api(settings, clock, Random(0), ELECTION_PATIENCE)  # noqa: S311 - jitter
    terms = LeaseTerms(duration_ms=settings.lease_ms, renew_ms=settings.lease_ms // 5, margin_ms=settings.lease_ms // 3)
    return Election(api, clock, settings.namespace, "partage-control-plane", settings.identity or _hostname(), terms)


def adapters(
    settings: Settings, clock: Clock, journal: Journal, ledger: Ledger, registry: Registry, site: Site = INSIDE
) -> tuple[Observer, KubernetesActuator]:
    """Return what sees and changes the cluster; its copies of the cluster's objects have begun to fill."""
    api = site.api(settings, clock, Random(_hostname()), Patience())  # noqa: S311 - jitter
    places = namespaces(settings)
    copies = mirrors(api, clock, tuple(places.values()))
    copies.start()
    domains = {namespace: domain for domain, namespace in places.items()}

    def keep_custody() -> None:
        if all(mirror.contact_ms for mirror in (copies.pods, copies.reports, copies.nodes)):
            settle(api, ledger, _shown(copies), domains, journal.fencing_generation())

    looks = tuple(_looks(settings, domain, namespace, site) for domain, namespace in places.items())
    observer: Observer = KubernetesObserver(
        copies, RayServeView(looks, OBSERVE_DEADLINE_MS, clock), ledger, clock, domains, before=keep_custody
    )
    if settings.agent_token_file:
        observer = watch_reports(observer, TelemetryStore(clock), settings.home, lambda: _roots(copies))
    known = _promised(journal, registry)
    fencing = journal.fencing_generation
    serve = ServeOnKubernetes(
        domains=tuple(
            PodServeDomain(
                end=_end(domain, _dashboard(settings, site, api, (domain, namespace), fencing)),
                engines=_engines(settings),
                ledger=ledger,
                processes=ProcessFolder(records=settings.home / "run", logs=settings.logs, environment={}),
                promised=known,
                clock=clock,
                addresses=lambda worker: _address(copies, worker),
            )
            for domain, namespace in places.items()
        ),
        clock=clock,
        ledger=ledger,
    )
    return observer, KubernetesActuator(api, serve, ledger, clock, places, settings.spare_pods)


def controller(parts: Parts, site: Site = INSIDE) -> Controller:
    """Return the controller of the custom resources; it has not begun."""

    def login(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**site.connection(parts.settings).credentials())

    office = Office(
        api=site.api(parts.settings, parts.clock, Random(_hostname()), Patience()),  # noqa: S311 - jitter
        clock=parts.clock,
        journal=parts.journal,
        registry=parts.registry,
        models=parts.models,
        wake=parts.wake,
        login=login,
    )
    return Controller(office)


def _dashboard(
    settings: Settings, site: Site, api: Api, place: tuple[SecurityDomain, str], fencing: Callable[[], int]
) -> ServiceDashboard:
    domain, namespace = place
    url, token = site.dashboard_url(domain, namespace), _secret(settings, domain, "ray")
    return ServiceDashboard(url, token, ACT_TIMEOUT_S, api, (namespace, str(domain)), fencing)


def _roots(copies: Mirrors) -> dict[WorkerId, Root]:
    """Return the pod that every process of a worker is in."""
    pods = [pod for pod in copies.pods.objects() if worker_of(pod)]
    return {WorkerId(worker_of(pod)): Root(pod=str(pod["metadata"].get("uid", ""))) for pod in pods}


def _shown(copies: Mirrors) -> Shown:
    return Shown(
        pods=copies.pods.objects(),
        reports=copies.reports.objects(),
        unreachable=frozenset(unreachable(copies.nodes.objects())),
    )


def _address(copies: Mirrors, worker: WorkerId) -> str:
    """Return the address of the worker's pod; empty while it has none."""
    pods = (pod for pod in copies.pods.objects() if worker_of(pod) == worker)
    return next((str((pod.get("status") or {}).get("podIP") or "") for pod in pods), "")


def _secret(settings: Settings, domain: SecurityDomain, purpose: str) -> str:
    return settings.secret(domain, purpose).read_text(encoding="utf-8").strip()


def _looks(settings: Settings, domain: SecurityDomain, namespace: str, site: Site) -> DomainLooks:
    timeout_s = OBSERVE_DEADLINE_MS / 1000
    token = _secret(settings, domain, "ray")
    ray = RayDashboard(site.dashboard_url(domain, namespace), token, timeout_s)
    control = _secret(settings, domain, "control")
    gateway = GatewayClient(site.gateway_url(domain, namespace), control, timeout_s)
    return DomainLooks(domain=domain, apps=ray.applications, nodes=ray.nodes, load=gateway.load)


def _end(domain: SecurityDomain, dashboard: RayDashboard) -> DomainEnd:
    return DomainEnd(
        domain=domain,
        dashboard=dashboard,
        gateway_host="0.0.0.0",  # noqa: S104 - the pod's own address; network policies say who reaches it
        gateway_port=GATEWAY_PORT,
        gateway_files=gateway_arguments(domain),
        proxy_location="Disabled",  # the gateway answers by itself, KubeRay's health check too
    )


def _engines(settings: Settings) -> EngineRoom:
    return EngineRoom(models=Catalogue(settings.home / "catalogue.json"), cache=settings.cache, limits=EngineLimits())


def _promised(journal: Journal, registry: Registry) -> Callable[[SecurityDomain], Promises]:
    def known(domain: SecurityDomain) -> Promises:
        return promises(domain, _policy(journal), journal.claims(), registry.keys(domain), simulated=False)

    return known


def _policy(journal: Journal) -> Policy | None:
    try:
        return journal.policy()
    except NoPolicy:
        return None


def _hostname() -> str:
    return socket.gethostname()
