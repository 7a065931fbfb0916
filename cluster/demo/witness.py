"""A witness beside the story: samples the platform all through it and holds it to its promises."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from cluster.client import Client, Problem, Unreachable
from cluster.ports import Clock

SAMPLE_MS = 250
PAGE = 500


@dataclass(slots=True)
class Testimony:
    """What was seen."""

    samples: int = 0
    absences: int = 0
    """Samples in which no control plane answered."""
    shared: list[str] = field(default_factory=list)
    """Devices seen in two domains at once, one sentence each."""
    starved: list[str] = field(default_factory=list)
    """Tenants seen below what their floor and demand promise."""
    simulated: bool = False


class Witness:
    """Samples until told to stop."""

    def __init__(self, client: Client, clock: Clock, floor_of: str) -> None:
        self._client = client
        self._clock = clock
        self._floor_of = floor_of
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.testimony = Testimony()

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> Testimony:
        """Stop and return what was seen."""
        self._stop.set()
        self._thread.join(30)
        return self.testimony

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                snapshot = self._client.get("/v1/snapshot")
                shares = self._client.items("/v1/shares")
            except (Unreachable, Problem):
                self.testimony.absences += 1
            else:
                self._note(snapshot, shares)
            self._clock.sleep_ms(SAMPLE_MS)

    def _note(self, snapshot: dict[str, Any], shares: list[dict[str, Any]]) -> None:
        found = self.testimony
        found.samples += 1
        found.simulated = any(device["simulated"] for device in snapshot["devices"])
        found.shared += in_two_domains(snapshot)
        found.starved += below_floor(shares, self._floor_of)


def in_two_domains(snapshot: dict[str, Any]) -> list[str]:
    """Return a sentence for each physical GPU on which workers of two domains exist at once."""
    gpu_of = {device["id"]: device["gpu"] for device in snapshot["devices"]}
    holders: dict[str, set[str]] = {}
    for worker in snapshot["workers"]:
        for device in worker["devices"]:
            holders.setdefault(gpu_of.get(device, device), set()).add(worker["domain"])
    return [f"{gpu} is in {' and '.join(sorted(domains))}" for gpu, domains in holders.items() if len(domains) > 1]


def below_floor(shares: list[dict[str, Any]], tenant: str) -> list[str]:
    """Return a sentence if the tenant holds less than both its floor and its demand."""
    return [
        f"{tenant} holds {share['entitlement']['held_millis']} of {share['entitlement']['flavor']}"
        for share in shares
        if share["entitlement"]["tenant"] == tenant
        and share["entitlement"]["held_millis"] < min(share["floor_millis"], share["entitlement"]["demand_millis"])
    ]


def unproved_moves(client: Client, after: int) -> tuple[int, list[str]]:
    """Return how many devices changed domain since an event, and a sentence for each change without a passed proof.

    Read from the sealed audit log, so that nothing between two samples is missed.
    """
    moves, faults = 0, []
    last: dict[str, str] = {}
    proved: set[str] = set()
    for event in _events(client, after):
        device, kind = event["subject"], event["kind"]
        if kind == "scrub.recorded" and all(step["passed"] for step in event["body"]["proof"]["steps"]):
            proved.add(device)
        if kind == "device.bound":
            domain = event["body"]["record"]["domain"]
            if last.get(device, domain) != domain:
                moves += 1
                if device not in proved:
                    faults.append(f"{device} went from {last[device]} to {domain} without a passed proof")
            last[device] = domain
            proved.discard(device)
        if kind == "device.released":
            last.setdefault(device, event["body"]["record"]["domain"])
    return moves, faults


def _events(client: Client, after: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = client.get("/v1/events", after=after, limit=PAGE)
        if page["revision"] == after:
            return found
        found += page["items"]
        after = page["revision"]
