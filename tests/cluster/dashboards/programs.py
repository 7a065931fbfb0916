"""Programs of the operating system that some tests need."""

import os
import shutil

import pytest


def require(program):
    """Return the program's path; skip with the reason where it is missing, fail if everything must run."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("PARTAGE_TEST_ALL") == "1":  # noqa: TID251  # a test asks the person who runs it
            pytest.fail(f"{program} is not installed and PARTAGE_TEST_ALL=1")
        pytest.skip(f"{program} is not installed")
    return path
