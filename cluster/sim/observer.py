"""Observer of the simulated platform."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from cluster.ports import Clock, Ledger
from cluster.refusals import StaleGeneration
from cluster.sim.world import Scrub, World
from policies.model.inventory import Device
from policies.model.proof import DeviceRecord, ScrubProof, ScrubStep
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.units import DeviceId
from policies.model.workload import Demand

Noun = TypeVar("Noun")


class SimObserver:
    """Sees the world as it is, and the ledger's word on who holds each device.

    A device that telemetry does not see stays in the list as it was last seen, with a gap beside it; one that was never
    seen is a gap alone.
    """

    def __init__(self, world: World, ledger: Ledger, clock: Clock) -> None:
        self._world = world
        self._ledger = ledger
        self._clock = clock
        self._generation = 0
        self._last: dict[DeviceId, tuple[Device, int]] = {}

    def observe(self) -> Snapshot:
        """Return what is seen now."""
        self._generation += 1
        now = self._clock.now_ms()
        finish_scrubs(self._world, self._ledger, now)
        records = {record.device: record for record in self._ledger.devices()}
        world = self._world
        self._last |= {one.id: (one, now) for one in world.devices.values() if one.id not in world.hidden}
        return Snapshot(
            generation=self._generation,
            observed_at_ms=now,
            flavors=world.flavors,
            nodes=_sorted(world.nodes),
            devices=tuple(_seen(device, records.get(device.id)) for device, _ in _sorted(self._last)),
            workers=_sorted(world.workers),
            groups=_sorted(world.groups),
            demands=tuple(
                Demand(claim=claim, replicas=traffic.replicas, observed_at_ms=traffic.observed_at_ms)
                for claim, traffic in sorted(world.traffic.items())
            ),
            gaps=tuple(self._gap(device) for device in sorted(world.hidden)),
        )

    def _gap(self, device: DeviceId) -> Gap:
        since_ms = self._last[device][1] if device in self._last else 0
        return Gap(kind=GapKind.DEVICE, subject=device, cause="timeout", since_ms=since_ms)


def finish_scrubs(world: World, ledger: Ledger, now_ms: int) -> None:
    """Let the world reach this instant, and record the proof of each scrub that ended.

    A proof made under an older leadership is refused by the ledger and lost: the device stays SCRUBBING, and the new
    leader scrubs it again.
    """
    for device in world.advance(now_ms):
        scrub = world.scrubs.pop(device, None)
        if scrub is None:
            continue
        with suppress(StaleGeneration):
            ledger.record_scrub(_proof(world, scrub, now_ms), scrub.fencing)


def _proof(world: World, scrub: Scrub, now_ms: int) -> ScrubProof:
    step = ScrubStep(
        name="simulated",
        passed=scrub.device not in world.failing_scrubs,
        detail="no device is present; nothing was wiped",
        at_ms=now_ms,
    )
    return ScrubProof(
        device=scrub.device,
        from_domain=scrub.from_domain,
        to_domain=scrub.to_domain,
        steps=(step,),
        started_at_ms=scrub.since_ms,
        finished_at_ms=now_ms,
        simulated=True,
    )


def _seen(device: Device, record: DeviceRecord | None) -> Device:
    if record is None:
        return device
    return replace(device, domain=record.domain, scrub=record.scrub)


def _sorted(found: Mapping[Any, Noun]) -> tuple[Noun, ...]:
    return tuple(found[key] for key in sorted(found))
