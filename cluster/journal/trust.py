"""Devices that a person trusts again and whose agent does not yet: known after a restart, from the audit."""

from __future__ import annotations

import json

from cluster.journal.registry import SqliteRegistry
from cluster.journal.store import Store
from policies.model.units import DeviceId

TRUSTED = "device.trusted"
ENDED = "device.trust_ended"
"""The agent followed, or something new spoke against the device."""


class Trust:
    """What people said of devices, read from the audit and ended there: no state of its own."""

    def __init__(self, store: Store, registry: SqliteRegistry) -> None:
        self._store = store
        self._registry = registry

    def pending(self) -> dict[DeviceId, str]:
        """Return the devices whose release has not ended, with the reason lifted. Cost: one pass of the audit."""
        found: dict[DeviceId, str] = {}
        rows = self._store.rows(
            "SELECT kind, subject, body FROM audit WHERE kind IN (?, ?) ORDER BY seq", TRUSTED, ENDED
        )
        for kind, subject, body in rows:
            device = DeviceId(str(subject))
            if kind == TRUSTED:
                found[device] = str(json.loads(str(body)).get("lifted", ""))
            else:
                found.pop(device, None)
        return found

    def ended(self, device: DeviceId) -> None:
        """Record that nothing more is to be told to the agent."""
        self._registry.by("control-plane").note(ENDED, device)
