"""Healthy capacity, demand and shares per flavor, from the snapshot and the wishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.admission import Ask
from policies.entitlement import Share, entitle, tree
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, TenantId
from policies.survey import Survey


def healthy_capacity(survey: Survey) -> dict[FlavorId, int]:
    """Return the millis of each flavor that count as capacity.

    Devices that take no new work, cordoned or suspect, count while they carry what may stay there.
    """
    capacity = dict.fromkeys(survey.flavors, 0)
    occupied: set[DeviceId] = set()
    if len(survey.open) < len(survey.devices):
        wanted = (group for group in survey.groups.values() if group.claim in survey.claims)
        occupied = {one for group in wanted for one in group.devices}
    for device in survey.devices.values():
        if device.id in survey.open or (device.id in occupied and survey.may_carry(device)):
            capacity[device.flavor] = capacity.get(device.flavor, 0) + WHOLE_GPU_MILLIS
    return capacity


def caps(survey: Survey) -> dict[tuple[str, str], int]:
    """Return the most that each (tenant, flavor) may ever hold: the least cap on its way up, and what exists."""
    found: dict[tuple[str, str], int] = {}
    count: dict[FlavorId, int] = {}
    for device in survey.devices.values():
        count[device.flavor] = count.get(device.flavor, 0) + WHOLE_GPU_MILLIS
    for flavor in survey.flavors:
        reserved = reserved_now(survey, flavor)
        for root in tree(survey.policy.tenants, flavor, {}, reserved):
            below = [(root, count.get(flavor, 0))]
            while below:
                node, above = below.pop()
                found[node.tenant, flavor] = min(above, node.cap)
                below.extend((child, found[node.tenant, flavor]) for child in node.children)
    return found


def reserved_now(survey: Survey, flavor: FlavorId) -> dict[TenantId, int]:
    """Return what calendar reservations keep of the flavor now; each begins as early as moving capacity may take."""
    kept: dict[TenantId, int] = {}
    for reservation in survey.snapshot.reservations:
        is_on = starts_ms(survey, reservation.starts_at_ms) <= survey.now_ms < reservation.ends_at_ms
        if reservation.flavor == flavor and is_on:
            kept[reservation.tenant] = kept.get(reservation.tenant, 0) + reservation.gpu_millis
    return kept


def starts_ms(survey: Survey, at_ms: int) -> int:
    """Return when capacity must begin to move to be there at ``at_ms``: drain, scrub and start before it."""
    bounds = survey.policy.bounds
    return at_ms - bounds.drain_deadline_ms - bounds.scrub_time_ms - bounds.worker_start_ms


Demands = Mapping[FlavorId, Mapping[TenantId, int]]
"""Millis of each flavor that the claims of each tenant ask for, without what is below it in the tree."""


def demands(survey: Survey, wishes: Sequence[Ask]) -> dict[FlavorId, dict[TenantId, int]]:
    """Return what the claims of each tenant ask for of each flavor."""
    found: dict[FlavorId, dict[TenantId, int]] = {flavor: {} for flavor in survey.flavors}
    for wish in wishes:
        tenant = wish.tenant.id
        for flavor, amount in wanted_of(wish).items():
            of_flavor = found.get(flavor)
            if of_flavor is None:
                of_flavor = found[flavor] = {}
            of_flavor[tenant] = of_flavor.get(tenant, 0) + amount
    return found


def count_demand(asked: dict[FlavorId, dict[TenantId, int]], wish: Ask, sign: int) -> None:
    """Add what the claim asks for to the demands (+1), or take it away (-1)."""
    for flavor, amount in wanted_of(wish).items():
        of_flavor = asked.setdefault(flavor, {})
        of_flavor[wish.tenant.id] = of_flavor.get(wish.tenant.id, 0) + sign * amount


def shares(survey: Survey, demand: Demands, capacity: Mapping[FlavorId, int]) -> dict[FlavorId, dict[TenantId, Share]]:
    """Return each tenant's share of each flavor. A flavor's shares depend on that flavor's demand alone."""
    return {
        flavor: entitle(
            tree(survey.policy.tenants, flavor, wanted, reserved_now(survey, flavor)), capacity.get(flavor, 0)
        )
        for flavor, wanted in demand.items()
    }


def wanted_of(wish: Ask) -> dict[FlavorId, int]:
    """Return the millis that the claim asks for, on each flavor that it accepts: its best rung there.

    Where it runs now has no part in it. Shares that followed the present placement would move with every move, and two
    tenants could evict each other for ever.
    """
    if wish.idle or wish.refusal is not None:
        return {}
    if len(wish.options) == 1 and not wish.upgrades:
        return {wish.options[0].flavor: wish.options[0].charge * wish.wanted}
    wanted: dict[FlavorId, int] = {}
    for option in (*wish.upgrades, *wish.options):
        wanted.setdefault(option.flavor, option.charge * wish.wanted)
    return wanted
