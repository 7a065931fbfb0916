"""Past use fades with a half-life, whatever the rhythm of looking at it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from policies.model.memory import UsageRecord
from policies.usage import advanced

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
