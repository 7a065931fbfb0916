"""Observer and actuator of this machine, tied to the two Ray clusters on it."""

from __future__ import annotations

from collections.abc import Callable

from cluster.actuate.fencing import FencingGuard
from cluster.actuate.jobs import JobBook, LocalJobs
from cluster.actuate.local import LocalActuator
from cluster.actuate.routing import Promises, promises
from cluster.actuate.scrub import ScrubbedDevice, ScrubPolicy, SimulatedDevice
from cluster.actuate.serve_domain import DomainEnd, EngineRoom, ServeDomain
from cluster.actuate.wipe import Opener, Scrubs
from cluster.actuate.workers import LocalWorkers, Standbys
from cluster.catalogue import Catalogue
from cluster.custody import outdated_names
from cluster.embedded.jobs import runs
from cluster.embedded.nodes import Machine, machine, worker_records
from cluster.embedded.processes import members
from cluster.journal.registry import SqliteRegistry
from cluster.observe.gateway import GatewayClient
from cluster.observe.inventory import Inventory, read_inventory, this_node
from cluster.observe.local import LocalObserver
from cluster.observe.sights import DomainLooks
from cluster.observe.telemetry.observer import Root
from cluster.ports import Clock, Journal, Ledger, Observer, Registry
from cluster.ray_rest import RayDashboard
from cluster.refusals import NoPolicy
from cluster.serve_apps import EngineLimits
from cluster.settings import Settings
from cluster.watching import device_here, watch_here
from policies.model.policy import Policy
from policies.model.units import DeviceId, SecurityDomain, WorkerId

OBSERVE_DEADLINE_MS = 2_000
"""Longest wait for one part of the world; the others are seen meanwhile."""
ACT_TIMEOUT_S = 15.0
"""Longest wait for one call that writes. Ray answers in milliseconds unless the machine is overloaded."""


def adapters(
    settings: Settings, clock: Clock, journal: Journal, ledger: Ledger, registry: Registry
) -> tuple[Observer, LocalActuator]:
    """Return what sees and changes this machine. Whether devices are simulated is settled here, once.

    What an older release recorded under its names of workers is taken over under those of this one.
    """
    here = machine(settings)
    take_over_names(journal, ledger)
    inventory = read_inventory(this_node(), settings.simulated_devices)
    observer: Observer = LocalObserver(
        here,
        ledger,
        tuple(_looks(settings, domain) for domain in SecurityDomain),
        _devices(inventory),
        deadline_ms=OBSERVE_DEADLINE_MS,
        clock=clock,
    )
    if not inventory.simulated:
        observer = watch_here(observer, inventory.node.id, settings.home, clock, lambda: _roots(here))
    promised = _promised(journal, registry, inventory)
    jobs = LocalJobs(
        here=here,
        ledger=ledger,
        claims=journal.claims,
        book=JobBook(registry.by("jobs") if isinstance(registry, SqliteRegistry) else registry),
        clock=clock,
        simulated=inventory.simulated,
    )
    return observer, _actuator(here, clock, ledger, promised, inventory, jobs)


def take_over_names(journal: Journal, ledger: Ledger) -> None:
    """Call the holder of each device what this release calls it, also where an older one recorded another name."""
    ledger.rename(outdated_names(ledger.devices()), journal.fencing_generation())


def dashboard(settings: Settings, domain: SecurityDomain, timeout_s: float) -> RayDashboard:
    """Return a client of the domain's Ray dashboard."""
    token = settings.secret(domain, "ray").read_text(encoding="utf-8").strip()
    return RayDashboard(settings.dashboard_url(domain), token, timeout_s)


