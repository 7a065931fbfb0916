"""What several contract suites share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from tests.postgres import Postgres, require

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    require()
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture
def database(postgres: Postgres) -> str:
    """Return how to connect to an empty database of this test alone."""
    name = f"journal_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name}".encode())
    return postgres.conninfo(name)
