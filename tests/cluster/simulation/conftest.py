"""Options: `pytest tests/cluster/simulation --seed 8123 --steps 412` runs one story again."""

from __future__ import annotations

import pytest

SEEDS = 20
STEPS = 120


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="run this one seed")
    parser.addoption("--steps", type=int, default=STEPS, help="steps of each story")
    parser.addoption("--seeds", type=int, default=SEEDS, help="number of stories")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--seed", default=None)
        count = metafunc.config.getoption("--seeds", default=SEEDS)
        metafunc.parametrize("seed", [chosen] if chosen is not None else range(count))


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> int:
    found: int = request.config.getoption("--steps", default=STEPS)
    return found