def domain_end(settings: Settings, domain: SecurityDomain, timeout_s: float) -> DomainEnd:
    """Return where the domain is reached, for writing."""
    host, _, port = settings.gateway_url(domain).rpartition("/")[2].rpartition(":")
    files = {"pepper_file": "pepper", "control_token_file": "control"}
    return DomainEnd(
        domain=domain,
        dashboard=dashboard(settings, domain, timeout_s),
        gateway_host=host,
        gateway_port=int(port),
        gateway_files={name: str(settings.secret(domain, purpose)) for name, purpose in files.items()}
        | {
            "door_host": host,
            "door_port": port,
            "ledger_dir": str(settings.home / "ledger" / domain),
            "batch_dir": str(settings.home / "batches" / domain),
        },
        proxy_location="Disabled",  # the gateway's own door is several times as fast, and one process less
    )


def _actuator(
    here: Machine,
    clock: Clock,
    ledger: Ledger,
    promised: Callable[[SecurityDomain], Promises],
    inventory: Inventory,
    jobs: LocalJobs,
) -> LocalActuator:
    settings = here.settings
    models = Catalogue(settings.home / "catalogue.json")
    engines = EngineRoom(models=models, cache=settings.cache, limits=EngineLimits())
    workers = LocalWorkers(here=here, ledger=ledger, clock=clock)
    return LocalActuator(
        domains=tuple(
            ServeDomain(
                end=domain_end(settings, domain, ACT_TIMEOUT_S),
                engines=engines,
                ledger=ledger,
                processes=here.processes,
                promised=promised,
                clock=clock,
            )
            for domain in SecurityDomain
        ),
        workers=workers,
        scrubs=Scrubs(ledger=ledger, open_device=_opener(here, clock, inventory), policy=ScrubPolicy(), clock=clock),
        fencing=FencingGuard(settings.home / "fencing"),
        standbys=Standbys(workers=workers, devices=tuple(device.id for device in inventory.devices), clock=clock),
        clock=clock,
        jobs=jobs,
    )


def _looks(settings: Settings, domain: SecurityDomain) -> DomainLooks:
    timeout_s = OBSERVE_DEADLINE_MS / 1000
    ray = dashboard(settings, domain, timeout_s)
    control = settings.secret(domain, "control").read_text(encoding="utf-8").strip()
    gateway = GatewayClient(settings.gateway_url(domain), control, timeout_s)
    return DomainLooks(domain=domain, apps=ray.applications, nodes=ray.nodes, load=gateway.load)


def _devices(first: Inventory) -> Callable[[], Inventory]:
    """Return how to look at the devices from now on: simulated ones do not change, real ones never become simulated."""
    return lambda: first if first.simulated else read_inventory(first.node, simulate=0)


def _promised(journal: Journal, registry: Registry, inventory: Inventory) -> Callable[[SecurityDomain], Promises]:
    def known(domain: SecurityDomain) -> Promises:
        return promises(
            domain, _policy(journal), journal.claims(), registry.keys(domain), simulated=inventory.simulated
        )

    return known


def _policy(journal: Journal) -> Policy | None:
    try:
        return journal.policy()
    except NoPolicy:
        return None


def _roots(here: Machine) -> dict[WorkerId, Root]:
    """Return the processes that every process on a worker's devices descends from: its own, and those of its jobs."""
    jobs: dict[WorkerId, list[int]] = {}
    for record, run in runs(here):
        jobs.setdefault(run.worker, []).append(record.pid)
    return {
        name: Root(pid=record.pid, jobs=tuple(jobs.get(name, ())))
        for record in worker_records(here)
        for name in (WorkerId(record.spec.name),)
    }


def _opener(here: Machine, clock: Clock, inventory: Inventory) -> Opener:
    def real(device: DeviceId, _leaving: SecurityDomain) -> ScrubbedDevice:
        return device_here(device, inventory.node.id)

    def simulated(device: DeviceId, leaving: SecurityDomain) -> ScrubbedDevice:
        """Return a device that has the processes of the worker that left, should any still run."""
        clock.sleep_ms(here.settings.simulated_scrub_ms)
        left = [record for record in worker_records(here) if record.spec.domain is leaving]
        return SimulatedDevice(pids=tuple(pid for r in left if device in r.spec.devices for pid in members(r)))

    return simulated if inventory.simulated else real
