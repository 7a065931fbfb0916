"""The authority on who holds each device: a device changes domain only over a recorded, passed proof."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace

from cluster.custody import after_scrub, refuse_binding
from cluster.journal.audit import AuditEntry, append
from cluster.journal.recorded import recorded
from cluster.journal.sqlite import ACTOR
from cluster.journal.store import Store
from cluster.ports import Clock
from cluster.refusals import DeviceHeld
from policies.model.codec import to_json, to_plain
from policies.model.inventory import ScrubState
from policies.model.proof import DeviceRecord, ScrubProof
from policies.model.units import DeviceId, SecurityDomain, WorkerId


class SqliteLedger:
    """Ledger in the journal's file."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def devices(self) -> tuple[DeviceRecord, ...]:
        """Return the record of every device ever bound, sorted by id."""
        return tuple(recorded(DeviceRecord, body) for body in self._store.texts("SELECT body FROM device ORDER BY id"))

    def bind(self, worker: WorkerId, domain: SecurityDomain, devices: tuple[DeviceId, ...], fencing: int) -> None:
        """Record that the worker holds the devices, all or none. See the port for what is refused."""
        with self._store.write("bind", fencing) as connection:
            records = [_record(connection, device) for device in devices]
            for record in records:
                refuse_binding(record, worker, domain)
            for record in records:
                if record.worker != worker:
                    held = replace(record, scrub=ScrubState.DIRTY, domain=domain, worker=worker)
                    self._put(connection, held, fencing, "device.bound")

    def release(self, worker: WorkerId, fencing: int) -> None:
        """Record that the worker holds nothing; its devices stay dirty in its domain."""
        held = [record for record in self.devices() if record.worker == worker]
        if not held:
            return
        with self._store.write("release", fencing) as connection:
            for record in held:
                self._put(connection, replace(record, worker=None), fencing, "device.released")

    def rename(self, names: Mapping[DeviceId, WorkerId], fencing: int) -> None:
        """Record that the holders of these devices are called so now, all or none; who holds what does not change."""
        if not names:
            return
        with self._store.write("rename", fencing) as connection:
            for device, name in sorted(names.items()):
                record = _record(connection, device)
                if record.worker not in (None, name):
                    self._put(connection, replace(record, worker=name), fencing, "device.renamed")

    def scrubbing(self, device: DeviceId, fencing: int) -> None:
        """Record that a scrub began. Raises ``DeviceHeld`` while a worker holds the device."""
        with self._store.write("scrubbing", fencing) as connection:
            record = _record(connection, device)
            if record.worker is not None:
                raise DeviceHeld(device, record.worker)
            if record.scrub is not ScrubState.SCRUBBING:
                self._put(connection, replace(record, scrub=ScrubState.SCRUBBING), fencing, "device.scrubbing")

    def record_scrub(self, proof: ScrubProof, fencing: int) -> None:
        """Record the proof: the device is clean if it passed, else FAILED. Raises ``DeviceHeld`` if it is held."""
        with self._store.write("record_scrub", fencing) as connection:
            record = _record(connection, proof.device)
            if record.worker is not None:
                raise DeviceHeld(proof.device, record.worker)
            connection.execute("INSERT INTO proof (device, body) VALUES (?, ?)", (proof.device, to_json(proof)))
            entry = AuditEntry(
                actor=ACTOR, kind="scrub.recorded", subject=proof.device, body=(("proof", to_plain(proof)),)
            )
            append(connection, entry, self._clock.now_ms())
            self._put(connection, after_scrub(record, proof), fencing, "device.scrubbed")

    def proofs(self) -> tuple[ScrubProof, ...]:
        """Return every proof, oldest first."""
        return tuple(recorded(ScrubProof, body) for body in self._store.texts("SELECT body FROM proof ORDER BY number"))

    def _put(self, connection: sqlite3.Connection, record: DeviceRecord, fencing: int, kind: str) -> None:
        now = self._clock.now_ms()
        stamped = replace(record, fencing_generation=fencing, changed_at_ms=now)
        connection.execute("INSERT OR REPLACE INTO device VALUES (?, ?)", (stamped.device, to_json(stamped)))
        append(
            connection,
            AuditEntry(actor=ACTOR, kind=kind, subject=stamped.device, body=(("record", to_plain(stamped)),)),
            now,
        )


def _record(connection: sqlite3.Connection, device: DeviceId) -> DeviceRecord:
    row = connection.execute("SELECT body FROM device WHERE id = ?", (device,)).fetchone()
    return recorded(DeviceRecord, row[0]) if row else DeviceRecord(device=device)
