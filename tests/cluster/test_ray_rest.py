"""The client of Ray's dashboard, against the fake that is held to the same contract as a real head."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cluster.ray_rest import RayDashboard, RayUnreadable
from tests.ray_contract import engine, holds_to_its_contract, put
from tests.ray_dashboard import TOKEN, FakeRay, running


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    with running(FakeRay()) as fake:
        yield fake


@pytest.fixture
def dashboard(ray: FakeRay) -> Iterator[RayDashboard]:
    client = RayDashboard(ray.url, TOKEN, 5)
    yield client
    client.close()


def test_the_fake_holds_to_the_contract_that_a_real_head_holds_to(ray: FakeRay, dashboard: RayDashboard) -> None:
    def settle(holds: Callable[[], bool]) -> None:
        ray.settle()
        assert holds()

    holds_to_its_contract(dashboard, 1, settle)


def test_a_missing_or_wrong_token_is_named(ray: FakeRay) -> None:
    with pytest.raises(RayUnreadable) as refusal:
        RayDashboard(ray.url, "wrong", 5).applications()
    assert refusal.value.cause == "http_403"


def test_a_dashboard_that_is_away_is_unreachable_not_empty() -> None:
    with pytest.raises(RayUnreadable) as refusal:
        RayDashboard("http://127.0.0.1:9", TOKEN, 1).applications()
    assert refusal.value.cause == "unreachable"


def test_replicas_that_cannot_be_placed_do_not_count_as_running(ray: FakeRay, dashboard: RayDashboard) -> None:
    ray.stuck.add("g")
    put(dashboard, 1, engine("g", 2))
    ray.settle()
    app = dashboard.applications()["g"]
    assert (app.running, app.target, app.replicas) == (0, 2, ("STARTING", "STARTING"))
