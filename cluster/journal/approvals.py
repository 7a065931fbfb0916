"""Changes that need two people: declared by one, in force once another approves the very same thing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from cluster.journal.audit import AuditEntry, append
from cluster.journal.recorded import recorded
from cluster.journal.store import Store
from cluster.ports import Clock
from cluster.refusals import NotFound, Refusal
from policies.model.codec import digest, to_json
from policies.model.policy import ModeDeclaration, OperatingMode, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A mode that one person declared."""

    id: str
    mode: OperatingMode
    hours: int
    reason: str
    declared_by: str
    declared_at_ms: int
    policy_digest: str
    """Policy that it was declared on: approved only while that is in force."""
    lapses_at_ms: int
    """Afterwards it can no longer be approved."""


class ApprovalRefused(Refusal):
    """What was declared cannot be approved, by this person or at all."""

    code = "approval_refused"

    def __init__(self, declared: str, why: str) -> None:
        super().__init__(declared, why)
        self.declared, self.why = declared, why

    def __str__(self) -> str:
        return f"declaration {self.declared} cannot be approved: {self.why}"


class SqliteApprovals:
    """Declarations in the journal's file."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def declare(self, declared: Declared) -> Declared:
        """Keep the declaration, under a name made from what it says."""
        named = replace(declared, id=hashlib.sha256(to_json(replace(declared, id="")).encode()).hexdigest()[:12])
        with self._store.write("declare") as connection:
            connection.execute("DELETE FROM declaration WHERE id = ?", (named.id,))
            connection.execute("INSERT INTO declaration VALUES (?, ?)", (named.id, to_json(named)))
            body = (("mode", named.mode.value), ("hours", named.hours), ("reason", named.reason))
            entry = AuditEntry(actor=named.declared_by, kind="mode.declared", subject=named.id, body=body)
            append(connection, entry, self._clock.now_ms())
        return named

    def pending(self) -> tuple[Declared, ...]:
        """Return what waits for a second person, oldest first."""
        bodies = self._store.texts("SELECT body FROM declaration")
        found = [recorded(Declared, body) for body in bodies]
        current = [declared for declared in found if self._clock.now_ms() < declared.lapses_at_ms]
        return tuple(sorted(current, key=lambda declared: (declared.declared_at_ms, declared.id)))

    def approved(self, name: str, person: str, policy: Policy) -> Policy:
        """Return the policy with the mode in it; the declaration is used up. May raise ``ApprovalRefused``."""
        declared = next((found for found in self.pending() if found.id == name), None)
        if declared is None:
            raise NotFound("declaration", name)
        if person == declared.declared_by:
            raise ApprovalRefused(name, f"{person} declared it; another person must approve it")
        if digest(policy) != declared.policy_digest:
            raise ApprovalRefused(name, "the policy was changed since; declare it again")
        now = self._clock.now_ms()
        with self._store.write("approve") as connection:
            connection.execute("DELETE FROM declaration WHERE id = ?", (name,))
            body = (("mode", declared.mode.value), ("declared_by", declared.declared_by))
            append(connection, AuditEntry(actor=person, kind="mode.approved", subject=name, body=body), now)
        mode = ModeDeclaration(
            mode=declared.mode,
            declared_at_ms=now,
            expires_at_ms=now + declared.hours * 3_600_000,
            approvers=tuple(sorted((declared.declared_by, person))),
            reason=declared.reason,
        )
        return replace(policy, declaration=mode)
