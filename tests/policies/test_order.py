"""The decision is a function: of what was seen, not of the order in which it is listed, and it changes nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from policies.decide import decide
from policies.model.codec import to_json
from policies.planning import plan
from tests.policies.looking import FEW, SEEDS, some_world


@FEW
@given(SEEDS)
def test_p4_and_p11_the_order_of_lists_has_no_effect_on_a_single_byte(seed):
    dice, made = some_world(seed)
    seen = made.observe()

    def mixed(rows):
        rows = list(rows)
        return tuple(rows.pop(dice.randint(0, len(rows) - 1)) for _ in range(len(rows)))

    names = ("flavors", "nodes", "devices", "workers", "groups", "claims", "demands", "gaps")
    shuffled = replace(seen, **{name: mixed(getattr(seen, name)) for name in names})
    rules_mixed = replace(made.policy, tenants=mixed(made.policy.tenants))
    one = decide(seen, made.policy, made.memory, made.now_ms)
    other = decide(shuffled, rules_mixed, made.memory, made.now_ms)
    assert to_json(replace(one, policy_digest="")) == to_json(replace(other, policy_digest=""))
    assert plan(seen, one, made.policy, 1).actions == plan(shuffled, other, rules_mixed, 1).actions


@FEW
@given(SEEDS)
def test_p19_deciding_changes_nothing_that_it_was_given(seed):
    _, made = some_world(seed, 6)
    seen = made.observe()
    before = to_json(seen), to_json(made.policy), to_json(made.memory)
    decide(seen, made.policy, made.memory, made.now_ms)
    assert before == (to_json(seen), to_json(made.policy), to_json(made.memory))
