"""Mark decisions that move something, and changes of mode, on every dashboard's time axis. Each once."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.dashboards.port import Annotation, Grafana
from cluster.dashboards.render import ANNOTATION_TAG
from policies.model.decision import Decision, Eviction
from policies.model.plan import Plan
from policies.model.policy import ModeDeclaration

DECISION_TAG = "decision"
MODE_TAG = "mode"
REASONS_SHOWN = 5
"""Reasons written out in one annotation; the decision log holds them all."""


def of_decision(decision: Decision, plan: Plan) -> Annotation | None:
    """Return the mark of a decision, None if it moves nothing."""
    if not plan.actions:
        return None
    counts: dict[str, int] = {}
    for action in plan.actions:
        counts[action.kind] = counts.get(action.kind, 0) + 1
    moves = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(counts.items()))
    whys = [_why(eviction) for eviction in decision.evictions]
    more = len(whys) - REASONS_SHOWN
    shown = [*whys[:REASONS_SHOWN], f"and {more} more"] if more > 0 else whys
    text = "\n".join((f"Decision {plan.id[:12]} (mode {decision.mode}): {moves}", *shown))
    return Annotation(
        at_ms=decision.decided_at_ms,
        until_ms=decision.decided_at_ms,
        text=text,
        tags=(ANNOTATION_TAG, DECISION_TAG, f"plan:{plan.id[:32]}"),
    )


def of_mode(declaration: ModeDeclaration) -> Annotation:
    """Return the mark of a declared mode: a region from declaration to expiry."""
    people = " and ".join(declaration.approvers)
    return Annotation(
        at_ms=declaration.declared_at_ms,
        until_ms=declaration.expires_at_ms,
        text=f"Mode {declaration.mode} declared by {people}: {declaration.reason or 'no reason given'}",
        tags=(ANNOTATION_TAG, MODE_TAG, f"{declaration.mode}:{declaration.declared_at_ms}"),
    )


def publish(grafana: Grafana, marks: Iterable[Annotation]) -> int:
    """Add the marks that are not there yet and return how many were added. Raises the refusals of the port."""
    wanted = sorted(marks, key=lambda mark: mark.at_ms)
    if not wanted:
        return 0
    there = grafana.annotations((ANNOTATION_TAG,), wanted[0].at_ms, wanted[-1].at_ms)
    known = {(mark.at_ms, frozenset(mark.tags)) for mark in there}
    missing = [mark for mark in wanted if (mark.at_ms, frozenset(mark.tags)) not in known]
    for mark in missing:
        grafana.annotate(mark)
    return len(missing)


def _why(eviction: Eviction) -> str:
    beneficiary = f" for {eviction.beneficiary}" if eviction.beneficiary else ""
    return f"{eviction.claim} gives back ({eviction.reason}){beneficiary}"
