"""How many replicas a load needs: the formula beside what is known exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.capacity import (
    Load,
    NoSize,
    Promise,
    Sizing,
    Speed,
    Tokens,
    erlang_c,
    measure,
    prompt_p95,
    service,
    size,
)

EVEN = Tokens(p50=100, p90=100)
SPEED = Speed(slots=8, answer_tokens_per_s=50, prompt_tokens_per_s=10_000)
PROMISE = Promise(first_token_ms=1_000, token_ms=40)


def load(per_hour: int, variation: int = 1000) -> Load:
    return Load(requests_per_hour=per_hour, variation_permille=variation, prompt=EVEN, answer=EVEN)


@pytest.mark.parametrize(
    ("offered", "slots", "waiting"),
    [(0.5, 1, 0.5), (1.0, 2, 1 / 3), (2.0, 3, 4 / 9), (0.9, 1, 0.9)],
)
def test_the_part_that_waits_is_erlangs(offered: float, slots: int, waiting: float) -> None:
    assert erlang_c(offered, slots) == pytest.approx(waiting)


@given(st.floats(0.01, 40), st.integers(1, 60))
def test_the_part_that_waits_is_the_sum_that_defines_it(offered: float, slots: int) -> None:
    if offered >= slots:
        return
    terms = [offered**k / math.factorial(k) for k in range(slots)]
    last = offered**slots / math.factorial(slots) * slots / (slots - offered)
    assert erlang_c(offered, slots) == pytest.approx(last / (sum(terms) + last), rel=1e-9)


@given(st.integers(1, 200_000), st.integers(0, 5_000))
def test_the_answer_keeps_the_promise_and_one_replica_less_breaks_it(per_hour: int, variation: int) -> None:
    asked = load(per_hour, variation)
    found = size(asked, PROMISE, SPEED)
    assert isinstance(found, Sizing)
    assert found.first_token_p95_ms <= PROMISE.first_token_ms
    if found.replicas > 1:
        fewer = measure(asked, SPEED, found.replicas - 1)
        assert fewer is None or fewer.first_token_p95_ms > PROMISE.first_token_ms


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_more_load_never_needs_less(one: int, other: int) -> None:
    few, many = (size(load(per_hour), PROMISE, SPEED) for per_hour in sorted((one, other)))
    assert isinstance(few, Sizing)
    assert isinstance(many, Sizing)
    assert few.replicas <= many.replicas


def test_bursts_need_more_than_an_even_stream() -> None:
    even, bursts = size(load(20_000, 0), PROMISE, SPEED), size(load(20_000, 6_000), PROMISE, SPEED)
    assert isinstance(even, Sizing)
    assert isinstance(bursts, Sizing)
    assert bursts.replicas > even.replicas


def test_a_promise_that_the_device_can_never_keep_is_refused_with_the_reason() -> None:
    slow = size(load(1), Promise(first_token_ms=1_000, token_ms=10), SPEED)
    assert isinstance(slow, NoSize)
    assert slow.sentence == "one token takes 20 ms here, 10 ms are promised"
    long = size(load(1), Promise(first_token_ms=5, token_ms=40), SPEED)
    assert isinstance(long, NoSize)
    assert "reading a long prompt takes 10 ms" in long.sentence


def test_lengths_with_median_and_ninetieth_percentile_have_the_mean_of_their_lognormal() -> None:
    lengths = Tokens(p50=1020, p90=2735)
    assert lengths.mean == pytest.approx(1020 * math.exp(math.log(2735 / 1020) ** 2 / 2 / 1.2815515655**2))
    mean, variation = service(
        Load(requests_per_hour=1, variation_permille=1000, prompt=EVEN, answer=EVEN), SPEED
    )  # fmt: skip
    assert mean == pytest.approx(100 / 10 + 100 * 20)
    assert variation == pytest.approx(0)


LENGTHS = st.builds(
    lambda p50, more: Tokens(p50=p50, p90=p50 + more),
    st.integers(1, 4_000),
    st.one_of(st.just(0), st.integers(0, 9_000)),
)


def by_the_book(asked: Load, speed: Speed, replicas: int) -> tuple[float, float] | None:
    """Return the part of time that a slot is busy and the wait in ms that 95 of 100 do not exceed, from the sums."""
    mean, squared = 0.0, 0.0
    for tokens, per_s in ((asked.prompt, speed.prompt_tokens_per_s), (asked.answer, speed.answer_tokens_per_s)):
        sigma = math.log(tokens.p90 / tokens.p50) / 1.281551565545
        one = tokens.p50 * math.exp(sigma * sigma / 2)
        mean += one / per_s
        squared += one * one * math.expm1(sigma * sigma) / per_s / per_s
    offered, slots = asked.requests_per_hour / 3600 * mean, replicas * speed.slots
    if offered >= slots:
        return None
    logs = [k * math.log(offered) - math.lgamma(k + 1) for k in range(slots + 1)]
    last = math.exp(logs[-1]) * slots / (slots - offered)
    waits = last / (sum(map(math.exp, logs[:-1])) + last)
    uneven = (asked.variation_permille**2 / 1e6 + squared / mean / mean) / 2
    wait_s = 0.0 if waits <= 0.05 else math.log(waits / 0.05) * mean * uneven / (slots - offered)
    return offered / slots, wait_s * 1000


@given(st.integers(50, 1010), st.integers(0, 4_000), LENGTHS, LENGTHS, st.integers(1, 5))
def test_what_is_measured_is_the_wait_of_the_book(busy, variation, prompt, answer, replicas) -> None:
    speed = Speed(slots=3, answer_tokens_per_s=50, prompt_tokens_per_s=100)
    one_s = prompt.mean / 100 + answer.mean / 50
    per_hour = max(1, round(busy / 1000 * 3 * replicas * 3600 / one_s))
    asked = Load(requests_per_hour=per_hour, variation_permille=variation, prompt=prompt, answer=answer)
    found, exact = measure(asked, speed, replicas), by_the_book(asked, speed, replicas)
    if found is None or exact is None:
        assert found is exact
        return
    busy, wait_ms = exact
    reading_ms = prompt.p50 * (prompt.p90 / prompt.p50) ** (1.644853626951 / 1.281551565545) * 10
    assert found.busy_permille == pytest.approx(1000 * busy, abs=0.501)
    assert 0 <= found.wait_p95_ms - wait_ms * (1 - 1e-9) <= 1.001 + wait_ms * 1e-8
    assert 0 <= found.first_token_p95_ms - (wait_ms + reading_ms) * (1 - 1e-9) <= 1.001 + wait_ms * 1e-8
    assert found.replicas == replicas


@pytest.mark.parametrize("per_hour", [14_399, 14_400])
def test_slots_that_are_all_always_busy_do_not_keep_up(per_hour) -> None:
    asked = Load(requests_per_hour=per_hour, variation_permille=1000, prompt=EVEN, answer=EVEN)
    found = measure(asked, Speed(slots=8, answer_tokens_per_s=100, prompt_tokens_per_s=100), 1)
    assert (found is None) == (per_hour == 14_400)


def test_an_empty_prompt_counts_as_one_token() -> None:
    assert Tokens(p50=0, p90=0) != Tokens(p50=1, p90=1)
    for none, one in ((Tokens(p50=0, p90=0), EVEN), (Tokens(p50=0, p90=50), Tokens(p50=1, p90=50))):
        least = Tokens(p50=1, p90=max(1, none.p90))
        assert (none.sigma, none.mean, none.variance) == (least.sigma, least.mean, least.variance)
        assert prompt_p95(none) == prompt_p95(least) <= prompt_p95(one)
    assert Tokens(p50=100, p90=50).sigma == 0


def test_a_promise_that_is_kept_to_the_millisecond_is_kept() -> None:
    found = size(load(1), Promise(first_token_ms=10, token_ms=20), SPEED)
    assert isinstance(found, Sizing)
    assert (found.replicas, found.wait_p95_ms, found.first_token_p95_ms) == (1, 0, 10)


def test_from_the_least_on_at_most_ten_thousand_replicas_are_looked_at() -> None:
    found = size(load(1), PROMISE, SPEED, least=10_000)
    assert isinstance(found, Sizing)
    assert found.replicas == 10_000
    none = size(load(1), PROMISE, SPEED, least=10_001)
    assert isinstance(none, NoSize)
    assert none.sentence == "more than 10000 replicas"
    some = size(load(1), PROMISE, SPEED, least=3)
    assert isinstance(some, Sizing)
    assert some.replicas == 3
