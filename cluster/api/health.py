"""Is it alive, is it ready, and what does Prometheus need to know."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Response

from cluster.adoption import Adoption, adoption
from cluster.api.parts import Anyone, Operator, Parts, Platform
from cluster.refusals import Refusal

routes = APIRouter(tags=["health"])

TURNS_LATE = 20
"""Ticks without a turn after which the loop no longer counts as ready."""
LATE_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that readiness depends on."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether the control plane can answer and act."""

    ready: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The platform in one answer."""

    simulated: bool
    mode: str
    trouble: str
    adopted: bool
    turn_age_ms: int
    decide_ms: int
    devices: int
    workers: int
    groups: int
    claims: int
    waiting: int
    gaps: int
    fencing_generation: int
    policy_revision: str


@routes.get("/livez")
def livez() -> dict[str, str]:
    """Return whether the process answers; it never depends on anything else."""
    return {"status": "alive"}


@routes.get("/readyz")
@routes.get("/startupz")
def readyz(parts: Platform, response: Response) -> Readiness:
    """Return whether journal and loop work, with each check."""
    checks = (_journal(parts), _policy(parts), _loop(parts))
    ready = all(check.ok for check in checks)
    response.status_code = 200 if ready else 503
    if not ready:
        response.headers["Retry-After"] = "1"
    return Readiness(ready=ready, checks=checks)


@routes.get("/metrics")
def metrics(parts: Platform) -> Response:
    """Return the metrics in the text format of Prometheus."""
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4")


@routes.get("/v1/status")
def status(parts: Platform, _caller: Operator) -> Status:
    """Return the platform in one answer."""
    turn = parts.view.latest()
    snapshot = turn.snapshot
    return Status(
        simulated=any(device.simulated for device in snapshot.devices),
        mode=turn.decision.mode,
        trouble=parts.view.trouble() or "; ".join(str(violation) for violation in turn.violations),
        adopted=parts.journal.adopted(),
        turn_age_ms=parts.view.age_ms() or 0,
        decide_ms=turn.decide_ms,
        devices=len(snapshot.devices),
        workers=len(snapshot.workers),
        groups=len(snapshot.groups),
        claims=len(snapshot.claims),
        waiting=sum(reason.code is not None for reason in turn.decision.reasons),
        gaps=len(snapshot.gaps),
        fencing_generation=turn.plan.fencing_generation,
        policy_revision=parts.journal.policy().revision,
    )


@routes.get("/v1/whoami")
def whoami(caller: Anyone) -> dict[str, str | None]:
    """Return who the token belongs to."""
    return {"name": caller.name, "role": caller.role.value, "tenant": caller.tenant}


@routes.get("/v1/adopt")
def adoption_now(parts: Platform, _caller: Operator) -> Adoption:
    """Return what runs that no claim asks for, and the claims that would account for it."""
    snapshot, claims = parts.view.latest().snapshot, parts.journal.claims()
    return adoption(snapshot, claims, parts.models(), adopted=parts.journal.adopted())


@routes.post("/v1/adopt")
def adopt(parts: Platform, caller: Operator) -> dict[str, bool]:
    """Say that the journal accounts for what runs: from here on the loop may stop what no claim asks for."""
    parts.journal.adopt(caller.name)
    parts.wake()
    return {"adopted": True}


def _journal(parts: Parts) -> Check:
    try:
        parts.store.number("SELECT value FROM fact WHERE name = 'fencing'")
    except Refusal as refusal:
        return Check(name="journal", ok=False, detail=refusal.code)
    return Check(name="journal", ok=True)


def _policy(parts: Parts) -> Check:
    try:
        parts.journal.policy()
    except Refusal as refusal:
        return Check(name="policy", ok=False, detail=refusal.code)
    return Check(name="policy", ok=True)


def _loop(parts: Parts) -> Check:
    age = parts.view.age_ms()
    if age is None:
        return Check(name="loop", ok=False, detail="no turn yet")
    late = age > max(LATE_MS, TURNS_LATE * parts.settings.tick_ms)
    return Check(name="loop", ok=not late, detail=f"last turn {age} ms ago")
