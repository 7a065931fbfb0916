"""The parts of the platform, started side by side and waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.client import Problem, Unreachable
from cluster.embedded.adapters import dashboard
from cluster.embedded.clusters import start_gateway, start_head
from cluster.embedded.console import NAME as CONSOLE
from cluster.embedded.console import invitation, start_console
from cluster.embedded.control import apply_claims, apply_policy, make_keys, operator, start_control, unserved
from cluster.embedded.errors import NotReadyInTime, ProcessEnded, StepFailed
from cluster.embedded.files import read_or_none, write_whole
from cluster.embedded.nodes import Machine
from cluster.embedded.processes import ProcessRecord, is_alive
from cluster.embedded.progress import Stopwatch
from cluster.ports import Clock
from cluster.ray_rest import RayUnreadable
from policies.model.units import SecurityDomain, TenantId

POLL_MS = 200
DASHBOARD_TIMEOUT_S = 5.0
PREPARE_LIMIT_S = 600
CONSOLE_LIMIT_MS = 30_000
LINE_SHOWN = 1_000
HEAD_ATTEMPTS = 3
"""Ray gives up on a node that is too slow to start, which an overloaded machine can make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of the platform."""

    here: Machine
    watch: Stopwatch
    clock: Clock
    simulated: bool
    given_up: threading.Event = field(default_factory=threading.Event)
    """Set once a part has failed or a person has interrupted: nobody waits any longer."""

    def side_by_side(self) -> ProcessRecord:
        """Start all that does not need one another and return the record of the control plane."""
        with ThreadPoolExecutor(max_workers=len(SecurityDomain) + 2) as pool:
            control = pool.submit(self._control)
            parts: list[Future[Any]] = [control, pool.submit(self._weights)]
            parts += [pool.submit(self._cluster, domain) for domain in SecurityDomain]
            try:
                for part in wait(parts, return_when=FIRST_EXCEPTION).done:
                    part.result()
            except BaseException:
                self.given_up.set()
                raise
            return control.result()

    def console(self) -> None:
        """Start the console; nobody waits for it yet."""
        start_console(self.here, self.clock)

    def open_console(self) -> str:
        """Return an address that lets one browser in; empty if there is no console or it does not come in time.

        The platform works without it: a console that fails is said, not raised.
        """
        settings, found = self.here.settings, ""
        if not settings.console_port:
            return ""
        with self.watch.step("console") as notes:
            give_up_ms = self.clock.monotonic_ms() + CONSOLE_LIMIT_MS
            while not (found := invitation(settings)) and self.clock.monotonic_ms() < give_up_ms:
                self.clock.sleep_ms(POLL_MS)
            if not found:
                notes.append(f"does not answer; see {self.here.processes.log_file(CONSOLE)}")
        return found

    def ask_for_the_shipped(self, control: ProcessRecord) -> Mapping[TenantId, str]:
        """Ask for policy, claims and keys where there are none; return the new keys once every claim is answered."""
        client = operator(self.here.settings)
        with self.watch.step("policy, claims, keys") as notes:
            notes.append(apply_policy(client))
            self._until(lambda: _answers(client.get, "/v1/claims"), control, "the control loop")
            notes.append(apply_claims(client))
            keys = make_keys(client)
        with self.watch.step("every claim is answered"):
            last: list[str] = []

            def served() -> bool:
                with suppress(Problem, Unreachable):
                    last[:] = unserved(client)
                    return not last
                return False

            self._until(served, control, "the platform", lambda: "; ".join(last))
        return keys

    def _weights(self) -> None:
        with self.watch.step("weights and catalogue") as notes:
            done = subprocess.run(
                [sys.executable, "-m", "serving.prepare", "--cache", str(self.here.settings.cache)],
                env=dict(self.here.processes.environment),
                capture_output=True,
                text=True,
                timeout=PREPARE_LIMIT_S,
                check=False,
            )
            if done.returncode != 0:
                raise StepFailed("preparing the weights", done.stderr)
            write_whole(self.here.settings.home / "catalogue.json", done.stdout)
            notes.extend(done.stderr.strip().splitlines()[-1:])

    def _control(self) -> ProcessRecord:
        client = operator(self.here.settings)
        with self.watch.step("control plane"):
            record = start_control(self.here, self.clock)
            self._until(lambda: _answers(client.get, "/livez"), record, "the control plane")
        return record

    def _cluster(self, domain: SecurityDomain) -> None:
        with self.watch.step(f"{domain}: Ray cluster") as notes:
            record = self._head(domain, notes)
        with self.watch.step(f"{domain}: Serve and gateway"):

            def put() -> bool:
                with suppress(RayUnreadable):
                    start_gateway(self.here, domain, simulated=self.simulated)
                    return True
                return False

            self._until(put, record, f"Serve of {domain}")

    def _head(self, domain: SecurityDomain, notes: list[str]) -> ProcessRecord:
        """Return the record of the domain's head once it answers; one that ends is started again."""
        ray = dashboard(self.here.settings, domain, DASHBOARD_TIMEOUT_S)
        record = start_head(self.here, domain, self.clock)
        for attempt in range(1, HEAD_ATTEMPTS + 1):
            try:
                self._until(ray.is_up, record, f"the Ray cluster of {domain}")
            except ProcessEnded:
                if attempt == HEAD_ATTEMPTS:
                    raise
                notes.append("started again")
                record = start_head(self.here, domain, self.clock)
            else:
                break
        ray.close()
        return record

    def _until(
        self, ready: Callable[[], bool], process: ProcessRecord, what: str, detail: Callable[[], str] = str
    ) -> None:
        """Return once it is ready. Raises ``ProcessEnded`` or ``NotReadyInTime``."""
        began_ms, limit_ms = self.clock.monotonic_ms(), self.here.settings.ready_timeout_ms
        while not ready():
            if not is_alive(process):
                log = self.here.processes.log_file(process.spec.name)
                raise ProcessEnded(process.spec.name, log, _last_line(log))
            waited_ms = self.clock.monotonic_ms() - began_ms
            if self.given_up.is_set() or waited_ms >= limit_ms:
                raise NotReadyInTime(what, waited_ms, detail())
            self.clock.sleep_ms(POLL_MS)


def _last_line(log: Path) -> str:
    """Return what a process of ours wrote last; empty if nothing."""
    return ((read_or_none(log) or "").strip().splitlines() or [""])[-1][:LINE_SHOWN]


def _answers(get: Callable[[str], object], path: str) -> bool:
    try:
        get(path)
    except (Problem, Unreachable):
        return False
    return True
