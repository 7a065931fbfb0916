"""A journal of another release is taken over: read whole before anything is written, then named as this one names."""

from __future__ import annotations

from contextlib import suppress

from cluster.journal.approvals import SqliteApprovals
from cluster.ports import Journal, Ledger, Registry
from cluster.refusals import NoPolicy
from policies.model.units import SecurityDomain


def refuse_unreadable(journal: Journal, ledger: Ledger, registry: Registry, approvals: SqliteApprovals) -> None:
    """Return if all that decisions rest on can be read. Raises ``RecordUnreadable`` by the first thing that cannot.

    Past decisions and the audit log are not looked at: what cannot be read of them is refused when it is asked for.
    """
    with suppress(NoPolicy):
        journal.policy()
    for read in (journal.claims, journal.memory, journal.cordons, journal.reservations, ledger.devices, ledger.proofs):
        read()
    for domain in SecurityDomain:
        registry.keys(domain)
    approvals.pending()


def carry_over(journal: Journal, registry: Registry) -> None:
    """Put the policy in force once more where this release writes it differently.

    Decisions name their policy by the digest of how it is written; what they were taken from is found by that.
    """
    with suppress(NoPolicy):
        registry.put_policy(journal.policy())
