"""Programs of the operating system that some tests need."""

import shutil

import pytest


def require(program):
    """Return the program's path; skip with the reason where it is missing."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path
