"""The Serve configuration of one domain, of which we are the only writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.actuate.draft import Draft, RoutingAction, begin, body, with_action
from cluster.actuate.refusals import NoJobEngine, UnknownVariant, WorkerNotBound, WorkerNotJoined
from cluster.actuate.routing import Promises, next_table
from cluster.embedded.nodes import HEAD_ROLE, LAUNCH_LABEL, ROLE_LABEL
from cluster.embedded.processes import ProcessFolder, find
from cluster.ports import Clock, Ledger
from cluster.ray_rest import RayDashboard
from cluster.refusals import Refusal
from cluster.serve_apps import ENGINE_DEPLOYMENT, EngineLimits, GroupRecord, group_app, rung_of, table_of
from policies.model.catalogue import Model, Variant
from policies.model.plan import ActionOutcome, OutcomeStatus, StartGroup
from policies.model.units import WHOLE_GPU_MILLIS, SecurityDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEnd:
    """Where one domain is reached and what its gateway is given."""

    domain: SecurityDomain
    dashboard: RayDashboard
    gateway_host: str
    gateway_port: int
    gateway_files: Mapping[str, str]
    """Paths of ``pepper_file`` and ``control_token_file``, and what else ``serving.apps.gateway:build`` takes."""
    proxy_location: str = "HeadOnly"
    """Of Ray Serve's HTTP proxies; ``Disabled`` where the gateway opens a door of its own at ``gateway_port``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRoom:
    """What replicas are made from."""

    models: Callable[[], tuple[Model, ...]]
    cache: Path
    """Folder of the weights."""
    limits: EngineLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainTurn:
    """What became of one domain's actions."""

    results: tuple[ActionOutcome, ...]
    """In the order of the actions."""
    draft: Draft
    steady: bool
    """Whether nothing changed and every replica asked for runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeDomain:
    """Writes one domain's applications and routing table, at most once a turn and only what differs."""

    end: DomainEnd
    engines: EngineRoom
    ledger: Ledger
    processes: ProcessFolder
    promised: Callable[[SecurityDomain], Promises]
    clock: Clock

    def take(self, actions: tuple[RoutingAction, ...]) -> DomainTurn:
        """Carry out the actions and bring the routing table up to date. Raises ``RayUnreadable``."""
        apps = self.end.dashboard.applications()
        draft, results = begin(self.end.domain, apps), []
        for action in actions:
            try:
                draft = with_action(draft, action, self._build)
                results.append(ActionOutcome(action=action, status=OutcomeStatus.ACCEPTED))
            except Refusal as refusal:
                results.append(refused(action, refusal))
        changed = self._write(draft)
        steady = not (changed or actions) and all(app.running == app.target for app in apps.values())
        return DomainTurn(results=tuple(results), draft=draft, steady=steady)

    def joined(self) -> Mapping[str, str]:
        """Return the hex id of each living Ray node by the launch that it came from. Raises ``RayUnreadable``."""
        return {
            node.labels[LAUNCH_LABEL]: node.id for node in self.end.dashboard.nodes() if LAUNCH_LABEL in node.labels
        }

    def _write(self, draft: Draft) -> bool:
        """Write what differs and return whether anything did. Replicas are scaled first: that is the quicker call."""
        current = table_of(draft.apps, self.end.domain)
        table = next_table(current, self.promised(self.end.domain), draft.left(), draft.routed)
        for group, replicas in sorted(draft.scaled.items()):
            self.end.dashboard.scale(group, ENGINE_DEPLOYMENT, replicas)
        if draft.changes_apps or table is not current:
            self.end.dashboard.put_applications(
                {
                    "proxy_location": self.end.proxy_location,
                    "http_options": {"host": self.end.gateway_host, "port": self.end.gateway_port},
                    "applications": body(draft, table, self.end.gateway_files, {ROLE_LABEL: HEAD_ROLE}),
                }
            )
            return True
        return bool(draft.scaled)

    def _build(self, action: StartGroup) -> Mapping[str, Any]:
        model, variant = self._variant(action)
        record = GroupRecord(
            group=action.group,
            claim=action.claim,
            worker=action.worker,
            rung=rung_of(action.group),
            model=action.model,
            variant=action.variant,
            devices=action.devices,
            gpu_millis=action.gpu_millis,
            memory_mib=action.memory_mib,
            concurrency=action.concurrency,
            cold_start_ms=variant.cold_start_ms,
            started_at_ms=self.clock.now_ms(),
        )
        engine = {
            "engine": variant.engine,
            "weights": variant.weights,
            "sha256": variant.sha256,
            "cache_dir": str(self.engines.cache),
            "context": model.context_tokens,
            "concurrency": action.concurrency,
            "options": engine_options(action, variant),
        }
        return group_app(record, engine, action.replicas, self._node(action), self.engines.limits)

    def _variant(self, action: StartGroup) -> tuple[Model, Variant]:
        if action.model is None:
            raise NoJobEngine(action.claim)
        for model in self.engines.models():
            for variant in model.variants:
                if (model.id, variant.id) == (action.model, action.variant):
                    return model, variant
        raise UnknownVariant(action.model, action.variant)

    def _node(self, action: StartGroup) -> str:
        """Return the Ray node of the worker: bound by the ledger, running, and joined."""
        bound = {record.device for record in self.ledger.devices() if record.worker == action.worker}
        if not set(action.devices) <= bound:
            raise WorkerNotBound(action.worker)
        process = find(self.processes, action.worker)
        node = self.joined().get(process.spec.launch) if process is not None and not process.stopping else None
        if node is None:
            raise WorkerNotJoined(action.worker)
        return node


def engine_options(action: StartGroup, variant: Variant) -> dict[str, Any]:
    """Return what an engine derives its flags from: precision, devices and share of each, for one replica."""
    whole = action.gpu_millis == WHOLE_GPU_MILLIS
    return {
        "precision": variant.precision,
        "devices": max(1, len(action.devices) // max(1, action.replicas)) if whole else 1,
        "gpu_millis": action.gpu_millis,
        "memory_mib": action.memory_mib,
    }


def refused(action: Any, refusal: Refusal) -> ActionOutcome:
    """Return the outcome of an action that the world does not allow now."""
    return ActionOutcome(action=action, status=OutcomeStatus.REFUSED, detail=f"{refusal.code}: {refusal}")
