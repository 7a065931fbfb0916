"""Every promise of the decision core has its tests, and the table says which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = re.findall(r"^\| P(\d+) \| (.+?) \| (.*) \|$", (TESTS.parent / "docs/properties.md").read_text(), re.MULTILINE)
PROMISES = 34


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def named(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(\w+)`", cell)


def numbers(name: str) -> list[str]:
    """Return the promises that a test's name carries, such as 4 and 11 for ``test_p4_and_p11_...``."""
    begin = re.match(r"test_((?:p\d+_(?:and_)?)+)", name)
    return re.findall(r"p(\d+)_", begin.group(1)) if begin else []


def test_the_table_has_every_promise_once_and_in_order() -> None:
    assert [number for number, *_ in ROWS] == [str(number) for number in range(1, PROMISES + 1)]


@pytest.mark.parametrize(("number", "sentence", "cell"), ROWS, ids=lambda value: value[:4])
def test_a_promise_is_a_sentence_and_its_tests_exist(number: str, sentence: str, cell: str) -> None:
    assert sentence.endswith(".")
    assert named(cell), f"P{number} has no test"
    assert [f"{file}::{name}" for file, name in named(cell) if name not in functions_of(TESTS / file)] == []


def test_no_test_that_carries_a_number_is_left_out_of_the_table() -> None:
    listed = {(number, file, name) for number, _, cell in ROWS for file, name in named(cell)}
    there = {
        (number, str(path.relative_to(TESTS)), name)
        for path in TESTS.rglob("test_*.py")
        for name in functions_of(path)
        for number in numbers(name)
    }
    assert there - listed == set()
