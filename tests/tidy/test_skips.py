"""A skip is a gap that nobody sees: where everything must run, it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORY = """
import pytest

@pytest.mark.system
def test_of_a_program():
    pytest.skip("it is not installed")

@pytest.fixture
def device():
    pytest.skip("there is none")

@pytest.mark.gpu
def test_of_a_device(device):
    pass

@pytest.mark.engine_packages
@pytest.mark.skipif(True, reason="not here")
def test_of_an_engine():
    pass
"""


@pytest.mark.parametrize(("wants_all", "counts"), [("1", "1 failed, 2 skipped"), ("", "3 skipped")])
def test_only_what_is_excepted_by_name_may_skip_where_everything_must_run(
    tmp_path: Path, wants_all: str, counts: str
) -> None:
    (tmp_path / "test_story.py").write_text(STORY)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest", "-q"]
    environment = {"PARTAGE_TEST_ALL": wants_all, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert counts in done.stdout.splitlines()[-1], done.stdout + done.stderr
