"""How many replicas a load needs: the formula beside what is known exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.capacity import Load, NoSize, Promise, Sizing, Speed, Tokens, erlang_c, measure, service, size

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
