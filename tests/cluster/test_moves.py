"""How long each stage of a move took: never less than nothing, whatever was looked at first."""

from cluster.loop import Turn
from cluster.moves import Moves
from policies.model.decision import Binding, Decision
from policies.model.inventory import Device, ScrubState
from policies.model.memory import Memory
from policies.model.plan import Plan
from policies.model.snapshot import Snapshot
from tests.cluster.nouns import CIVIL, DEFENCE, FLAVOR

GPU = "GPU-1"


def turn(*, observed_at_ms, decided_at_ms, domain, scrub=ScrubState.DIRTY, to=DEFENCE):
    """A turn that gives the device to Defence, or to another."""
    device = Device(id=GPU, node="n", flavor=FLAVOR, gpu=GPU, memory_mib=80_000, domain=domain, scrub=scrub)
    decision = Decision(
        snapshot_generation=1,
        decided_at_ms=decided_at_ms,
        policy_digest="",
        mode="normal",
        entitlements=(),
        bindings=(Binding(worker="w", domain=to, node="n", devices=(GPU,)),),
        placements=(),
        evictions=(),
        reasons=(),
        memory=Memory(),
    )
    return Turn(
        snapshot=Snapshot(generation=1, observed_at_ms=observed_at_ms, devices=(device,)),
        decision=decision,
        plan=Plan(id="p", snapshot_generation=1, fencing_generation=1, decided_at_ms=decided_at_ms, actions=()),
        violations=(),
        outcome=None,
        observe_ms=1,
        decide_ms=1,
        total_ms=2,
    )


def test_a_move_first_seen_when_it_is_drained_already_took_no_time_to_drain():
    moves = Moves()
    moves.follow(turn(observed_at_ms=1_000, decided_at_ms=1_040, domain=CIVIL))
    (move,) = moves.all()
    assert [(stage.name, stage.at_ms) for stage in move.stages] == [
        ("decided", 1_040),
        ("drained", 1_040),
        ("stopped", 1_040),
    ]
    moves.follow(turn(observed_at_ms=1_500, decided_at_ms=1_540, domain=None, scrub=ScrubState.CLEAN))
    (move,) = moves.all()
    assert (move.stages[-1].name, move.duration_ms) == ("scrubbed", 460)


def test_a_move_that_is_called_off_while_the_device_is_still_held_is_not_counted_from_then_when_it_comes_again():
    moves = Moves()
    moves.follow(turn(observed_at_ms=1_000, decided_at_ms=1_040, domain=CIVIL))
    moves.follow(turn(observed_at_ms=1_500, decided_at_ms=1_540, domain=CIVIL, to=CIVIL))
    assert moves.all() == ()
    moves.follow(turn(observed_at_ms=90_000, decided_at_ms=90_040, domain=CIVIL))
    (move,) = moves.all()
    assert move.stages[0].at_ms == 90_040


def test_a_move_goes_on_while_the_device_belongs_to_nobody():
    moves = Moves()
    moves.follow(turn(observed_at_ms=1_000, decided_at_ms=1_040, domain=CIVIL))
    moves.follow(turn(observed_at_ms=2_000, decided_at_ms=2_040, domain=None))
    (move,) = moves.all()
    assert move.stages[0].at_ms == 1_040
