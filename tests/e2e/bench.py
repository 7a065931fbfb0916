"""A platform of the tests' own on this machine: its settings, its traffic, its processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import openai

from cluster.clock import SystemClock
from cluster.embedded.nodes import Machine, machine
from cluster.embedded.platform import Ready
from cluster.embedded.processes import members, records
from cluster.settings import Settings, from_environment
from policies.model.units import SecurityDomain, TenantId

PATIENCE_MS = 240_000
POLL_MS = 200
MODEL = "smollm2-135m-instruct"
LISTENING = "0A"


def settings_in(folder: Path) -> Settings:
    """Return settings whose state is in the folder and whose ports are free now."""
    first = _free_block(10)
    given = {
        "HOME": folder / "home",
        "CACHE": folder / "cache",
        "CONFIG": folder / "config",
        "API_PORT": first,
        "GATEWAY_PORT": first + 1,
        "DASHBOARD_PORT": first + 3,
        "RAY_PORT": first + 5,
        "CONSOLE_PORT": first + 7,
    }
    return from_environment({f"PARTAGE_{name}": str(value) for name, value in given.items()})


@dataclass
class Running:
    """A platform that is up, and what its start said."""

    settings: Settings
    ready: Ready
    said: list[str]
    keys: dict[TenantId, str] = field(default_factory=dict)

    @property
    def here(self) -> Machine:
        """The machine under these settings."""
        return machine(self.settings)

    def client(self, tenant: str, key: str | None = None) -> openai.OpenAI:
        """Return the stock client at the gateway of the tenant's domain, with its key or another."""
        url = self.settings.gateway_url(SecurityDomain(tenant.split("/", maxsplit=1)[0]))
        chosen = key or self.keys[TenantId(tenant)]
        return openai.OpenAI(base_url=f"{url}/v1", api_key=chosen, max_retries=0, timeout=120)

    def pids(self) -> set[int]:
        """Return every process of the platform."""
        return {pid for record in records(self.here.processes) for pid in members(record)}


def until(holds: Callable[[], bool], what: str) -> None:
    """Return once it holds; fail with words after long enough."""
    clock = SystemClock()
    give_up_ms = clock.monotonic_ms() + PATIENCE_MS
    while not holds():
        assert clock.monotonic_ms() < give_up_ms, f"never came true: {what}"
        clock.sleep_ms(POLL_MS)


def listening_beyond_loopback(pids: set[int]) -> list[str]:
    """Return the local addresses, as the kernel writes them, at which these processes listen for other machines."""
    sockets = {target for pid in pids for target in _sockets(pid)}
    found = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTENING and columns[9] in sockets and not _is_loopback(columns[1].partition(":")[0]):
                found.append(columns[1])
    return found


def runs(pid: int) -> bool:
    """Return whether there is such a process, one that only waits to be noticed not counted."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _is_loopback(address: str) -> bool:
    """Return whether a kernel-written address is 127.0.0.0/8, also mapped into IPv6, or ::1."""
    return address.endswith("7F") or address == "00000000000000000000000001000000"


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            target = str(Path(entry.path).readlink())
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:
        return found
    return found


def _free_block(size: int) -> int:
    """Return the first of so many neighbouring free ports below the range of outgoing connections."""
    for first in range(15_000 + os.getpid() % 4_000, 20_900, size):
        if all(_free(port) for port in range(first, first + size)):
            return first
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
