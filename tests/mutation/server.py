"""Collects the tests once; each mutant then lives in a copy of this process, where one function has other code.

A copy (``fork``) starts with everything imported and nothing decided, so that it costs milliseconds. Its tests run
until one fails. A mutant that computes for ever is ended by a limit on processor time, which a busy machine does not
use up.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Self

import pytest

PROCESSOR_S, PROCESSOR_TIMES = 10, 10
"""A test may take this many seconds more than so many times what it takes without a mutant."""
MEMORY = 6 * 2**30
"""Address space of a copy, in bytes."""
OPTIONS = ("-q", "-p", "no:cacheprovider", "--capture", "no", "--timeout", "0", "--hypothesis-profile", "mutation")


@dataclass(frozen=True, slots=True)
class Reached:
    """What one test takes and runs."""

    seconds: float
    lines: frozenset[str]
    """As path and line."""


class Server:
    """A pytest plugin that runs ``work`` in place of the tests, once they are collected."""

    def __init__(self, root: Path, work: Callable[[Server], None]) -> None:
        self._root, self._work = root, work
        self._failed = False
        self.items: dict[str, pytest.Item] = {}
        self.functions: dict[tuple[str, str, int], list[FunctionType]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of pytest's own loop."""
        self.items = {one.nodeid: one for one in session.items}
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(str(self._root / "policies")):
                self.functions.setdefault(_known_as(one.__code__), []).append(one)
        gc.freeze()
        self._work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        self._failed = self._failed or report.failed

    def passes(self, name: str) -> bool:
        """Run one test here."""
        item = self.items[name]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self._failed

    def reached(self) -> dict[str, Reached]:
        """Run every test and return what each runs, or exit if one fails."""
        return {
            name: Reached(one["seconds"], frozenset(one["lines"])) for name, one in json.loads(
                "\n".join(ended(start(self._watched))[0])
            ).items()
        }  # fmt: skip

    def _watched(self) -> Iterator[str]:
        found = {}
        for name in self.items:
            begin = time.process_time()
            with Lines(str(self._root)) as lines:
                passed = self.passes(name)
            if not passed:
                yield json.dumps({f"fails without any mutant: {name}": {"seconds": 0, "lines": []}})
                return
            found[name] = {"seconds": time.process_time() - begin, "lines": sorted(lines.seen)}
        yield json.dumps(found)

    def put(self, tree: ast.Module, path: str) -> bool:
        """Give every function of the module the code of the changed one. False if a function would not take it."""
        whole = compile(tree, str(self._root / path), "exec", dont_inherit=True)
        for code in _codes(whole):
            for one in self.functions.get(_known_as(code), ()):
                if len(one.__code__.co_freevars) != len(code.co_freevars):
                    return False
                one.__code__ = code
        return True

    def killing(self, names: list[str], seconds: dict[str, float]) -> Iterator[str]:
        """Yield each test as it begins, and ``killed`` when the last one failed."""
        for name in names:
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S + PROCESSOR_TIMES * seconds[name])
            yield name
            if not self.passes(name):
                yield "killed"
                return


@dataclass
class Lines:
    """Notes the lines of ``policies`` that run; a function whose lines are all known is no longer watched."""

    root: str
    seen: set[str] = field(default_factory=set)
    _left: dict[CodeType, set[int]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        for code, left in self._left.items():
            path = code.co_filename.removeprefix(self.root + "/")
            self.seen.update(f"{path}:{line}" for line in _numbers(code) - left)

    def _call(self, frame: FrameType, event: str, _: object):
        code = frame.f_code
        if not code.co_filename.startswith(self.root + "/policies"):
            return None
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = _numbers(code)
        return self._line if left else None

    def _line(self, frame: FrameType, event: str, _: object):
        left = self._left[frame.f_code]
        left.discard(frame.f_lineno)
        return self._line if left else None


def _numbers(code: CodeType) -> set[int]:
    return {line for _, _, line in code.co_lines() if line is not None}


def _known_as(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)


def start(work: Callable[[], Iterator[str]]) -> tuple[int, int]:
    """Do the work in a copy of this process; return the copy and where its lines can be read."""
    read, write = os.pipe()
    copy = os.fork()
    if copy:
        os.close(write)
        return copy, read
    os.close(read)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    status = 1
    try:
        for line in work():
            os.write(write, line.encode() + b"\n")
        status = 0
    finally:
        os._exit(status)  # whatever happened, a copy never goes on with the work of its original


def ended(copy: tuple[int, int]) -> tuple[list[str], int]:
    """Wait for the copy; return its lines and how it ended, 0 if as it should."""
    with os.fdopen(copy[1]) as lines:
        said = lines.read().splitlines()
    return said, os.waitstatus_to_exitcode(os.waitpid(copy[0], 0)[1])


def serve(root: Path, files: list[str], work: Callable[[Server], None]) -> None:
    """Collect the tests of the files and work with them."""
    pytest.main([*OPTIONS, *files], plugins=[Server(root, work)])
