"""From requests to replicas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.demand import FALL_MS, RISE_MS, Demand, changed, replicas


def steady(requests: int, for_ms: int, before: Demand | None = None, step_ms: int = 200) -> Demand:
    demand = before or Demand(0)
    demand = changed(demand, requests, demand.at_ms)
    for at_ms in range(demand.at_ms, demand.at_ms + for_ms, step_ms):
        demand = changed(demand, requests, at_ms + step_ms)
    return demand


def test_without_requests_no_replica_is_asked_for() -> None:
    assert replicas(steady(0, 60_000), 4) == 0


def test_a_single_request_asks_for_one_replica_soon() -> None:
    assert replicas(steady(1, RISE_MS), 4) == 1


def test_steady_requests_ask_for_just_enough_replicas() -> None:
    assert [replicas(steady(n, 30_000), 4) for n in (3, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


def test_a_rise_is_believed_sooner_than_a_fall() -> None:
    up = steady(8, 2 * RISE_MS)
    down = steady(0, 2 * RISE_MS, steady(8, 60_000))
    assert replicas(up, 4) == 2
    assert replicas(down, 4) == 2
    assert replicas(steady(0, 8 * FALL_MS, steady(8, 60_000)), 4) == 0


def test_a_pause_between_two_requests_frees_nothing() -> None:
    assert replicas(steady(0, 500, steady(1, 10_000)), 1) == 1


@given(st.integers(1, 200), st.integers(1, 64), st.integers(101, 2_000))
def test_enough_is_asked_for_and_never_more_than_needed(requests: int, concurrency: int, step_ms: int) -> None:
    asked = replicas(steady(requests, 120_000, step_ms=step_ms), concurrency)
    assert asked == -(-requests // concurrency)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-50, 400))))
def test_whatever_comes_the_level_stays_between_nothing_and_the_most_seen(steps: list[tuple[int, int]]) -> None:
    demand = Demand(0)
    for requests, passed in steps:
        demand = changed(demand, requests, demand.at_ms + passed)
        assert 0 <= demand.level_millis <= 9_000
