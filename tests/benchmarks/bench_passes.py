"""What a decision that follows cannot go below as long as it takes and gives lists of nouns: going over these once.

Run by ``python -m tests.benchmarks.bench_passes [HOSTS]``. Prints CPU milliseconds beside what a decision takes. Two
passes are counted: is each noun of the snapshot the one of before, and a tuple of what is told of everybody. To them is
added what a changed claim costs in a decision from nothing, which nothing suggests could be less for one alone.
"""

from __future__ import annotations

import operator
import statistics
import sys

from cluster.collecting import collect_seldom
from policies.decide import Decider, decide
from policies.model.memory import Memory
from tests.benchmarks.bench_decide import NOW_MS, TURN_MS, TURNS, carried_out, changed, cpu_s, fleet, policy
from tests.simulation.generate import Dice

LISTS = ("devices", "workers", "groups", "claims")
TOLD = ("reasons", "placements", "bindings")


def main(nodes: int) -> None:
    """Print the least that the passes and the changed claims take beside both decisions, as medians over the turns."""
    collect_seldom()
    rules, seen, dice, decider, now = policy(nodes), fleet(nodes), Dice(nodes), Decider(), NOW_MS
    _, decision = cpu_s(lambda: decider.decide(seen, rules, Memory(), now))
    looked, told, whole, follow, dirty = list[float](), list[float](), list[float](), list[float](), list[int]()
    for turn in range(TURNS + 1):
        now += TURN_MS
        before, memory, last = seen, decision.memory, decision
        seen = changed(carried_out(seen, last, now), dice, turn)
        taken, decision = cpu_s(lambda s=seen, m=memory, n=now: decider.decide(s, rules, m, n))
        follow.append(taken)
        whole.append(cpu_s(lambda s=seen, m=memory, n=now: decide(s, rules, m, n))[0])
        pairs = [(getattr(before, one), getattr(seen, one)) for one in LISTS]
        looked.append(cpu_s(lambda p=pairs: [sum(map(operator.is_, old, new)) for old, new in p])[0])
        lists = [*(getattr(decision, one) for one in TOLD), decision.memory.claims]
        told.append(cpu_s(lambda of=lists: [(*one, None) for one in of])[0])
        known = {id(one) for one in last.reasons}
        moved = {one.claim for one in {*last.placements} ^ {*decision.placements}}
        dirty.append(len(moved | {one.claim for one in decision.reasons if id(one) not in known}))
    each = statistics.median(whole[1:]) / len(seen.claims)
    parts = [statistics.median(one[1:]) for one in (looked, told)] + [each * statistics.median(dirty[1:])]
    for name, part in zip(("looking for what changed", "telling", f"{dirty[-1]:,} claims anew"), parts, strict=True):
        print(f"{name:28} {1000 * part:6.0f} ms")
    print(f"{'together':28} {1000 * sum(parts):6.0f} ms")
    print(f"{'a decision that follows':28} {1000 * statistics.median(follow[1:]):6.0f} ms")
    times = statistics.median(whole[1:]) / sum(parts)
    print(
        f"{'from nothing':28} {1000 * statistics.median(whole[1:]):6.0f} ms, {times:.1f} times what is together above"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10_000)
