"""Ray Serve's configuration on Kubernetes: kept in the RayService, so that the operator puts no older one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.actuate.draft import RoutingAction, begin, groups_on
from cluster.actuate.kubernetes.refusals import FROZEN
from cluster.actuate.kubernetes.writes import refuse_stale
from cluster.actuate.refusals import WorkerNotBound, WorkerNotJoined
from cluster.actuate.serve_domain import ServeDomain
from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import FENCING, RAY_SERVICES
from cluster.kubernetes.refusals import ApiRefusal
from cluster.ports import Clock, Ledger
from cluster.ray_rest import RayDashboard, RayUnreadable
from cluster.refusals import Refusal
from policies.model.plan import ActionOutcome, Outcome, OutcomeStatus, Plan, StartGroup
from policies.model.units import GroupId, SecurityDomain, WorkerId


class ServiceDashboard(RayDashboard):
    """A dashboard whose configuration is first written to the RayService, as the current leader, then put.

    The operator puts ``serveConfigV2`` again whenever it restarts or finds no application. What is written here is
    always what was put last, so that its put changes nothing.
    """

    def __init__(
        self, base_url: str, token: str, timeout_s: float, api: Api, place: tuple[str, str], fencing: Callable[[], int]
    ) -> None:
        super().__init__(base_url, token, timeout_s)
        self._api, self._place, self._fencing = api, place, fencing

    def put_applications(self, config: Mapping[str, Any]) -> None:
        """Make the config the whole truth. Raises ``StaleGeneration``, ``RayUnreadable`` and ``ApiRefusal``."""
        namespace, name = self._place
        fencing = self._fencing()
        service = self._api.get(RAY_SERVICES, namespace, name)
        refuse_stale(service, fencing)
        text = yaml.safe_dump(config, sort_keys=True)
        if (service.get("spec") or {}).get("serveConfigV2") != text:
            meta = {
                "name": name,
                "resourceVersion": service["metadata"]["resourceVersion"],
                "annotations": {FENCING: str(fencing)},
            }
            self._api.apply(RAY_SERVICES, namespace, {"metadata": meta, "spec": {"serveConfigV2": text}})
        super().put_applications(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodServeDomain(ServeDomain):
    """One domain's applications, where workers are pods known by their address."""

    addresses: Callable[[WorkerId], str]
    """Address of the worker's pod; empty while it has none."""

    def _node(self, action: StartGroup) -> str:
        bound = {record.device for record in self.ledger.devices() if record.worker == action.worker}
        if not set(action.devices) <= bound:
            raise WorkerNotBound(action.worker)
        address = self.addresses(action.worker)
        node = next((each.id for each in self.end.dashboard.nodes() if address and each.address == address), None)
        if node is None:
            raise WorkerNotJoined(action.worker)
        return node


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOnKubernetes:
    """Carries out the actions on groups, one domain at a time."""

    domains: tuple[ServeDomain, ...]
    clock: Clock
    ledger: Ledger

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action and bring the routing tables up to date; an empty plan does only the latter."""
        results: dict[int, ActionOutcome] = {}
        for domain in self.domains:
            chosen = [i for i, action in enumerate(plan.actions) if _domain_of(action) is domain.end.domain]
            actions: tuple[Any, ...] = tuple(plan.actions[index] for index in chosen)
            results |= dict(zip(chosen, _taken(domain, actions), strict=True))
        ordered = tuple(results[index] for index in range(len(plan.actions)))
        return Outcome(plan=plan.id, results=ordered, finished_at_ms=self.clock.now_ms())

    def carried(self, domain: SecurityDomain, worker: WorkerId) -> tuple[GroupId, ...]:
        """Return the groups that are on the worker now, stopping ones included. Raises ``RayUnreadable``."""
        (dashboard,) = (each.end.dashboard for each in self.domains if each.end.domain is domain)
        return groups_on(begin(domain, dashboard.applications()), worker)


def _taken(domain: ServeDomain, actions: tuple[RoutingAction, ...]) -> tuple[ActionOutcome, ...]:
    try:
        return domain.take(actions).results
    except RayUnreadable as error:
        detail = f"{FROZEN}: {error}"
        return tuple(ActionOutcome(action=each, status=OutcomeStatus.REFUSED, detail=detail) for each in actions)
    except (Refusal, ApiRefusal) as refusal:
        detail = f"{refusal.code}: {refusal}"
        return tuple(ActionOutcome(action=each, status=OutcomeStatus.REFUSED, detail=detail) for each in actions)


def _domain_of(action: Any) -> SecurityDomain:
    domain: SecurityDomain = action.domain
    return domain
