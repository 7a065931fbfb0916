"""Actuator of the simulated platform: begins every action and returns; the world completes them in its own time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

from cluster.ports import Clock, Ledger
from cluster.refusals import Refusal
from cluster.sim.world import Scrub, World
from policies.model.inventory import Group, GroupState, ScrubState, UsageState, Worker, WorkerState
from policies.model.plan import (
    Action,
    ActionOutcome,
    Outcome,
    OutcomeStatus,
    Plan,
    ScaleGroup,
    ScrubDevice,
    StartGroup,
    StartRouting,
    StartWorker,
    StopGroup,
    StopRouting,
    StopWorker,
)
from policies.model.units import NodeId, SecurityDomain

Fault = Callable[[Action], str]
"""Returns the detail of a failure to inject, or an empty text."""


def no_fault(_action: Action) -> str:
    """Let every action succeed."""
    return ""


class SimActuator:
    """Carries out plans in the simulated world."""

    def __init__(self, world: World, ledger: Ledger, clock: Clock, fault: Fault = no_fault) -> None:
        self._world = world
        self._ledger = ledger
        self._clock = clock
        self._fault = fault
        self._newest = 0

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action; refuse all of them if a newer leadership was seen. Scrubs cut short are begun again."""
        self._newest = max(self._newest, plan.fencing_generation)
        if plan.fencing_generation == self._newest:
            self._resume_scrubs(plan.fencing_generation)
        results = tuple(self._result(action, plan.fencing_generation) for action in plan.actions)
        return Outcome(plan=plan.id, results=results, finished_at_ms=self._clock.now_ms())

    def _result(self, action: Action, fencing: int) -> ActionOutcome:
        if fencing < self._newest:
            detail = f"fencing generation {fencing} is older than {self._newest}"
            return ActionOutcome(action=action, status=OutcomeStatus.REFUSED, detail=detail)
        if detail := self._fault(action):
            return ActionOutcome(action=action, status=OutcomeStatus.FAILED, detail=detail)
        try:
            self._begin(action, fencing)
        except Refusal as refusal:
            return ActionOutcome(action=action, status=OutcomeStatus.REFUSED, detail=f"{refusal.code}: {refusal}")
        return ActionOutcome(action=action, status=OutcomeStatus.ACCEPTED)

    def _begin(self, action: Action, fencing: int) -> None:
        match action:
            case StopRouting():
                self._stop_routing(action)
            case StopGroup():
                self._stop_group(action)
            case StopWorker():
                self._world.workers.pop(action.worker, None)
                self._ledger.release(action.worker, fencing)
            case ScrubDevice():
                self._scrub(action, fencing)
            case StartWorker():
                self._start_worker(action, fencing)
            case StartGroup():
                self._start_group(action)
            case ScaleGroup():
                self._scale(action)
            case StartRouting():
                self._start_routing(action)
            case _:
                assert_never(action)

    def _stop_routing(self, action: StopRouting) -> None:
        group = self._world.groups.get(action.group)
        if group is not None and group.routed:
            self._world.groups[group.id] = replace(group, routed=False, in_flight=1)
            self._world.later(self._now() + self._world.pace.drain_ms, "drained", group.id)

    def _stop_group(self, action: StopGroup) -> None:
        group = self._world.groups.get(action.group)
        if group is not None:
            self._world.groups[group.id] = replace(group, state=GroupState.STOPPING, routed=False)
            self._world.later(self._now() + self._world.pace.group_stop_ms, "group_gone", group.id)

    def _scrub(self, action: ScrubDevice, fencing: int) -> None:
        self._ledger.scrubbing(action.device, fencing)
        running = self._world.scrubs.get(action.device)
        if running is not None and running.fencing == fencing:
            return
        self._world.scrubs[action.device] = Scrub(
            device=action.device,
            from_domain=action.from_domain,
            to_domain=action.to_domain,
            since_ms=self._now(),
            fencing=fencing,
        )
        self._world.later(self._now() + self._world.pace.scrub_ms, "scrubbed", action.device)

    def _resume_scrubs(self, fencing: int) -> None:
        """Begin again what another leadership began: the ledger has it under way, and its proof would be refused."""
        for record in self._ledger.devices():
            if record.scrub is ScrubState.SCRUBBING and record.domain is not None:
                waiting = next(domain for domain in SecurityDomain if domain is not record.domain)
                again = ScrubDevice(
                    device=record.device, node=NodeId(""), from_domain=record.domain, to_domain=waiting,
                    reason="cut short by a change of leadership",
                )  # fmt: skip
                with suppress(Refusal):
                    self._scrub(again, fencing)

    def _start_worker(self, action: StartWorker, fencing: int) -> None:
        self._ledger.bind(action.worker, action.domain, action.devices, fencing)
        if action.worker in self._world.workers:
            return
        self._world.workers[action.worker] = Worker(
            id=action.worker,
            domain=action.domain,
            node=action.node,
            devices=tuple(sorted(action.devices)),
            state=WorkerState.STARTING,
            since_ms=self._now(),
        )
        self._world.later(self._now() + self._world.pace.worker_start_ms, "worker_ready", action.worker)

    def _start_group(self, action: StartGroup) -> None:
        if action.group in self._world.groups:
            return
        self._world.groups[action.group] = Group(
            id=action.group,
            claim=action.claim,
            size=(action.gpu_millis, action.memory_mib),
            worker=action.worker,
            rung=action.rung,
            variant=action.variant,
            devices=action.devices,
            replicas=action.replicas,
            since_ms=self._now(),
            cold_start_ms=self._world.pace.group_start_ms,
        )
        self._world.shares[action.group] = action.gpu_millis
        self._world.later(self._now() + self._world.pace.group_start_ms, "group_running", action.group)

    def _scale(self, action: ScaleGroup) -> None:
        group = self._world.groups.get(action.group)
        if group is None:
            return
        fewer = replace(group, replicas=action.replicas, running=min(group.running, action.replicas))
        self._world.groups[group.id] = fewer
        if action.replicas > group.running:
            self._world.later(self._now() + self._world.pace.group_start_ms, "group_running", group.id)

    def _start_routing(self, action: StartRouting) -> None:
        group = self._world.groups.get(action.group)
        if group is not None and group.running:
            self._world.groups[group.id] = replace(group, routed=True, in_flight=1, usage=UsageState.ACTIVE)

    def _now(self) -> int:
        return self._clock.now_ms()
