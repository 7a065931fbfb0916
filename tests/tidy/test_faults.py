"""The table of faults is true: every test that it names exists where it says, and no numbered test is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "runbooks" / "faults.md"
ROW = re.compile(r"^\| (?P<fault>F\d\d)? *\| .*\| `(?P<test>test_\w+)` \| `(?P<file>[\w/.]+)` \|$", re.MULTILINE)
REQUIRED = {f"F{number:02}" for number in (*range(1, 20), 24, 25)}


def listed() -> set[tuple[str, str, str]]:
    """Return fault, test and file of each row; a row without a number belongs to the one above."""
    rows, fault = set(), ""
    for row in ROW.finditer(TABLE.read_text()):
        fault = row["fault"] or fault
        rows.add((fault, row["test"], row["file"]))
    return rows


def written() -> set[tuple[str, str, str]]:
    """Return fault, test and file of each test with the number of a fault in its name."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = (node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
        found |= {
            (f"F{number[1]}", name, str(path.relative_to(ROOT)))
            for name in names
            if (number := re.match(r"test_f(\d\d)_", name))
        }
    return found


def test_the_table_of_faults_names_every_test_of_a_fault_and_no_other() -> None:
    assert listed() == written()


def test_no_fault_of_devices_nodes_and_leadership_is_without_a_test() -> None:
    assert {fault for fault, _, _ in listed()} >= REQUIRED
