"""How many replicas a load needs, so that its promise holds: the queueing formula that planning starts from.

Requests arrive with some unevenness, each takes one of the slots of the replicas for as long as reading its prompt and
writing its answer takes, and waits when none is free. The wait of such a queue (G/G/n) is taken from the exact one with
random arrivals and times (Erlang C), scaled by half the sum of the squared variations of arrivals and times (Allen and
Cunneen). It is an approximation, worst where variation is large: rehearse it before money is spent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

P90 = 1.281_551_565_545
"""Standard deviations of a normal distribution below which 90 % lie."""
MOST_REPLICAS = 10_000
"""More are not looked for."""
BEYOND = 0.05
"""The promise is for all but this part of the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Length of prompts or answers: lognormal, by its median and its ninetieth percentile, both >= 1."""

    p50: int
    p90: int

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm; 0 if all are equal."""
        return max(0.0, math.log(max(1, self.p90) / max(1, self.p50)) / P90)

    @property
    def mean(self) -> float:
        """Tokens."""
        return max(1, self.p50) * math.exp(self.sigma**2 / 2)

    @property
    def variance(self) -> float:
        """Tokens, squared."""
        return self.mean**2 * (math.exp(self.sigma**2) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests at the busiest time that must be met."""

    requests_per_hour: int
    variation_permille: int
    """Coefficient of variation of the time between requests, in thousandths: 1000 is random, more comes in bursts."""
    prompt: Tokens
    answer: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What 95 of 100 requests get."""

    first_token_ms: int
    token_ms: int
    """Between two tokens of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one replica does."""

    slots: int
    """Requests answered at once."""
    answer_tokens_per_s: int
    """Of one request while all slots are busy, > 0."""
    prompt_tokens_per_s: int
    """Read by the replica, > 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What a load needs."""

    replicas: int
    busy_permille: int
    """Thousandths of all slots' time that are in use."""
    wait_p95_ms: int
    """Before a slot is free; 0 if 95 of 100 do not wait."""
    first_token_p95_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSize:
    """No number of replicas keeps the promise."""

    sentence: str


def size(load: Load, promise: Promise, speed: Speed, least: int = 1) -> Sizing | NoSize:
    """Return the smallest number of replicas, from ``least`` on, with which the promise holds, or why none does.

    Cost: a formula per slot and number tried, so it grows with the square of the answer.
    """
    token_ms = 1000 / speed.answer_tokens_per_s
    if token_ms > promise.token_ms:
        return NoSize(sentence=f"one token takes {token_ms:.0f} ms here, {promise.token_ms} ms are promised")
    reading_ms = prompt_p95(load.prompt) * 1000 / speed.prompt_tokens_per_s
    if reading_ms > promise.first_token_ms:
        return NoSize(
            sentence=f"reading a long prompt takes {reading_ms:.0f} ms here, {promise.first_token_ms} ms are promised"
        )
    for replicas in range(max(1, least), MOST_REPLICAS + 1):
        found = measure(load, speed, replicas)
        if found is not None and found.first_token_p95_ms <= promise.first_token_ms:
            return found
    return NoSize(sentence=f"more than {MOST_REPLICAS} replicas")


def measure(load: Load, speed: Speed, replicas: int) -> Sizing | None:
    """Return what so many replicas make of the load; None if they can't keep up with it."""
    mean_ms, variation = service(load, speed)
    slots, arrivals = replicas * speed.slots, load.requests_per_hour / 3_600_000
    offered = arrivals * mean_ms
    if offered >= slots:
        return None
    uneven = ((load.variation_permille / 1000) ** 2 + variation) / 2
    wait_ms = _wait_p95(offered, slots, mean_ms * max(uneven, 1e-9))
    reading_ms = prompt_p95(load.prompt) * 1000 / speed.prompt_tokens_per_s
    return Sizing(
        replicas=replicas, busy_permille=round(1000 * offered / slots), wait_p95_ms=math.ceil(wait_ms),
        first_token_p95_ms=math.ceil(wait_ms + reading_ms),
    )  # fmt: skip


def service(load: Load, speed: Speed) -> tuple[float, float]:
    """Return the mean time that a request holds its slot in ms, and its squared coefficient of variation."""
    reading, writing = 1000 / speed.prompt_tokens_per_s, 1000 / speed.answer_tokens_per_s
    mean = load.prompt.mean * reading + load.answer.mean * writing
    variance = load.prompt.variance * reading**2 + load.answer.variance * writing**2
    return mean, variance / mean**2


def prompt_p95(prompt: Tokens) -> float:
    """Return the length that 95 of 100 prompts do not exceed, in tokens."""
    return max(1, prompt.p50) * math.exp(1.644_853_626_951 * prompt.sigma)


def erlang_c(offered: float, slots: int) -> float:
    """Return the part of requests that wait when ``offered`` slots' worth of work comes to ``slots`` slots.

    Computed by Erlang B's recursion, which neither overflows nor cancels. 0 <= offered < slots.
    """
    blocked = 1.0
    for number in range(1, slots + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return slots * blocked / (slots - offered * (1 - blocked))


def _wait_p95(offered: float, slots: int, scaled_ms: float) -> float:
    waiting = erlang_c(offered, slots)
    return 0.0 if waiting <= BEYOND else math.log(waiting / BEYOND) * scaled_ms / (slots - offered)
