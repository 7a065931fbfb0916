"""The adapters of this machine over fakes: real processes that pretend to be Ray nodes, a fake dashboard per domain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.actuate.fencing import FencingGuard
from cluster.actuate.jobs import JobBook, LocalJobs
from cluster.actuate.local import LocalActuator
from cluster.actuate.routing import Promises
from cluster.actuate.scrub import ScrubPolicy, SimulatedDevice
from cluster.actuate.serve_domain import DomainEnd, EngineRoom, ServeDomain
from cluster.actuate.wipe import Scrubs
from cluster.actuate.workers import LocalWorkers, Standbys
from cluster.clock import SystemClock
from cluster.embedded.nodes import LAUNCH_LABEL, Machine, machine, worker_records
from cluster.embedded.processes import is_alive, records, stop
from cluster.observe.inventory import simulated_inventory, this_node
from cluster.observe.local import LocalObserver
from cluster.observe.sights import DomainLooks
from cluster.ports import Ledger
from cluster.ray_rest import RayDashboard
from cluster.serve_apps import EngineLimits, routed_groups, table_of
from cluster.settings import from_environment
from cluster.sim.journal import MemoryLedger, MemoryRegistry, Shared
from policies.model.catalogue import Model, Variant
from policies.model.routing import ClaimLoad, GatewayLoad, GroupLoad
from policies.model.units import ClaimId, ModelId, SecurityDomain, TenantId, VariantId
from policies.model.workload import Claim, ClaimKind, Shape
from tests.ray_dashboard import TOKEN, FakeRay, running

MODEL = Model(
    id=ModelId("tiny"),
    variants=(Variant(id=VariantId("q8"), engine="synthetic", precision="q8", weights="", weights_mib=0),),
    context_tokens=128,
)
DEADLINE_MS = 2_000


@dataclass
class FakeGateway:
    """Reports the load of one domain; has the newest routing table in force unless it is told to lag."""

    domain: SecurityDomain
    ray: FakeRay
    dashboard: RayDashboard
    in_flight: dict[str, int] = field(default_factory=dict)
    demands: dict[str, int] = field(default_factory=dict)
    lags_at: int | None = None

    def load(self) -> GatewayLoad:
        """Return the load now."""
        table = table_of(self.dashboard.applications(), self.domain)
        listed = {*routed_groups(table), *self.in_flight}
        return GatewayLoad(
            domain=self.domain,
            generation=table.generation if self.lags_at is None else self.lags_at,
            observed_at_ms=SystemClock().now_ms(),
            groups=tuple(GroupLoad(group=g, in_flight=self.in_flight.get(g, 0)) for g in sorted(listed)),
            claims=tuple(
                ClaimLoad(claim=ClaimId(c), in_flight=0, queued=0, desired_replicas=n) for c, n in self.demands.items()
            ),
        )


@dataclass
class LocalPlatform:
    """Everything at hand."""

    here: Machine
    observer: LocalObserver
    actuator: LocalActuator
    ledger: Ledger
    clock: SystemClock
    rays: dict[SecurityDomain, FakeRay]
    gateways: dict[SecurityDomain, FakeGateway]
    shared: Shared
    """Behind ledger and registry."""

    def settle(self) -> None:
        """Let the fakes come to rest: replicas run, nodes of living processes have joined, ended ones have left."""
        for domain, ray in self.rays.items():
            alive = [r for r in worker_records(self.here) if r.spec.domain is domain and is_alive(r)]
            ray.nodes = {f"node-{r.spec.launch}": {LAUNCH_LABEL: r.spec.launch} for r in alive}
            ray.settle()


class Settling:
    """Observer that lets the fakes come to rest before each look."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._platform = platform

    def observe(self) -> object:
        """Return what is seen now."""
        self._platform.settle()
        return self._platform.observer.observe()


@contextmanager
def local_platform(home: Path, *, standbys: bool = False) -> Iterator[LocalPlatform]:
    """Run the adapters over fakes; afterwards no process of theirs is left."""
    settings = from_environment(
        {"PARTAGE_HOME": str(home), "PARTAGE_CACHE": str(home), "PARTAGE_SIMULATED_SCRUB_MS": "0"}
    )
    here, clock = replace(machine(settings), node_module="tests.pretended_node"), SystemClock()
    with ExitStack() as stack:
        rays = {domain: stack.enter_context(running(FakeRay())) for domain in SecurityDomain}
        dashboards = {domain: RayDashboard(rays[domain].url, TOKEN, 5) for domain in SecurityDomain}
        shared = Shared()
        ledger = MemoryLedger(shared, clock)
        gateways = {d: FakeGateway(domain=d, ray=rays[d], dashboard=dashboards[d]) for d in SecurityDomain}
        inventory = simulated_inventory(this_node(), 4)
        looks = tuple(
            DomainLooks(domain=d, apps=dashboards[d].applications, nodes=dashboards[d].nodes, load=gateways[d].load)
            for d in SecurityDomain
        )
        observer = LocalObserver(here, ledger, looks, lambda: inventory, deadline_ms=DEADLINE_MS, clock=clock)
        workers = LocalWorkers(here=here, ledger=ledger, clock=clock)
        devices = tuple(device.id for device in inventory.devices)
        actuator = LocalActuator(
            domains=tuple(_domain(d, dashboards[d], here, ledger, clock) for d in SecurityDomain),
            workers=workers,
            scrubs=Scrubs(ledger=ledger, open_device=lambda *_: SimulatedDevice(), policy=ScrubPolicy(), clock=clock),
            fencing=FencingGuard(home / "fencing"),
            standbys=Standbys(workers=workers, devices=devices, clock=clock) if standbys else None,
            clock=clock,
            jobs=LocalJobs(
                here=here,
                ledger=ledger,
                claims=lambda: tuple(shared.claims.values()),
                book=JobBook(MemoryRegistry(shared)),
                clock=clock,
                simulated=True,
            ),
        )
        try:
            yield LocalPlatform(here, observer, actuator, ledger, clock, rays, gateways, shared)
        finally:
            actuator.close()
            for record in records(here.processes):
                stop(here.processes, record, 2_000, clock)
            observer.close()


def a_claim(domain: SecurityDomain) -> Claim:
    """Return the claim that the groups of the tests belong to."""
    tenant = TenantId("civil/justice" if domain is SecurityDomain.CIVIL else "defence/cyber")
    shape = Shape(flavors=(), variant=VariantId("q8"))
    name = ClaimId(f"{tenant}:contract")
    return Claim(id=name, tenant=tenant, kind=ClaimKind.SERVING, ladder=(shape,), model=MODEL.id)


def _domain(
    domain: SecurityDomain, dashboard: RayDashboard, here: Machine, ledger: Ledger, clock: SystemClock
) -> ServeDomain:
    known = Promises(domain=domain, claims=(a_claim(domain),), keys=(), shares=(), simulated=True)
    return ServeDomain(
        end=DomainEnd(domain=domain, dashboard=dashboard, gateway_host="127.0.0.1", gateway_port=1, gateway_files={}),
        engines=EngineRoom(models=lambda: (MODEL,), cache=here.settings.cache, limits=EngineLimits()),
        ledger=ledger,
        processes=here.processes,
        promised=lambda _domain: known,
        clock=clock,
    )
