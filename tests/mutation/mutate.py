"""Change one thing in ``policies/`` at a time and see whether the tests notice. Run by ``make mutate``.

Each mutant lives in a copy of the tree; nothing here is written to the checkout. Prints the score and every survivor.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import monotonic

ROOT = Path(__file__).parents[2]
TESTS = ("test_entitlement", "test_usage", "test_document", "test_order", "test_conservation", "test_taking_back",
         "test_fair_shares", "test_modes", "test_evidence", "test_ladders", "test_waiting", "test_rearranging",
         "test_explain", "test_planning", "test_limits")  # fmt: skip
"""Files of ``tests/policies`` that every mutant has to get past, the quickest first; then the stories."""
MODULES = ("admission", "allocation", "board", "certificate", "displacing", "entitlement", "explain", "fairness",
           "fitting", "granting", "holding", "ladders", "limits", "modes", "outcome", "places", "planning", "quota",
           "rearranging", "recall", "reclaim", "setting", "sharing", "shortage", "soundness", "survey", "usage",
           "working", "yamltext")  # fmt: skip
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
               ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
SUMS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult}
TIMEOUT_S = 240
WORKERS = 2
"""Mutants tried at the same time, each in its own copy of the tree."""


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, what was changed, and the changed source of every mutant."""
    count = sum(1 for node in ast.walk(ast.parse(source)) if _change(node) is not None)
    for number in range(count):
        tree = ast.parse(source)
        nodes = [node for node in ast.walk(tree) if _change(node) is not None]
        said = _change(nodes[number])()
        yield nodes[number].lineno, said, ast.unparse(tree)


def _change(node):
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return lambda: _swap_comparison(node)
    if isinstance(node, ast.BinOp) and type(node.op) in SUMS and not isinstance(node.right, ast.Constant):
        return lambda: _swap_sum(node)
    if isinstance(node, ast.BoolOp):
        return lambda: _swap_bool(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
        return lambda: _swap_extreme(node)
    return None


def _swap_comparison(node: ast.Compare) -> str:
    before = ast.unparse(node)
    node.ops[0] = COMPARISONS[type(node.ops[0])]()
    return f"{before}  ->  {ast.unparse(node)}"


def _swap_sum(node: ast.BinOp) -> str:
    before = ast.unparse(node)
    node.op = SUMS[type(node.op)]()
    return f"{before}  ->  {ast.unparse(node)}"


def _swap_bool(node: ast.BoolOp) -> str:
    before = ast.unparse(node)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return f"{before}  ->  {ast.unparse(node)}"


def _swap_extreme(node: ast.Call) -> str:
    before = ast.unparse(node)
    node.func.id = "max" if node.func.id == "min" else "min"
    return f"{before}  ->  {ast.unparse(node)}"


def is_killed(tree: Path) -> bool:
    """Say whether some test fails, or none ends in time."""
    files = [f"tests/policies/{name}.py" for name in TESTS if (tree / f"tests/policies/{name}.py").exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files, "tests/scenarios"]
    try:
        return subprocess.run(command, cwd=tree, capture_output=True, timeout=TIMEOUT_S, check=False).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def chosen(seed: int, only: str) -> list[tuple[str, int, str, str]]:
    """Return every mutant in an order that the seed decides, or those of one module."""
    every = [
        (name, line, said, text) for name in MODULES if only in ("", name)
        for line, said, text in mutants((ROOT / "policies" / f"{name}.py").read_text())
    ]  # fmt: skip
    every.sort(key=lambda one: hashlib.sha256(f"{seed}:{one[0]}:{one[1]}:{one[2]}".encode()).digest())
    return every


def main(minutes: float, seed: int, only: str) -> None:
    """Print each survivor as it is found and, when the time is up or all were tried, the score."""
    end, sample = monotonic() + minutes * 60, chosen(seed, only)
    waiting, lock = iter(sample), Lock()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        trees = [Path(folder) / f"tree{number}" for number in range(WORKERS)]
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".hypothesis"))
        if is_killed(trees[0]):
            sys.exit("the tests fail without any mutant")
        dead = [one for found in pool.map(lambda tree: list(_tried(tree, waiting, lock, end)), trees) for one in found]
    print(f"{sum(dead)} of {len(dead)} killed; {len(sample)} mutants are possible, seed {seed}", flush=True)


def _tried(tree: Path, waiting: Iterator[tuple[str, int, str, str]], lock: Lock, end: float) -> Iterator[bool]:
    """Yield of each mutant that is tried in this tree whether it was killed."""
    while monotonic() < end:
        with lock:
            name, line, said, text = next(waiting, ("", 0, "", ""))
        if not name:
            return
        target = tree / "policies" / f"{name}.py"
        before = target.read_text()
        target.write_text(text)
        is_dead = is_killed(tree)
        if not is_dead:
            print(f"survived: policies/{name}.py:{line}: {said}", flush=True)
        target.write_text(before)
        yield is_dead


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=1e6)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--module", default="", choices=("", *MODULES))
    given = options.parse_args()
    main(given.minutes, given.seed, given.module)
