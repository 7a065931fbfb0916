"""One platform for all tests that need a whole one: brought up once, taken down at the end, leaving nothing."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.embedded.platform import bring_up, say_ready, take_down
from cluster.embedded.processes import records
from policies.model.units import SecurityDomain
from tests.e2e.bench import Running, runs, settings_in


@pytest.fixture(scope="session")
def platform() -> Iterator[Running]:
    folder, said = Path(tempfile.mkdtemp(prefix="partage-e2e-")), list[str]()
    settings = settings_in(folder)
    try:
        ready = bring_up(settings, said.append)
        say_ready(ready, said.append)
        running = Running(settings=settings, ready=ready, said=said, keys=dict(ready.keys))
        yield running
        _goes_down_without_a_trace(running)
    finally:
        take_down(settings, said.append)
        sys.stderr.write("\n".join(said) + "\n")
        shutil.rmtree(folder, ignore_errors=True)


def _goes_down_without_a_trace(running: Running) -> None:
    pids = running.pids()
    assert pids
    take_down(running.settings, running.said.append)
    assert records(running.here.processes) == ()
    assert [pid for pid in pids if runs(pid)] == []
    assert not running.here.temp(SecurityDomain.CIVIL).exists()
