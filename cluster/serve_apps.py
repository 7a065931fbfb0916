"""The Serve applications of a domain: what we write into them and how we read it back.

Everything that must survive a crash of the control plane stands in the applications themselves: whose group it is,
where it belongs, which groups are routed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cluster.ray_rest import ServeApp
from policies.model.codec import from_plain, to_plain
from policies.model.routing import RoutingTable
from policies.model.units import ClaimId, DeviceId, GroupId, ModelId, SecurityDomain, VariantId, WorkerId

GATEWAY_APP = "gateway"
ENGINE_DEPLOYMENT = "Engine"
GATEWAY_DEPLOYMENT = "Gateway"
RECORD = "partage"
"""Argument of a group's application that holds its record; the engine does not read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """What a group's application says of the group."""

    group: GroupId
    claim: ClaimId
    worker: WorkerId
    rung: int
    model: ModelId | None
    variant: VariantId | None
    devices: tuple[DeviceId, ...]
    gpu_millis: int
    memory_mib: int
    concurrency: int
    cold_start_ms: int
    started_at_ms: int


def record_of(app: ServeApp) -> GroupRecord | None:
    """Return the record in a group's application; None for the gateway and for what is not ours."""
    plain = app.arguments.get(RECORD)
    if plain is None:
        return None
    try:
        return from_plain(GroupRecord, plain)
    except ValidationError:
        return None


def table_of(apps: Mapping[str, ServeApp], domain: SecurityDomain) -> RoutingTable:
    """Return the routing table that was put last; an empty one of generation 0 before the first."""
    gateway = apps.get(GATEWAY_APP)
    for deployment in (gateway.config.get("deployments") or []) if gateway else []:
        if deployment.get("user_config"):
            try:
                return from_plain(RoutingTable, deployment["user_config"])
            except ValidationError:
                break
    return RoutingTable(generation=0, domain=domain)


def routed_groups(table: RoutingTable) -> frozenset[GroupId]:
    """Return the groups that may receive requests by this table."""
    return frozenset(group.group for route in table.routes for group in route.groups)


def gateway_app(table: RoutingTable, files: Mapping[str, str], head_label: Mapping[str, str]) -> dict[str, Any]:
    """Return the gateway's application. ``files``: paths of ``pepper_file`` and ``control_token_file``."""
    return {
        "name": GATEWAY_APP,
        "route_prefix": "/",
        "import_path": "serving.apps.gateway:build",
        "args": {"domain": table.domain.value, **files},
        "deployments": [
            {
                "name": GATEWAY_DEPLOYMENT,
                "num_replicas": 1,
                "user_config": to_plain(table),
                "ray_actor_options": {"num_cpus": 0.01, "label_selector": dict(head_label)},
            }
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How a group's replicas end."""

    shutdown_timeout_s: int = 600
    """Longest life of a stopping replica; the drain deadline of a move ends long before."""
    shutdown_poll_ms: int = 100


def group_app(
    record: GroupRecord, engine: Mapping[str, Any], replicas: int, node: str, limits: EngineLimits
) -> dict[str, Any]:
    """Return the group's application, pinned to the Ray node.

    ``engine`` holds the arguments of ``serving.apps.engine:build`` besides group, model and variant; ``node`` is the
    hex id of the worker's Ray node.
    """
    named = {"group": record.group, "model": record.model, "variant": record.variant}
    return {
        "name": record.group,
        "route_prefix": None,
        "import_path": "serving.apps.engine:build",
        "args": {**engine, **named, RECORD: to_plain(record)},
        "external_scaler_enabled": True,
        "deployments": [
            {
                "name": ENGINE_DEPLOYMENT,
                "num_replicas": replicas,
                "graceful_shutdown_timeout_s": limits.shutdown_timeout_s,
                "graceful_shutdown_wait_loop_s": limits.shutdown_poll_ms / 1000,
                "ray_actor_options": {
                    "num_cpus": 0.01,
                    "num_gpus": record.gpu_millis * len(record.devices) / 1000,
                    "label_selector": {"ray.io/node-id": node},
                },
            }
        ],
    }


def kept_app(app: ServeApp) -> dict[str, Any]:
    """Return the application as it was put, aiming at what it aims at now: nothing restarts."""
    config = dict(app.config)
    deployments = [dict(deployment) for deployment in config.get("deployments") or []]
    for deployment in deployments:
        deployment["num_replicas"] = app.target
    return config | {"deployments": deployments}


def node_of(app: ServeApp) -> str | None:
    """Return the hex id of the Ray node that the group is pinned to; None if it is pinned to none."""
    for deployment in app.config.get("deployments") or []:
        selector = (deployment.get("ray_actor_options") or {}).get("label_selector") or {}
        if "ray.io/node-id" in selector:
            return str(selector["ray.io/node-id"])
    return None


_RUNG = re.compile(r"-r(\d+)-[0-9a-f]{8}$")


def rung_of(group: GroupId) -> int:
    """Return the rung that the group's name holds; 0 if it holds none."""
    found = _RUNG.search(group)
    return int(found.group(1)) if found else 0
