"""Canaries over HTTP: a variant answers part of a claim's requests until it is promoted or ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import Field

from cluster.api.access import Caller
from cluster.api.claim_checks import REPLICAS_MAX, accepted
from cluster.api.claims import ClaimStatus, statuses, visible
from cluster.api.parts import Anyone, IfMatch, Parts, Platform, etag, expected_generation
from cluster.api.problems import ApiRefusal
from policies.canary import WEIGHT_MAX, promoted, trials, weighted
from policies.model.catalogue import Model
from policies.model.units import ClaimId, VariantId
from policies.model.workload import Canary, Claim, Shape, TrialKind

routes = APIRouter(prefix="/v1/claims", tags=["canaries"])

SUFFIX = "-canary"
Weight = Annotated[int, Field(ge=0, le=WEIGHT_MAX, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryWish:
    """A variant to try."""

    variant: VariantId
    """Of the claim's model."""
    weight_percent: Weight = 10
    """Part of the claim's requests that it answers."""
    replicas: Annotated[int, Field(ge=1, le=REPLICAS_MAX, strict=True)] = 1
    trial: TrialKind = TrialKind.ANSWER
    """Whether it answers its part, or is only sent copies of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryChange:
    """Another part of the requests."""

    weight_percent: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStatus:
    """A claim and its canary, side by side."""

    main: ClaimStatus
    canary: ClaimStatus


@routes.get("/{claim_id:path}/canary")
def get_canary(parts: Platform, caller: Anyone, claim_id: str, response: Response) -> CanaryStatus:
    """Return the claim and its canary with how the variants of both have answered; the canary's generation is the ETag.

    Both counts begin with the trial.
    """
    return _told(parts, caller, _pair(parts, caller, claim_id), response)


@routes.post("/{claim_id:path}/canary", status_code=201)
def start_canary(
    parts: Platform, caller: Anyone, claim_id: str, wish: Annotated[CanaryWish, Body()], response: Response
) -> CanaryStatus:
    """Try a variant: a claim called like the main one and ``-canary`` asks for its replicas as any claim does.

    Until it runs, and whenever it does not, the main claim answers everything.
    """
    main = visible(parts, caller, claim_id)
    claims = parts.journal.claims()
    if main.id in trials(claims):
        raise ApiRefusal("canary_exists", f"{main.id} has a canary already; change its weight, promote it or end it")
    trial = replace(
        main,
        id=ClaimId(f"{main.id}{SUFFIX}"),
        ladder=_shapes(main, wish.variant, parts.models()),
        min_replicas=1,
        desired_replicas=wish.replicas,
        max_replicas=wish.replicas,
        submitted_at_ms=parts.clock.now_ms(),
        canary=Canary(of=main.id, weight_percent=wish.weight_percent, trial=wish.trial),
    )
    checked = accepted(trial, trial.id, parts.journal.policy(), parts.models(), claims)
    kept = parts.registry.by(caller.name).put_claim(checked, expected_generation=0)
    parts.wake()
    return _told(parts, caller, (main, kept), response)


@routes.patch("/{claim_id:path}/canary")
def set_canary(
    parts: Platform,
    caller: Anyone,
    claim_id: str,
    change: Annotated[CanaryChange, Body()],
    response: Response,
    if_match: IfMatch = None,
) -> CanaryStatus:
    """Give the canary another part of the requests, from the next turn on; nothing restarts, no request is lost."""
    main, trial = _pair(parts, caller, claim_id)
    expected = expected_generation(if_match, None)
    changed = weighted(trial, change.weight_percent)
    kept = parts.registry.by(caller.name).put_claim(changed, expected_generation=expected)
    parts.wake()
    return _told(parts, caller, (main, kept), response)


@routes.post("/{claim_id:path}/canary/promote")
def promote_canary(parts: Platform, caller: Anyone, claim_id: str, response: Response) -> CanaryStatus:
    """Make the canary's variant the claim's own; the canary answers meanwhile, and ends once the claim runs it."""
    main, trial = _pair(parts, caller, claim_id)
    running = (group for group in parts.view.latest().snapshot.groups if group.claim == trial.id)
    if not any(group.routed and group.running for group in running):
        detail = f"{trial.id} answers no request yet, so nothing is known of its variant; `partage why claim` says why"
        raise ApiRefusal("canary_not_running", detail)
    after, last = promoted(main, trial)
    registry = parts.registry.by(caller.name)
    kept = registry.put_claim(after, expected_generation=main.generation)
    ending = registry.put_claim(last, expected_generation=trial.generation)
    parts.wake()
    return _told(parts, caller, (kept, ending), response)


@routes.delete("/{claim_id:path}/canary", status_code=204)
def end_canary(parts: Platform, caller: Anyone, claim_id: str, if_match: IfMatch = None) -> None:
    """End the trial: the main claim answers everything, the canary drains and stops."""
    _, trial = _pair(parts, caller, claim_id)
    expected = expected_generation(if_match, None)
    parts.registry.by(caller.name).delete_claim(trial.id, expected_generation=expected)
    parts.wake()


def _pair(parts: Parts, caller: Caller, claim_id: str) -> tuple[Claim, Claim]:
    main = visible(parts, caller, claim_id)
    trial = trials(parts.journal.claims()).get(main.id)
    if trial is None:
        raise ApiRefusal("not_found", f"{main.id} has no canary; start one with `partage model canary start`")
    return main, trial


def _shapes(main: Claim, variant: VariantId, models: tuple[Model, ...]) -> tuple[Shape, ...]:
    """Return the shapes of the variant: as the claim's own ladder sizes it, else as the catalogue does."""
    own = tuple(shape for shape in main.ladder if shape.variant == variant)
    found = [each for model in models if model.id == main.model for each in model.variants]
    listed = next((each.shapes for each in found if each.id == variant), ())
    if not (own or listed):
        known = sorted({each.id for each in found} | {shape.variant for shape in main.ladder if shape.variant})
        detail = f"/variant: {main.model} has no variant {variant!r}; it has {', '.join(known)}"
        raise ApiRefusal("invalid", detail, errors=[{"pointer": "/variant", "detail": detail}])
    return own or listed


def _told(parts: Parts, caller: Caller, pair: tuple[Claim, Claim], response: Response) -> CanaryStatus:
    response.headers.update(etag(pair[1].generation))
    main, trial = statuses(parts, caller, pair)
    return CanaryStatus(main=main, canary=trial)
