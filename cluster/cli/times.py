"""Moments as people write them, by the clock of a place, and the days on which they come again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

SATURDAY = 5


class Every(StrEnum):
    """When it comes again."""

    DAY = "day"
    WORKDAY = "workday"
    """From Monday to Friday."""
    WEEK = "week"


def clock_of(name: str) -> tzinfo:
    """Return the clock of that name. Raises ``typer.BadParameter`` for one that is not known here."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise typer.BadParameter(f"--zone {name} is no clock that is known here; write one as Europe/Paris") from error


def moment(option: str, text: str, clock: tzinfo) -> datetime:
    """Return the moment, by that clock unless it says its own offset. Raises ``typer.BadParameter``."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text} is no time; write it as 2026-11-24T08:00") from error
    return found if found.tzinfo else found.replace(tzinfo=clock)


def occurrences(begin: datetime, end: datetime, every: Every, times: int) -> Iterator[tuple[datetime, datetime]]:
    """Yield so many windows from the given one on: the same hours by their clock, whether it goes forward or back."""
    days = 0
    while times > 0:
        step = timedelta(days=days)
        if every is not Every.WORKDAY or (begin + step).weekday() < SATURDAY:
            yield begin + step, end + step
            times -= 1
        days += 7 if every is Every.WEEK else 1


def milliseconds(at: datetime) -> int:
    """Return the moment in milliseconds since 1970."""
    return int(at.timestamp() * 1000)
