"""The wait for the workers that are kept ready for moves: the platform answers without them, its moves are slower."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from cluster.clock import SystemClock
from cluster.embedded.adapters import dashboard
from cluster.embedded.nodes import LAUNCH_LABEL, machine, worker_records
from cluster.embedded.platform import total_memory_mib
from cluster.embedded.processes import ProcessRecord, is_alive
from cluster.embedded.progress import Lines, Progress, Stopwatch
from cluster.observe.inventory import read_inventory, this_node
from cluster.ports import Clock
from cluster.ray_rest import RayUnreadable
from cluster.settings import Settings
from policies.model.units import DeviceId, SecurityDomain

POLL_MS = 500
DASHBOARD_TIMEOUT_S = 5.0
STALLED_MS = 30_000
"""No worker is started ahead while something moves: where none came for this long, nobody goes on waiting."""
LIMIT_MS = 120_000

Seen = Callable[[], tuple[int, int]]
"""Says how many workers stand ready, and how many are wanted."""


def until_kept_ready(settings: Settings, say: Callable[[str], None], progress: Progress | None = None) -> None:
    """Return once a worker of each domain runs beside every device, or none came for a while; the step says which."""
    here, clock = machine(settings), SystemClock()
    devices = [device.id for device in read_inventory(this_node(), settings.simulated_devices).devices]
    pairs = [(domain, device) for domain in SecurityDomain for device in devices]

    def seen() -> tuple[int, int]:
        return len(covered(worker_records(here), _joined(settings)).intersection(pairs)), len(pairs)

    watch = Stopwatch(progress or Lines(say), clock, lambda: total_memory_mib(here))
    with watch.step("workers kept ready for moves") as notes:
        notes.append(wait(seen, clock))


def covered(known: Iterable[ProcessRecord], joined: set[str]) -> set[tuple[SecurityDomain | None, DeviceId]]:
    """Return the devices that each domain has a living worker for that has joined its cluster."""
    ready = [record.spec for record in known if record.spec.launch in joined and is_alive(record)]
    return {(spec.domain, device) for spec in ready for device in spec.devices}


def wait(seen: Seen, clock: Clock) -> str:
    """Return how it ended once all stand ready, or once none came for ``STALLED_MS``, or after ``LIMIT_MS``."""
    course = Course(clock.monotonic_ms())
    while True:
        ready, wanted = seen()
        if ready >= wanted:
            return f"{ready} of {wanted}"
        if course.is_over(ready, clock.monotonic_ms()):
            return f"{ready} of {wanted}; the others follow when nothing moves, until then a move takes longer"
        clock.sleep_ms(POLL_MS)


@dataclass(slots=True)
class Course:
    """How the wait has gone so far."""

    began_ms: int
    most: int = -1
    grew_ms: int = 0

    def is_over(self, ready: int, now_ms: int) -> bool:
        """Note what is ready now, and say whether it is no use to wait longer."""
        if ready > self.most:
            self.most, self.grew_ms = ready, now_ms
        return now_ms - self.grew_ms >= STALLED_MS or now_ms - self.began_ms >= LIMIT_MS


def _joined(settings: Settings) -> set[str]:
    """Return the launches whose Ray node lives; those of a cluster that does not answer are left out."""
    found: set[str] = set()
    for domain in SecurityDomain:
        ray = dashboard(settings, domain, DASHBOARD_TIMEOUT_S)
        with suppress(RayUnreadable):
            found.update(node.labels[LAUNCH_LABEL] for node in ray.nodes() if LAUNCH_LABEL in node.labels)
        ray.close()
    return found
