"""The journal of the control loop: what was intended and done, under which leadership."""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import dataclass

from cluster.journal.audit import AuditEntry, append
from cluster.journal.recorded import recorded
from cluster.journal.store import Store
from cluster.ports import Clock
from cluster.refusals import NoPolicy
from policies.model.codec import digest, to_json, to_plain
from policies.model.decision import Decision
from policies.model.inventory import Cordon
from policies.model.memory import Memory
from policies.model.plan import Outcome, OutcomeStatus, Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim, Reservation

ACTOR = "control-plane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of the past is kept for replay. The audit log is kept for ever."""

    decisions: int = 2_000
    snapshots: int = 500
    bytes: int = 536_870_912


class SqliteJournal:
    """Journal in one SQLite file."""

    def __init__(self, store: Store, clock: Clock, retention: Retention | None = None) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention or Retention()
        self._generation = 0
        self._policy: tuple[int, Policy] | None = None
        self._claims: tuple[int, tuple[Claim, ...]] | None = None
        self._parsed: dict[str, Claim] = {}
        self._memory: Memory | None = None

    def lead(self, above: int = 0) -> int:
        """Become the leader: from now on every older leader is refused. Returns the new fencing generation.

        It is newer than ``above`` too: a journal that was put back from a backup has forgotten generations that others
        have seen.
        """
        with self._store.write("lead") as connection:
            connection.execute("UPDATE fact SET value = max(value, ?) + 1 WHERE name = 'fencing'", (above,))
            found = connection.execute("SELECT value FROM fact WHERE name = 'fencing'").fetchone()
            append(connection, AuditEntry(actor=ACTOR, kind="leader.took_over", subject=str(found[0])), self._now())
        self._generation = int(found[0])
        return self._generation

    def fencing_generation(self) -> int:
        """Return the generation taken by ``lead``; 0 before."""
        return self._generation

    def policy(self) -> Policy:
        """Return the policy in force. Raises ``NoPolicy``."""
        number = self._store.number("SELECT max(number) FROM policy")
        if number == 0:
            raise NoPolicy
        if self._policy is None or self._policy[0] != number:
            body = self._store.texts("SELECT body FROM policy WHERE number = ?", number)[0]
            self._policy = (number, recorded(Policy, body, f"policy {number}"))
        return self._policy[1]

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims asked for, sorted by id. Only a claim that changed is parsed, the others are the same."""
        version = self._store.number("SELECT value FROM fact WHERE name = 'claims_version'")
        if self._claims is None or self._claims[0] != version:
            bodies, known = self._store.texts("SELECT body FROM claim ORDER BY id"), self._parsed
            self._parsed = {body: known.get(body) or recorded(Claim, body) for body in bodies}
            self._claims = (version, tuple(self._parsed.values()))
        return self._claims[1]

    def cordons(self) -> tuple[Cordon, ...]:
        """Return what an operator took out of use, sorted by subject."""
        return tuple(recorded(Cordon, body) for body in self._store.texts("SELECT body FROM cordon ORDER BY subject"))

    def reservations(self) -> tuple[Reservation, ...]:
        """Return the capacity kept for tenants at given times, sorted by id; ended ones are among them for a while."""
        bodies = self._store.texts("SELECT body FROM reservation ORDER BY id")
        return tuple(recorded(Reservation, body) for body in bodies)

    def memory(self) -> Memory:
        """Return the memory of the last journalled decision."""
        if self._memory is None:
            bodies = self._store.texts("SELECT body FROM memory")
            self._memory = recorded(Memory, bodies[0], "the memory of the last decision") if bodies else Memory()
        return self._memory

    def intend(self, snapshot: Snapshot, decision: Decision, plan: Plan) -> None:
        """Record snapshot, decision and plan in one transaction, before anything moves."""
        before = self.memory()
        with self._store.write("intend", plan.fencing_generation) as connection:
            self._insert(connection, snapshot, decision, plan, before)
            connection.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (to_json(decision.memory),))
            if plan.actions:
                append(connection, _intended(decision, plan), self._now())
            self._prune(connection)
        self._memory = decision.memory

    def settle(self, outcome: Outcome) -> None:
        """Record what became of the plan."""
        with self._store.write("settle", self._generation) as connection:
            connection.execute(
                "UPDATE decision SET outcome = ? WHERE number = (SELECT max(number) FROM decision WHERE plan_id = ?)",
                (to_json(outcome), outcome.plan),
            )
            if outcome.results:
                append(connection, _settled(outcome), self._now())

    def adopted(self) -> bool:
        """Return whether what runs is known to this journal; False for a new one until someone says so."""
        return bool(self._store.number("SELECT value FROM fact WHERE name = 'adopted'"))

    def adopt(self, actor: str) -> None:
        """Record that the journal now accounts for what runs: from here on the loop may stop it."""
        with self._store.write("adopt") as connection:
            connection.execute("UPDATE fact SET value = 1 WHERE name = 'adopted'")
            append(connection, AuditEntry(actor=actor, kind="world.adopted", subject="platform"), self._now())

    def _insert(
        self, connection: sqlite3.Connection, snapshot: Snapshot, decision: Decision, plan: Plan, before: Memory
    ) -> None:
        packed = [zlib.compress(to_json(noun).encode(), 1) for noun in (decision, snapshot, before)]
        connection.execute(
            "INSERT INTO decision (plan_id, fencing, at_ms, policy_digest, snapshot_digest, decision_digest, plan,"
            " decision, snapshot, memory_before, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                plan.id,
                plan.fencing_generation,
                decision.decided_at_ms,
                decision.policy_digest,
                digest(snapshot),
                digest(decision),
                to_json(plan),
                *packed,
                sum(len(part) for part in packed),
            ),
        )

    def _prune(self, connection: sqlite3.Connection) -> None:
        newest = connection.execute("SELECT max(number) FROM decision").fetchone()[0]
        connection.execute("DELETE FROM decision WHERE number <= ?", (newest - self._retention.decisions,))
        connection.execute(
            "UPDATE decision SET snapshot = NULL, memory_before = NULL, size = length(decision)"
            " WHERE number <= ? AND snapshot IS NOT NULL",
            (newest - self._retention.snapshots,),
        )
        connection.execute(
            "DELETE FROM decision WHERE number <= (SELECT max(number) FROM (SELECT number,"
            " sum(size) OVER (ORDER BY number DESC) AS total FROM decision) AS sized WHERE total > ?) AND number < ?",
            (self._retention.bytes, newest),
        )

    def _now(self) -> int:
        return self._clock.now_ms()


def _intended(decision: Decision, plan: Plan) -> AuditEntry:
    return AuditEntry(
        actor=ACTOR,
        kind="plan.intended",
        subject=plan.id,
        body=(
            ("actions", [to_plain(action) for action in plan.actions]),
            ("evictions", [to_plain(eviction) for eviction in decision.evictions]),
            ("policy", decision.policy_digest),
            ("fencing", plan.fencing_generation),
        ),
    )


def _settled(outcome: Outcome) -> AuditEntry:
    counts = {status.value: sum(r.status is status for r in outcome.results) for status in OutcomeStatus}
    faults = [
        {"action": result.action.kind, "status": result.status.value, "detail": result.detail[:500]}
        for result in outcome.results
        if result.status is not OutcomeStatus.ACCEPTED
    ]
    return AuditEntry(
        actor=ACTOR, kind="plan.settled", subject=outcome.plan, body=(("counts", counts), ("faults", faults))
    )
