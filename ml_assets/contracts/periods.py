"""Periods of a grain: days, weeks, months and years. Which period a day is in, and which one is next.

A table by period has one partition for each. Its key is the first day of the period, such as 2024-01-01 for January
2024 and for the week of that Monday. A row's own `day` stays the day it belongs to, so windows of days (training,
validation, test) select the same rows whatever the grain; only what is stored and materialized together differs.
"""

from datetime import date, timedelta
from typing import Final, Literal

Grain = Literal["day", "week", "month", "year"]

BY_DAY: Final[Grain] = "day"
_SHORTEST: Final[dict[Grain, int]] = {"day": 1, "week": 7, "month": 28, "year": 365}
_MONTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
EVERY: Final[dict[Grain, str]] = {"day": "1d", "week": "1w", "month": "1mo", "year": "1y"}
"""The length of a period for polars: `pl.col("day").dt.truncate(EVERY[grain])` is the first day of a day's period."""


def period_of(day: date, grain: Grain) -> date:
    """Return the first day of the period that a day is in. Weeks begin on Monday."""
    match grain:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)


def moved(first: date, periods: int, grain: Grain) -> date:
    """Return the first day of the period that comes some periods later; earlier if the number is negative."""
    match grain:
        case "day":
            return first + timedelta(days=periods)
        case "week":
            return first + timedelta(weeks=periods)
        case "month":
            years, month = divmod(first.month - 1 + periods, 12)
            return date(first.year + years, month + 1, 1)
        case "year":
            return date(first.year + periods, 1, 1)


def last_day_of(first: date, grain: Grain) -> date:
    """Return the last day of the period that begins on a day."""
    return first if grain == BY_DAY else moved(first, 1, grain) - timedelta(days=1)


def newest_over(day: date, grain: Grain) -> date:
    """Return the first day of the newest period that is over when a day is over."""
    first = period_of(day, grain)
    return first if last_day_of(first, grain) == day else moved(first, -1, grain)


def shortest_length(grain: Grain) -> int:
    """Return the number of days of the shortest period."""
    return _SHORTEST[grain]


def periods_between(first: date, last: date, grain: Grain = BY_DAY) -> list[date]:
    """Return the first days of all periods from that of one day to that of another, both included."""
    found = []
    at = period_of(first, grain)
    while at <= last:
        found.append(at)
        at = moved(at, 1, grain)
    return found


def periods_for(days: int, grain: Grain) -> int:
    """Return the fewest periods that last at least a number of days, wherever they begin.

    A look-back of so many days from the first day of a period reaches at most so many periods back. Years count 365
    days, so that the number is never too low.
    """
    if grain == "month":
        years, rest = divmod(days, 365)
        found = 0
        while min(sum((_MONTHS * 2)[start : start + found]) for start in range(12)) < rest:
            found += 1
        return 12 * years + found
    return -(-days // _SHORTEST[grain])


def periods_in(days: int, grain: Grain) -> int:
    """Return the number of periods of a window of days that ends with a period, rounded outward to whole periods."""
    return 1 + periods_for(max(0, days - _SHORTEST[grain]), grain)
