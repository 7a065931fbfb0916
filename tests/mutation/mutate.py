"""Change one thing in ``policies/`` at a time and see whether the tests notice. Run by ``make mutation``.

Each mutant lives in a copy of the tree; nothing here is written to the checkout. First all tests run once, to see which
functions each of them enters; then each mutant has to get past those that enter the function that was changed, those
that found the most in the least time first. Prints the score and every survivor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import monotonic

from tests.mutation.changes import Mutant, mutants

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("policies/model/", "policies/packing/")
"""Nouns without rules, and the replay of traces, which is compiled to machine code and has a definition beside it."""
SLOW = ("test_decided_places", "test_placement_twins")
"""Files of ``tests/policies`` that hold whole replays against each other; no mutant has to get past these."""
BESIDE = ("tests/scenarios", "tests/simulation")
TIMEOUT_S = 400


@dataclass(frozen=True, slots=True)
class Tests:
    """What is known of the tests: how long each takes, what it enters, and what it found so far."""

    seconds: dict[str, float]
    entering: dict[str, list[str]]
    """By function, as path and first line."""
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Mutants by module and test that killed them."""

    def for_mutant(self, mutant: Mutant) -> list[str]:
        """Return the tests that enter the changed function, the most promising first."""
        names = self.entering.get(f"{mutant.path}:{mutant.function}", []) if mutant.function else list(self.seconds)
        return sorted(names, key=lambda one: self.seconds[one] / (1 + 4 * self.found[mutant.path, one]))


def known_tests(tree: Path) -> Tests:
    """Run all tests once in the tree and return what they enter. Ends the program if one fails."""
    folder = tree / "tests" / "policies"
    files = sorted(f"tests/policies/{one.name}" for one in folder.glob("test_*.py") if one.stem not in SLOW)
    out = tree / "reach.json"
    command = [sys.executable, "-B", "-m", "tests.mutation.chosen", "reach", str(out), *files, *BESIDE]
    if subprocess.run(command, cwd=tree, check=False).returncode != 0:
        sys.exit("the tests fail without any mutant")
    entering: dict[str, list[str]] = {}
    noted = json.loads(out.read_text())
    for name, one in noted.items():
        for function in one["reached"]:
            entering.setdefault(function, []).append(name)
    return Tests({name: one["seconds"] for name, one in noted.items()}, entering)


def killer(tree: Path, names: list[str]) -> str:
    """Return the test that fails, ``""`` if none does, or what else ended them."""
    out = tree / "killer.txt"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-B", "-m", "tests.mutation.chosen", "kill", str(out)]
    try:
        subprocess.run(command, cwd=tree, input=json.dumps(names), text=True, capture_output=True, timeout=TIMEOUT_S,
                       check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return "no end"
    return out.read_text() if out.exists() else "broken off"


def chosen(seed: int, only: str) -> list[Mutant]:
    """Return every mutant in an order that the seed decides, or those of one module."""
    paths = sorted(str(one.relative_to(ROOT)) for one in (ROOT / "policies").rglob("*.py"))
    every = [
        mutant for path in paths if not path.startswith(LEFT_OUT) and only in ("", path)
        for mutant in mutants(path, (ROOT / path).read_text())
    ]  # fmt: skip
    every.sort(key=lambda one: hashlib.sha256(f"{seed}:{one.path}:{one.line}:{one.said}".encode()).digest())
    return every


def main(minutes: float, seed: int, only: str, workers: int) -> None:
    """Print each survivor as it is found and, when the time is up or all were tried, the score."""
    sample = chosen(seed, only)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        trees = [Path(folder) / f"tree{number}" for number in range(workers)]
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".hypothesis"))
        tests, waiting, lock = known_tests(trees[0]), iter(sample), Lock()
        end = monotonic() + minutes * 60
        dead = [
            one for found in pool.map(lambda tree: list(_tried(tree, tests, waiting, lock, end)), trees)
            for one in found
        ]  # fmt: skip
    print(f"{sum(dead)} of {len(dead)} killed; {len(sample)} mutants are possible, seed {seed}", flush=True)


def _tried(tree: Path, tests: Tests, waiting: Iterator[Mutant], lock: Lock, end: float) -> Iterator[bool]:
    """Yield of each mutant that is tried in this tree whether it was killed."""
    while monotonic() < end:
        with lock:
            mutant = next(waiting, None)
        if mutant is None:
            return
        target, names = tree / mutant.path, tests.for_mutant(mutant)
        before = target.read_text()
        target.write_text(mutant.text)
        by = killer(tree, names) if names else ""
        target.write_text(before)
        tests.found[mutant.path, by] += 1
        if not by:
            print(f"survived {len(names)} tests: {mutant.path}:{mutant.line}: {mutant.said}", flush=True)
        yield bool(by)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=1e6)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--module", default="", help="path from the root, such as policies/quota.py")
    options.add_argument("--workers", type=int, default=2, help="mutants tried at the same time")
    given = options.parse_args()
    main(given.minutes, given.seed, given.module, given.workers)
