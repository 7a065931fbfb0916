"""Slow and obvious twins: an integer program that HiGHS solves says what is possible, and the decision is beside it."""

from __future__ import annotations

import highspy
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.decide import decide
from policies.granting.displacing import Weak, find_by_displacing
from policies.model.memory import Memory
from policies.shares.entitlement import fill
from tests.policies.looking import DEPTH, looked_at, wanting
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot, together

SMALL = settings(max_examples=40 * DEPTH, deadline=None, derandomize=DEPTH == 1)


class Program:
    """A few whole numbers with linear rules between them."""

    def __init__(self) -> None:
        self._solver = highspy.Highs()
        self._solver.setOptionValue("output_flag", False)  # the solver's own interface
        self._count = 0

    def number(self, most: int, worth: float = 0) -> int:
        self._solver.addVar(0, most)
        self._solver.changeColCost(self._count, worth)
        self._solver.changeColIntegrality(self._count, highspy.HighsVarType.kInteger)
        self._count += 1
        return self._count - 1

    def between(self, low: float, high: float, terms: dict[int, float]) -> None:
        self._solver.addRow(low, high, len(terms), list(terms), list(terms.values()))

    def least(self) -> float | None:
        """Return the least worth, None if the rules contradict each other."""
        self._solver.run()
        is_solved = self._solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return round(self._solver.getInfo().objective_function_value, 6) if is_solved else None


def packable(sizes: list[tuple[str, int]], devices: int) -> float:
    """Return the most millis of (domain, size) pairs that fit on so many devices, each of one domain."""
    program = Program()
    defends = [program.number(1) for _ in range(devices)]
    filled: list[dict[str, dict[int, float]]] = [{"civil": {}, "defence": {}} for _ in range(devices)]
    for domain, size in sizes:
        places = [program.number(1, -size) for _ in range(devices)]
        program.between(0, 1, dict.fromkeys(places, 1.0))
        for place, kinds in zip(places, filled, strict=True):
            kinds[domain][place] = size
    for defending, kinds in zip(defends, filled, strict=True):
        program.between(-1e9, 0, {**kinds["defence"], defending: -1000})
        program.between(-1e9, 1000, {**kinds["civil"], defending: 1000})
    return -(program.least() or 0)


PARTS = st.lists(st.tuples(st.sampled_from((250, 500, 1000)), st.sampled_from("xy")), min_size=1, max_size=7)


@SMALL
@given(PARTS, PARTS, st.randoms(use_true_random=False))
def test_whatever_guaranteed_replicas_the_exact_program_can_pack_are_all_served(first, second, dice):
    """Some civil work stands anywhere; both domains ask for no more than their quotas."""
    wishes, owned = [], {}
    for domain, parts in (("civil", first), ("defence", second)):
        for index, (millis, name) in enumerate(parts):
            if owned.get((domain, name), 0) + millis <= 1000:
                owned[domain, name] = owned.get((domain, name), 0) + millis
                wishes.append((domain, claim(f"{domain}/{name}:c{index}", millis=millis)))
    free, runs = {f"G{i}": 1000 for i in range(4)}, []
    for domain, one in wishes:
        millis = one.ladder[0].gpu_millis
        places = [place for place, left in free.items() if left >= millis]
        if domain == "civil" and places:
            free[place := dice.choice(places)] -= millis
            runs.append(running(one, (place,)))
    seen = snapshot([device(name) for name in free], [one for _, one in wishes], *together(runs))
    decision = decide(seen, rules(), Memory(), NOW_MS)
    sizes = {one.id: one.ladder[0].gpu_millis for _, one in wishes}
    served = sum(sizes[reason.claim] * reason.granted_replicas for reason in decision.reasons)
    assert served == packable([(domain, sizes[one.id]) for domain, one in wishes], 4)


@SMALL
@given(
    st.integers(0, 60), st.lists(st.tuples(st.integers(1, 25), st.sampled_from((1, 1, 2, 3))), min_size=1, max_size=5)
)
def test_no_division_leaves_the_worst_served_better_off_than_ours_by_more_than_a_milli(amount, wants):
    """The exact program raises the least share for its weight as far as whole millis allow."""
    shares = fill(amount, wants)
    hungry = [index for index, (want, _) in enumerate(wants) if shares[index] < want]
    if not hungry:
        return
    ours = min(shares[index] / wants[index][1] for index in hungry)
    program = Program()
    given_ = [program.number(want) for want, _ in wants]
    program.between(0, amount, dict.fromkeys(given_, 1.0))
    level = program.number(10_000, -1)  # in hundredths of a milli per weight
    for index, (want, weight) in enumerate(wants):
        if want > ours * weight:
            program.between(0, 1e9, {given_[index]: 100.0, level: -float(weight)})
        else:
            program.between(want, want, {given_[index]: 1.0})
    best = -(program.least() or 0) / 100
    assert ours >= best - 1


@SMALL
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from((250, 500, 1000)), st.integers(1, 9)), max_size=8),
       st.sampled_from((250, 500, 1000)))  # fmt: skip
def test_the_victims_are_as_cheap_as_the_cheapest_that_the_exact_program_finds(standing, need):
    free, runs, prices = {f"G{i}": 1000 for i in range(3)}, [], {}
    for index, (place, millis, price) in enumerate(standing):
        name = f"G{place}"
        if free[name] >= millis:
            free[name] -= millis
            one = claim(f"civil/x:l{index}", millis=millis)
            runs.append((one, running(one, (name,)), name, millis))
            prices[one.id] = price
    seen = snapshot([device(name) for name in free], [one for one, *_ in runs], *together(run for _, run, *_ in runs))
    work = looked_at(seen, rules(civil=0, defence=0, floor=0))

    def cost(seat):
        return prices[seat.claim]

    site = find_by_displacing(work.board, wanting(need), cost, cost, Weak(frozenset(("n0",))))
    costs = []
    for name, left in free.items():
        program = Program()
        goes = {program.number(1, prices[one.id]): float(millis) for one, _, place, millis in runs if place == name}
        program.between(need - left, 1e9, goes or {program.number(0): 1.0})
        costs.append(program.least())
    possible = [one for one in costs if one is not None]
    assert (None if site is None else site.cost) == (min(possible) if possible else None)
