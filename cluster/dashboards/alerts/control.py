"""Alerts on the scheduler itself: leading, deciding, seeing, recording."""

from __future__ import annotations

from cluster.dashboards.alerts.spec import Alert, Severity

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="SchedulerNotLeading",
        severity=Severity.CRITICAL,
        expr="(sum(partage_leader) or vector(0)) < 1",
        held="1m",
        summary="No control plane leads",
        description="What runs goes on running, but nothing is reclaimed, placed or mended.",
    ),
    Alert(
        name="TwoLeadersObserved",
        severity=Severity.CRITICAL,
        expr="sum(partage_leader) > 1",
        held="1m",
        summary="{{ $value }} control planes say that they lead",
        description="The older one is refused at the store and at the actuators. Stop it.",
    ),
    Alert(
        name="DecisionLoopStalled",
        severity=Severity.CRITICAL,
        expr="time() - max(partage_last_decision_timestamp_seconds) > 60",
        held="1m",
        summary="No decision for {{ $value | humanizeDuration }}",
        description="The process lives and leads but does not decide.",
    ),
    Alert(
        name="PlanRefused",
        severity=Severity.CRITICAL,
        expr="sum by (rule) (increase(partage_plan_violations_total[10m])) > 0",
        held="0m",
        summary="The invariants refused a plan: {{ $labels.rule }}",
        description="A defect was caught before it did harm. Save the snapshot and the decision.",
    ),
    Alert(
        name="MovesHeldByGaps",
        severity=Severity.WARNING,
        expr="max(partage_held_by_gaps) > 0",
        held="10m",
        summary="{{ $value }} moves wait because something is not seen",
        description="Missing readings stop moves, they never cause one. Find what is not seen.",
    ),
    Alert(
        name="ActionsFailing",
        severity=Severity.WARNING,
        expr='sum by (domain, kind) (increase(partage_actions_total{status="failed"}[15m])) > 3',
        held="5m",
        summary="{{ $labels.kind }} keeps failing in {{ $labels.domain }}",
        description="The same step fails again and again, such as a replica that does not start.",
    ),
    Alert(
        name="StaleWriterRefused",
        severity=Severity.WARNING,
        expr="sum(increase(partage_fencing_refusals_total[10m])) > 5",
        held="5m",
        summary="An older leader keeps trying to write",
        description="It is refused each time. Find the process and stop it.",
    ),
    Alert(
        name="AuditChainBroken",
        severity=Severity.CRITICAL,
        expr="min(partage_audit_chain_intact) == 0",
        held="0m",
        summary="The audit chain does not verify",
        description="A record was changed, removed or lost. `partage audit verify` names the first bad one.",
    ),
    Alert(
        name="JournalSlow",
        severity=Severity.WARNING,
        expr="histogram_quantile(0.99, sum by (le) (rate(partage_journal_write_seconds_bucket[10m]))) > 1",
        held="10m",
        summary="A record takes {{ $value | humanizeDuration }} to write",
        description="Nothing moves before it is recorded, so a slow disk slows every move.",
    ),
    Alert(
        name="PolicyMissing",
        severity=Severity.CRITICAL,
        expr="absent(partage_policy_info)",
        held="5m",
        summary="No policy is in force, or the control plane is not scraped",
        description="Nothing is decided without a policy.",
    ),
)
