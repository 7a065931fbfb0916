"""In a crowd where things happen deciding again is deciding from nothing, and each wish is what its plain words say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings

from policies.decide import Decider, decide
from policies.evidence.survey import survey
from policies.model.codec import digest
from policies.model.decision import PendingReason
from policies.model.inventory import DeviceHealth, GroupState, ScrubState, UsageState, WorkerState
from policies.model.snapshot import GapKind
from policies.shares.quota import caps
from policies.wishes.admission import asks, flavor_memory
from policies.wishes.admission import fleet as fleet_of
from tests.policies.crowds import NOW_MS, Crowd, crowd, in_every_crowd
from tests.policies.looking import DEPTH, SEEDS
from tests.simulation.generate import Dice


def happened(dice: Dice, seen, other):
    """The snapshot after up to two things happened; new claims, demands and gaps are those of another crowd."""
    for _ in range(dice.randint(0, 2)):
        kind = dice.choice(("claims", "groups", "devices", "demands", "gaps", "come", "order"))
        if kind in ("claims", "groups", "devices"):
            seen = replace(seen, **{kind: _exchanged(dice, kind, getattr(seen, kind))})
        elif kind in ("demands", "gaps"):
            seen = replace(seen, **{kind: getattr(other, kind)})
        elif kind == "come":
            known = {one.id for one in seen.claims}
            seen = replace(seen, claims=(*seen.claims, *[one for one in other.claims if one.id not in known][:2]))
        else:
            seen = replace(seen, claims=seen.claims[::-1], groups=seen.groups[1:] + seen.groups[:1])
    return seen


def _exchanged(dice: Dice, kind: str, nouns):
    """The nouns of which one is in another state, or gone."""
    if not nouns:
        return nouns
    at = dice.choice(nouns)
    if kind == "devices":
        new = (replace(at, health=dice.choice(list(DeviceHealth)[:3])),)
    elif dice.random() < 0.3:
        new = ()
    elif kind == "claims":
        new = (replace(at, desired_replicas=at.min_replicas, suspended=dice.random() < 0.3),)
    else:
        new = (replace(at, running=dice.randint(0, 1), state=dice.choice(list(GroupState)),
                       usage=dice.choice(list(UsageState)), routed=dice.random() < 0.5),)  # fmt: skip
    return tuple(other for one in nouns for other in (new if one is at else (one,)))


@settings(max_examples=25 * DEPTH, deadline=None, derandomize=DEPTH == 1)
@given(SEEDS)
def test_in_a_crowd_where_things_happen_deciding_again_gives_the_bytes_of_deciding_from_nothing(seed):
    here, dice = crowd(seed), Dice(seed)
    seen, memory, now_ms, decider = here.snapshot, here.memory, NOW_MS, Decider()
    other = crowd(seed + 1).snapshot
    for _ in range(5):
        decision = decider.decide(seen, here.policy, memory, now_ms)
        assert digest(decision) == digest(decide(seen, here.policy, memory, now_ms))
        memory, now_ms = decision.memory, now_ms + dice.choice((0, 1_000, 3_000, 10_000))
        seen = happened(dice, replace(seen, generation=seen.generation + 1, observed_at_ms=now_ms), other)


def wishes(here: Crowd):
    looked = survey(here.snapshot, here.policy, here.memory, NOW_MS)
    return looked, {one.claim.id: one for one in asks(looked, fleet_of(looked, caps(looked)))}


@in_every_crowd
def test_each_claim_may_keep_what_runs_on_its_rung_on_devices_and_workers_of_its_own_that_are_not_lost(seed):
    here = crowd(seed)
    seen, (_, asked) = here.snapshot, wishes(here)
    bad = {one.id for one in seen.devices if one.health in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)}
    workers = {one.id: one for one in seen.workers if one.state is not WorkerState.LOST}
    blind = {str(one) for one in seen.adopting} | {one.subject for one in seen.gaps if one.kind is GapKind.CLUSTER}
    known = {one.claim: one for one in here.memory.claims}
    draining = {one.group for one in here.memory.drains}
    for ask in asked.values():
        groups = [one for one in seen.groups if one.claim == ask.claim.id]
        alive = [one.rung for one in groups if one.state is not GroupState.FAILED]
        granted = known[ask.claim.id].rung if ask.claim.id in known else None
        assert ask.rung == (granted if granted is not None else min(alive, default=None))
        kept = [
            one for one in groups if one.rung == ask.rung
            and (str(workers[one.worker].domain) in blind
                 or (one.state is not GroupState.FAILED and not bad & set(one.devices)
                     and workers[one.worker].domain == ask.domain))
        ]  # fmt: skip
        kept.sort(key=lambda one: (
            not one.routed, one.id in draining, one.running == 0,
            -one.cold_start_ms * (1 + (one.in_flight or 0)), one.since_ms, one.id,
        ))  # fmt: skip
        assert list(ask.held) == kept
        assert {one.id for one in ask.leaving} == {one.id for one in groups} - {one.id for one in kept}


@in_every_crowd
def test_each_claim_wants_what_its_traffic_asks_for_and_never_less_for_want_of_a_fresh_sample(seed):
    here = crowd(seed)
    seen, (_, asked) = here.snapshot, wishes(here)
    bounds, known = here.policy.bounds, {one.claim: one for one in here.memory.claims}
    unheard = {one.subject for one in seen.gaps if one.kind in (GapKind.DEMAND, GapKind.GATEWAY)}
    for ask in asked.values():
        claim, has = ask.claim, sum(one.replicas for one in ask.held)
        if ask.refusal is not None:
            assert ask.wanted == ask.minimum == 0
            continue
        demand = next((one for one in seen.demands if one.claim == claim.id), None)
        is_unheard = claim.id in unheard or claim.tenant.split("/")[0] in unheard
        target = claim.desired_replicas
        if claim.kind != "job" and (demand is not None or is_unheard):
            is_old = demand is None or is_unheard or NOW_MS - demand.observed_at_ms > bounds.telemetry_max_age_ms
            target = (max(has, claim.min_replicas) if has else target) if is_old else demand.replicas
        target = max(claim.min_replicas, min(claim.max_replicas, target))
        if target < has:
            has -= sum(one.replicas for one in ask.held if one.id in {drain.group for drain in here.memory.drains})
        if target < has:
            since = known[claim.id].lower_since_ms if claim.id in known else None
            since = NOW_MS if since is None else since
            assert ask.seen_lower_since_ms == since
            target = min(has, claim.max_replicas) if NOW_MS - since < bounds.scale_down_hold_ms else target
        else:
            assert ask.seen_lower_since_ms is None
        assert (ask.wanted, ask.minimum) == (target, min(target, claim.min_replicas))


@in_every_crowd
def test_each_claim_is_idle_once_all_of_it_has_been_seen_idle_for_long_and_until_work_is_seen(seed):
    here = crowd(seed)
    seen, (_, asked) = here.snapshot, wishes(here)
    bounds, known = here.policy.bounds, {one.claim: one for one in here.memory.claims}
    unheard = {one.subject for one in seen.gaps if one.kind in (GapKind.DEMAND, GapKind.GATEWAY)}
    for ask in asked.values():
        claim = ask.claim
        before = known[claim.id].idle_since_ms if claim.id in known else None
        demand = next((one for one in seen.demands if one.claim == claim.id), None)
        is_fresh = (
            demand is not None and claim.id not in unheard and claim.tenant.split("/")[0] not in unheard
            and NOW_MS - demand.observed_at_ms <= bounds.telemetry_max_age_ms
        )  # fmt: skip
        works = is_fresh and (demand.in_flight or demand.queued)
        states = {one.usage for one in ask.held}
        since = before
        if before is None and states == {UsageState.TRULY_IDLE} and (is_fresh or claim.kind == "job"):
            since = NOW_MS
        if works or states & {UsageState.ACTIVE, UsageState.IDLE_HELD}:
            since = None
        assert ask.idle_since_ms == since
        assert ask.idle == (since is not None and NOW_MS - since >= bounds.idle_after_ms)


@in_every_crowd
def test_each_claim_is_offered_the_rungs_that_some_host_could_carry_inside_the_most_that_it_may_hold(seed):
    here = crowd(seed)
    seen, (looked, asked) = here.snapshot, wishes(here)
    least: dict[str, int] = {}
    for one in seen.devices:
        least[one.flavor] = min(one.memory_mib, least.get(one.flavor, one.memory_mib))
    assert flavor_memory(looked) == {**dict.fromkeys(looked.flavors, 80_000), **least}
    unseen = {one.subject for one in seen.gaps if one.kind in (GapKind.NODE, GapKind.DEVICE)}
    hosts: dict[tuple[str, str], int] = {}
    for one in seen.devices:
        is_hidden = bool({one.id, one.node} & unseen)
        fine = (DeviceHealth.HEALTHY, DeviceHealth.SUSPECT) if is_hidden else (DeviceHealth.HEALTHY,)
        if one.health in fine and one.scrub is not ScrubState.FAILED:
            hosts[one.flavor, one.node] = hosts.get((one.flavor, one.node), 0) + 1
    for ask in asked.values():
        if ask.refusal is not None and ask.refusal is not PendingReason.TOPOLOGY_UNSATISFIED:
            assert ask.wanted == 0
            continue
        limits = caps(looked)
        every = [
            (rung, flavor, shape.devices * max(shape.gpu_millis, -(-shape.memory_mib * 1000 // memory)))
            for rung, shape in enumerate(ask.claim.ladder) for flavor in shape.flavors or ("A", "B")
            if shape.memory_mib <= (memory := {"A": 80_000, "B": 80_000, **least}[flavor])
        ]  # fmt: skip
        gang = max(1, ask.claim.min_replicas)
        inside = [one for one in every if one[2] * gang <= limits.get((ask.claim.tenant, one[1]), 0)]
        fitting = [
            one for one in inside
            if any(many >= ask.claim.ladder[one[0]].devices for (flavor, _), many in hosts.items() if flavor == one[1])
        ]  # fmt: skip
        assert (ask.refusal is None) == bool(fitting or ask.held)
        stays = bool(ask.held) and all(rung != ask.rung for rung, *_ in fitting)
        offered = (inside if stays else fitting) or inside
        said = [(one.rung, one.flavor, one.charge) for one in (*ask.upgrades, *ask.options)]
        assert sorted(said) == sorted(offered)
        lower = [one for one in offered if ask.rung is None or one[0] >= ask.rung]
        assert [(one.rung, one.flavor, one.charge) for one in ask.options] == (lower or offered)
