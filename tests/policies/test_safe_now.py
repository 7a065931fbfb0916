"""The plan beside a slow and obvious one: of all that could be done, what is wanted and safe now, judged one by one.

Decisions are taken on crowded fleets; then, as happens between turns, groups, workers and devices are found in other
states than the decision saw.
"""

from __future__ import annotations

from dataclasses import replace

from policies.model.decision import EvictionReason
from policies.model.inventory import GroupState, ScrubState, WorkerState
from policies.model.memory import Drain
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.planning import plan
from tests.policies.crowds import NOW_MS, decided, in_every_crowd
from tests.simulation.generate import Dice

SIDES = {str(one) for one in SecurityDomain}


def later(dice: Dice, seen, decision):
    """Return the snapshot with some things in other states, or gone, or not seen."""
    groups = [
        replace(
            one, routed=dice.random() < 0.5, running=dice.choice((0, 1, one.running)),
            state=dice.choice((one.state, one.state, *GroupState)), in_flight=dice.choice((None, 0, 0, 1)),
            replicas=dice.choice((1, 1, 1, 2)),
        ) if dice.random() < 0.5 else one
        for one in seen.groups if dice.random() < 0.85
    ]  # fmt: skip
    workers = [
        replace(one, state=dice.choice((one.state, *WorkerState))) if dice.random() < 0.3 else one
        for one in seen.workers if dice.random() < 0.95
    ]  # fmt: skip
    devices = [
        replace(one, scrub=dice.choice(list(ScrubState)), domain=dice.choice((None, one.domain, *SecurityDomain)))
        if dice.random() < 0.3 else one for one in seen.devices if dice.random() < 0.97
    ]  # fmt: skip
    gaps, adopting = seen.gaps, seen.adopting
    if dice.random() < 0.3:
        gaps = tuple(
            Gap(kind=kind, subject=subject, cause="timeout", since_ms=NOW_MS) for kind, subject in (
                dice.choice(((GapKind.CLUSTER, "civil"), (GapKind.DEVICE, seen.devices[0].id), (GapKind.NODE, "n0"),
                             (GapKind.GATEWAY, "defence"))),)
        )  # fmt: skip
    if dice.random() < 0.05:
        adopting = (dice.choice(list(SecurityDomain)),)
    placed = {one.claim for one in decision.placements}
    claims = tuple(one for one in seen.claims if one.id in placed or dice.random() < 0.8)
    return replace(seen, groups=tuple(groups), workers=tuple(workers), devices=tuple(devices), gaps=gaps,
                   adopting=adopting, claims=claims)  # fmt: skip


def drains(dice: Dice, decision, bounds):
    """Some of those that leave began to drain just as long ago as the policy lets them, or a moment less."""
    longest = bounds.drain_deadline_ms
    since = [
        Drain(group=one.group, since_ms=NOW_MS - dice.choice((0, longest - 1, longest, longest + 1)))
        for one in decision.evictions if dice.random() < 0.8
    ]  # fmt: skip
    return replace(decision, memory=replace(decision.memory, drains=tuple(since)))


