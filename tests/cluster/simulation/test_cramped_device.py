"""A device that says it is free and has no room: the whole loop, in the simulated platform."""

from __future__ import annotations

from dataclasses import replace

from cluster.loop import Loop
from cluster.sim.actuator import SimActuator
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryJournal, MemoryLedger, MemoryRegistry, Shared
from cluster.sim.observer import SimObserver
from cluster.sim.world import Traffic, World
from policies.model.inventory import GroupState
from policies.model.units import ClaimId, DeviceId
from policies.model.workload import Claim, ClaimKind, Shape
from tests.cluster.simulation.scene import TICK_MS, policy

CHAT = ClaimId("civil/justice:chat")


class Platform:
    """A loop over a simulated host, with one claim."""

    def __init__(self, devices: int) -> None:
        self.clock, self.world, shared = VirtualClock(), World(), Shared()
        self.world.add_node("node0", devices)
        registry, journal = MemoryRegistry(shared), MemoryJournal(shared)
        registry.put_policy(policy(devices))
        registry.put_claim(Claim(
            id=CHAT, tenant="civil/justice", kind=ClaimKind.SERVING, ladder=(Shape(flavors=()),), min_replicas=1,
            desired_replicas=1, max_replicas=1,
        ), expected_generation=None)  # fmt: skip
        journal.lead()
        shared.adopted = True
        ledger = MemoryLedger(shared, self.clock)
        observer = SimObserver(self.world, ledger, self.clock)
        self.loop = Loop(observer, SimActuator(self.world, ledger, self.clock), journal, self.clock)
        self.tried: list[DeviceId] = []
        self.sentences: list[str] = []

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.world.traffic[CHAT] = Traffic(replicas=1, observed_at_ms=self.clock.now_ms())
            done = self.loop.turn()
            self.sentences += [one.sentence for one in done.decision.reasons if one.claim == CHAT]
            self.tried += [
                one for group in self.world.groups.values() for one in group.devices if one not in self.tried
            ]
            self.clock.sleep_ms(TICK_MS)

    def where_it_runs(self) -> set[DeviceId]:
        return {one for group in self.world.groups.values() if group.running for one in group.devices}


def test_f12_what_runs_out_of_memory_on_one_device_runs_on_the_next() -> None:
    made = Platform(devices=2)
    made.turns(5)
    (first,) = {one for worker in made.world.workers.values() for one in worker.devices}
    made.world.cramped = {first}
    made.turns(400)
    assert len(made.where_it_runs()) == 1
    assert first not in made.where_it_runs()
    assert made.tried[0] == first
    assert any(f"({first})" in sentence for sentence in made.sentences), "while it waits it is told why"
    assert any(f"failed on {first}, so it is elsewhere" in sentence for sentence in made.sentences)


def test_the_only_device_is_tried_again_and_serves_once_it_has_room() -> None:
    made = Platform(devices=1)
    (only,) = made.world.devices
    made.world.cramped = {only}
    made.turns(200)
    assert made.where_it_runs() == set()
    assert {group.state for group in made.world.groups.values()} <= {GroupState.FAILED, GroupState.STARTING}
    made.world.cramped = set()
    made.world.devices[only] = replace(made.world.devices[only])
    made.turns(900)
    assert made.where_it_runs() == {only}
