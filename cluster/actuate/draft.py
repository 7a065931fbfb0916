"""The next Serve configuration of one domain, drafted action by action from what is deployed now. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.actuate.refusals import GroupNotRunning, GroupStopping
from cluster.ray_rest import ServeApp
from cluster.serve_apps import (
    GATEWAY_APP,
    RECORD,
    gateway_app,
    kept_app,
    record_of,
    routed_groups,
    table_of,
)
from policies.model.plan import ScaleGroup, StartGroup, StartRouting, StopGroup, StopRouting
from policies.model.routing import RoutingTable
from policies.model.units import GroupId, SecurityDomain, WorkerId

DELETING = "DELETING"
RoutingAction = StopRouting | StopGroup | ScaleGroup | StartGroup | StartRouting


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is deployed, and what should be."""

    domain: SecurityDomain
    apps: Mapping[str, ServeApp]
    """As seen; counts of replicas are the controller's."""
    routed: frozenset[GroupId]
    added: Mapping[str, Mapping[str, Any]]
    """Applications to add, as they are put."""
    removed: frozenset[str]
    scaled: Mapping[str, int]
    """Groups whose number of replicas changes."""

    @property
    def changes_apps(self) -> bool:
        """Whether an application is added or removed."""
        return bool(self.added or self.removed)

    def left(self) -> dict[str, ServeApp]:
        """Return the applications that stay, with the replicas that they should have."""
        return {
            name: replace(app, target=self.scaled.get(name, app.target))
            for name, app in self.apps.items()
            if name not in self.removed and app.status != DELETING
        }


def begin(domain: SecurityDomain, apps: Mapping[str, ServeApp]) -> Draft:
    """Return a draft that changes nothing."""
    routed = routed_groups(table_of(apps, domain))
    return Draft(domain=domain, apps=apps, routed=routed, added={}, removed=frozenset(), scaled={})


def groups_on(draft: Draft, worker: WorkerId) -> tuple[GroupId, ...]:
    """Return the groups that are on the worker now, stopping ones included, or are about to be; sorted."""
    present = {name for name, app in draft.apps.items() if (found := record_of(app)) and found.worker == worker}
    arriving = {name for name, app in draft.added.items() if app["args"][RECORD]["worker"] == worker}
    return tuple(GroupId(name) for name in sorted(present | arriving))


def with_action(draft: Draft, action: RoutingAction, build: Callable[[StartGroup], Mapping[str, Any]]) -> Draft:
    """Return the draft with the action done; the same draft if it is true already.

    ``build`` makes the application of a new group. Raises a ``Refusal`` if the action cannot be done now.
    """
    match action:
        case StopRouting():
            return replace(draft, routed=draft.routed - {action.group})
        case StopGroup():
            return _without(draft, action.group)
        case ScaleGroup():
            return _scaled(draft, action)
        case StartGroup():
            return _with_group(draft, action, build)
        case StartRouting():
            return _routed(draft, action.group)


def body(
    draft: Draft, table: RoutingTable, gateway: Mapping[str, str], head_label: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return all applications of the domain as they are put: the gateway first, the others by name."""
    apps = {name: kept_app(app) for name, app in draft.left().items() if name != GATEWAY_APP}
    apps |= {name: dict(app) for name, app in draft.added.items()}
    return [gateway_app(table, gateway, head_label), *(apps[name] for name in sorted(apps))]


def _without(draft: Draft, group: GroupId) -> Draft:
    app = draft.apps.get(group)
    if app is None or app.status == DELETING:
        return draft
    return replace(draft, removed=draft.removed | {group}, routed=draft.routed - {group})


def _scaled(draft: Draft, action: ScaleGroup) -> Draft:
    app = draft.apps.get(action.group)
    if app is None or app.status == DELETING:
        raise GroupNotRunning(action.group)
    if app.target == action.replicas:
        return draft
    return replace(draft, scaled={**draft.scaled, action.group: action.replicas})


def _with_group(draft: Draft, action: StartGroup, build: Callable[[StartGroup], Mapping[str, Any]]) -> Draft:
    app = draft.apps.get(action.group)
    if app is not None and app.status == DELETING:
        raise GroupStopping(action.group)
    if app is not None and action.group not in draft.removed:
        return draft
    return replace(draft, added={**draft.added, action.group: build(action)})


def _routed(draft: Draft, group: GroupId) -> Draft:
    app = draft.left().get(group)
    if app is None or app.running == 0:
        raise GroupNotRunning(group)
    return replace(draft, routed=draft.routed | {group})
