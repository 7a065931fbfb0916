"""The policy as it holds now: a declared mode changes it until the mode expires, then it is the baseline again."""

from __future__ import annotations

from dataclasses import replace

from policies.model.policy import ModeOverlay, OperatingMode, Policy
from policies.model.tenancy import Tenant
from policies.model.units import TenantId

APPROVERS_REQUIRED = 2


def mode_in_force(policy: Policy, now_ms: int) -> OperatingMode:
    """Return the declared mode between its declaration and its expiry, when two distinct people approved it."""
    declaration = policy.declaration
    if declaration is None or len(set(declaration.approvers)) < APPROVERS_REQUIRED:
        return OperatingMode.NORMAL
    if declaration.declared_at_ms <= now_ms < declaration.expires_at_ms:
        return declaration.mode
    return OperatingMode.NORMAL


def overlay_in_force(policy: Policy, now_ms: int) -> ModeOverlay | None:
    """Return the overlay of the mode in force; None in normal mode or when the policy describes none for it."""
    mode = mode_in_force(policy, now_ms)
    if mode is OperatingMode.NORMAL:
        return None
    return next((overlay for overlay in policy.overlays if overlay.mode is mode), None)


def effective(policy: Policy, now_ms: int) -> Policy:
    """Return the policy with weights and floors of the mode in force.

    The declaration itself is left out, so that before, after and without a mode the result is the same, byte for byte.
    """
    baseline = replace(policy, declaration=None)
    overlay = overlay_in_force(policy, now_ms)
    if overlay is None:
        return baseline
    weights = dict(overlay.fair_weights)
    tenants = tuple(_overlaid(tenant, weights, overlay) for tenant in policy.tenants)
    return replace(baseline, tenants=tenants)


def _overlaid(tenant: Tenant, weights: dict[TenantId, int], overlay: ModeOverlay) -> Tenant:
    weight = weights.get(tenant.id, tenant.fair_weight)
    floors = () if tenant.id in overlay.waived_floors else tenant.floor_millis
    return replace(tenant, fair_weight=weight, floor_millis=floors)


def is_paused(overlay: ModeOverlay | None, priority_class: str, tenant: TenantId) -> bool:
    """Say whether the mode pauses this class for this tenant; the pause spares what is inside the tenant's floor."""
    if overlay is None or priority_class not in overlay.paused_classes:
        return False
    if not overlay.paused_tenants:
        return True
    return any(tenant == top or tenant.startswith(f"{top}/") for top in overlay.paused_tenants)
