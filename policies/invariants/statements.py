"""Rules of the decision as a text: it names what exists, once, and what it says of itself follows from its placements.

The other rules look at placements; this one keeps a decision from hiding behind what it says beside them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from policies.invariants.floors import held_after
from policies.invariants.world import Violation, World, shape_of
from policies.model.decision import Binding, ClaimState, Decision, EvictionReason, Placement, Reason
from policies.model.inventory import Group
from policies.model.units import UNLIMITED, ClaimId

_ITSELF = "/."
"""Ends the name under which the share of an inner tenant's own claims is told, beside those of its children."""
_FOR_SOMEBODY = (EvictionReason.RECLAIM, EvictionReason.PREEMPT)


def broken_by_statements(world: World, decision: Decision) -> Iterator[Violation]:
    """Yield what the decision names twice, does not know, leaves out or says wrongly of itself."""
    for rule in (_named_once, _workers_are_true, _groups_are_true, _who_leaves_is_known, _nothing_is_left_out,
                 _reasons_are_true, _shares_are_true):  # fmt: skip
        yield from rule(world, decision)


def _named_once(_world: World, decision: Decision) -> Iterator[Violation]:
    named: tuple[tuple[str, Iterable[str]], ...] = (
        ("worker", (one.worker for one in decision.bindings)),
        ("group", (one.group for one in decision.placements)),
        ("eviction of group", (one.group for one in decision.evictions)),
        ("share of", (f"{one.tenant} in {one.flavor}" for one in decision.entitlements)),
    )
    for what, names in named:
        for name, count in Counter(names).items():
            if count > 1:
                yield Violation(rule="each_is_named_once", subject=name, sentence=f"{what} {name} occurs {count} times")


def _workers_are_true(world: World, decision: Decision) -> Iterator[Violation]:
    for binding in decision.bindings:
        fault = _fault_of_worker(world, binding)
        if fault:
            sentence = f"worker {binding.worker} {fault}"
            yield Violation(rule="workers_are_as_they_are", subject=binding.worker, sentence=sentence)


def _fault_of_worker(world: World, binding: Binding) -> str:
    seen = world.workers.get(binding.worker)
    if seen is not None:
        now = (seen.domain, seen.node, seen.devices)
        return "" if now == (binding.domain, binding.node, binding.devices) else "would change domain, host or devices"
    if not binding.devices:
        return "would hold no device"
    hosts = {world.devices[one].node for one in binding.devices if one in world.devices}
    return (
        f"would be on host {binding.node}, its devices are on {', '.join(sorted(hosts))}"
        if hosts - {binding.node}
        else ""
    )


def _groups_are_true(world: World, decision: Decision) -> Iterator[Violation]:
    for placement in decision.placements:
        fault = _fault_of_group(world, placement)
        if fault:
            sentence = f"group {placement.group} of {placement.claim} {fault}"
            yield Violation(rule="groups_are_of_their_claims_ladder", subject=placement.group, sentence=sentence)


def _has_shrunk(world: World, seen: Group, placement: Placement) -> bool:
    """Say whether the group has devices left over from when it had more replicas, and keeps some of these."""
    shape = shape_of(world, seen.claim, seen.rung)
    needs = 0 if shape is None else seen.replicas * shape.devices
    return needs < len(seen.devices) and set(placement.devices) <= set(seen.devices)


def _fault_of_group(world: World, placement: Placement) -> str:
    seen = world.groups.get(placement.group)
    if not placement.devices or placement.replicas < 1:
        return "needs at least one device and one replica"
    if seen is not None:
        now = (seen.claim, seen.worker, seen.rung, seen.variant)
        said = (placement.claim, placement.worker, placement.rung, placement.variant)
        is_resized = placement.replicas != seen.replicas or _has_shrunk(world, seen, placement)
        return (
            ""
            if now == said and (is_resized or set(placement.devices) <= set(seen.devices))
            else "runs elsewhere or otherwise now; what changes is another group"
        )
    shape = shape_of(world, placement.claim, placement.rung)
    if shape is None:
        return f"would be on rung {placement.rung}, which its claim's ladder does not have"
    if shape.variant != placement.variant:
        return f"would run variant {placement.variant}, rung {placement.rung} is {shape.variant}"
    flavors = {world.devices[one].flavor for one in placement.devices if one in world.devices}
    if shape.flavors and flavors - set(shape.flavors):
        return f"accepts {', '.join(shape.flavors)} on rung {placement.rung}, not {', '.join(sorted(flavors))}"
    if len(set(placement.devices)) % shape.devices:
        return f"needs {shape.devices} devices for each replica, {len(placement.devices)} are named"
    return ""


