"""Periods of a grain (days, weeks, months, years), their keys, and the days that they contain.

A table by period has one partition for each. Its key is a text: the first day of the period, such as 2024-01-01 for
January 2024 and for the week of that Monday. Keys of one grain are ordered as texts. A row's own `day` stays the day it
belongs to, so windows of days (training, validation, test) select the same rows whatever the grain; only what is stored
and materialized together differs. Nothing outside of this module computes a key from a day, or a day from a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from ml_assets.contracts.days import DAY, yesterday

if TYPE_CHECKING:
    import polars as pl

Grain = Literal["day", "week", "month", "year"]

BY_DAY: Final[Grain] = "day"
_KEY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
AFTER_ALL_KEYS: Final = "9999-12-31"
"""A text that is not before any key: the last period if days have no end."""
_SHORTEST: Final[dict[Grain, int]] = {"day": 1, "week": 7, "month": 28, "year": 365}
_MONTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EVERY: Final[dict[Grain, str]] = {"day": "1d", "week": "1w", "month": "1mo", "year": "1y"}
"""The length of a period for polars."""


@dataclass(frozen=True)
class Calendar:
    """The periods of a grain in a time zone.

    Attributes:
        grain: how long a period is.
        timezone: where a day begins and ends.
    """

    grain: Grain = BY_DAY
    timezone: str = "UTC"

    def first_key(self, day: date) -> str:
        """Return the key of the first period that contains something of a day."""
        return str(_begin(day, self.grain))

    def last_key(self, day: date) -> str:
        """Return the key of the last period that contains something of a day."""
        return str(_begin(day, self.grain))

    def first_day(self, key: str) -> date:
        """Return the first day of a period."""
        return date.fromisoformat(key)

    def last_day(self, key: str) -> date:
        """Return the last day of a period."""
        first = self.first_day(key)
        return first if self.grain == BY_DAY else _moved(first, 1, self.grain) - timedelta(days=1)

    def moved(self, key: str, periods: int) -> str:
        """Return the key of the period that comes some periods later; earlier if the number is negative."""
        return str(_moved(date.fromisoformat(key), periods, self.grain))

    def between(self, first: str, last: str) -> list[str]:
        """Return the keys from one to another, both included; none if the last is earlier."""
        found = []
        at, end = date.fromisoformat(first), date.fromisoformat(last)
        while at <= end:
            found.append(str(at))
            at = _moved(at, 1, self.grain)
        return found

    def keys(self, first: date, last: date) -> list[str]:
        """Return the keys of all periods that contain something of a range of days; none if the last is earlier."""
        return self.between(self.first_key(first), self.last_key(last)) if first <= last else []

    def is_within(self, key: str, first: date, last: date) -> bool:
        """Return whether a period contains something of a range of days."""
        return self.first_day(key) <= last and first <= self.last_day(key)

    def newest_until(self, day: date) -> str:
        """Return the key of the newest period that is over when a day is over."""
        key = self.last_key(day)
        return key if self.last_day(key) == day else self.moved(key, -1)

    def newest_over(self, moment: datetime) -> str:
        """Return the key of the newest period that is over at a moment; the moment must have a time zone."""
        return self.newest_until(yesterday(moment, self.timezone))

    @property
    def shortest_days(self) -> int:
        """The number of days of the shortest period."""
        return _SHORTEST[self.grain]

    def periods_for(self, days: int) -> int:
        """Return the fewest periods that last at least a number of days, wherever they begin.

        A look-back of so many days from the first day of a period reaches at most so many periods back. Years count 365
        days, so that the number is never too low.
        """
        if self.grain == "month":
            years, rest = divmod(days, 365)
            found = 0
            while min(sum((_MONTHS * 2)[start : start + found]) for start in range(12)) < rest:
                found += 1
            return 12 * years + found
        return -(-days // self.shortest_days)

    def periods_in(self, days: int) -> int:
        """Return the number of periods of a window of days that ends with a period, rounded outward to whole ones."""
        return 1 + self.periods_for(max(0, days - self.shortest_days))

    def period_of_row(self, column: str = DAY) -> pl.Expr:
        """Return the begin of a row's period, which has the order of the keys."""
        import polars as pl

        return pl.col(column).dt.truncate(_EVERY[self.grain])

    def key_of_row(self, column: str = DAY) -> pl.Expr:
        """Return the key of a row's period, from the column of its day."""
        import polars as pl

        return self.period_of_row(column).cast(pl.String)

    def key_sql(self) -> str:
        """Return the key of a row's period as SQL."""
        period = DAY if self.grain == BY_DAY else f"cast(date_trunc('{self.grain}', {DAY}) as date)"
        return f"cast({period} as varchar)"

    def rows_sql(self, first: str, last: str) -> str:
        """Return the condition on the rows of a range of periods as SQL; unknown for a row without a day."""
        return f"{DAY} between date '{self.first_day(first)}' and date '{self.last_day(last)}'"


DAILY: Final = Calendar()


def is_key(text: str) -> bool:
    """Return whether a text is the key of a period of some grain."""
    if _KEY.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:  # 2013-02-30 has the form of a key
        return False
    return True


def _begin(day: date, grain: Grain) -> date:
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


def _moved(first: date, periods: int, grain: Grain) -> date:
    """Return the first day of the period that comes some periods after the one that begins on a day."""
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
