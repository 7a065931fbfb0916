"""The platform on this machine, brought up and taken down. Both may be interrupted and repeated at any point."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.clock import SystemClock
from cluster.embedded.clusters import ensure_secrets
from cluster.embedded.console import NAME as CONSOLE
from cluster.embedded.control import NAME as CONTROL
from cluster.embedded.errors import AnotherIsRunning, OlderWorkersRun, PortTaken
from cluster.embedded.jobs import MODULE as JOB
from cluster.embedded.network import is_free
from cluster.embedded.nodes import Machine, head_name, machine, worker_records
from cluster.embedded.processes import ProcessRecord, find, is_alive, memory_mib, records, stop
from cluster.embedded.progress import Lines, Progress, Stopwatch
from cluster.embedded.starting import Start
from cluster.observe.inventory import read_inventory, this_node
from cluster.ports import Clock
from cluster.settings import Settings
from policies.model.naming import worker_id
from policies.model.units import SecurityDomain, TenantId

POLL_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A platform that answers."""

    api_url: str
    gateways: Mapping[SecurityDomain, str]
    keys: Mapping[TenantId, str]
    """Made by this start, shown this once."""
    simulated: bool
    console_url: str
    """Lets one browser in, once; empty where no console was asked for or none answers."""
    from_nothing: bool
    """Whether nothing of it ran before."""
    took_ms: int
    memory_mib: int


def bring_up(settings: Settings, say: Callable[[str], None], progress: Progress | None = None) -> Ready:
    """Return once every claim of the platform is answered; what runs already is left as it is.

    Side by side: weights, both heads with their gateways, the control plane. The latter then starts workers and groups.
    Raises ``PlatformFault`` with what to do. Interrupted or failed, it can be called again.
    """
    here, clock = machine(settings), SystemClock()
    with _alone(settings):
        watch = Stopwatch(progress or Lines(say), clock, lambda: total_memory_mib(here))
        found_running = _say_what_runs(here, say)
        _refuse_older_workers(here)
        _refuse_taken_ports(here)
        ensure_secrets(here)
        start = Start(here=here, watch=watch, clock=clock, simulated=_are_simulated(settings))
        record = start.side_by_side()
        start.console()
        keys = start.ask_for_the_shipped(record)
        return Ready(
            api_url=settings.api_url,
            gateways={domain: settings.gateway_url(domain) for domain in SecurityDomain},
            keys=keys,
            console_url=start.open_console(),
            simulated=start.simulated,
            from_nothing=not found_running,
            took_ms=watch.total_ms(),
            memory_mib=total_memory_mib(here),
        )


def take_down(settings: Settings, say: Callable[[str], None], progress: Progress | None = None) -> None:
    """Return once nothing that we started runs: control plane first, then workers, then heads.

    Journal, secrets, weights and logs stay. Nothing else on the machine is touched.
    """
    here, clock = machine(settings), SystemClock()
    with _alone(settings):
        watch = Stopwatch(progress or Lines(say), clock, lambda: total_memory_mib(here))
        ours = records(here.processes)
        if not ours:
            say("nothing of ours runs")
        for name, chosen in _in_stopping_order(ours):
            with watch.step(name) as notes:
                notes.append(f"{len(chosen)} stopped")
                _stop_all(here, chosen, clock)
        _end_strays(here, clock)
        for domain in SecurityDomain:
            shutil.rmtree(here.temp(domain), ignore_errors=True)
        with suppress(OSError):
            here.temp(SecurityDomain.DEFENCE).parent.rmdir()


def total_memory_mib(here: Machine) -> int:
    """Return the proportional set size of everything that we run."""
    return sum(memory_mib(record) for record in records(here.processes))


def _are_simulated(settings: Settings) -> bool:
    return read_inventory(this_node(), settings.simulated_devices).simulated


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the platform's start-and-stop lock. Raises ``AnotherIsRunning``."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(settings.home / "platform.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AnotherIsRunning from None
    finally:
        os.close(lock)