def _who_leaves_is_known(world: World, decision: Decision) -> Iterator[Violation]:
    for eviction in decision.evictions:
        group = world.groups.get(eviction.group)
        if group is None or group.claim != eviction.claim:
            said = "is not known" if group is None else f"is of claim {group.claim}, not of {eviction.claim}"
            sentence = f"group {eviction.group}, which is to leave, {said}"
            yield Violation(rule="who_leaves_is_known", subject=eviction.group, sentence=sentence)
        is_kept = eviction.reason is EvictionReason.RECLAIM and group is not None and _somebody_keeps(world, group)
        if eviction.beneficiary is None and eviction.reason in _FOR_SOMEBODY and not is_kept:
            sentence = f"group {eviction.group} would leave by {eviction.reason} for nobody"
            yield Violation(rule="victims_make_room", subject=eviction.group, sentence=sentence)


def _somebody_keeps(world: World, group: Group) -> bool:
    """Say whether some tenant lends not all of what the group stands on, or has it reserved now."""
    flavors = {world.devices[one].flavor for one in group.devices if one in world.devices}
    bounds = world.policy.bounds
    ahead = bounds.drain_deadline_ms + bounds.scrub_time_ms + bounds.worker_start_ms
    is_reserved = any(
        one.flavor in flavors and one.starts_at_ms - ahead <= world.now_ms < one.ends_at_ms
        for one in world.reservations
    )  # fmt: skip
    quotas = (quota for tenant in world.policy.tenants for quota in tenant.quotas if quota.flavor in flavors)
    return is_reserved or any(quota.lending_limit_millis != UNLIMITED for quota in quotas)


def _nothing_is_left_out(world: World, decision: Decision) -> Iterator[Violation]:
    stay, leave = {one.group for one in decision.placements}, {one.group for one in decision.evictions}
    for name, group in sorted(world.groups.items()):
        worker = world.workers.get(group.worker)
        if (name in stay) == (name in leave) and (worker is None or worker.domain not in world.blind):
            sentence = f"group {name} {'stays and leaves' if name in stay else 'neither stays nor leaves'}"
            yield Violation(rule="every_group_stays_or_leaves", subject=name, sentence=sentence)


def _reasons_are_true(_world: World, decision: Decision) -> Iterator[Violation]:
    placed: defaultdict[ClaimId, int] = defaultdict(int)
    for placement in decision.placements:
        placed[placement.claim] += placement.replicas
    for one in decision.reasons:
        if one.granted_replicas != placed[one.claim]:
            sentence = f"{one.claim} is told of {one.granted_replicas} replicas, {placed[one.claim]} are placed"
            yield Violation(rule="reasons_follow_from_placements", subject=one.claim, sentence=sentence)
        if one.code is None and one.granted_replicas < one.wanted_replicas:
            sentence = f"{one.claim} has {one.granted_replicas} of {one.wanted_replicas} replicas and no reason why"
            yield Violation(rule="every_wait_has_a_code", subject=one.claim, sentence=sentence)
        if not _may_be(one):
            sentence = (
                f"{one.claim} is called {one.state} with {one.granted_replicas} of {one.wanted_replicas} replicas"
            )
            yield Violation(rule="states_follow_from_replicas", subject=one.claim, sentence=sentence)


def _may_be(reason: Reason) -> bool:
    has, wants = reason.granted_replicas, reason.wanted_replicas
    possible = {
        ClaimState.SERVED: has >= wants, ClaimState.DEGRADED: has > 0, ClaimState.WAITING: has == 0,
        ClaimState.HELD: reason.code is not None,
    }  # fmt: skip
    return possible[reason.state]


def _shares_are_true(world: World, decision: Decision) -> Iterator[Violation]:
    held = held_after(world, decision)
    for one in decision.entitlements:
        if one.tenant.removesuffix(_ITSELF) not in world.domain_of:
            sentence = f"{one.tenant} is no tenant of this policy"
            yield Violation(rule="shares_are_of_known_tenants", subject=one.tenant, sentence=sentence)
        elif one.tenant in world.domain_of and one.held_millis != held[one.tenant, one.flavor]:
            placed = held[one.tenant, one.flavor]
            sentence = f"{one.tenant} is said to hold {one.held_millis} of {one.flavor}, {placed} are placed"
            yield Violation(rule="shares_follow_from_placements", subject=one.tenant, sentence=sentence)
    named = {one.tenant for one in decision.entitlements}
    for tenant in sorted(set(world.domain_of) - named if world.devices else ()):
        yield Violation(rule="every_share_is_told", subject=tenant, sentence=f"no share of {tenant} is told")
