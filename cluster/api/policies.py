"""The policy in force: read, tried out, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Body, Response

from cluster.api.parts import IfMatch, IfNoneMatch, Operator, Parts, Platform
from cluster.api.problems import ApiRefusal
from cluster.refusals import Conflict, NoPolicy
from policies.certificate import FloorProof, certify
from policies.decide import decide
from policies.documents.soundness import faults_of_policy
from policies.explaining.queueing import told
from policies.model.codec import digest
from policies.model.decision import Decision, Entitlement, Reason
from policies.model.policy import ModeDeclaration, Policy
from policies.planning import plan as plan_moves

routes = APIRouter(prefix="/v1/policy", tags=["policy"])

Document = Annotated[Policy, Body()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What the policy would do to the world as it is now."""

    digest: str
    actions: tuple[str, ...]
    """Kinds of the first plan's actions, in order."""
    evicted: tuple[str, ...]
    before: tuple[Entitlement, ...]
    after: tuple[Entitlement, ...]
    changed: tuple[Reason, ...]
    """Claims whose state or reason would differ, as they would be."""
    floors: tuple[FloorProof, ...]
    """Whether each floor that it promises could come back within its deadline on the devices as they are."""


@routes.get("")
def get_policy(parts: Platform, _caller: Operator, response: Response) -> Policy:
    """Return the policy in force; its digest is the ETag."""
    policy = parts.journal.policy()
    response.headers["ETag"] = f'"{digest(policy)}"'
    return policy


@routes.get("/floors")
def floors(parts: Platform, _caller: Operator) -> tuple[FloorProof, ...]:
    """Return for each floor in force whether it could come back within its deadline on the devices as they are.

    Sorted by tenant and flavor.
    """
    turn = parts.view.latest()
    return certify(turn.snapshot, parts.journal.policy(), turn.decision.decided_at_ms)


@routes.put("")
def put_policy(
    parts: Platform,
    caller: Operator,
    policy: Document,
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Policy:
    """Make the policy the one in force, whole, and decide again at once.

    A declared mode is not part of it: the one in force stays, and one that the document brings is refused.
    """
    current, declared = _in_force(parts)
    if if_match is None and if_none_match is None:
        detail = 'send If-Match: "<digest>" to replace the policy that you read, If-None-Match: * for the first one'
        raise ApiRefusal("precondition_required", detail)
    if (if_none_match == "*" and current) or (if_match not in {None, "*"} and if_match != f'"{current}"'):
        raise Conflict("the policy", 0, 1)
    policy = _with_mode(policy, declared)
    if faults := sound(policy):
        raise ApiRefusal("invalid", f"{faults[0]['pointer']}: {faults[0]['detail']}", errors=faults)
    parts.registry.by(caller.name).put_policy(policy)
    parts.wake()
    response.headers["ETag"] = f'"{digest(policy)}"'
    return policy


@routes.post("/preview")
def preview(parts: Platform, _caller: Operator, policy: Document) -> Preview:
    """Return what the policy would do, without doing it; a declared mode stays in force in it."""
    return preview_of(parts, _with_mode(policy, _in_force(parts)[1]))


def preview_of(parts: Parts, policy: Policy) -> Preview:
    """Return what the policy would do to the world as it was last seen."""
    turn = parts.view.latest()
    after = decide(turn.snapshot, policy, parts.journal.memory(), turn.decision.decided_at_ms)
    plan = plan_moves(turn.snapshot, after, policy, turn.plan.fencing_generation)
    return Preview(
        digest=digest(policy),
        actions=tuple(action.kind for action in plan.actions),
        evicted=tuple(eviction.group for eviction in after.evictions),
        before=turn.decision.entitlements,
        after=after.entitlements,
        changed=_changed(turn.decision, told(after, turn.snapshot.claims)),
        floors=certify(turn.snapshot, policy, turn.decision.decided_at_ms),
    )


def _in_force(parts: Parts) -> tuple[str, ModeDeclaration | None]:
    """Return the digest of the policy in force, empty before the first, and the mode declared on it."""
    try:
        policy = parts.journal.policy()
    except NoPolicy:
        return "", None
    return digest(policy), policy.declaration


def _with_mode(policy: Policy, declared: ModeDeclaration | None) -> Policy:
    """Return the policy with the declared mode; raises ``invalid`` if it brings another: that takes two people."""
    if policy.declaration not in {None, declared}:
        detail = (
            "a mode is not set with a policy, as it needs two people: declare it (POST /v1/modes), let another approve"
        )
        raise ApiRefusal("invalid", detail, errors=[{"pointer": "/declaration", "detail": detail}])
    return replace(policy, declaration=declared)


def sound(policy: Policy) -> list[dict[str, str]]:
    """Return where the policy contradicts itself; empty if nowhere."""
    return [
        {"pointer": "/" + "/".join(str(part) for part in path), "detail": fault}
        for path, fault in faults_of_policy(policy)
    ]


def _changed(before: Decision, after: Decision) -> tuple[Reason, ...]:
    old = {reason.claim: (reason.state, reason.code, reason.granted_replicas, reason.rung) for reason in before.reasons}
    return tuple(
        reason
        for reason in after.reasons
        if old.get(reason.claim) != (reason.state, reason.code, reason.granted_replicas, reason.rung)
    )
