"""Healthy capacity, demand and shares per flavor, from the snapshot and the wishes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from policies.evidence.survey import Survey, survey
from policies.model.memory import Memory
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, TenantId
from policies.model.workload import Reservation
from policies.shares.entitlement import Share, entitle, tree
from policies.wishes.admission import Ask


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
        reserved = reserved_now(survey, flavor, count.get(flavor, 0))
        for root in tree(survey.policy.tenants, flavor, {}, reserved):
            below = [(root, count.get(flavor, 0))]
            while below:
                node, above = below.pop()
                found[node.tenant, flavor] = min(above, node.cap)
                below.extend((child, found[node.tenant, flavor]) for child in node.children)
    return found


def reserved_now(survey: Survey, flavor: FlavorId, capacity: int) -> dict[TenantId, int]:
    """Return what calendar reservations keep of the flavor now; each begins as early as moving capacity may take.

    No reservation keeps what the floors of others need, nor what one that began before it keeps: where the capacity
    does not cover all of them, the later one keeps less than was asked for.
    """
    kept: dict[TenantId, int] = {}
    for one in sorted(survey.snapshot.reservations, key=lambda one: (one.starts_at_ms, one.id)):
        is_on = starts_ms(survey, one.starts_at_ms) <= survey.now_ms < one.ends_at_ms
        if one.flavor != flavor or not is_on or one.tenant not in survey.tenants or one.gpu_millis <= 0:
            continue
        most = max(capacity, _promised(survey, flavor, kept))
        asked = kept | {one.tenant: kept.get(one.tenant, 0) + one.gpu_millis}
        least = asked[one.tenant] - max(0, _promised(survey, flavor, asked) - most)
        kept[one.tenant] = max(kept.get(one.tenant, 0), least)
    return kept


def kept_at_start(snapshot: Snapshot, policy: Policy, asked: Reservation) -> int:
    """Return how many millis of the reservation would be kept when it begins, on the devices that are sound now.

    What floors need and earlier reservations keep is left to them. Never more than was asked for.
    """
    others = tuple(one for one in snapshot.reservations if one.id != asked.id)

    def kept(reservations: tuple[Reservation, ...]) -> int:
        seen = survey(replace(snapshot, reservations=reservations), policy, Memory(), asked.starts_at_ms)
        capacity = healthy_capacity(seen).get(asked.flavor, 0)
        return reserved_now(seen, asked.flavor, capacity).get(asked.tenant, 0)

    return max(0, kept((*others, asked)) - kept(others))


def _promised(survey: Survey, flavor: FlavorId, reserved: Mapping[TenantId, int]) -> int:
    """Return what all floors come to once so much is reserved."""
    return sum(root.floor for root in tree(survey.policy.tenants, flavor, {}, reserved))


def starts_ms(survey: Survey, at_ms: int) -> int:
    """Return when capacity must begin to move to be there at ``at_ms``: drain, scrub and start before it."""
    bounds = survey.policy.bounds
    return at_ms - bounds.drain_deadline_ms - bounds.scrub_time_ms - bounds.worker_start_ms


Demands = Mapping[FlavorId, Mapping[TenantId, int]]
"""Millis of each flavor that the claims of each tenant ask for, without what is below it in the tree."""


def demands(survey: Survey, wishes: Iterable[Ask]) -> dict[FlavorId, dict[TenantId, int]]:
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
            tree(survey.policy.tenants, flavor, wanted, reserved_now(survey, flavor, capacity.get(flavor, 0))),
            capacity.get(flavor, 0),
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
