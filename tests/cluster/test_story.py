"""The story of the demo in virtual time: the same policy, the same claims, the same decisions, no Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cluster.gauges import coresident
from cluster.loop import Loop, Turn
from cluster.moves import STAGES, Moves
from cluster.sim.actuator import SimActuator
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryJournal, MemoryLedger, MemoryRegistry, Shared
from cluster.sim.observer import SimObserver
from cluster.sim.world import Traffic, World
from policies.documents.document import parse_claims, parse_policy
from policies.model.units import ClaimId

PROFILES = Path(__file__).parents[2] / "policies" / "profiles"
CIVIL, DEFENCE = ClaimId("civil/justice:assistant"), ClaimId("defence/cyber:triage")
TICK_MS = 400


class Stage:
    """The shipped policy and claims on four simulated devices."""

    def __init__(self) -> None:
        shared = Shared()
        shared.adopted = True
        self.clock, self.world, self.moves = VirtualClock(), World(), Moves()
        self.world.add_node("node", 4)
        journal, ledger, registry = MemoryJournal(shared), MemoryLedger(shared, self.clock), MemoryRegistry(shared)
        journal.lead()
        registry.put_policy(parse_policy((PROFILES / "default.yaml").read_text()))
        for claim in parse_claims((PROFILES / "claims.yaml").read_text()):
            registry.put_claim(claim, expected_generation=None)
        observer, actuator = SimObserver(self.world, ledger, self.clock), SimActuator(self.world, ledger, self.clock)
        self.registry = registry
        self.loop = Loop(observer, actuator, journal, self.clock)
        self.wanted = {CIVIL: 1, DEFENCE: 1}

    def play(self, seconds: int) -> Turn:
        """Let time pass, and hold every turn to the promises."""
        for _ in range(seconds * 1000 // TICK_MS):
            self.clock.sleep_ms(TICK_MS)
            for claim, replicas in self.wanted.items():
                self.world.traffic[claim] = Traffic(replicas=replicas, observed_at_ms=self.clock.now_ms())
            turn = self.loop.turn()
            self.moves.follow(turn)
            assert turn.violations == ()
            assert coresident(turn.snapshot) == []
        return turn

    def answering(self, claim: ClaimId) -> int:
        """Return the replicas that run and receive requests."""
        return sum(group.running for group in self.world.groups.values() if group.claim == claim and group.routed)


def test_what_is_lent_is_taken_back_on_demand_and_lent_again() -> None:
    stage = Stage()
    stage.play(20)
    assert (stage.answering(CIVIL), stage.answering(DEFENCE)) == (1, 1)
    stage.wanted[CIVIL] = 2
    stage.play(20)
    assert (stage.answering(CIVIL), stage.answering(DEFENCE)) == (2, 1)
    stage.wanted[DEFENCE] = 2
    stage.play(20)
    assert (stage.answering(CIVIL), stage.answering(DEFENCE)) == (1, 2)
    stage.wanted[DEFENCE] = 1
    stage.play(90)
    assert (stage.answering(CIVIL), stage.answering(DEFENCE)) == (2, 1)


def test_every_stage_of_a_move_is_timed_in_its_order() -> None:
    stage = Stage()
    stage.play(20)
    stage.wanted[CIVIL] = 2
    stage.play(20)
    stage.wanted[DEFENCE] = 2
    stage.play(20)
    move = next(found for found in stage.moves.all() if found.finished)
    assert [reached.name for reached in move.stages] == ["decided", *STAGES]
    assert [reached.at_ms for reached in move.stages] == sorted(reached.at_ms for reached in move.stages)
    assert (move.from_domain, move.to_domain, move.tenant) == ("civil", "defence", "defence/cyber")


def test_civil_keeps_its_floor_all_through_the_reclaim() -> None:
    stage = Stage()
    stage.play(20)
    stage.wanted = {CIVIL: 2, DEFENCE: 2}
    for _ in range(40):
        turn = stage.play(1)
        civil = next(entry for entry in turn.decision.entitlements if entry.tenant == "civil")
        assert civil.held_millis >= 1000


def test_where_devices_are_short_quality_is_lowered_before_service_is_refused_and_comes_back() -> None:
    stage = Stage()
    stage.play(30)
    assert variants(stage, CIVIL) == {"smollm2-135m-q8-0"}
    stage.wanted[DEFENCE] = 2
    lost = next(group.devices[0] for group in stage.world.groups.values() if group.claim == CIVIL)
    stage.world.lose(lost)
    turn = stage.play(60)
    assert stage.answering(CIVIL) == 1
    assert variants(stage, CIVIL) == {"smollm2-135m-q4-0"}
    reason = next(reason for reason in turn.decision.reasons if reason.claim == CIVIL)
    assert (reason.granted_replicas, reason.rung) == (1, 1)
    stage.world.repair(lost)
    stage.wanted[DEFENCE] = 1
    stage.play(600)
    assert variants(stage, CIVIL) == {"smollm2-135m-q8-0"}


def variants(stage: Stage, claim: ClaimId) -> set[str]:
    """Return the variants that answer for the claim."""
    groups = stage.world.groups.values()
    return {str(group.variant) for group in groups if group.claim == claim and group.routed and group.running}


def changed(stage: Stage, **of_the_best: object) -> None:
    """Change the best rung of the civil claim, as an operator does who brings another variant or size."""
    (claim,) = (claim for claim in stage.loop.journal.claims() if claim.id == CIVIL)
    ladder = (replace(claim.ladder[0], **of_the_best), *claim.ladder[1:])
    stage.registry.put_claim(replace(claim, ladder=ladder), expected_generation=claim.generation)


def test_another_variant_on_a_rung_takes_the_place_of_the_one_that_runs() -> None:
    stage = Stage()
    stage.play(30)
    changed(stage, variant="smollm2-135m-f16")
    stage.play(60)
    assert variants(stage, CIVIL) == {"smollm2-135m-f16"}
    assert len([group for group in stage.world.groups.values() if group.claim == CIVIL]) == 1
    changed(stage, variant="smollm2-135m-q8-0")
    stage.play(60)
    assert variants(stage, CIVIL) == {"smollm2-135m-q8-0"}, "and back again"


def test_another_size_of_a_rung_is_held_once_the_old_one_has_gone_also_where_every_device_is_taken() -> None:
    stage = Stage()
    stage.wanted = {CIVIL: 1, DEFENCE: 2}
    stage.play(60)
    (old,) = (group for group in stage.world.groups.values() if group.claim == CIVIL)
    changed(stage, gpu_millis=500, memory_mib=20_000)
    turn = stage.play(60)
    (new,) = (group for group in stage.world.groups.values() if group.claim == CIVIL)
    assert new.id != old.id
    assert (old.size, new.size) == ((1000, 40_960), (500, 20_000))
    assert stage.answering(CIVIL) == 1
    held = {entry.tenant: entry.held_millis for entry in turn.decision.entitlements}
    assert held["civil/justice"] == 500


def test_a_claim_that_may_have_no_replica_gives_its_device_back_and_wakes_for_the_first_request() -> None:
    stage = Stage()
    stage.play(30)
    (claim,) = (claim for claim in stage.loop.journal.claims() if claim.id == CIVIL)
    asleep = replace(claim, min_replicas=0, desired_replicas=0)
    stage.registry.put_claim(asleep, expected_generation=claim.generation)
    stage.wanted[CIVIL] = 0
    stage.play(60)
    assert stage.answering(CIVIL) == 0
    stage.wanted[CIVIL] = 1
    stage.play(30)
    assert stage.answering(CIVIL) == 1
