"""A turn of the control loop as spans: observing, deciding, acting."""

from __future__ import annotations

from cluster.loop import Turn
from cluster.tracing import Span, new_trace


def spans(turn: Turn, ended_ms: int) -> tuple[Span, ...]:
    """Return the turn's span and those of its stages; none for a turn that planned nothing: they come all day."""
    if not turn.plan.actions and not turn.violations:
        return ()
    trace, began = new_trace(), ended_ms - turn.total_ms
    observed = began + turn.observe_ms
    decided = observed + turn.decide_ms
    whole = Span(
        name="turn",
        trace=trace,
        begin_ms=began,
        end_ms=ended_ms,
        failed=bool(turn.violations),
        attributes={
            "partage.plan": turn.plan.id,
            "partage.actions": len(turn.plan.actions),
            "partage.violations": len(turn.violations),
            "partage.mode": turn.decision.mode,
        },
    )
    stages = (("observe", began, observed), ("decide", observed, decided), ("act", decided, ended_ms))
    parts = (Span(name=name, trace=trace, parent=whole.id, begin_ms=a, end_ms=b) for name, a, b in stages)
    return (whole, *parts)
