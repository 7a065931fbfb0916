"""Groups as the Serve applications and the gateway together show them. Pure."""

from __future__ import annotations

from cluster.observe.sights import DomainSight
from cluster.ray_rest import ServeApp
from cluster.serve_apps import GroupRecord, node_of, record_of, routed_groups, table_of
from policies.model.inventory import Group, GroupState, UsageState
from policies.model.routing import GatewayLoad, GroupLoad, VariantLoad
from policies.model.units import GroupId
from policies.model.workload import Demand

ACTIVE_FOR_MS = 15_000
"""A group that worked this recently is ACTIVE: between two requests it is not idle."""
STRANDED = "the Ray node of its worker is gone"
FAILED_WORDS = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})


def groups(sight: DomainSight, now_ms: int) -> tuple[Group, ...]:
    """Return the domain's groups by the newest picture of its applications; what was not seen is marked by its gap."""
    apps = sight.apps.picture or {}
    return tuple(_group(sight, app, record, now_ms) for app in apps.values() if (record := record_of(app)) is not None)


def acknowledged(sight: DomainSight) -> frozenset[GroupId] | None:
    """Return the groups that the gateway may send requests to, by the newest table that it is seen to have in force.

    While it does not have the newest one in force, what it had before counts, and what it still reports work for.
    """
    table = table_of(sight.apps.picture or {}, sight.domain)
    load = sight.load.picture
    if load is None or sight.apps.picture is None:
        return sight.acknowledged
    if load.generation >= table.generation:
        return routed_groups(table)
    if sight.acknowledged is None:
        return routed_groups(table) | frozenset(each.group for each in load.groups)
    return sight.acknowledged


def active(before: DomainSight, after: DomainSight, now_ms: int) -> dict[GroupId, int]:
    """Return when each group was last seen to work: requests inside now, or more of them completed than before."""
    earlier = {load.group: load for load in _loads(before.load.picture)}
    known = dict(before.active_ms)
    if after.load.is_current:
        for load in _loads(after.load.picture):
            then = earlier.get(load.group)
            if load.in_flight or (then is not None and load.completed > then.completed):
                known[load.group] = now_ms
    return {group: at_ms for group, at_ms in known.items() if group in (after.apps.picture or {})}


def demands(sight: DomainSight) -> tuple[Demand, ...]:
    """Return the replicas that the traffic of now asks for; empty when the gateway is not seen."""
    load = sight.load.picture
    if load is None or not sight.load.is_current:
        return ()
    return tuple(
        Demand(
            claim=claim.claim,
            replicas=claim.desired_replicas,
            observed_at_ms=load.observed_at_ms,
            in_flight=claim.in_flight,
            queued=claim.queued,
        )
        for claim in load.claims
    )


def traffic(sight: DomainSight) -> tuple[VariantLoad, ...]:
    """Return how the domain's variants have answered, by the newest report of its gateway."""
    return sight.load.picture.variants if sight.load.picture is not None else ()


def _group(sight: DomainSight, app: ServeApp, record: GroupRecord, now_ms: int) -> Group:
    stranded = _is_stranded(sight, app)
    return Group(
        id=record.group,
        claim=record.claim,
        worker=record.worker,
        rung=record.rung,
        variant=record.variant,
        devices=record.devices,
        replicas=app.target,
        running=app.running,
        state=GroupState.FAILED if stranded else _state(app),
        routed=record.group in (sight.acknowledged or frozenset()),
        in_flight=_in_flight(sight, record.group),
        since_ms=record.started_at_ms,
        usage=_usage(sight, record.group, now_ms),
        cold_start_ms=record.cold_start_ms,
        message=STRANDED if stranded else app.message,
        size=(record.gpu_millis, record.memory_mib),
    )


def _is_stranded(sight: DomainSight, app: ServeApp) -> bool:
    """Return whether the group is pinned to a node that is gone: it would wait for it for ever."""
    pinned = node_of(app)
    if pinned is None or app.running or app.status == "DELETING" or not sight.nodes.is_current:
        return False
    return pinned not in {node.id for node in sight.nodes.picture or ()}


def _state(app: ServeApp) -> GroupState:
    if app.status == "DELETING":
        return GroupState.STOPPING
    if app.running:
        return GroupState.RUNNING
    return GroupState.FAILED if app.status in FAILED_WORDS else GroupState.STARTING


def _in_flight(sight: DomainSight, group: GroupId) -> int | None:
    """Return the requests inside: the gateway lists every group that is routed or not yet empty."""
    load = sight.load.picture
    if load is None or not sight.load.is_current:
        return None
    return next((each.in_flight for each in load.groups if each.group == group), 0)


def _usage(sight: DomainSight, group: GroupId, now_ms: int) -> UsageState:
    if not sight.load.is_current or sight.load.picture is None:
        return UsageState.UNKNOWN
    last_ms = sight.active_ms.get(group)
    return UsageState.ACTIVE if last_ms is not None and now_ms - last_ms <= ACTIVE_FOR_MS else UsageState.IDLE_HELD


def _loads(load: GatewayLoad | None) -> tuple[GroupLoad, ...]:
    return load.groups if load is not None else ()
