"""Alerts on what was promised: floors, deadlines, answers, speed, isolation."""

from __future__ import annotations

from cluster.dashboards.alerts.spec import Alert, Promise, Severity, burning

RECLAIM_TARGET = 0.99
"""Part of reclaims that end before their deadline."""
AVAILABILITY_TARGET = 0.995
"""Part of accepted requests that are answered: the ``admin-assistant`` profile's promise."""
TTFT_TARGET = 0.95
"""Part of requests whose first token comes within ``TTFT_S``."""
TTFT_S = "2.0"
"""The bucket's bound as the histogram writes it: the limit of published server scenarios."""

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="DomainCoResidency",
        severity=Severity.CRITICAL,
        expr="max(partage_coresident_devices) > 0",
        held="0m",
        summary="{{ $value }} devices are held by two security domains at once",
        description="Rule one is broken. Isolate first, explain afterwards: the page has the order of steps.",
    ),
    Alert(
        name="GuaranteeViolated",
        severity=Severity.CRITICAL,
        expr=(
            "max by (domain, tenant) (partage_floor_deficit_seconds)"
            " > on (domain, tenant) max by (domain, tenant) (partage_reclaim_deadline_seconds)"
        ),
        held="0m",
        summary="{{ $labels.tenant }} has been below its floor for {{ $value | humanizeDuration }}",
        description="A tenant with demand is below its promised floor for longer than its reclaim deadline.",
    ),
    *burning(
        Promise(
            name="ReclaimBudgetBurn",
            bad='rate(partage_reclaims_total{outcome="late"}[WINDOW])',
            total="rate(partage_reclaims_total[WINDOW])",
            by="domain",
            target=RECLAIM_TARGET,
            summary="{{ $labels.domain }}: reclaims miss their deadline",
            description="More reclaims end late than the promise allows. The Reclaim dashboard shows the slow stage.",
        )
    ),
    *burning(
        Promise(
            name="AvailabilityBudgetBurn",
            bad='rate(partage_gateway_requests_total{code=~"5.."}[WINDOW])',
            total='rate(partage_gateway_requests_total{code!~"4.."}[WINDOW])',
            by="domain, model",
            target=AVAILABILITY_TARGET,
            summary="{{ $labels.domain }}, model {{ $labels.model }}: requests are not answered",
            description="More accepted requests fail than the promise allows. The Serving dashboard shows which model.",
        )
    ),
    *burning(
        Promise(
            name="FirstTokenBudgetBurn",
            bad=(
                "(rate(partage_gateway_ttft_seconds_count[WINDOW])"
                f' - ignoring (le) rate(partage_gateway_ttft_seconds_bucket{{le="{TTFT_S}"}}[WINDOW]))'
            ),
            total="rate(partage_gateway_ttft_seconds_count[WINDOW])",
            by="domain, model",
            target=TTFT_TARGET,
            summary="{{ $labels.domain }}, model {{ $labels.model }}: first tokens come late",
            description="More callers wait too long for the first token than the promise allows.",
        )
    ),
    Alert(
        name="ClaimStarving",
        severity=Severity.WARNING,
        expr="max by (domain, tenant) (partage_claim_oldest_wait_seconds) > 3600",
        held="10m",
        summary="A claim of {{ $labels.tenant }} has waited for {{ $value | humanizeDuration }}",
        description="`partage why` names the reason and the smallest change that would admit it.",
    ),
    Alert(
        name="QuotaAlmostFull",
        severity=Severity.INFO,
        expr=(
            'max by (domain, tenant, flavor) (partage_share_gpu_millis{part="held"})'
            ' / (max by (domain, tenant, flavor) (partage_share_gpu_millis{part="nominal"}) > 0) >= 0.9'
        ),
        held="15m",
        summary="{{ $labels.tenant }} holds {{ $value | humanizePercentage }} of its {{ $labels.flavor }} quota",
        description="What it asks for beyond the quota is borrowed and goes back when its owner asks.",
    ),
    Alert(
        name="ModeInForce",
        severity=Severity.INFO,
        expr='max by (mode) (partage_mode{mode!="normal"}) == 1',
        held="4h",
        summary="Mode {{ $labels.mode }} has been in force for over four hours",
        description="Modes are time-boxed. Does the reason still hold? `partage mode end` ends it early.",
    ),
)
