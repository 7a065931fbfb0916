"""Claims: what tenants ask for, and why they have it or wait."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from cluster.api.access import Caller
from cluster.api.claim_checks import accepted
from cluster.api.job_logs import LINES_MAX, JobLog, tail
from cluster.api.parts import (
    Anyone,
    Cursor,
    IfMatch,
    IfNoneMatch,
    Limit,
    Page,
    Parts,
    Platform,
    etag,
    expected_generation,
    page_of,
)
from cluster.api.problems import ApiRefusal
from cluster.api.supposed import Search, Wanted, with_change
from cluster.loop import Turn
from cluster.refusals import NotFound
from policies.canary import trials
from policies.explaining.explain import not_yet
from policies.explaining.queueing import telling
from policies.explaining.releasing import releasable
from policies.model.decision import Explained, Reason
from policies.model.inventory import Group
from policies.model.naming import job_name, tenant_of
from policies.model.plan import OutcomeStatus, StartGroup
from policies.model.routing import VariantLoad
from policies.model.units import ClaimId
from policies.model.workload import Claim

routes = APIRouter(prefix="/v1/claims", tags=["claims"])
Lines = Annotated[int, Query(ge=1, le=LINES_MAX, description="Most lines to return, the last ones.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimStatus:
    """A claim with what became of it."""

    claim: Claim
    reason: Reason
    """``PENDING_EVALUATION`` until the loop has decided on it."""
    groups: tuple[Group, ...]
    traffic: tuple[VariantLoad, ...] = ()
    """How its variants have answered; without an entry until its gateway has reported."""


@routes.get("")
def list_claims(
    parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None, tenant: str | None = None
) -> Page[ClaimStatus]:
    """Return the claims that the caller may see, ordered by name."""
    seen = [
        claim for claim in parts.journal.claims() if caller.may_see(claim.tenant) and tenant in {None, claim.tenant}
    ]
    page = page_of(parts, seen, lambda claim: claim.id, limit, cursor)
    return Page(items=statuses(parts, caller, page.items), next=page.next, revision=page.revision)


@routes.get("/{claim_id:path}/why")
def why(parts: Platform, caller: Anyone, claim_id: str, change: Wanted = Search.AUTO) -> Explained:
    """Return the one reason why the claim is where it is, what would change it, and when it is expected to."""
    told = statuses(parts, caller, (visible(parts, caller, claim_id),))[0].reason
    return with_change(parts, caller, told, change)


@routes.get("/{claim_id:path}/log")
def job_log(parts: Platform, caller: Anyone, claim_id: str, lines: Lines = 100) -> JobLog:
    """Return the last lines that the claim's job wrote, all of its runs one after another; also after it has ended."""
    caller.require_sight("claim", claim_id, tenant_of(claim_id))
    written = tail(parts.settings.logs / f"{job_name(ClaimId(claim_id))}.log", lines)
    if written is None:
        raise NotFound("log", claim_id)
    return JobLog(claim=ClaimId(claim_id), lines=written)


@routes.get("/{claim_id:path}")
def get_claim(parts: Platform, caller: Anyone, claim_id: str, response: Response) -> ClaimStatus:
    """Return one claim; its generation is the ETag."""
    claim = visible(parts, caller, claim_id)
    response.headers.update(etag(claim.generation))
    return statuses(parts, caller, (claim,))[0]


@routes.put("/{claim_id:path}")
def put_claim(
    parts: Platform,
    caller: Anyone,
    claim_id: str,
    claim: Annotated[Claim, Body()],
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    dry_run: bool = False,
) -> Claim:
    """Store the claim and return it as stored, with its new generation. ``dry_run`` checks and stores nothing.

    An empty ladder of a serving claim is filled from the catalogue: the model's variants, best first.
    """
    caller.require_sight("claim", claim_id, tenant_of(claim_id))
    expected = expected_generation(if_match, if_none_match)
    claims = parts.journal.claims()
    stored = {known.id: known for known in claims}.get(ClaimId(claim_id))
    if claim.job is not None and (stored is None or stored.job != claim.job):
        caller.require_operator()  # a program runs as the platform's own user: who may say which is no tenant
    submitted = stored.submitted_at_ms if stored else parts.clock.now_ms()
    dated = replace(claim, submitted_at_ms=submitted)
    checked = accepted(dated, claim_id, parts.journal.policy(), parts.models(), claims)
    if dry_run:
        return replace(checked, generation=stored.generation if stored else 0)
    kept = parts.registry.by(caller.name).put_claim(checked, expected_generation=expected)
    parts.wake()
    response.headers.update(etag(kept.generation))
    return kept


@routes.delete("/{claim_id:path}", status_code=204)
def delete_claim(parts: Platform, caller: Anyone, claim_id: str, if_match: IfMatch = None) -> None:
    """Remove the claim; its groups drain and stop. A claim with a canary is not removed: what is to answer then?"""
    claim = visible(parts, caller, claim_id)
    trial = trials(parts.journal.claims()).get(claim.id)
    if trial is not None:
        raise ApiRefusal("canary_exists", f"{trial.id} is a canary of {claim.id}; end or promote it first")
    expected = expected_generation(if_match, None)
    parts.registry.by(caller.name).delete_claim(ClaimId(claim_id), expected_generation=expected)
    parts.wake()


def statuses(parts: Parts, caller: Caller, claims: tuple[Claim, ...]) -> tuple[ClaimStatus, ...]:
    """Return the claims with their reasons and groups, cut to what the caller may see."""
    turn = parts.view.latest()
    refused = _refused_starts(turn)
    known = {reason.claim: reason for reason in turn.decision.reasons}
    tell = telling(turn.decision, turn.snapshot.claims)
    groups: dict[ClaimId, list[Group]] = {}
    for group in turn.snapshot.groups:
        groups.setdefault(group.claim, []).append(group)
    traffic: dict[ClaimId, list[VariantLoad]] = {}
    for load in turn.snapshot.traffic:
        traffic.setdefault(load.claim, []).append(load)
    return tuple(
        ClaimStatus(
            claim=claim,
            reason=_told(visible_reason(caller, tell(known.get(claim.id) or not_yet(claim))), refused.get(claim.id)),
            groups=tuple(groups.get(claim.id, ())),
            traffic=tuple(traffic.get(claim.id, ())),
        )
        for claim in claims
    )


def _refused_starts(turn: Turn) -> dict[ClaimId, str]:
    """Return why the latest turn could not start a claim's group, by claim."""
    results = turn.outcome.results if turn.outcome is not None else ()
    return {
        result.action.claim: result.detail
        for result in results
        if isinstance(result.action, StartGroup) and result.status in {OutcomeStatus.REFUSED, OutcomeStatus.FAILED}
    }


def _told(reason: Reason, refusal: str | None) -> Reason:
    """Return the reason with what the platform answered when it was to be carried out."""
    return replace(reason, sentence=f"{reason.sentence}; it does not start: {refusal}") if refusal else reason


def visible_reason(caller: Caller, reason: Reason) -> Reason:
    """Return the reason as far as it may be told to the caller: to a tenant nothing that rests on others' claims."""
    return reason if caller.tenant is None else releasable(reason, lambda claim: caller.may_see(tenant_of(claim)))


def visible(parts: Parts, caller: Caller, claim_id: str) -> Claim:
    """Return the claim. Raises ``NotFound`` for one that is not there, or that the caller may not see."""
    caller.require_sight("claim", claim_id, tenant_of(claim_id))
    for claim in parts.journal.claims():
        if claim.id == claim_id:
            return claim
    raise NotFound("claim", claim_id)
