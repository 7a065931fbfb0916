"""Write the alerts as Prometheus rules, every one with the address of its runbook page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cluster.dashboards.alerts import control, devices, promises
from cluster.dashboards.alerts.spec import Alert

RUNBOOK_BASE = "https://runbooks.partage.internal"
"""Stands for the place where the pages are served; the chart replaces it by its ``alerts.runbookBase``."""
EVALUATED_EVERY = "30s"

GROUPS: dict[str, tuple[Alert, ...]] = {
    "partage-promises": promises.ALERTS,
    "partage-devices": devices.ALERTS,
    "partage-control": control.ALERTS,
}


def every_alert() -> tuple[Alert, ...]:
    """Return the alerts of all groups, in their order."""
    return tuple(alert for alerts in GROUPS.values() for alert in alerts)


def rule_file(base: str = RUNBOOK_BASE) -> dict[str, Any]:
    """Return the content of a Prometheus rule file, which is also the ``spec`` of a PrometheusRule."""
    return {
        "groups": [
            {"name": name, "interval": EVALUATED_EVERY, "rules": [_rule(alert, base) for alert in alerts]}
            for name, alerts in GROUPS.items()
        ]
    }


def write(path: Path, base: str = RUNBOOK_BASE) -> None:
    """Write the rule file; the same alerts write the same bytes."""
    head = "# Written by `partage dashboards export-alerts`; edit cluster/dashboards/alerts instead.\n"
    path.write_text(head + yaml.safe_dump(rule_file(base), sort_keys=False, width=120, allow_unicode=True))


def _rule(alert: Alert, base: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.held,
        "labels": {"severity": str(alert.severity), **dict(alert.labels)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{base}/{alert.name}.md",
        },
    }
