"""What was not seen may hold a move, never cause one; what is idle is lent and comes back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.model.decision import EvictionReason
from policies.model.inventory import UsageState
from policies.model.memory import Memory
from policies.model.snapshot import Gap, GapKind
from tests.policies.looking import FEW, FOUR, SEEDS, granted, some_world
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot


@FEW
@given(SEEDS, st.sampled_from((GapKind.CLUSTER, GapKind.NODE, GapKind.DEVICE, GapKind.GATEWAY)))
def test_p33_not_seeing_something_never_takes_a_place_that_would_otherwise_be_kept(seed, kind):
    dice, made = some_world(seed, 10)
    made.gaps, made.adopting = [], ()
    made.run(6)
    seen = made.observe()
    subjects = {GapKind.NODE: sorted(made.nodes), GapKind.DEVICE: sorted(made.devices)}.get(kind, ["civil", "defence"])
    gap = Gap(kind=kind, subject=dice.choice(subjects), cause="timeout", since_ms=made.now_ms)
    calm = {one.group for one in decide(seen, made.policy, made.memory, made.now_ms).evictions}
    blind = decide(replace(seen, gaps=(gap,)), made.policy, made.memory, made.now_ms).evictions
    concerned = {group.id for group in seen.groups if _is_hidden(seen, group, gap)}
    assert not (concerned & {one.group for one in blind if one.beneficiary}) - calm


def test_p33_a_demand_that_is_too_old_keeps_what_runs():
    chat = claim("civil/x:chat", least=1, most=4)
    seen = snapshot(FOUR, [chat], running(chat, ("G0",), ("G1",), ("G2",)), demands=[(chat.id, 1)])
    late = NOW_MS + 60_000
    assert granted(decide(seen, rules(civil=4000), Memory(), late), chat.id) == 3


def _is_hidden(seen, group, gap) -> bool:
    worker = next((one for one in seen.workers if one.id == group.worker), None)
    if worker is None:
        return False
    return gap.subject in (*group.devices, worker.node, str(worker.domain))


def test_idle_capacity_is_lent_and_comes_back_when_work_arrives():
    mine = claim("defence/x:night", least=1)
    workers, groups = running(mine, ("G0",))
    idle = [replace(one, usage=UsageState.TRULY_IDLE, in_flight=0) for one in groups]
    other = claim("civil/x:chat")
    memory = Memory()
    seen = snapshot([device("G0")], [mine, other], (workers, idle), demands=[(mine.id, 1), (other.id, 1)])
    policy = rules(idle_after_ms=60_000, floor=0)
    assert granted(decide(seen, policy, memory, NOW_MS), other.id) == 0
    memory = decide(seen, policy, memory, NOW_MS).memory
    fresh = replace(seen, demands=tuple(replace(one, observed_at_ms=NOW_MS + 60_000) for one in seen.demands))
    lent = decide(fresh, policy, memory, NOW_MS + 60_000)
    assert granted(lent, other.id) == 1
    assert {one.reason for one in lent.evictions} == {EvictionReason.IDLE}
    busy = replace(fresh, demands=tuple(replace(one, in_flight=1) for one in fresh.demands))
    assert granted(decide(busy, policy, memory, NOW_MS + 60_000), mine.id) == 1
