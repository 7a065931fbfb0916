"""How much each tenant may hold of a flavor: floors, then nominal quotas, then surplus by weight, down the tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from policies.model.tenancy import Tenant
from policies.model.units import UNLIMITED, FlavorId, Limit, TenantId

NO_LIMIT = 1 << 60
"""Stands for "unlimited" inside sums; far above any fleet and far below an overflow of 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One tenant's figures for one flavor, with everything below it summed up."""

    tenant: TenantId
    nominal: int
    lending: int
    """Largest part of the nominal quota that others may use."""
    cap: int
    """Most it may hold: nominal and borrowing limit, and never more than its parent allows."""
    floor: int
    floor_wanted: int
    """What of the floor is asked for by whom it is for."""
    weight: int
    demand: int
    """What it and its children ask for, cut to what each of them may hold."""
    reserved: int = 0
    """Part of ``nominal`` that a calendar reservation keeps; never lent while it lasts."""
    withheld: int = 0
    """What of that nobody entitled to it asks for; a sibling's demand does not count against it."""
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one tenant is entitled to of one flavor, in millis; each figure includes the ones before it."""

    floor: int
    guaranteed: int
    entitled: int
    cap: int
    nominal: int
    lending: int
    reserved: int = 0


def fill(amount: int, wants: Sequence[tuple[int, int]]) -> list[int]:
    """Divide ``amount`` by weighted max-min.

    Args:
        amount: what there is (>= 0).
        wants: (want, weight) pairs, both >= 0; weight zero receives only what the others leave.

    Returns:
        One share per pair, none above its want, summing to ``min(amount, sum of wants)`` exactly: what division
        leaves over goes to the largest remainders, the earlier pair first.
    """
    shares = _fill_weighted(amount, [(want, weight) if weight > 0 else (0, 1) for want, weight in wants])
    left = amount - sum(shares)
    rest = [(want, 1) if weight <= 0 else (0, 1) for want, weight in wants]
    return [share + extra for share, extra in zip(shares, _fill_weighted(left, rest), strict=True)]


def _fill_weighted(amount: int, wants: Sequence[tuple[int, int]]) -> list[int]:
    shares = [0] * len(wants)
    left, weight_left = max(amount, 0), sum(weight for want, weight in wants if want > 0)
    order = sorted((i for i, (want, _) in enumerate(wants) if want > 0), key=lambda i: Fraction(*wants[i]))
    for position, i in enumerate(order):
        want, weight = wants[i]
        if want * weight_left > left * weight:
            return _largest_remainder(left, weight_left, [(j, wants[j][1]) for j in sorted(order[position:])], shares)
        shares[i] = want
        left, weight_left = left - want, weight_left - weight
    return shares


def _largest_remainder(left: int, weights: int, open_: list[tuple[int, int]], shares: list[int]) -> list[int]:
    for i, weight in open_:
        shares[i] = left * weight // weights
    over = left - sum(shares[i] for i, _ in open_)
    by_remainder = sorted(open_, key=lambda pair: (-(left * pair[1] % weights), pair[0]))
    for i, _ in by_remainder[:over]:
        shares[i] += 1
    return shares


def tree(
    tenants: Sequence[Tenant], flavor: FlavorId, demand: Mapping[TenantId, int], reserved: Mapping[TenantId, int]
) -> tuple[Node, ...]:
    """Return the root nodes of one flavor, sorted by id. Unknown parents make a tenant a root of its own."""
    known = {tenant.id for tenant in tenants}
    below: dict[TenantId | None, list[Tenant]] = {}
    for tenant in sorted(tenants, key=lambda t: t.id):
        below.setdefault(tenant.parent if tenant.parent in known else None, []).append(tenant)

    def node(tenant: Tenant) -> Node:
        children = tuple(node(child) for child in below.get(tenant.id, ()))
        return _node(tenant, flavor, children, demand.get(tenant.id, 0), reserved.get(tenant.id, 0))

    return tuple(node(tenant) for tenant in below.get(None, ()))


def _node(tenant: Tenant, flavor: FlavorId, children: tuple[Node, ...], own: int, reserved: int) -> Node:
    quota = next((quota for quota in tenant.quotas if quota.flavor == flavor), None)
    below = sum(child.nominal for child in children)
    nominal = below if quota is None else max(quota.nominal_millis, below)
    nominal += reserved
    cap = min(NO_LIMIT, nominal + _limit(None if quota is None else quota.borrowing_limit_millis))
    if children and own:
        rest = max(0, nominal - below)
        children = (*children, _leaf_of_inner(tenant, rest, cap, own))
    wanted = min(cap, own if not children else sum(min(child.demand, child.cap) for child in children))
    floor = max(reserved, dict(tenant.floor_millis).get(flavor, 0))
    reserved_too = reserved + sum(child.reserved for child in children)
    withheld = max(sum(child.withheld for child in children), reserved_too - wanted)
    return Node(
        tenant=tenant.id, nominal=nominal, lending=_limit(None if quota is None else quota.lending_limit_millis),
        cap=cap, floor=max(floor, reserved_too, sum(child.floor for child in children)), weight=tenant.fair_weight,
        floor_wanted=max(min(floor - withheld, wanted), sum(child.floor_wanted for child in children)),
        demand=wanted, reserved=reserved_too, children=children, withheld=withheld,
    )  # fmt: skip


def _leaf_of_inner(tenant: Tenant, nominal: int, cap: int, own: int) -> Node:
    return Node(
        tenant=TenantId(f"{tenant.id}/."), nominal=nominal, lending=NO_LIMIT, cap=cap, floor=0, floor_wanted=0,
        weight=tenant.fair_weight, demand=min(own, cap),
    )  # fmt: skip


def _limit(limit: Limit | None) -> int:
    return NO_LIMIT if limit is None or limit == UNLIMITED else limit


def entitle(roots: Sequence[Node], capacity: int) -> dict[TenantId, Share]:
    """Return each tenant's share of one flavor; inner tenants are included.

    Args:
        roots: from ``tree``; their order decides only who receives the last milli of an equal remainder.
        capacity: healthy capacity in millis (>= 0).

    Returns:
        Shares whose leaves' ``entitled`` sum to no more than the capacity. When capacity does not cover the floors it
        is shared in proportion to them, when it covers floors but not guarantees, in proportion to what those lack.

    Source:
        Nominal quota, lending limit and borrowing limit as in Kueue's cohorts; surplus by weight as in KAI's queues.
    """
    shares: dict[TenantId, Share] = {}
    floors = min(capacity, sum(root.floor_wanted for root in roots))
    guaranteed = min(capacity, sum(min(root.nominal, root.demand) for root in roots))
    _divide(tuple(roots), floors, guaranteed, capacity, shares)
    return shares


def _divide(nodes: tuple[Node, ...], floor: int, guaranteed: int, amount: int, shares: dict[TenantId, Share]) -> None:
    withheld = sum(n.withheld for n in nodes)
    floor, guaranteed, amount = (max(0, min(one, amount - withheld)) for one in (floor, guaranteed, amount))
    floors = fill(floor, [(n.floor_wanted, n.floor) for n in nodes])
    floors = _topped(floors, floor, [min(n.nominal, n.demand) for n in nodes])
    sure = _topped(floors, guaranteed, [min(n.nominal, n.demand) for n in nodes])
    kept = [max(0, n.nominal - s - max(n.lending, 0)) for n, s in zip(nodes, sure, strict=True)]
    surplus = max(0, amount - sum(sure) - sum(kept))
    lacks = [(n.demand - s, n.weight) for n, s in zip(nodes, sure, strict=True)]
    extra = fill(surplus, lacks)
    sure_too = _inherited(max(0, guaranteed - sum(sure) - sum(kept)), lacks, extra)
    floors_too = _inherited(max(0, floor - sum(floors)), lacks, sure_too)
    for position, node in enumerate(nodes):
        low, mid = floors[position] + floors_too[position], sure[position] + sure_too[position]
        most = sure[position] + extra[position]
        shares[node.tenant] = Share(
            floor=low, guaranteed=mid, entitled=most, cap=node.cap, nominal=node.nominal, lending=node.lending,
            reserved=node.reserved,
        )  # fmt: skip
        if node.children:
            _divide(node.children, low, mid, most + node.withheld, shares)


def _inherited(amount: int, lacks: Sequence[tuple[int, int]], upto: list[int]) -> list[int]:
    """Divide what a parent is promised and its children's own quotas leave: else what it lends is promised to nobody.

    A child whose siblings want less than their quotas lives on its parent's promise, until they want more.
    """
    return [min(share, most) for share, most in zip(fill(amount, lacks), upto, strict=True)]


def _topped(base: list[int], amount: int, upto: list[int]) -> list[int]:
    """Raise each base towards its bound, in proportion to what it lacks."""
    lack = [max(0, high - low) for low, high in zip(base, upto, strict=True)]
    more = fill(max(0, amount - sum(base)), [(missing, missing) for missing in lack])
    return [low + extra for low, extra in zip(base, more, strict=True)]
