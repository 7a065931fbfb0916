"""The end of promoted canaries, by the control plane itself."""

from __future__ import annotations

from contextlib import suppress

from cluster.journal.registry import SqliteRegistry
from cluster.refusals import NotFound
from policies.canary import concluded
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId

ACTOR = "control-plane"


def conclude(snapshot: Snapshot, registry: SqliteRegistry) -> tuple[ClaimId, ...]:
    """Remove the promoted canaries whose main claims run the new ladder alone, and return them; they drain and stop."""
    ended = concluded(snapshot)
    for claim in ended:
        with suppress(NotFound):  # a person may have ended it since the snapshot
            registry.by(ACTOR).delete_claim(claim)
    return ended
