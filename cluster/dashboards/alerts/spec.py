"""What an alert says, and the windows in which a promise may burn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Who hears of it, and when."""

    CRITICAL = "critical"
    """A person, now: a promise is broken or about to be."""
    WARNING = "warning"
    """A person, in working hours."""
    INFO = "info"
    """Nobody; shown beside other alerts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule. Its name is also the name of its runbook page."""

    name: str
    severity: Severity
    expr: str
    held: str
    """How long it must be true, in Prometheus notation; ``0m`` at once."""
    summary: str
    """One line with the labels that tell which."""
    description: str
    """What it means and the first thing to look at."""
    labels: tuple[tuple[str, str], ...] = ()
    """Beside the severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """A pair of windows: both must burn the error budget this many times too fast."""

    severity: Severity
    long: str
    short: str
    held: str
    factor: float


BURNS = (
    Burn(severity=Severity.CRITICAL, long="1h", short="5m", held="2m", factor=14.4),
    Burn(severity=Severity.CRITICAL, long="6h", short="30m", held="15m", factor=6),
    Burn(severity=Severity.WARNING, long="1d", short="2h", held="1h", factor=3),
    Burn(severity=Severity.WARNING, long="3d", short="6h", held="3h", factor=1),
)
"""Windows for a budget of 30 days: 14.4 times too fast spends 2 % of it in an hour, 6 times 5 % in six hours,
3 times 10 % in a day, 1 times 10 % in three days. The short window ends the alert soon after the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A ratio of counters that must stay below its budget. ``WINDOW`` stands for the range in both expressions."""

    name: str
    bad: str
    total: str
    by: str
    """Labels that tell which promise, separated by commas."""
    target: float
    """Part that must be good, below 1."""
    summary: str
    description: str


def burning(promise: Promise) -> tuple[Alert, ...]:
    """Return one alert per window pair, most urgent first."""
    budget = round(1 - promise.target, 6)
    return tuple(
        Alert(
            name=promise.name,
            severity=burn.severity,
            expr=" and ".join(
                f"({_ratio(promise, window)} > {burn.factor} * {budget})" for window in (burn.long, burn.short)
            ),
            held=burn.held,
            summary=f"{promise.summary} ({burn.factor:g} times too fast over {burn.long})",
            description=promise.description,
            labels=(("long", burn.long), ("short", burn.short)),
        )
        for burn in BURNS
    )


def _ratio(promise: Promise, window: str) -> str:
    bad, total = (expr.replace("WINDOW", window) for expr in (promise.bad, promise.total))
    return f"(sum by ({promise.by}) ({bad})) / (sum by ({promise.by}) ({total}))"
