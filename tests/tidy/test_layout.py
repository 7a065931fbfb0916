"""The house is in order: sizes, words, reasons next to exceptions."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("policies", "cluster", "serving")
FILE_LINES = 400
FUNCTION_LINES = 50
LARGER: dict[str, int] = {}
"""Files that are still too large, and how large they may be: these numbers only ever fall."""


def tracked(*suffixes: str) -> list[Path]:
    """Return the files that belong to the repository, by git where there is one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = (
        listed.stdout.splitlines() if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    )
    return [ROOT / name for name in names if name.endswith(suffixes) and (ROOT / name).is_file()]


SOURCES = [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in PACKAGES]
LOCKED = ROOT / "requirements"
"""Lists of other people's packages, whose names they chose; a test of its own looks at these."""
WORDS = [
    path
    for path in tracked("")
    if path.suffix not in {".gz", ".png", ".ico", ".woff2"}
    and path != Path(__file__)
    and not (path.parent == LOCKED and path.suffix == ".txt")
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_at_a_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    most = LARGER.get(str(path.relative_to(ROOT)), FILE_LINES)
    assert lines <= most, f"{lines} lines: split it by what changes together"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_fits_one_screen(path: Path) -> None:
    long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long, f"{long}: let the parent keep the branches and the helpers be straight"


def test_every_package_and_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


@pytest.mark.parametrize("mark", ["noqa", "type: ignore"])
def test_every_exception_to_a_rule_has_its_reason_beside_it(mark: str) -> None:
    bare = re.compile(rf"# {mark}(\[[\w, -]+\]|: [A-Z0-9, ]+)?\s*$")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]
    assert not found, f"say why, on the same line: {found}"


FORBIDDEN = {
    "work that is not done": r"\b(TODO|FIXME|XXX|HACK)\b",
    "a path of one machine": r"/(work|opt/pv|root|home/[a-z]+)/",
    "an address of a package registry": (
        r"(pypi\.org/simple|files\.pythonhosted\.org|registry\.npmjs|--(extra-)?index-url)"
    ),
    "a private address": r"https?://(10|172\.(1[6-9]|2\d|3[01])|192\.168)\.\d",
    "a word of how it was made": (r"(?i)\b(chatgpt|claude|anthropic|copilot|as an ai|the brief|sub-?agent)\b"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_repository_speaks_of_the_product_alone(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in WORDS:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)
        ]
    assert not found, f"{what}: {found[:20]}"


def test_nothing_of_ours_is_replaced_in_tests() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in tracked(".py")
        if re.search(
            r"^\s*(from unittest import mock|from unittest\.mock|import unittest\.mock)|monkeypatch\.setattr",
            path.read_text(),
            re.MULTILINE,
        )
    ]
    assert not found, f"write a fake and hold it to the contract: {found}"


def test_requirements_are_pinned_by_hash_and_name_no_registry() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE), path.name
