"""Actuator of the platform on one machine: Ray worker processes, and the Serve configuration of each domain."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from cluster.actuate.draft import RoutingAction, groups_on
from cluster.actuate.fencing import FencingGuard
from cluster.actuate.jobs import LocalJobs
from cluster.actuate.refusals import WorkerCarriesGroups
from cluster.actuate.serve_domain import DomainTurn, ServeDomain, refused
from cluster.actuate.wipe import Scrubs
from cluster.actuate.workers import LocalWorkers, Standbys
from cluster.ports import Clock
from cluster.ray_rest import RayUnreadable
from cluster.refusals import Refusal
from policies.model.plan import (
    Action,
    ActionOutcome,
    Outcome,
    OutcomeStatus,
    Plan,
    ScrubDevice,
    StartWorker,
    StopWorker,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalActuator:
    """Begins every action and returns. One PUT per domain and turn, and only if something differs."""

    domains: tuple[ServeDomain, ...]
    workers: LocalWorkers
    scrubs: Scrubs
    fencing: FencingGuard
    standbys: Standbys | None
    clock: Clock
    jobs: LocalJobs

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action and bring the routing tables up to date; an empty plan does only the latter."""
        try:
            self.fencing.admit(plan.fencing_generation)
        except Refusal as refusal:
            return self._outcome(plan, {action: refused(action, refusal) for action in plan.actions})
        results: dict[Action, ActionOutcome] = {}
        turns = [self._domain_turn(domain, plan, results) for domain in self.domains]
        for action in plan.actions:
            if isinstance(action, ScrubDevice | StartWorker):
                results[action] = self._begin(action, plan.fencing_generation)
        busy = bool(plan.actions) or any(turn is None or not turn.steady for turn in turns)
        self._tend_workers(plan.fencing_generation, busy=busy)
        self.jobs.tend()
        return self._outcome(plan, results)

    def close(self) -> None:
        """Return once nothing runs in the background."""
        self.jobs.wait()
        self.workers.wait()
        self.scrubs.wait()

    def _domain_turn(self, domain: ServeDomain, plan: Plan, results: dict[Action, ActionOutcome]) -> DomainTurn | None:
        """Carry out what concerns one domain's applications; None if its dashboard could not be used."""
        own, stops = _split(plan, domain)
        serve = tuple(action for action in own if not self.jobs.is_a_jobs(action))
        results.update((action, self._begin(action, plan.fencing_generation)) for action in own if action not in serve)
        try:
            turn = domain.take(serve)
        except RayUnreadable as error:
            log.warning("%s", error)
            for action in (*serve, *stops):
                results[action] = ActionOutcome(action=action, status=OutcomeStatus.FAILED, detail=str(error))
            return None
        results.update((result.action, result) for result in turn.results)
        for stop in stops:
            # A group that is deleted in this turn is still there: the worker stops one turn later.
            if carried := (*groups_on(turn.draft, stop.worker), *self.jobs.on(stop.worker)):
                results[stop] = refused(stop, WorkerCarriesGroups(stop.worker, carried))
            else:
                results[stop] = self._begin(stop, plan.fencing_generation)
        return turn

    def _begin(self, action: Action, fencing: int) -> ActionOutcome:
        try:
            match action:
                case ScrubDevice():
                    self.scrubs.begin(action, fencing)
                case StartWorker():
                    self.workers.begin_start(action, fencing)
                case StopWorker():
                    self.workers.begin_stop(action, fencing)
                case _:
                    self.jobs.take(action)
        except Refusal as refusal:
            return refused(action, refusal)
        return ActionOutcome(action=action, status=OutcomeStatus.ACCEPTED)

    def _tend_workers(self, fencing: int, *, busy: bool) -> None:
        """Let processes follow the ledger, and keep standbys while nothing moves."""
        if self.workers.joining():
            for domain in self.domains:
                with suppress(RayUnreadable):
                    self.workers.joined.update(domain.joined())
        self.workers.resume_stops(fencing)
        with suppress(Refusal):
            self.scrubs.resume(fencing)
        self.workers.keep_running()
        if self.standbys is not None:
            self.standbys.tend(fencing, busy=busy)

    def _outcome(self, plan: Plan, results: dict[Action, ActionOutcome]) -> Outcome:
        ordered = tuple(results[action] for action in plan.actions)
        return Outcome(plan=plan.id, results=ordered, finished_at_ms=self.clock.now_ms())


def _split(plan: Plan, domain: ServeDomain) -> tuple[tuple[RoutingAction, ...], tuple[StopWorker, ...]]:
    own = [a for a in plan.actions if not isinstance(a, ScrubDevice | StartWorker) and a.domain is domain.end.domain]
    return tuple(a for a in own if not isinstance(a, StopWorker)), tuple(a for a in own if isinstance(a, StopWorker))