def _say_what_runs(here: Machine, say: Callable[[str], None]) -> tuple[str, ...]:
    running = tuple(record.spec.name for record in records(here.processes) if is_alive(record))
    if running:
        say(f"already running: {', '.join(running)}")
    return running


def _refuse_older_workers(here: Machine) -> None:
    """Raise ``OlderWorkersRun`` for living workers whose names are not what they are called by now.

    Their devices would be given to workers of the right name while they still use them.
    """
    older = tuple(
        record.spec.name
        for record in worker_records(here)
        if record.spec.domain is not None
        and record.spec.name != worker_id(record.spec.domain, record.spec.devices)
        and is_alive(record)
    )
    if older:
        raise OlderWorkersRun(older)


def _refuse_taken_ports(here: Machine) -> None:
    settings = here.settings
    wanted = {CONTROL: [("the control API", settings.api_url)]}
    if settings.console_port:
        wanted[CONSOLE] = [("the console", settings.console_url)]
    for domain in SecurityDomain:
        wanted[head_name(domain)] = [
            (f"the {domain} gateway", settings.gateway_url(domain)),
            (f"the {domain} Ray dashboard", settings.dashboard_url(domain)),
            (f"the {domain} control service of ray", settings.ray_address(domain)),
        ]
    for owner, ports in wanted.items():
        known = find(here.processes, owner)
        if known is not None and is_alive(known):
            continue
        for what, address in ports:
            port = int(address.rpartition(":")[2])
            if not is_free(port):
                raise PortTaken(what, port)


def _in_stopping_order(ours: tuple[ProcessRecord, ...]) -> list[tuple[str, list[ProcessRecord]]]:
    """Return what stops together, in order: nobody restarts workers, and workers leave before their head."""
    control = [record for record in ours if record.spec.name in {CONTROL, CONSOLE}]
    workers = [record for record in ours if record.spec.worker is not None]
    jobs = [record for record in ours if record.spec.module == JOB]
    rest = [record for record in ours if record not in control and record not in workers and record not in jobs]
    named = [
        ("control plane, console", control), ("jobs", jobs), ("workers", workers), ("Ray clusters and gateways", rest),
    ]  # fmt: skip
    return [(name, chosen) for name, chosen in named if chosen]


def _stop_all(here: Machine, chosen: list[ProcessRecord], clock: Clock) -> None:
    with ThreadPoolExecutor(max_workers=len(chosen)) as pool:
        for done in [
            pool.submit(stop, here.processes, record, here.settings.stop_timeout_ms, clock) for record in chosen
        ]:
            done.result()


def _end_strays(here: Machine, clock: Clock) -> None:
    """End processes of Ray that left their session and lost their parent: they still work in our folder."""
    ours = str(here.processes.records.resolve())
    while strays := [pid for pid in _pids() if _working_folder(pid) == ours]:
        for pid in strays:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        clock.sleep_ms(POLL_MS)


def _pids() -> list[int]:
    return [
        int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal() and int(entry.name) != os.getpid()
    ]


def _working_folder(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def say_ready(ready: Ready, say: Callable[[str], None]) -> None:
    """Say where everything is, with the keys, this once, and what to try next."""
    say(f"ready after {ready.took_ms / 1000:.1f} s, {ready.memory_mib} MiB in all")
    if ready.simulated:
        say("SIMULATED devices: no GPU is present; models are answered by the CPU")
    say(f"control API        {ready.api_url}")
    if ready.console_url:
        say(f"console            {ready.console_url}")
        say("                   lets one browser in, once; `partage console` prints another link")
    for domain, url in ready.gateways.items():
        say(f"{domain} gateway".ljust(19) + f"{url}/v1")
    for tenant, key in ready.keys.items():
        say(f"key of {tenant}".ljust(30) + key)
    if ready.keys:
        say("keys are shown this once; `partage key create TENANT` makes another")
    say("next: partage status    partage get claims    partage demo")
