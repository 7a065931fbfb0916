"""What people asked for: claims, policy, keys, cordons. Every change is attributed in the audit log."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from cluster.journal.audit import AuditEntry, append
from cluster.journal.recorded import recorded
from cluster.journal.store import Store
from cluster.ports import Clock
from cluster.refusals import Conflict, LimitReached, NotFound
from policies.model.codec import digest, to_json, to_plain
from policies.model.inventory import Cordon
from policies.model.policy import Policy
from policies.model.routing import KeyRecord
from policies.model.units import ClaimId, SecurityDomain
from policies.model.workload import Claim, Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Most objects that one tenant may have."""

    claims_per_tenant: int = 10_000
    keys_per_tenant: int = 100
    reservations_per_tenant: int = 100


ENDED_KEPT_MS = 86_400_000
"""Reservations stay visible for a day after their end."""


class SqliteRegistry:
    """Registry in the journal's file, on behalf of one actor."""

    def __init__(self, store: Store, clock: Clock, caps: Caps | None = None, actor: str = "operator") -> None:
        self._store = store
        self._clock = clock
        self._caps = caps or Caps()
        self._actor = actor

    def by(self, actor: str) -> SqliteRegistry:
        """Return the same registry, its changes attributed to the actor."""
        return SqliteRegistry(self._store, self._clock, self._caps, actor)

    def put_claim(self, claim: Claim, *, expected_generation: int | None) -> Claim:
        """Store the claim with the next generation and return it; an equal claim keeps its generation.

        Raises ``Conflict`` if the expected generation is not the stored one, ``LimitReached`` for one claim too many.
        """
        with self._store.write("put_claim") as connection:
            stored = _stored_claim(connection, claim.id)
            current = stored.generation if stored else 0
            if expected_generation is not None and expected_generation != current:
                raise Conflict(f"claim {claim.id}", expected_generation, current)
            if stored is not None and replace(claim, generation=current) == stored:
                return stored
            if stored is None:
                self._refuse_one_too_many(connection, "claim", claim.tenant, self._caps.claims_per_tenant)
                current = _fact(connection, "claim_floor")
            kept = replace(claim, generation=current + 1)
            connection.execute(
                "INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?)",
                (kept.id, kept.tenant, kept.generation, to_json(kept)),
            )
            _bump(connection, "claims_version")
            self._audit(connection, "claim.put", kept.id, kept.tenant, (("claim", to_plain(kept)),))
            return kept

    def delete_claim(self, claim: ClaimId, *, expected_generation: int | None = None) -> None:
        """Remove the claim; its groups drain. Raises ``NotFound`` or ``Conflict``."""
        with self._store.write("delete_claim") as connection:
            stored = _stored_claim(connection, claim)
            if stored is None:
                raise NotFound("claim", claim)
            if expected_generation is not None and expected_generation != stored.generation:
                raise Conflict(f"claim {claim}", expected_generation, stored.generation)
            connection.execute("DELETE FROM claim WHERE id = ?", (claim,))
            connection.execute("UPDATE fact SET value = max(value, ?) WHERE name = 'claim_floor'", (stored.generation,))
            _bump(connection, "claims_version")
            self._audit(connection, "claim.deleted", claim, stored.tenant)

    def put_policy(self, policy: Policy) -> None:
        """Make the policy the one in force, whole. The one already in force again changes nothing."""
        new = digest(policy)
        with self._store.write("put_policy") as connection:
            last = connection.execute("SELECT digest FROM policy ORDER BY number DESC LIMIT 1").fetchone()
            if last and last[0] == new:
                return
            connection.execute(
                "INSERT INTO policy (digest, at_ms, body) VALUES (?, ?, ?)",
                (new, self._clock.now_ms(), to_json(policy)),
            )
            body = (("digest", new), ("previous", last[0] if last else ""))
            self._audit(connection, "policy.put", policy.revision, None, body)

    def keys(self, domain: SecurityDomain) -> tuple[KeyRecord, ...]:
        """Return the API keys of the domain's tenants, sorted by prefix."""
        bodies = self._store.texts("SELECT body FROM api_key WHERE domain = ? ORDER BY prefix", domain)
        return tuple(recorded(KeyRecord, body) for body in bodies)

    def put_key(self, key: KeyRecord) -> None:
        """Store the key's record; the same prefix replaces it. Raises ``LimitReached``."""
        with self._store.write("put_key") as connection:
            self._refuse_one_too_many(connection, "api_key", key.tenant, self._caps.keys_per_tenant)
            connection.execute(
                "INSERT OR REPLACE INTO api_key VALUES (?, ?, ?, ?)",
                (key.prefix, key.tenant.split("/")[0], key.tenant, to_json(key)),
            )
            body = (("expires_at_ms", key.expires_at_ms), ("models", list(key.models)))
            self._audit(connection, "key.put", key.prefix, key.tenant, body)

    def delete_key(self, prefix: str) -> None:
        """Revoke the key. Raises ``NotFound``."""
        with self._store.write("delete_key") as connection:
            row = connection.execute("SELECT tenant FROM api_key WHERE prefix = ?", (prefix,)).fetchone()
            if row is None:
                raise NotFound("key", prefix)
            connection.execute("DELETE FROM api_key WHERE prefix = ?", (prefix,))
            self._audit(connection, "key.revoked", prefix, str(row[0]))

    def cordon(self, subject: str, kind: str, reason: str) -> None:
        """Take a node or device out of use: it is emptied and receives nothing."""
        record = Cordon(subject=subject, kind=kind, reason=reason, actor=self._actor, since_ms=self._clock.now_ms())
        with self._store.write("cordon") as connection:
            connection.execute("INSERT OR REPLACE INTO cordon VALUES (?, ?)", (subject, to_json(record)))
            self._audit(connection, f"{kind}.drained", subject, None, (("reason", reason),))

    def uncordon(self, subject: str) -> None:
        """Put it back into use. Raises ``NotFound`` if it was not out of use."""
        with self._store.write("uncordon") as connection:
            if connection.execute("DELETE FROM cordon WHERE subject = ?", (subject,)).rowcount == 0:
                raise NotFound("cordon", subject)
            self._audit(connection, "cordon.ended", subject, None)

    def put_reservation(self, reservation: Reservation) -> None:
        """Keep the capacity; the same id replaces it. Those that ended over a day ago are forgotten on the way.

        Raises ``LimitReached``.
        """
        with self._store.write("put_reservation") as connection:
            for body in connection.execute("SELECT body FROM reservation").fetchall():
                old = recorded(Reservation, body[0])
                if old.ends_at_ms < self._clock.now_ms() - ENDED_KEPT_MS:
                    connection.execute("DELETE FROM reservation WHERE id = ?", (old.id,))
            if not connection.execute("SELECT id FROM reservation WHERE id = ?", (reservation.id,)).fetchall():
                cap = self._caps.reservations_per_tenant
                self._refuse_one_too_many(connection, "reservation", reservation.tenant, cap)
            connection.execute(
                "INSERT OR REPLACE INTO reservation VALUES (?, ?, ?)",
                (reservation.id, reservation.tenant, to_json(reservation)),
            )
            body = (("reservation", to_plain(reservation)),)
            self._audit(connection, "reservation.put", reservation.id, reservation.tenant, body)

    def delete_reservation(self, reservation: str) -> None:
        """Give the capacity up. Raises ``NotFound``."""
        with self._store.write("delete_reservation") as connection:
            row = connection.execute("SELECT tenant FROM reservation WHERE id = ?", (reservation,)).fetchone()
            if row is None:
                raise NotFound("reservation", reservation)
            connection.execute("DELETE FROM reservation WHERE id = ?", (reservation,))
            self._audit(connection, "reservation.deleted", reservation, str(row[0]))

    def note(self, kind: str, subject: str, tenant: str | None = None, **body: object) -> None:
        """Add an audit record for something that changed nothing here, such as a refused request."""
        with self._store.write("note") as connection:
            self._audit(connection, kind, subject, tenant, tuple(sorted(body.items())))

    def _refuse_one_too_many(self, connection: sqlite3.Connection, table: str, tenant: str, limit: int) -> None:
        count = connection.execute(f"SELECT count(*) FROM {table} WHERE tenant = ?", (tenant,)).fetchone()[0]  # noqa: S608  # two constants
        if count >= limit:
            raise LimitReached(
                f"tenant {tenant} has {count} {table}s", limit, f"{table.removeprefix('api_')}s_per_tenant"
            )

    def _audit(
        self,
        connection: sqlite3.Connection,
        kind: str,
        subject: str,
        tenant: str | None,
        body: tuple[tuple[str, object], ...] = (),
    ) -> None:
        entry = AuditEntry(actor=self._actor, kind=kind, subject=subject, tenant=tenant, body=body)
        append(connection, entry, self._clock.now_ms())


def _stored_claim(connection: sqlite3.Connection, claim: ClaimId) -> Claim | None:
    row = connection.execute("SELECT body FROM claim WHERE id = ?", (claim,)).fetchone()
    return recorded(Claim, row[0]) if row else None


def _fact(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()[0])


def _bump(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("UPDATE fact SET value = value + 1 WHERE name = ?", (name,))
