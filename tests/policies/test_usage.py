"""Past use fades with a half-life, whatever the rhythm of looking at it."""

from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.model.codec import from_json, to_json
from policies.model.memory import Memory, UsageRecord
from policies.shares.usage import SCALE, _square_roots, advanced, kept_of
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

HOUR_MS, HALF_LIFE_S = 3_600_000, 86_400


def record(milli_seconds: int, rate: int) -> UsageRecord:
    return UsageRecord(tenant="civil", flavor="A", milli_seconds=milli_seconds, at_ms=0, rate_millis=rate)


def test_after_one_half_life_half_of_a_past_use_is_remembered():
    later = advanced(record(1_000_000_000, 0), HALF_LIFE_S * 1000, HALF_LIFE_S)
    assert later.milli_seconds == 500_000_000


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.lists(st.integers(1, HOUR_MS), min_size=1, max_size=30))
def test_many_short_looks_and_one_long_look_agree(milli_seconds, rate, gaps):
    start = record(milli_seconds, rate)
    often, at = start, 0
    for gap in gaps:
        at += gap
        often = advanced(often, at, HALF_LIFE_S)
    once = advanced(start, at, HALF_LIFE_S)
    assert math.isclose(often.milli_seconds, once.milli_seconds, rel_tol=1e-6, abs_tol=2 * len(gaps) + rate * 0.02)


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.integers(0, 10 * HOUR_MS))
def test_fading_agrees_with_the_formula_in_floating_point(milli_seconds, rate, elapsed_ms):
    kept = 2 ** (-elapsed_ms / (HALF_LIFE_S * 1000))
    exact = milli_seconds * kept + rate * HALF_LIFE_S / math.log(2) * (1 - kept)
    found = advanced(record(milli_seconds, rate), elapsed_ms, HALF_LIFE_S).milli_seconds
    assert math.isclose(found, exact, rel_tol=1e-6, abs_tol=2 + rate * 0.02)


def test_a_clock_that_goes_back_changes_nothing():
    start = UsageRecord(tenant="civil", flavor="A", milli_seconds=7, at_ms=1000, rate_millis=3)
    assert advanced(start, 500, HALF_LIFE_S) == start


@given(st.lists(st.integers(1, HOUR_MS), min_size=1, max_size=6))
def test_p18_use_is_remembered_the_same_however_often_and_across_restarts_anybody_decides(gaps):
    one = claim("civil/x:chat")
    seen = snapshot([device("G0")], [one], running(one, ("G0",)))
    memory, at = decide(seen, rules(), Memory(), NOW_MS).memory, NOW_MS
    once = memory
    for gap in gaps:
        at += gap
        memory = from_json(Memory, to_json(decide(seen, rules(), memory, at).memory))
    once = decide(seen, rules(), once, at).memory
    for often, rarely in zip(memory.usage, once.usage, strict=True):
        assert (often.tenant, often.rate_millis) == (rarely.tenant, rarely.rate_millis) == (often.tenant, 1000)
        assert math.isclose(often.milli_seconds, rarely.milli_seconds, rel_tol=1e-6, abs_tol=2 * len(gaps) + 20)


def test_p18_a_claim_that_is_deleted_uses_nothing_from_then_on_and_is_forgotten_in_the_end():
    one = claim("civil/x:chat")
    seen = snapshot([device("G0")], [one], running(one, ("G0",)))
    memory = decide(seen, rules(), Memory(), NOW_MS).memory
    gone = snapshot([device("G0")], [])
    memory = decide(gone, rules(), memory, NOW_MS + HOUR_MS).memory
    assert {record.rate_millis for record in memory.usage} == {0}
    later = decide(gone, rules(), memory, NOW_MS + 100 * HALF_LIFE_S * 1000).memory
    assert later.usage == ()


@given(st.integers(-10, 70 * HALF_LIFE_S * 1000), st.integers(1, HALF_LIFE_S))
def test_what_is_remembered_is_a_half_to_the_power_of_the_half_lives_to_thirteen_places(elapsed_ms, half_life_s):
    half_lives = Decimal(max(0, elapsed_ms)) / (half_life_s * 1000)
    exact = Decimal(0) if half_lives >= 64 else Decimal(SCALE) * Decimal(2) ** -half_lives
    assert abs(kept_of(elapsed_ms, half_life_s) - exact) <= SCALE >> 46


def test_the_powers_are_built_from_roots_that_are_right_to_the_last_place():
    square = SCALE // 2
    for root in _square_roots():
        assert root**2 <= square * SCALE < (root + 1) ** 2
        square = root
    assert len(_square_roots()) == 48


def test_with_no_half_life_all_use_is_forgotten_as_soon_as_time_passes():
    assert [kept_of(elapsed, 0) for elapsed in (0, 1)] == [SCALE, 0]
    assert advanced(record(5, 1), 1, 0).milli_seconds == 0


def test_a_device_held_for_ever_is_remembered_as_its_half_life_over_the_logarithm_of_two():
    held = advanced(record(0, 1000), 64 * HALF_LIFE_S * 1000, HALF_LIFE_S)
    assert held.milli_seconds == int(1000 * HALF_LIFE_S / Decimal(2).ln())
    assert advanced(held, held.at_ms + 64 * HALF_LIFE_S * 1000, HALF_LIFE_S).milli_seconds == held.milli_seconds
