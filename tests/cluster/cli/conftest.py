"""A control plane that answers over HTTP, for the command line to talk to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from cluster.api.app import create
from cluster.clock import SystemClock
from tests.cluster.api.platform import Platform, running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("home")
    made = running(home)
    config = uvicorn.Config(create(made.parts), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    clock = SystemClock()
    while not server.started:
        clock.sleep_ms(20)
    port = server.servers[0].sockets[0].getsockname()[1]
    changed = {
        "PARTAGE_HOME": str(home),
        "PARTAGE_CONFIG": str(home / "config"),
        "PARTAGE_CACHE": str(home / "cache"),
        "PARTAGE_API_PORT": str(port),
        "COLUMNS": "100",
    }
    before = {name: os.environ.get(name) for name in changed}  # noqa: TID251  # the command line reads its own environment
    os.environ.update(changed)  # noqa: TID251
    yield made
    for name, value in before.items():
        if value is None:
            del os.environ[name]  # noqa: TID251
        else:
            os.environ[name] = value  # noqa: TID251
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def claims_file(tmp_path: Path) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text((Path(__file__).parents[3] / "policies" / "profiles" / "claims.yaml").read_text())
    return path
