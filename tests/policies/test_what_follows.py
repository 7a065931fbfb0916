"""What a decision says of those who leave, of what is held, and what it remembers: each beside its plain meaning.

The fleets are crowded; what a decision grants is taken from itself, and all that follows from that is worked out anew.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from policies.granting.avoiding import backoff_ms
from policies.invariants import check, check_decision
from policies.model.decision import ClaimState, EvictionReason, PendingReason
from policies.model.inventory import DeviceHealth, GroupState, WorkerState
from policies.model.memory import Drain
from policies.model.snapshot import GapKind
from policies.model.units import UNLIMITED
from policies.planning import plan
from tests.policies.crowds import NOW_MS, Crowd, crowd, decided, in_every_crowd

FOR_OTHERS = (EvictionReason.RECLAIM, EvictionReason.PREEMPT, EvictionReason.REBALANCE, EvictionReason.CONSOLIDATE,
              EvictionReason.IDLE)  # fmt: skip

REFUSED = (PendingReason.DEACTIVATED, PendingReason.MISCONFIGURED, PendingReason.DOMAIN_FORBIDDEN,
           PendingReason.NO_MATCHING_FLAVOR, PendingReason.SUSPENDED, PendingReason.EXCEEDS_MAX_QUOTA,
           PendingReason.TOPOLOGY_UNSATISFIED)  # fmt: skip
"""Who is refused waits for nothing; the last also where no place is free."""


def blind(here: Crowd) -> set[str]:
    return {str(one) for one in here.snapshot.adopting} | {
        one.subject for one in here.snapshot.gaps if one.kind is GapKind.CLUSTER
    }


@in_every_crowd
def test_in_a_crowd_the_second_program_finds_no_fault_with_what_is_decided_or_planned(seed):
    here, decision = decided(seed)
    made = plan(here.snapshot, decision, here.policy, 1)
    assert check_decision(here.snapshot, decision, here.policy) == ()
    assert check(here.snapshot, made, here.policy, decision.memory) == ()


@in_every_crowd
def test_who_has_no_place_any_more_leaves_with_its_true_cost_unless_its_domain_is_not_seen(seed):
    here, decision = decided(seed)
    placed = {one.group for one in decision.placements}
    domains = {one.id: str(one.domain) for one in here.snapshot.workers}
    leaving = [one for one in here.snapshot.groups if one.id not in placed and domains[one.worker] not in blind(here)]
    assert [one.group for one in decision.evictions] == sorted(one.id for one in leaving)
    for said in decision.evictions:
        group = next(one for one in leaving if one.id == said.group)
        inside = 1 if group.in_flight is None else group.in_flight
        lost = 0 if group.checkpoint_ms is None else NOW_MS - group.checkpoint_ms
        assert said.cost == (group.cold_start_ms * (1 + inside) + lost if group.running else 0)


@in_every_crowd
def test_who_leaves_for_nobody_is_told_the_first_reason_that_applies(seed):
    here, decision = decided(seed)
    seen = here.snapshot
    claims = {one.id: one for one in seen.claims}
    reasons = {one.claim: one for one in decision.reasons}
    sick = {one.id for one in seen.devices if one.health in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)}
    lost = {one.id for one in seen.workers if one.state is WorkerState.LOST}
    ran = {one.id: one.replicas for one in seen.groups}
    begun = {one.claim for one in decision.placements if one.replicas > ran.get(one.group, 0)}
    for said in decision.evictions:
        group = next(one for one in seen.groups if one.id == said.group)
        claim = claims.get(said.claim)
        if claim is None:
            assert (said.reason, said.beneficiary) == (EvictionReason.RELEASED, None)
        elif said.beneficiary is not None:
            assert said.reason in FOR_OTHERS
        elif claim.expires_at_ms is not None and claim.expires_at_ms <= NOW_MS:
            assert said.reason is EvictionReason.EXPIRED
        elif group.state is GroupState.FAILED or group.worker in lost or sick & set(group.devices):
            assert said.reason is EvictionReason.DRAIN
        elif reasons[said.claim].rung not in (None, group.rung):
            assert said.reason is EvictionReason.RUNG_CHANGE
        elif reasons[said.claim].granted_replicas >= reasons[said.claim].wanted_replicas and said.claim not in begun:
            assert said.reason is EvictionReason.RELEASED
        else:
            assert said.reason in (
                EvictionReason.RELEASED, EvictionReason.RECLAIM, EvictionReason.REBALANCE, EvictionReason.MODE_CHANGE,
            )  # fmt: skip


@in_every_crowd
def test_a_worker_stays_where_it_is_until_somebody_needs_its_gpus_or_all_of_them_are_lost(seed):
    here, decision = decided(seed)
    seen = here.snapshot
    used = {one.worker for one in decision.placements}
    gpus = {one.id: one.gpu for one in seen.devices}
    bound = {gpus[device] for one in decision.bindings for device in one.devices}
    lost = {one.id for one in seen.devices if one.health in (DeviceHealth.QUARANTINED, DeviceHealth.RETIRED)}
    kept = {one.worker for one in decision.bindings}
    leaving = {device for one in seen.groups for device in one.devices}
    assert used <= kept
    for worker in seen.workers:
        if set(worker.devices) <= lost and worker.id not in used:
            assert leaving & set(worker.devices) or worker.id not in kept
        elif not bound & {gpus[one] for one in worker.devices} and not lost & set(worker.devices):
            raise AssertionError(f"{worker.id} ends for nobody")


def held(here: Crowd, decision) -> dict[tuple[str, str], int]:
    """Millis of each tenant with all below it, by flavor: of every replica its larger part of compute and memory."""
    devices = {one.id: one for one in here.snapshot.devices}
    least: dict[str, int] = {}
    for one in here.snapshot.devices:
        least[one.flavor] = min(one.memory_mib, least.get(one.flavor, one.memory_mib))
    claims = {one.id: one for one in here.snapshot.claims}
    parents = {one.id: one.parent for one in here.policy.tenants}
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for one in decision.placements:
        flavor = devices[one.devices[0]].flavor
        shape, at = claims[one.claim].ladder[one.rung], claims[one.claim].tenant
        of_memory = -(-shape.memory_mib * 1000 // least[flavor])
        while at is not None:
            found[at, flavor] += one.replicas * shape.devices * max(shape.gpu_millis, of_memory)
            at = parents[at]
    return found


@in_every_crowd
def test_each_tenant_is_told_what_it_holds_borrows_and_lends(seed):
    here, decision = decided(seed)
    holds, quotas = held(here, decision), {}
    for tenant in here.policy.tenants:
        for quota in tenant.quotas:
            limit = quota.lending_limit_millis
            quotas[tenant.id, quota.flavor] = quota.nominal_millis, limit
    known = {(one.tenant, one.flavor): one for one in decision.entitlements}
    assert list(known) == sorted(known)
    for (tenant, flavor), said in known.items():
        if (tenant, flavor) not in quotas:
            continue
        assert said.held_millis == holds[tenant, flavor]
        if here.snapshot.reservations:
            continue  # what is reserved adds to what it owns
        assert said.borrowed_millis == max(0, said.held_millis - quotas[tenant, flavor][0])
        unused = max(0, quotas[tenant, flavor][0] - said.held_millis)
        borrowed = sum(known[top, flavor].borrowed_millis for top in ("civil", "defence") if (top, flavor) in known)
        limit = quotas[tenant, flavor][1]
        assert said.lent_millis <= min(unused, borrowed, unused if limit == UNLIMITED else limit)


@in_every_crowd
def test_who_drains_is_remembered_since_its_routing_ended_and_the_budget_counts_who_left_for_others(seed):
    here, decision = decided(seed)
    groups = {one.id: one for one in here.snapshot.groups}
    since = {one.group: one.since_ms for one in here.memory.drains}
    drains = tuple(
        Drain(group=one.group, since_ms=NOW_MS if groups[one.group].routed else since.get(one.group, NOW_MS))
        for one in decision.evictions
    )
    assert decision.memory.drains == drains
    window = here.policy.bounds.eviction_window_ms
    counted = [one for one in decision.evictions if one.reason in FOR_OTHERS and one.group not in since]
    recent = [at for at in here.memory.evictions_ms if at > NOW_MS - window]
    assert decision.memory.evictions_ms == (*recent, *([NOW_MS] * len(counted)))
    before = {one.claim: one.evicted_at_ms for one in here.memory.claims}
    after = {one.claim: one.evicted_at_ms for one in decision.memory.claims}
    gone = {one.claim for one in counted if one.reason is not EvictionReason.IDLE}
    for one in here.snapshot.claims:
        assert after.get(one.id) == (NOW_MS if one.id in gone else before.get(one.id))


@in_every_crowd
def test_who_runs_less_than_it_wants_is_remembered_to_wait_from_the_first_moment_on(seed):
    here, decision = decided(seed)
    groups = {one.id: one for one in here.snapshot.groups}
    before = {one.claim: one for one in here.memory.claims}
    after = {one.claim: one for one in decision.memory.claims}
    for reason in decision.reasons:
        if reason.code in REFUSED:
            continue
        placed = [one for one in decision.placements if one.claim == reason.claim]
        runs = sum(min(one.replicas, groups[one.group].replicas) for one in placed
                   if one.group in groups and groups[one.group].running)  # fmt: skip
        was = before[reason.claim].waiting_since_ms if reason.claim in before else None
        now = after.get(reason.claim)
        assert (None if now is None else now.rung) == reason.rung
        expected = (was or NOW_MS) if runs < reason.wanted_replicas else None
        assert (None if now is None else now.waiting_since_ms) == expected


def test_what_is_taken_inside_of_a_domain_is_no_loss_to_others():
    """Others take half of what the domain holds, more than its floor stays; the rest goes to one of its own."""
    here, decision = decided(17050)
    takers = {one.beneficiary for one in decision.evictions if one.claim == "civil/y:c1"}
    assert takers == {"civil/x:c10", "defence/x:c7"}
    assert check_decision(here.snapshot, decision, here.policy) == ()


def test_who_leaves_and_is_given_the_same_place_again_in_the_same_decision_simply_runs_on():
    here, decision = decided(319)
    said = next(one for one in decision.reasons if one.claim == "civil/z:c1")
    (placed,) = [one for one in decision.placements if one.claim == said.claim]
    assert placed.group in {one.id for one in here.snapshot.groups}
    assert (said.state, said.code) == (ClaimState.SERVED, None)
    assert said.claim not in {one.claim for one in decision.memory.holds}


@in_every_crowd
def test_what_was_freed_is_held_for_whoever_has_not_started_on_it_yet_and_until_when_it_was_said(seed):
    here, decision = decided(seed)
    groups = {one.id for one in here.snapshot.groups}
    before = {(one.device, one.claim): one.expires_at_ms for one in here.memory.holds}
    fresh = NOW_MS + here.policy.bounds.victim_hold_ms
    said = {(one.device, one.claim): one.expires_at_ms for one in decision.memory.holds}
    new = {(device, one.claim) for one in decision.placements if one.group not in groups for device in one.devices}
    for pair in new:
        expires = before.get(pair, fresh)
        assert said.get(pair) == (expires if expires > NOW_MS else None)
    placed = {one.claim for one in decision.placements}
    for (_, claim), expires in said.items():
        assert expires > NOW_MS
        assert claim in {one.id for one in here.snapshot.claims}
        if (_, claim) not in new and claim in placed:
            grown = [one for one in decision.placements if one.claim == claim and one.group in groups]
            assert grown or expires == fresh


def test_a_claim_that_fails_again_waits_twice_as_long_until_it_waits_sixty_four_times():
    bounds = replace(crowd(0).policy.bounds, worker_start_ms=10_000)
    assert [backoff_ms(bounds, failed) // 1000 for failed in range(9)] == [0, 20, 40, 80, 160, 320, 640, 640, 640]
