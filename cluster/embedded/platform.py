"""The platform on this machine, brought up and taken down. Both may be interrupted and repeated at any point."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.client import Problem, Unreachable
from cluster.clock import SystemClock
from cluster.embedded.adapters import dashboard
from cluster.embedded.clusters import ensure_secrets, start_gateway, start_head
from cluster.embedded.control import NAME as CONTROL
from cluster.embedded.control import apply_claims, apply_policy, make_keys, operator, start_control, unserved
from cluster.embedded.errors import AnotherIsRunning, NotReadyInTime, PortTaken, ProcessEnded, StepFailed
from cluster.embedded.files import write_whole
from cluster.embedded.network import is_free
from cluster.embedded.nodes import Machine, head_name, machine
from cluster.embedded.processes import ProcessRecord, find, is_alive, memory_mib, records, stop
from cluster.embedded.progress import Lines, Progress, Stopwatch
from cluster.observe.inventory import read_inventory, this_node
from cluster.ports import Clock
from cluster.ray_rest import RayUnreadable
from cluster.settings import Settings
from policies.model.units import SecurityDomain, TenantId

POLL_MS = 200
DASHBOARD_TIMEOUT_S = 5.0
PREPARE_LIMIT_S = 600
HEAD_ATTEMPTS = 3
"""Ray gives up on a node that is too slow to start, which an overloaded machine can make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A platform that answers."""

    api_url: str
    gateways: Mapping[SecurityDomain, str]
    keys: Mapping[TenantId, str]
    """Made by this start, shown this once."""
    simulated: bool
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
        _say_what_runs(here, say)
        _refuse_taken_ports(here)
        ensure_secrets(here)
        inventory = read_inventory(this_node(), settings.simulated_devices)
        with ThreadPoolExecutor(max_workers=4) as pool:
            control = pool.submit(_start_control, here, watch, clock)
            parts = [pool.submit(_prepare_weights, here, watch)]
            parts += [pool.submit(_cluster, here, d, watch, clock, inventory.simulated) for d in SecurityDomain]
            for part in parts:
                part.result()
        keys = _ask_for_the_shipped(here, control.result(), watch, clock)
        ready = Ready(
            api_url=settings.api_url,
            gateways={domain: settings.gateway_url(domain) for domain in SecurityDomain},
            keys=keys,
            simulated=inventory.simulated,
            took_ms=watch.total_ms(),
            memory_mib=total_memory_mib(here),
        )
    _say_ready(ready, say)
    return ready


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


def _cluster(here: Machine, domain: SecurityDomain, watch: Stopwatch, clock: Clock, simulated: bool) -> None:  # noqa: FBT001  # the inventory's word, passed through a thread pool
    with watch.step(f"{domain}: Ray cluster") as notes:
        record = _head(here, domain, clock, notes)
    with watch.step(f"{domain}: Serve and gateway"):

        def put() -> bool:
            with suppress(RayUnreadable):
                start_gateway(here, domain, simulated=simulated)
                return True
            return False

        _until(put, here, record, clock, f"Serve of {domain}")


def _head(here: Machine, domain: SecurityDomain, clock: Clock, notes: list[str]) -> ProcessRecord:
    """Return the record of the domain's head once it answers; one that ends is started again."""
    ray = dashboard(here.settings, domain, DASHBOARD_TIMEOUT_S)
    record = start_head(here, domain, clock)
    for attempt in range(1, HEAD_ATTEMPTS + 1):
        try:
            _until(ray.is_up, here, record, clock, f"the Ray cluster of {domain}")
        except ProcessEnded:
            if attempt == HEAD_ATTEMPTS:
                raise
            notes.append("started again")
            record = start_head(here, domain, clock)
        else:
            break
    ray.close()
    return record


def _prepare_weights(here: Machine, watch: Stopwatch) -> None:
    with watch.step("weights and catalogue") as notes:
        done = subprocess.run(
            [sys.executable, "-m", "serving.prepare", "--cache", str(here.settings.cache)],
            env=dict(here.processes.environment),
            capture_output=True,
            text=True,
            timeout=PREPARE_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise StepFailed("preparing the weights", done.stderr)
        write_whole(here.settings.home / "catalogue.json", done.stdout)
        notes.extend(done.stderr.strip().splitlines()[-1:])


def _start_control(here: Machine, watch: Stopwatch, clock: Clock) -> ProcessRecord:
    client = operator(here.settings)
    with watch.step("control plane"):
        record = start_control(here, clock)
        _until(lambda: _answers(client.get, "/livez"), here, record, clock, "the control plane")
    return record


def _ask_for_the_shipped(
    here: Machine, record: ProcessRecord, watch: Stopwatch, clock: Clock
) -> Mapping[TenantId, str]:
    client = operator(here.settings)
    with watch.step("policy, claims, keys") as notes:
        notes.append(apply_policy(client))
        _until(lambda: _answers(client.get, "/v1/claims"), here, record, clock, "the control loop")
        notes.append(apply_claims(client))
        keys = make_keys(client)
    with watch.step("every claim is answered"):
        last: list[str] = []

        def served() -> bool:
            with suppress(Problem, Unreachable):
                last[:] = unserved(client)
                return not last
            return False

        _until(served, here, record, clock, "the platform", lambda: "; ".join(last))
    return keys


def _answers(get: Callable[[str], object], path: str) -> bool:
    try:
        get(path)
    except (Problem, Unreachable):
        return False
    return True


def _until(  # one place that waits, told everything by name
    ready: Callable[[], bool],
    here: Machine,
    process: ProcessRecord,
    clock: Clock,
    what: str,
    detail: Callable[[], str] = str,
) -> None:
    """Return once it is ready. Raises ``ProcessEnded`` or ``NotReadyInTime``."""
    give_up_ms = clock.monotonic_ms() + here.settings.ready_timeout_ms
    while not ready():
        if not is_alive(process):
            raise ProcessEnded(process.spec.name, here.processes.log_file(process.spec.name))
        if clock.monotonic_ms() >= give_up_ms:
            raise NotReadyInTime(what, here.settings.ready_timeout_ms, detail())
        clock.sleep_ms(POLL_MS)


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


def _say_what_runs(here: Machine, say: Callable[[str], None]) -> None:
    running = [record.spec.name for record in records(here.processes) if is_alive(record)]
    if running:
        say(f"already running: {', '.join(running)}")


def _refuse_taken_ports(here: Machine) -> None:
    settings = here.settings
    wanted = {CONTROL: [("the control API", settings.api_url)]}
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
    control = [record for record in ours if record.spec.name == CONTROL]
    workers = [record for record in ours if record.spec.worker is not None]
    rest = [record for record in ours if record not in control and record not in workers]
    named = [("control plane", control), ("workers", workers), ("Ray clusters and gateways", rest)]
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


def _say_ready(ready: Ready, say: Callable[[str], None]) -> None:
    say(f"ready after {ready.took_ms / 1000:.1f} s, {ready.memory_mib} MiB in all")
    if ready.simulated:
        say("SIMULATED devices: no GPU is present; models are answered by the CPU")
    say(f"control API        {ready.api_url}")
    for domain, url in ready.gateways.items():
        say(f"{domain} gateway".ljust(19) + f"{url}/v1")
    for tenant, key in ready.keys.items():
        say(f"key of {tenant}".ljust(30) + key)
    if ready.keys:
        say("keys are shown this once; `partage key create TENANT` makes another")
    say("next: partage status    partage get claims    partage demo")
