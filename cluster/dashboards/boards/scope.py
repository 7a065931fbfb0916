"""What the dashboards have in common: their variables, and the labels that every query is narrowed by."""

from __future__ import annotations

from cluster.dashboards.spec import Choice, Limit

DOMAIN = Choice(name="domain", metric="partage_share_gpu_millis", label="domain", title="Domain")
TENANT = Choice(name="tenant", metric="partage_share_gpu_millis", label="tenant", title="Tenant")
FLAVOR = Choice(name="flavor", metric="partage_share_gpu_millis", label="flavor", title="Flavor")
NODE = Choice(name="node", metric="DCGM_FI_DEV_FB_USED", label="Hostname", title="Node")
MODEL = Choice(name="model", metric="partage_gateway_requests_total", label="model", title="Model")

BY_DOMAIN = 'domain=~"$domain"'
BY_TENANT = 'domain=~"$domain",tenant=~"$tenant"'
BY_SHARE = 'domain=~"$domain",tenant=~"$tenant",flavor=~"$flavor"'
BY_NODE = 'Hostname=~"$node"'
BY_MODEL = 'domain=~"$domain",tenant=~"$tenant",model=~"$model"'

NEVER = (Limit(at=1, colour="red"),)
"""Anything above zero is a broken rule."""


OR_NONE = " or 0 * max(partage_leader)"
"""Makes a counter that has not begun a zero, while the control plane reports; without it the panel stays empty."""


def quantile(share: float, histogram: str, labels: str, by: str) -> str:
    """Return the PromQL of a quantile of a histogram, grouped by labels."""
    grouped = f"le, {by}" if by else "le"
    narrowed = f"{histogram}_bucket{{{labels}}}" if labels else f"{histogram}_bucket"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({narrowed}[$__rate_interval])))"
