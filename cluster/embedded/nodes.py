"""The Ray nodes of the two domains, as processes of this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.network import free_ports
from cluster.embedded.processes import ProcessFolder, ProcessRecord, ProcessSpec, records, start
from cluster.embedded.ray_node import PORTS_PER_NODE, NodeSpec
from cluster.ports import Clock
from cluster.settings import Settings, base_environment
from policies.model.codec import to_json
from policies.model.naming import worker_id
from policies.model.units import DeviceId, SecurityDomain

WORKER_LABEL = "partage.worker"
LAUNCH_LABEL = "partage.launch"
ROLE_LABEL = "partage.role"
HEAD_ROLE = "head"

HEAD_CPUS = 4
"""Also the interpreters started ahead: Serve's controller and proxy, the gateway's build and its replica."""
WORKER_CPUS = 2
"""Also the interpreters started ahead: one builds a group's application, one becomes its first replica."""
OBJECT_STORE_BYTES = 80_000_000
"""Nothing large passes through Ray's object store here; its default would take 30 % of the machine."""
SOURCES = Path(__file__).resolve().parents[2]

_HEAD_IMPORTS = ("cluster.embedded.ray_preload", "ray.serve._private.controller", "ray.serve._private.proxy")
_GATEWAY_IMPORTS = ("serving.apps.gateway",)
_WORKER_IMPORTS = ("cluster.embedded.ray_preload", "serving.apps.engine", "xllamacpp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that the platform runs on, as it uses it."""

    settings: Settings
    processes: ProcessFolder
    node_module: str = "cluster.embedded.ray_node"
    """Program of a Ray node; tests name one that only pretends."""

    def temp(self, domain: SecurityDomain) -> Path:
        """Return the domain's folder for Ray: short, as Unix sockets live below it, and of this installation alone."""
        return Path("/tmp") / f"partage-{_short(str(self.settings.home))}" / domain[0]  # noqa: S108  # made 0700 by us


Description = Callable[[], tuple[ProcessSpec, Mapping[str, str]]]
"""Makes what is to be started, with its environment."""


def machine(settings: Settings) -> Machine:
    """Return this machine under these settings."""
    inherited = {name: value for name, value in base_environment().items() if not name.startswith("RAY_")}
    paths = [str(SOURCES), *filter(None, inherited.get("PYTHONPATH", "").split(":"))]
    environment = inherited | {"PYTHONPATH": ":".join(dict.fromkeys(paths))}
    folder = ProcessFolder(records=settings.home / "run", logs=settings.logs, environment=environment)
    return Machine(settings=settings, processes=folder)


def head_name(domain: SecurityDomain) -> str:
    """Return the name of the domain's head process."""
    return f"{domain}-head"


def head(here: Machine, domain: SecurityDomain) -> tuple[ProcessSpec, Mapping[str, str]]:
    """Return the domain's head process and its environment."""
    ports = _ports(here)
    node = NodeSpec(
        domain=domain,
        gcs_port=_port(here.settings.ray_address(domain)),
        dashboard_port=_port(here.settings.dashboard_url(domain)),
        temp=str(here.temp(domain)),
        ports=ports,
        labels=((ROLE_LABEL, HEAD_ROLE),),
        cpus=HEAD_CPUS,
        gpus=0,
        object_store_bytes=OBJECT_STORE_BYTES,
    )
    spec = ProcessSpec(
        name=head_name(domain), module=here.node_module, arguments=(to_json(node),), domain=domain, ports=ports
    )
    return spec, _environment(here, domain, (*_HEAD_IMPORTS, *_GATEWAY_IMPORTS), ())


def worker(
    here: Machine, domain: SecurityDomain, devices: tuple[DeviceId, ...]
) -> tuple[ProcessSpec, Mapping[str, str]]:
    """Return the process of the domain's worker on exactly these devices, and its environment."""
    ports, name, launch = _ports(here), worker_id(domain, devices), secrets.token_hex(6)
    node = NodeSpec(
        domain=domain,
        gcs_port=_port(here.settings.ray_address(domain)),
        temp=str(here.temp(domain)),
        ports=ports,
        labels=((WORKER_LABEL, name), (LAUNCH_LABEL, launch)),
        cpus=WORKER_CPUS,
        gpus=len(devices),
        object_store_bytes=OBJECT_STORE_BYTES,
    )
    spec = ProcessSpec(
        name=name,
        module=here.node_module,
        arguments=(to_json(node),),
        launch=launch,
        domain=domain,
        worker=name,
        devices=tuple(sorted(devices)),
        ports=ports,
    )
    return spec, _environment(here, domain, _WORKER_IMPORTS, spec.devices)


def launch(here: Machine, described: Description, clock: Clock) -> ProcessRecord:
    """Start a node and return its record; ports are chosen and recorded by one process at a time."""
    here.processes.records.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(here.processes.records / "ports.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spec, environment = described()
        return start(here.processes, spec, environment, clock)
    finally:
        os.close(lock)


def worker_records(here: Machine) -> tuple[ProcessRecord, ...]:
    """Return the records of all worker processes, sorted by name."""
    return tuple(record for record in records(here.processes) if record.spec.worker is not None)


def _environment(
    here: Machine, domain: SecurityDomain, imports: tuple[str, ...], devices: tuple[DeviceId, ...]
) -> Mapping[str, str]:
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(here.settings.secret(domain, "ray")),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # Draining is ours and was done before a node is stopped; Ray's own would add up to 30 s.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # Most of a move is the start of interpreters and their imports: both are done ahead.
        "RAY_enable_worker_prestart": "1",
        "RAY_preload_python_modules": ",".join(imports),
        # Ray's agents first, as a node whose agent is late gives up; its default of 15 would starve the engines.
        "RAY_worker_niceness": "5",
        "RAY_metrics_report_interval_ms": "10000",
        # An interpreter that starts slowly on an overloaded machine is still wanted.
        "RAY_worker_register_timeout_seconds": "300",
    }


def _ports(here: Machine) -> tuple[int, ...]:
    given = {port for record in records(here.processes) for port in record.spec.ports}
    return free_ports(PORTS_PER_NODE, given | _published(here.settings), str(here.settings.home))


def _published(settings: Settings) -> set[int]:
    urls = [settings.api_url]
    for domain in SecurityDomain:
        urls += [settings.gateway_url(domain), settings.dashboard_url(domain), settings.ray_address(domain)]
    return {_port(url) for url in urls}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
