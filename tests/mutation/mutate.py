"""Change one thing in ``policies/`` at a time and see whether the tests notice. Run by ``make mutation``.

Nothing is written to the checkout. First all tests run once, to see which lines each of them runs; then each mutant
has to get past those that run the statement that was changed, those that found the most in the least time first.
Prints every survivor, and the score of each module.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.mutation.changes import Mutant, changed, mutants
from tests.mutation.server import Reached, Server, ended, serve, start

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("policies/model/", "policies/packing/")
"""Nouns almost without rules, and the replay of traces, compiled to machine code; tried where they are named."""
SLOW = ("places_every_arrival", "packs_as_the_benchmark_says", "compiled_replay")
"""In the names of tests that hold whole replays against each other; no mutant has to get past these."""
TESTS = ("tests/policies", "tests/scenarios", "tests/simulation")


@dataclass(frozen=True, slots=True)
class Sample:
    """What is tried, and what came of it."""

    mutants: list[Mutant]
    minutes: float
    tests: dict[str, Reached] = field(default_factory=dict)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Mutants by module and test that killed them."""
    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)

    def against(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the changed statement, the most promising first."""
        lines = {f"{mutant.path}:{line}" for line in range(mutant.lines[0], mutant.lines[1] + 1)}
        names = [name for name, one in self.tests.items() if not lines.isdisjoint(one.lines)]
        return sorted(names, key=lambda one: self.tests[one].seconds / (1 + 4 * self.found[mutant.path, one]))

    def run(self, server: Server) -> None:
        """Try one mutant after the other until the time is up."""
        self.tests.update(server.reached())
        if len(self.tests) < len(server.items):
            print(*self.tests)
            return
        print(f"{len(self.tests)} tests, {sum(one.seconds for one in self.tests.values()):.0f} s watched", flush=True)
        end = monotonic() + self.minutes * 60
        for mutant in self.mutants:
            if monotonic() > end:
                return
            self._try(server, mutant)

    def _try(self, server: Server, mutant: Mutant) -> None:
        tree, said = changed(mutant, (ROOT / mutant.path).read_text())
        names = self.against(mutant)
        seconds = {name: self.tests[name].seconds for name in names}

        def attempt() -> Iterable[str]:
            if server.put(tree, mutant.path):
                yield from server.killing(names, seconds)
            else:
                yield "cannot be put"

        told, status = ended(start(attempt))
        if names and not told:
            sys.exit(f"broke off before the first test: {mutant}")
        if told == ["cannot be put"]:
            return
        self.tried[mutant.path] += 1
        if status or told[-1:] == ["killed"]:
            self.found[mutant.path, next((one for one in reversed(told) if one != "killed"), "")] += 1
            return
        self.survived[mutant.path] += 1
        where = f"{mutant.path}:{mutant.lines[0]}#{mutant.number}"
        print(f"survived {len(names)} tests, {self.tried.total()} tried: {where}: {said}", flush=True)

    def score(self) -> str:
        """Return a line for each module, and one for all."""
        lines = [
            f"{self.tried[path] - self.survived[path]:4} of {self.tried[path]:4}  {path}" for path in sorted(self.tried)
        ]
        tried, survived = self.tried.total(), self.survived.total()
        return "\n".join([*lines, f"{tried - survived} of {tried} killed"])


def every(only: list[str]) -> list[Mutant]:
    """Return the mutants of these modules; none named: of all that are not left out."""
    paths = sorted(str(one.relative_to(ROOT)) for one in (ROOT / "policies").rglob("*.py"))
    return [
        mutant for path in paths if (path in only if only else not path.startswith(LEFT_OUT))
        for mutant in mutants(path, (ROOT / path).read_text())
    ]  # fmt: skip


def drawn(every: list[Mutant], seed: int) -> list[Mutant]:
    """Return all of them in an order that the seed decides."""
    return sorted(
        every, key=lambda one: hashlib.sha256(f"{seed}:{one.path}:{one.lines}:{one.number}".encode()).digest()
    )


def at_most(each: int, every: list[Mutant]) -> list[Mutant]:
    """Return the first so many of each module, in the same order."""
    seen: Counter[str] = Counter()
    found = []
    for one in every:
        seen[one.path] += 1
        if seen[one.path] <= each:
            found.append(one)
    return found


def named(names: list[str]) -> list[Mutant]:
    """Return the mutants of these names, ``path:line#number`` as a survivor is printed."""
    return [
        next(one for one in every([name.partition(":")[0]]) if one.number == int(name.rpartition("#")[2]))
        for name in names
    ]  # fmt: skip


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=1e6)
    options.add_argument("--count", type=int, default=10**9, help="most mutants to try")
    options.add_argument("--each", type=int, default=10**9, help="most mutants of one module")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--module", nargs="*", default=[], help="paths such as policies/shares/quota.py")
    options.add_argument("--again", nargs="*", default=[], help="these alone: path:line#number, as printed")
    options.add_argument("--tests", nargs="*", default=TESTS, help="files or folders of tests")
    given = options.parse_args()
    possible = every(given.module)
    order = at_most(given.each, drawn(possible, given.seed))
    sample = Sample(named(given.again) or order[: given.count], given.minutes)
    serve(ROOT, [*given.tests, "-k", " and ".join(f"not {one}" for one in SLOW)], sample.run)
    print(f"{sample.score()}; {len(possible)} are possible, seed {given.seed}", flush=True)
    sys.exit(0)