class Obvious:
    """Every action that is wanted and safe, by looking through everything for each of them."""

    def __init__(self, seen, decision, bounds) -> None:
        self.seen, self.decision, self.bounds = seen, decision, bounds
        self.groups = {one.id: one for one in seen.groups}
        self.workers = {one.id: one for one in seen.workers}
        self.devices = {one.id: one for one in seen.devices}
        self.claims = {one.id: one for one in seen.claims}
        self.blind = {str(one) for one in seen.adopting} | {
            one.subject for one in seen.gaps if one.kind is GapKind.CLUSTER
        }
        self.unseen = {one.subject for one in seen.gaps if one.kind in (GapKind.NODE, GapKind.DEVICE)}
        self.holder = {one: worker for worker in seen.workers for one in worker.devices}
        self.bound = {one.worker: one for one in decision.bindings}

    def actions(self) -> list[tuple]:
        return [*self.leave(), *self.workers_stop(), *self.scrubs(), *self.workers_start(), *self.grow(), *self.route()]

    def leave(self) -> list[tuple]:
        stop_routing, stop = [], []
        drained = {one.group: one.since_ms for one in self.decision.memory.drains}
        for one in sorted(self.decision.evictions, key=lambda eviction: eviction.group):
            group = self.groups.get(one.group)
            if group is None or self.domain(group) is None or self.domain(group) in self.blind:
                continue
            if self.waits(group, one.reason):
                continue
            if group.routed:
                stop_routing.append(("stop_routing", self.domain(group), group.id, one.reason))
            elif group.state is not GroupState.STOPPING:
                waited = NOW_MS - drained.get(group.id, NOW_MS)
                never = group.running == 0 and group.state in (GroupState.STARTING, GroupState.FAILED)
                if group.in_flight == 0 or waited >= self.bounds.drain_deadline_ms or never:
                    stop.append(("stop_group", self.domain(group), group.id, one.reason, group.in_flight or 0))
        return [*stop_routing, *stop]

    def domain(self, group) -> str | None:
        if group.worker in self.workers:
            return str(self.workers[group.worker].domain)
        named = group.claim.split("/")[0]
        return named if named in SIDES else None

    def waits(self, group, reason) -> bool:
        """The old one answers until all the new ones of its claim do, unless somebody starts on its devices."""
        claim = self.claims.get(group.claim)
        if claim is not None and claim.job is not None:
            return False
        if reason not in (EvictionReason.RUNG_CHANGE, EvictionReason.CONSOLIDATE):
            return False
        if not group.routed or not group.running or group.worker not in self.bound:
            return False
        if any(set(new.devices) & set(group.devices) for new in self.decision.placements
               if new.group not in self.groups):  # fmt: skip
            return False
        return any(
            new.group not in self.groups or not self.groups[new.group].routed
            for new in self.decision.placements if new.claim == group.claim and new.group != group.id
        )  # fmt: skip

    def workers_stop(self) -> list[tuple]:
        found = []
        for worker in sorted(self.seen.workers, key=lambda one: one.id):
            is_used = any(group.worker == worker.id for group in self.seen.groups)
            is_seen = not {worker.node, *worker.devices} & self.unseen and str(worker.domain) not in self.blind
            if worker.id in self.bound or is_used or not is_seen or worker.state is WorkerState.STOPPING:
                continue
            nexts = [one for one in self.decision.bindings if set(one.devices) & set(worker.devices)]
            why = "no longer needed"
            if nexts:
                why = "another layout" if nexts[0].domain == worker.domain else f"its devices go to {nexts[0].domain}"
            found.append(("stop_worker", worker.domain, worker.id, worker.devices, why))
        return found

    def missing(self) -> list:
        return [one for one in self.decision.bindings
                if one.worker not in self.workers and str(one.domain) not in self.blind]  # fmt: skip

    def beside(self, binding) -> list:
        """Every part of every GPU that the worker would use."""
        gpus = {self.devices[one].gpu for one in binding.devices if one in self.devices}
        return sorted((one for one in self.seen.devices if one.gpu in gpus), key=lambda one: one.id)

    def is_foreign(self, device, domain) -> bool:
        """Whether something of another domain may still be in its memory, or it is being wiped."""
        if device.scrub is ScrubState.DIRTY:
            return device.domain is not None and device.domain != domain
        return device.scrub is not ScrubState.CLEAN

    def scrubs(self) -> list[tuple]:
        return [
            ("scrub_device", one.id, one.node, one.domain, binding.domain, f"leaves {one.domain} for {binding.domain}")
            for binding in self.missing() for one in self.beside(binding)
            if one.scrub is ScrubState.DIRTY and one.domain is not None and self.is_foreign(one, binding.domain)
            and one.id not in self.holder and one.id not in self.unseen
        ]  # fmt: skip

    def workers_start(self) -> list[tuple]:
        return [
            ("start_worker", one.domain, one.worker, one.node, one.devices) for one in self.missing()
            if all(name in self.devices and name not in self.unseen and name not in self.holder for name in one.devices)
            and all(
                self.holder[part.id].domain == one.domain if part.id in self.holder
                else not self.is_foreign(part, one.domain) for part in self.beside(one)
            )
        ]  # fmt: skip

    def grow(self) -> list[tuple]:
        """Starts, then changes of size; each beside all that stands on its devices and all that begins before it."""
        starts, sizes, begun = [], [], []
        for new in self.decision.placements:
            worker = self.workers.get(new.worker)
            if new.group in self.groups or worker is None or worker.state is not WorkerState.READY:
                continue
            if str(worker.domain) not in self.blind and self.has_room(new, begun):
                begun.append(new)
                starts.append(("start_group", worker.domain, new.group, new.claim, new.worker, new.variant, new.devices,
                               new.replicas, new.rung, *self.size(new.claim, new.rung)))  # fmt: skip
        for new in self.decision.placements:
            group, worker = self.groups.get(new.group), self.workers.get(new.worker)
            if group is None or worker is None or str(worker.domain) in self.blind or group.replicas == new.replicas:
                continue
            if new.replicas < group.replicas or self.has_room(new, begun):
                begun += [new] if new.replicas > group.replicas else []
                sizes.append(("scale_group", worker.domain, new.group, new.replicas))
        return [*starts, *sizes]

    def size(self, claim: str, rung: int) -> tuple[int, int]:
        shape = self.claims[claim].ladder[rung]
        return shape.gpu_millis, shape.memory_mib

    def has_room(self, new, begun) -> bool:
        return all(one in self.devices and self.fits(one, new, begun) for one in new.devices)

    def fits(self, device: str, new, begun) -> bool:
        added = [one for one in (*begun, new) if device in one.devices]
        as_they_will_be = {one.group for one in added}
        standing = [one for one in self.seen.groups if device in one.devices and one.id not in as_they_will_be]
        uses = [self.used(one.claim, one.rung, one.replicas, len(one.devices)) for one in (*standing, *added)]
        memory = self.devices[device].memory_mib
        return sum(millis for millis, _ in uses) <= 1000 and sum(mib for _, mib in uses) <= memory

    def used(self, claim: str, rung: int, replicas: int, devices: int) -> tuple[int, int]:
        """Of each device; all of it by what nobody knows the size of."""
        if claim not in self.claims or rung >= len(self.claims[claim].ladder):
            return 1000, 0
        here = max(1, replicas * self.claims[claim].ladder[rung].devices // devices)
        millis, mib = self.size(claim, rung)
        return millis * here, mib * here

    def route(self) -> list[tuple]:
        return [
            ("start_routing", self.workers[new.worker].domain, new.group) for new in self.decision.placements
            if new.group in self.groups and new.worker in self.workers
            and str(self.workers[new.worker].domain) not in self.blind and not self.groups[new.group].routed
            and self.groups[new.group].running and self.groups[new.group].state is GroupState.RUNNING
        ]  # fmt: skip


def told(one) -> tuple:
    """What the obvious plan says of an action."""
    match one.kind:
        case "stop_routing":
            return one.kind, one.domain, one.group, one.reason
        case "stop_group":
            return one.kind, one.domain, one.group, one.reason, one.in_flight_lost
        case "stop_worker":
            return one.kind, one.domain, one.worker, one.devices, one.reason
        case "scrub_device":
            return one.kind, one.device, one.node, one.from_domain, one.to_domain, one.reason
        case "start_worker":
            return one.kind, one.domain, one.worker, one.node, one.devices
        case "start_group":
            return (one.kind, one.domain, one.group, one.claim, one.worker, one.variant, one.devices, one.replicas,
                    one.rung, one.gpu_millis, one.memory_mib)  # fmt: skip
        case "scale_group":
            return one.kind, one.domain, one.group, one.replicas
        case _:
            return one.kind, one.domain, one.group


@in_every_crowd
def test_everything_that_is_wanted_and_safe_now_is_planned_and_nothing_else(seed):
    (here, decision), dice = decided(seed), Dice(seed)
    decision = drains(dice, decision, here.policy.bounds)
    for seen in (here.snapshot, later(dice, here.snapshot, decision)):
        made = plan(seen, decision, here.policy, 7)
        assert [told(one) for one in made.actions] == Obvious(seen, decision, here.policy.bounds).actions()
        assert (made.fencing_generation, made.snapshot_generation, made.decided_at_ms) == (7, 1, NOW_MS)
