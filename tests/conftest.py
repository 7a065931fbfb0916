"""Options of the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("ordinary", deadline=None)  # a busy machine is no fault
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile("ordinary")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write golden files again; review them in the diff")
