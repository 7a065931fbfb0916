"""The platform of a drill as a process: a real control plane over a simulated world that obeys a director.

The director writes one JSON object a line to standard input; what it says takes effect before the next observation.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from typing import Any

from cluster.main import PLATFORMS, Adapters, Kept, lead_and_run
from cluster.ports import Clock, Observer
from cluster.settings import from_environment
from cluster.sim.actuator import SimActuator
from cluster.sim.observer import SimObserver
from cluster.sim.world import Pace, Traffic, World
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId

NODES = ("gpu-node-1", "gpu-node-2")
DEVICES_PER_NODE = 2
BRISK = Pace(worker_start_ms=600, worker_stop_ms=200, group_start_ms=800, drain_ms=700, scrub_ms=500)
"""Quicker than life, so that a drill trains people and not their patience."""


class DirectedObserver:
    """Sees the world after doing what the director said."""

    def __init__(self, inner: Observer, world: World, clock: Clock, orders: queue.SimpleQueue[dict[str, Any]]) -> None:
        self._inner, self._world, self._clock, self._orders = inner, world, clock, orders
        self._halted = False

    def observe(self) -> Snapshot:
        """Return what is seen. Raises ``RuntimeError`` while the director holds the control plane down."""
        while not self._orders.empty():
            self._obey(self._orders.get())
        for traffic in self._world.traffic.values():
            traffic.observed_at_ms = self._clock.now_ms()
        if self._halted:
            raise RuntimeError("the drill holds the control plane down")
        return self._inner.observe()

    def _obey(self, order: dict[str, Any]) -> None:
        match order:
            case {"lose": device}:
                self._world.lose(DeviceId(device))
            case {"hide": devices}:
                self._world.hidden = set(devices)
            case {"traffic": claim, "replicas": replicas}:
                self._world.traffic[ClaimId(claim)] = Traffic(
                    replicas=int(replicas), observed_at_ms=self._clock.now_ms()
                )
            case {"halt": halted}:
                self._halted = bool(halted)
            case _:
                logging.getLogger("partage.drill").warning("the director said something unknown: %s", order)


def directed(kept: Kept) -> Adapters:
    """Return the adapters of a drill's platform."""
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    world = World(pace=BRISK)
    for node in NODES:
        world.add_node(node, DEVICES_PER_NODE)
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    seen = DirectedObserver(SimObserver(world, kept.ledger, kept.clock), world, kept.clock, orders)
    return Adapters(observer=seen, actuator=SimActuator(world, kept.ledger, kept.clock))


def _listen(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))


def main() -> int:
    """Run until the director ends it; return the exit status."""
    logging.basicConfig(level=logging.WARNING)
    PLATFORMS["drill"] = directed
    return lead_and_run(from_environment(), "drill")


if __name__ == "__main__":
    sys.exit(main())
