"""What of a reason may be told to whom: all of it to operators, to a tenant what follows from its own claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from policies.explaining.explain import SENTENCES
from policies.explaining.kept import of_own
from policies.explaining.queueing import telling
from policies.model.decision import ClaimState, Decision, PendingReason, Reason
from policies.model.units import ClaimId
from policies.model.workload import Claim

TELLS_OF_OTHERS = (
    PendingReason.RESERVATION_AHEAD,
    PendingReason.WAITING_FOR_VICTIMS,
    PendingReason.WAITING_FOR_SCRUB,
    PendingReason.TOPOLOGY_UNSATISFIED,
    PendingReason.SEARCH_INCOMPLETE,
)
"""Codes that say something of other tenants; a tenant sees ``WAITING_FOR_QUOTA`` or ``STARTING`` instead."""
NOTHING_FREE = "nothing that its tenant may hold is free now: it is in use, or kept for a claim ahead of it"
"""Said to every tenant that waits for quota, whichever of both is so: the rest would tell of others."""


def for_operator(decision: Decision, claim: ClaimId) -> Reason | None:
    """Return what the decision holds of the claim, see ``queueing.told``; None if it knows no such claim."""
    return next((reason for reason in decision.reasons if reason.claim == claim), None)


def for_tenant(decision: Decision, claim: ClaimId, claims: Iterable[Claim]) -> Reason | None:
    """Return what the claim's own tenant may see; None if the decision knows no such claim."""
    reason = for_operator(decision, claim)
    known = tuple(claims)
    owners = {one.id: one.tenant for one in known}
    if reason is None or claim not in owners:
        return None
    return releasable(telling(decision, known)(reason), lambda other: owners.get(other) == owners[claim])


def releasable(reason: Reason, is_own: Callable[[ClaimId], bool]) -> Reason:
    """Return what the owner of the claims that ``is_own`` names may be told: it follows from these and what they got.

    Other tenants' claims, reservations and moves are left out, and codes that would tell of them are replaced.
    """
    own = tuple(one for one in reason.blockers if is_own(one))
    own_terms = tuple(term for term in reason.score_terms if term[0] != "right")
    if reason.code not in TELLS_OF_OTHERS or _is_of_hosts_alone(reason):
        sentence = reason.sentence.replace(SENTENCES[PendingReason.WAITING_FOR_QUOTA], NOTHING_FREE)
        return replace(reason, blockers=own, unblocking=None, score_terms=own_terms, sentence=sentence)
    code = PendingReason.STARTING if reason.state is ClaimState.SERVED else PendingReason.WAITING_FOR_QUOTA
    why = SENTENCES[code] if code is PendingReason.STARTING else NOTHING_FREE
    sentence = f"{reason.granted_replicas} of {reason.wanted_replicas} replicas: {why}{of_own(reason.sentence, is_own)}"
    return replace(
        reason, blockers=own, unblocking=None, code=code, sentence=sentence, eta_ms=None, eta_assumption="",
        score_terms=own_terms,
    )  # fmt: skip


def _is_of_hosts_alone(reason: Reason) -> bool:
    """Say whether the shape fits no host at all, whoever uses them: the inventory is no secret."""
    if reason.code is not PendingReason.TOPOLOGY_UNSATISFIED:
        return False
    return SENTENCES[PendingReason.TOPOLOGY_UNSATISFIED] not in reason.sentence
