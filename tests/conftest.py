"""Options of the whole suite, and its rule about skips."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile("ordinary", deadline=None)  # a busy machine is no fault
settings.register_profile("deep", max_examples=8_000, deadline=None)
settings.register_profile(  # the same examples every time, and no search for a smaller one that fails too
    "mutation", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)  # fmt: skip
settings.load_profile("ordinary")

MAY_SKIP = ("gpu", "real_cluster", "engine_packages", "elsewhere")
"""Marks of tests that may skip where everything else must run; pyproject.toml says why of each."""
ALL = os.environ.get("PARTAGE_TEST_ALL") == "1"  # noqa: TID251  # the suite's own switch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write golden files again; review them in the diff")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With PARTAGE_TEST_ALL=1 a skip is a failure, but for tests whose mark says why they may."""
    report = yield
    if ALL and report.skipped and not hasattr(report, "wasxfail") and not any(map(item.get_closest_marker, MAY_SKIP)):
        report.outcome = "failed"
        report.longrepr = f"skipped, and PARTAGE_TEST_ALL=1 wants it run: {item.nodeid}: {report.longrepr}"
    return report
