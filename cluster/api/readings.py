"""What telemetry thinks of devices, and a person's word on it."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cluster.api.inventory import Subject
from cluster.api.parts import Operator, Parts, Platform
from cluster.observe.telemetry.store import TelemetryStore
from cluster.refusals import NotFound
from policies.model.telemetry import HealthVerdict
from policies.model.units import DeviceId

routes = APIRouter(prefix="/v1", tags=["devices"])


class Release(BaseModel):
    """A person has looked at the device."""

    reason: str = Field(min_length=1, max_length=500, description="What was done, for those who ask later.")


@routes.get("/verdicts")
def verdicts(parts: Platform, _caller: Operator) -> tuple[HealthVerdict, ...]:
    """Return what telemetry thinks of every physical GPU, and why; nothing where devices are simulated."""
    return () if parts.readings is None else parts.readings.verdicts()


@routes.post("/devices/{subject}/release")
def release(parts: Platform, caller: Operator, subject: Subject, word: Release) -> HealthVerdict:
    """Trust a GPU again after a person has looked at it: suspect now, healthy once it has been quiet."""
    verdict = _store(parts, subject).release(DeviceId(subject))
    if verdict is None:
        raise NotFound("device", subject)
    parts.registry.by(caller.name).note("device.released", subject, reason=word.reason)
    parts.wake()
    return verdict


def _store(parts: Parts, subject: str) -> TelemetryStore:
    if parts.readings is None:
        raise NotFound("device", subject)
    return parts.readings
