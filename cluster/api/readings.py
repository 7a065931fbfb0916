"""What telemetry thinks of devices, and a person's word on it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cluster.api.inventory import Subject
from cluster.api.parts import Operator, Parts, Platform
from cluster.journal.trust import TRUSTED
from cluster.observe.telemetry.store import Seen, TelemetryStore
from cluster.refusals import NotFound
from policies.model.telemetry import HealthVerdict, Reading
from policies.model.units import DeviceId

routes = APIRouter(prefix="/v1", tags=["devices"])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """How busy a device is. None where it is not seen, too old or not supported: never zero."""

    device: DeviceId
    utilisation_percent: int | None
    memory_used_mib: int | None
    power_w: int | None
    temperature_c: int | None


class Release(BaseModel):
    """A person has looked at the device."""

    reason: str = Field(min_length=1, max_length=500, description="What was done, for those who ask later.")


@routes.get("/verdicts")
def verdicts(parts: Platform, _caller: Operator) -> tuple[HealthVerdict, ...]:
    """Return what telemetry thinks of every physical GPU, and why; nothing where devices are simulated."""
    return () if parts.readings is None else parts.readings.verdicts()


@routes.get("/readings")
def readings(parts: Platform, _caller: Operator) -> tuple[DeviceReading, ...]:
    """Return the load of every device, for screens; nothing where devices are simulated."""
    seen = () if parts.readings is None else parts.readings.devices()
    return tuple(_reading(each) for each in seen)


@routes.post("/devices/{subject}/release")
def release(parts: Platform, caller: Operator, subject: Subject, word: Release) -> HealthVerdict:
    """Trust a GPU again after a person has looked at it: suspect now, healthy once it has been quiet."""
    store, device = _store(parts, subject), DeviceId(subject)
    before, verdict = store.verdict(device), store.release(device)
    if before is None or verdict is None:
        raise NotFound("device", subject)
    parts.registry.by(caller.name).note(TRUSTED, subject, reason=word.reason, lifted=before.reason)
    parts.wake()
    return verdict


def _reading(seen: Seen) -> DeviceReading:
    load = seen.sample.load
    activity, power = _known(load.activity_permille()), _known(load.power_mw)
    return DeviceReading(
        device=seen.fact.device,
        utilisation_percent=None if activity is None else activity // 10,
        memory_used_mib=_known(load.memory_used_mib),
        power_w=None if power is None else power // 1000,
        temperature_c=_known(load.temperature_c),
    )


def _known(reading: Reading) -> int | None:
    return reading if isinstance(reading, int) else None


def _store(parts: Parts, subject: str) -> TelemetryStore:
    if parts.readings is None:
        raise NotFound("device", subject)
    return parts.readings
