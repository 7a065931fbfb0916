"""A second program that checks every decision and plan before it is carried out. It shares nothing with the first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from policies.invariants.decisions import broken_by_decision
from policies.invariants.plans import broken_by_plan
from policies.invariants.statements import broken_by_statements
from policies.invariants.world import Violation, unwritten, world_of
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.plan import Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot

__all__ = ["Violation", "check", "check_alone", "check_decision"]


def check(snapshot: Snapshot, plan: Plan, policy: Policy, memory: Memory | None = None) -> tuple[Violation, ...]:
    """Return every rule that the plan would break, sorted; empty when it may be carried out.

    Args:
        snapshot: what the plan was made from.
        plan: what is to be done.
        policy: the revision in force.
        memory: of the decision behind the plan; it says since when groups receive no requests. Without it every group
            that is not routed counts as past its drain deadline.
    """
    drains = {} if memory is None else {one.group: one.since_ms for one in memory.drains}
    unknown = dict.fromkeys((group.id for group in snapshot.groups), 0) if memory is None else {}
    world = world_of(snapshot, policy, plan.decided_at_ms, drains or unknown)
    return _sorted(broken_by_plan(world, snapshot, plan))


def check_decision(snapshot: Snapshot, decision: Decision, policy: Policy) -> tuple[Violation, ...]:
    """Return every rule that the decided state would break, sorted; empty when it is sound."""
    world = world_of(
        snapshot, policy, decision.decided_at_ms, {one.group: one.since_ms for one in decision.memory.drains}
    )
    return _sorted(chain(broken_by_decision(world, snapshot, decision), broken_by_statements(world, decision)))


def check_alone(snapshot: Snapshot, decision: Decision) -> tuple[Violation, ...]:
    """Return the broken rules that follow from snapshot and decision alone, without the policy behind them, sorted.

    Left out: quotas, floors, priority classes, the mode, and the plan. A tenant's domain is the first part of its name.
    """
    return check_decision(snapshot, decision, unwritten(decision))


def _sorted(found: Iterator[Violation]) -> tuple[Violation, ...]:
    return tuple(sorted(set(found), key=lambda one: (one.rule, one.subject, one.sentence)))
