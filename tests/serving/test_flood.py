"""A tenant in flood does not drown its neighbours: the promise of the fair queue, measured in virtual time."""

from __future__ import annotations

import pytest

from serving.gateway.fair import PATIENCE_MS, RESERVED_PART
from tests.serving.traffic import LONGEST_MS, SLOTS, flood

BOUND_MS = 2 * LONGEST_MS
"""What a flood may add to the p99 of a tenant that had its share of the model to itself: the rest of an answer in
progress and one answer ahead in line."""
CAPACITY_PER_S = 4 / 0.6


@pytest.mark.parametrize("times", [1, 3, 10, 50])
def test_however_large_the_flood_the_other_tenants_p99_moves_by_less_than_the_bound(times: int) -> None:
    alone, flooded = flood(0, slots=SLOTS // 2), flood(times * CAPACITY_PER_S)
    assert flooded.calm_shed == 0
    assert flooded.p99_ms() - alone.p99_ms() <= BOUND_MS


@pytest.mark.parametrize("times", [1, 10, 50])
def test_a_flood_of_a_higher_class_costs_at_most_the_patience_and_three_quarters_of_the_places(times: int) -> None:
    alone, flooded = flood(0, slots=SLOTS // RESERVED_PART), flood(times * CAPACITY_PER_S, priority=10)
    assert flooded.calm_shed == 0
    assert flooded.p99_ms() <= PATIENCE_MS + alone.p99_ms() + BOUND_MS


def test_a_queue_that_does_not_know_its_tenants_breaks_that_promise() -> None:
    alone, flooded = flood(0), flood(3 * CAPACITY_PER_S, fair=False)
    assert flooded.calm_shed > 0 or flooded.p99_ms() - alone.p99_ms() > 10 * BOUND_MS


def test_the_flood_still_gets_all_capacity_that_others_leave() -> None:
    flooded = flood(3 * CAPACITY_PER_S)
    answered = flooded.flood_answered + len(flooded.calm_ms)
    assert answered >= 0.95 * CAPACITY_PER_S * 300
