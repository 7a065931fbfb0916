from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.api.platform import Platform, running


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return running(tmp_path)
