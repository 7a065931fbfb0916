"""A real Ray head does what the fake of the unit tests does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.embedded.adapters import dashboard
from cluster.embedded.clusters import ensure_secrets, start_head
from cluster.embedded.nodes import machine
from cluster.embedded.processes import members, stop
from policies.model.units import SecurityDomain
from tests.e2e.bench import settings_in, until
from tests.ray_contract import holds_to_its_contract

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="partage-e2e-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_real_head_holds_to_the_contract_of_the_fake(folder: Path) -> None:
    settings = settings_in(folder)
    here, clock, domain = machine(settings), SystemClock(), SecurityDomain.CIVIL
    ensure_secrets(here)
    record = start_head(here, domain, clock)
    client = dashboard(settings, domain, 60)
    try:
        until(client.is_up, "the head answers")

        def settle(holds: Callable[[], bool]) -> None:
            until(holds, "Serve has come to rest")

        holds_to_its_contract(client, settings.gateway_port, settle)
    finally:
        client.close()
        stop(here.processes, record, settings.stop_timeout_ms, clock)
        shutil.rmtree(here.temp(domain), ignore_errors=True)
    assert members(record) == ()
