"""Modes: a time-boxed change of policy that one person declares and another approves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cluster.api.parts import Operator, Parts, Platform
from cluster.api.policies import Preview, preview_of, sound
from cluster.api.problems import ApiRefusal
from cluster.journal.approvals import Declared, SqliteApprovals
from policies.model.codec import digest
from policies.model.policy import ModeDeclaration, OperatingMode

routes = APIRouter(prefix="/v1/modes", tags=["modes"])

HOUR_MS = 3_600_000
APPROVAL_WINDOW_MS = HOUR_MS
HOURS_MAX = 168


class Declaration(BaseModel):
    """A mode to be declared."""

    mode: OperatingMode
    hours: int = Field(ge=1, le=HOURS_MAX)
    reason: str = Field(min_length=1, max_length=500)


class Supposed(BaseModel):
    """A mode to be tried out."""

    mode: OperatingMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """What is in force, and what waits for a second person."""

    in_force: str
    declaration: ModeDeclaration | None
    pending: tuple[Declared, ...]


@routes.get("")
def modes(parts: Platform, _caller: Operator) -> Modes:
    """Return the mode in force and the declarations that wait."""
    policy = parts.journal.policy()
    return Modes(
        in_force=parts.view.latest().decision.mode, declaration=policy.declaration, pending=_approvals(parts).pending()
    )


@routes.post("", status_code=201)
def declare(parts: Platform, caller: Operator, declaration: Declaration) -> Declared:
    """Declare a mode; it comes into force once another person approves it."""
    if declaration.mode is OperatingMode.NORMAL:
        raise ApiRefusal("invalid", "normal is not declared; end the mode in force instead")
    now = parts.clock.now_ms()
    return _approvals(parts).declare(
        Declared(
            id="",
            mode=declaration.mode,
            hours=declaration.hours,
            reason=declaration.reason,
            declared_by=caller.name,
            declared_at_ms=now,
            policy_digest=digest(parts.journal.policy()),
            lapses_at_ms=now + APPROVAL_WINDOW_MS,
        )
    )


@routes.post("/preview")
def preview(parts: Platform, _caller: Operator, supposed: Supposed) -> Preview:
    """Return what the mode would do to the world as it is, without declaring it; ``normal`` stands for ending one."""
    now = parts.view.latest().decision.decided_at_ms
    declaration = ModeDeclaration(
        mode=supposed.mode,
        declared_at_ms=now,
        expires_at_ms=now + HOURS_MAX * HOUR_MS,
        approvers=("one person", "another"),
        reason="tried out",
    )
    is_normal = supposed.mode is OperatingMode.NORMAL
    return preview_of(parts, replace(parts.journal.policy(), declaration=None if is_normal else declaration))


@routes.post("/{name}/approve")
def approve(parts: Platform, caller: Operator, name: str) -> Modes:
    """Approve what another person declared: it is in force from now on, until it expires."""
    policy = _approvals(parts).approved(name, caller.name, parts.journal.policy())
    if faults := sound(policy):
        raise ApiRefusal("invalid", f"{faults[0]['pointer']}: {faults[0]['detail']}", errors=faults)
    parts.registry.by(caller.name).put_policy(policy)
    parts.wake()
    return modes(parts, caller)


@routes.post("/end")
def end(parts: Platform, caller: Operator) -> Modes:
    """End the mode in force before it expires: one person may always go back to normal."""
    policy = parts.journal.policy()
    if policy.declaration is not None:
        parts.registry.by(caller.name).put_policy(replace(policy, declaration=None))
        parts.registry.by(caller.name).note("mode.ended", policy.declaration.mode.value)
        parts.wake()
    return modes(parts, caller)


def _approvals(parts: Parts) -> SqliteApprovals:
    return SqliteApprovals(parts.store, parts.clock)
