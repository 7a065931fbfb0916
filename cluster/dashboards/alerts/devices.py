"""Alerts on devices and nodes, and on what is not seen of them."""

from __future__ import annotations

from cluster.dashboards.alerts.spec import Alert, Severity
from policies.evidence.xid import XIDS, XidAction

CRITICAL_XIDS = tuple(
    xid for xid, known in sorted(XIDS.items()) if known.action in {XidAction.RESET, XidAction.REBOOT, XidAction.REPLACE}
)
"""XID errors after which the device or its memory cannot be trusted: those for which the health rules take it out."""
SENTINEL_ABOVE = 1_000_000
"""Readings beyond this are blanks that leaked as huge numbers, not degrees."""

_XID = " or ".join(f"(DCGM_FI_DEV_XID_ERRORS == {xid})" for xid in CRITICAL_XIDS)

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="TelemetryStale",
        severity=Severity.WARNING,
        expr="max by (Hostname) (partage_device_sample_age_seconds) > 60",
        held="1m",
        summary="Node {{ $labels.Hostname }} has not reported for {{ $value | humanizeDuration }}",
        description="Moves on this node are held until readings come back; nothing is evicted because of it.",
    ),
    Alert(
        name="GpuLost",
        severity=Severity.CRITICAL,
        # A device that says it is lost was heard, so it is no gap: its health says so.
        expr='(sum(partage_gaps{kind="device"}) > 0) or (count(partage_device_health{reason="gpu_is_lost"} >= 2) > 0)',
        held="1m",
        summary="{{ $value }} devices are not seen",
        description="A device fell off the bus, or its driver does not answer. Its claims are placed elsewhere.",
    ),
    Alert(
        name="GpuXidCritical",
        severity=Severity.CRITICAL,
        expr=_XID,
        held="0m",
        summary="GPU {{ $labels.gpu }} on {{ $labels.Hostname }} reported XID {{ $value }}",
        description="The device or its memory cannot be trusted. The page lists what each number asks for.",
    ),
    Alert(
        name="EccRowRemapFailure",
        severity=Severity.CRITICAL,
        expr="DCGM_FI_DEV_ROW_REMAP_FAILURE > 0",
        held="0m",
        summary="GPU {{ $labels.gpu }} on {{ $labels.Hostname }} could not remap a memory row",
        description="The memory has no spare rows left: retire the device and replace it.",
    ),
    Alert(
        name="GpuThermal",
        severity=Severity.WARNING,
        expr=f"DCGM_FI_DEV_GPU_TEMP > 87 and DCGM_FI_DEV_GPU_TEMP < {SENTINEL_ABOVE}",
        held="5m",
        summary="GPU {{ $labels.gpu }} on {{ $labels.Hostname }} is at {{ $value }} degrees",
        description="It slows itself down. Look at fans and inlet air before moving work.",
    ),
    Alert(
        name="NodeUnreachable",
        severity=Severity.CRITICAL,
        expr='sum(partage_gaps{kind="node"}) > 0',
        held="2m",
        summary="{{ $value }} nodes are not seen",
        description="Its claims wait for the node or are placed elsewhere once the domain's cluster gives it up.",
    ),
    Alert(
        name="DomainNotSeen",
        severity=Severity.CRITICAL,
        expr='sum by (kind) (partage_gaps{kind=~"cluster|gateway"}) > 0',
        held="2m",
        summary="A {{ $labels.kind }} of a domain does not answer",
        description="What runs goes on running; nothing moves in that domain until it is seen again.",
    ),
    Alert(
        name="ForeignProcess",
        severity=Severity.WARNING,
        expr="sum by (UUID, gpu, Hostname) (partage_device_foreign_processes) > 0",
        held="1m",
        summary="A process that nobody gave GPU {{ $labels.gpu }} on {{ $labels.Hostname }} uses it",
        description="It may be a leftover or an intruder. The device is not scrubbed while it runs.",
    ),
    Alert(
        name="ScrubFailed",
        severity=Severity.CRITICAL,
        expr='sum(partage_devices{scrub="failed"}) > 0',
        held="0m",
        summary="{{ $value }} devices could not be proved clean",
        description="They carry no work until a person has looked: residual data cannot be excluded.",
    ),
    Alert(
        name="IdleHeldGpu",
        severity=Severity.INFO,
        expr=(
            "(max by (UUID) (DCGM_FI_DEV_GPU_UTIL) < 10) * on (UUID) group_left (tenant, claim)"
            ' max by (UUID, tenant, claim) (partage_device_info{tenant!=""})'
        ),
        held="1h",
        summary="{{ $labels.claim }} has held an idle GPU for an hour",
        description="It could be lent. Lower the claim's minimum, or ask its owner.",
    ),
)
