"""Canaries: a variant of a model is tried on part of a claim's requests, then promoted or ended. Pure.

A canary is a claim like any other: it has its own quota to find, its own reasons and promises. What is special is
where its requests come from, and that is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from policies.model.inventory import Group
from policies.model.routing import Portion, Route
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, VariantId
from policies.model.workload import Canary, Claim, ClaimKind, TrialKind

WEIGHT_MAX = 100
PERMILLE_OF_PERCENT = 10


def trials(claims: Iterable[Claim]) -> dict[ClaimId, Claim]:
    """Return the canary of each main claim that has one; of several, the first by name. Others answer for themselves.

    A canary whose main claim is gone, of another tenant, of another model or itself a canary is none.
    """
    listed = tuple(claims)
    asked = sorted((claim for claim in listed if claim.canary), key=lambda claim: claim.id)
    known = {claim.id: claim for claim in listed} if asked else {}
    found: dict[ClaimId, Claim] = {}
    for claim in asked:
        main = known.get(claim.canary.of) if claim.canary else None
        if main is not None and main.id not in found and not any(_unlike(claim, main)):
            found[main.id] = claim
    return found


def faults_of_canary(claim: Claim, known: Iterable[Claim]) -> Iterator[tuple[str, str]]:
    """Yield a pointer and a sentence for each thing that keeps the claim from being the canary that it says it is."""
    if claim.canary is None:
        return
    if not 0 <= claim.canary.weight_percent <= WEIGHT_MAX:
        yield "/canary/weight_percent", f"a part of the requests lies between 0 and {WEIGHT_MAX} percent"
    others = {other.id: other for other in known if other.id != claim.id}
    main = others.get(claim.canary.of)
    if main is None:
        yield "/canary/of", f"there is no claim {claim.canary.of!r} to try a variant for"
        return
    yield from (("/canary/of", sentence) for sentence in _unlike(claim, main))
    rival = next((o.id for o in others.values() if o.canary and o.canary.of == main.id), None)
    if rival is not None:
        yield "/canary/of", f"{main.id} has a canary already, {rival}; end or promote it first"
    follower = next((o.id for o in others.values() if o.canary and o.canary.of == claim.id), None)
    if follower is not None:
        yield "/canary", f"{follower} is a canary of this claim; end or promote it first"


def with_canary(route: Route, own: Route, canary: Canary) -> Route:
    """Return the main claim's route with the canary's groups in it.

    While both have groups, the weight splits the requests. Groups of only one of them answer everything; a shadow never
    answers.
    """
    is_shadow = canary.trial is TrialKind.SHADOW
    if not own.groups or (is_shadow and not route.groups):
        return route
    lent = tuple(replace(group, claim=own.claim) for group in own.groups)
    permille = canary.weight_percent * PERMILLE_OF_PERCENT
    part = Portion(variant=lent[0].variant or VariantId(""), permille=permille, claim=own.claim)
    if is_shadow:
        return replace(route, groups=route.groups + lent, shadow=part)
    return replace(route, groups=route.groups + lent, canary=part if route.groups else None)


def weighted(trial: Claim, percent: int) -> Claim:
    """Return the canary with another part of the requests; a claim that is none is returned as it is."""
    return trial if trial.canary is None else replace(trial, canary=replace(trial.canary, weight_percent=percent))


def promoted(main: Claim, canary: Claim) -> tuple[Claim, Claim]:
    """Return the main claim with the canary's ladder, and the canary answering all it can until the other is ready."""
    if canary.canary is None:
        raise ValueError(canary.id)  # callers promote canaries only
    trial = replace(canary.canary, weight_percent=WEIGHT_MAX, promoted=True, trial=TrialKind.ANSWER)
    return replace(main, ladder=canary.ladder), replace(canary, canary=trial)


def concluded(snapshot: Snapshot) -> tuple[ClaimId, ...]:
    """Return the promoted canaries that are no longer needed, sorted: their main claims run the new ladder alone."""
    done = {main: trial for main, trial in trials(snapshot.claims).items() if trial.canary and trial.canary.promoted}
    mains = [claim for claim in snapshot.claims if claim.id in done and claim.ladder == done[claim.id].ladder]
    return tuple(sorted(done[main.id].id for main in mains if _runs_its_ladder(main, snapshot.groups)))


def _runs_its_ladder(main: Claim, groups: Iterable[Group]) -> bool:
    """Return whether every group of the claim stands on a rung of its ladder, and enough replicas are routed."""
    own = [group for group in groups if group.claim == main.id]
    served = sum(group.running for group in own if group.routed)
    return served >= max(1, main.min_replicas) and all(group.rung < len(main.ladder) for group in own)


def _unlike(claim: Claim, main: Claim) -> Iterator[str]:
    """Yield what keeps the one from answering requests of the other."""
    if main.tenant != claim.tenant:
        yield f"{main.id} belongs to another tenant: a canary and its main claim share one tenant, so one domain too"
    if main.model != claim.model or ClaimKind.JOB in {main.kind, claim.kind}:
        yield f"{main.id} does not serve the model {claim.model!r}"
    if main.canary is not None:
        yield f"{main.id} is a canary itself"
