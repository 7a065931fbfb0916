"""What would admit a claim that waits: found by deciding again as if one thing were different. Nothing is changed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import Query

from cluster.api.access import Caller
from cluster.api.parts import Parts
from cluster.api.problems import ApiRefusal
from policies.model.decision import Explained, Reason
from policies.model.naming import tenant_of
from policies.supposing import Situation, alone
from policies.unblock import affordable, explained, search

UNASKED_MOST = 500
"""Claims of a platform up to which a change is looked for without being asked for: it takes a moment."""
ASKED_MOST = 20_000
"""Claims up to which it is looked for at all: it would slow the control plane down."""
WORK_MOST = 200_000
"""Claims decided upon in one search."""


class Search(StrEnum):
    """Whether to look for the smallest change that would admit the claim."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


Wanted = Annotated[
    Search,
    Query(alias="change", description="Look for what would admit the claim: auto does on platforms of few claims."),
]


def with_change(parts: Parts, caller: Caller, reason: Reason, wanted: Search) -> Explained:
    """Return the reason with the smallest change that would admit the claim, where one is wanted and found.

    To a tenant it is told as if nobody else had claims: it follows from its own alone. Raises ``invalid`` where there
    are too many claims to look.
    """
    turn = parts.view.latest()
    count = len(turn.snapshot.claims)
    if wanted is Search.NEVER or (wanted is Search.AUTO and count > UNASKED_MOST):
        return explained(reason)
    if count > ASKED_MOST:
        detail = (
            f"{count} claims are too many to look for a change here (at most {ASKED_MOST}): save the snapshot and the "
            "policy and look elsewhere, with `partage why claim NAME --snapshot FILE --policy FILE`"
        )
        raise ApiRefusal("invalid", detail)
    situation = Situation(
        snapshot=turn.snapshot, policy=parts.journal.policy(), memory=parts.journal.memory(),
        now_ms=turn.decision.decided_at_ms,
    )  # fmt: skip
    if caller.tenant is not None:
        situation = alone(situation, lambda claim: caller.may_see(tenant_of(claim)))
    tries = affordable(len(situation.snapshot.claims), WORK_MOST)
    return explained(reason, search(situation, reason.claim, tries))
