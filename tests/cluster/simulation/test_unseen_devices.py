"""The simulated observer says of what it does not see what real ones say: it is there, and was last seen then."""

from __future__ import annotations

from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryLedger, Shared
from cluster.sim.observer import SimObserver
from cluster.sim.world import World
from policies.model.inventory import DeviceHealth
from policies.model.units import DeviceId

FIRST, SECOND = DeviceId("GPU-node0-0"), DeviceId("GPU-node0-1")


def test_a_device_that_is_no_longer_seen_stays_as_it_was_last_seen_with_the_time_of_that():
    world, clock = World(), VirtualClock()
    world.add_node("node0", 2)
    observer = SimObserver(world, MemoryLedger(Shared(), clock), clock)
    last = observer.observe()
    clock.sleep_ms(5_000)
    world.hidden.add(FIRST)
    world.lose(FIRST)
    seen = observer.observe()
    assert [one.id for one in seen.devices] == [FIRST, SECOND]
    assert seen.devices[0].health is DeviceHealth.HEALTHY, "nobody saw it break"
    assert [(gap.subject, gap.since_ms) for gap in seen.gaps] == [(FIRST, last.observed_at_ms)]


def test_a_device_that_was_never_seen_is_a_gap_and_no_device():
    world, clock = World(), VirtualClock()
    world.add_node("node0", 2)
    world.hidden.add(SECOND)
    seen = SimObserver(world, MemoryLedger(Shared(), clock), clock).observe()
    assert [one.id for one in seen.devices] == [FIRST]
    assert [(gap.subject, gap.since_ms) for gap in seen.gaps] == [(SECOND, 0)]
