"""Run in a process of its own: tests in a given order until one fails, or all of them, noting what each enters."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import CodeType, FrameType

import pytest

SECONDS_PER_TEST = 60
"""A test that runs longer found a mutant that does not end."""


class InOrder:
    """Leaves only the named tests, in the order in which they are named."""

    def __init__(self, names: list[str]) -> None:
        self._place = {name: number for number, name in enumerate(names)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((one for one in items if one.nodeid in self._place), key=lambda one: self._place[one.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


class Reach:
    """Notes for each test how long it takes and which functions of the package it enters."""

    def __init__(self, package: Path) -> None:
        self._package, self._root = str(package), package.parent
        self._entered: set[CodeType] = set()
        self.found: dict[str, dict[str, object]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        self._entered, begin = set(), time.perf_counter()
        sys.settrace(self._note)
        yield
        sys.settrace(None)
        reached = sorted(
            f"{Path(code.co_filename).relative_to(self._root)}:{code.co_firstlineno}"
            for code in self._entered if code.co_filename.startswith(self._package)
        )  # fmt: skip
        self.found[item.nodeid] = {"seconds": time.perf_counter() - begin, "reached": reached}

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        self._entered.add(frame.f_code)


def note_reach(out: Path, files: list[str]) -> int:
    """Run the files and write what each of their tests reaches. Returns the exit status of the tests."""
    reach = Reach(Path.cwd() / "policies")
    status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *files], plugins=[reach])
    out.write_text(json.dumps(reach.found))
    return int(status)


def first_failure(names: list[str]) -> str:
    """Return the first of the tests that fails, in the order given; empty if all pass."""
    order = InOrder(names)
    files = sorted({name.partition("::")[0] for name in names})
    status = pytest.main(
        ["-q", "-x", "-p", "no:cacheprovider", "--timeout", str(SECONDS_PER_TEST), *files], plugins=[order]
    )
    return order.failed or ("" if status == 0 else "collection")


if __name__ == "__main__":
    if sys.argv[1] == "reach":
        sys.exit(note_reach(Path(sys.argv[2]), sys.argv[3:]))
    failed = first_failure(json.loads(sys.stdin.read()))
    Path(sys.argv[2]).write_text(failed)
