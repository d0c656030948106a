"""Periods of a grain (hours, days, weeks, months, years), their keys, and the days that they contain.

A table by period has one partition for each. Its key is a text: the first day of the period, such as 2024-01-01 for
January 2024 and for the week of that Monday. The key of an hour is its begin in UTC, such as 2024-03-31T01, so that no
two hours have the same key when clocks change. Keys of one grain are ordered as texts. A row's own `day` stays the day
it belongs to, in the declared time zone, so windows of days (training, validation, test) select the same rows whatever
the grain; only what is stored and materialized together differs. A row of a table by the hour also has a column `hour`,
the begin of its hour in UTC. Nothing outside of this module computes a key from a day, or a day from a key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from ml_assets.contracts.days import DAY, day_of_moment, end_of, yesterday

if TYPE_CHECKING:
    import polars as pl

Grain = Literal["hour", "day", "week", "month", "year"]

BY_DAY: Final[Grain] = "day"
BY_HOUR: Final[Grain] = "hour"
HOUR: Final = "hour"
"""The column with the begin of a row's hour in UTC, in tables by the hour."""
_KEY: Final = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2})?")
_HOUR_FORMAT: Final = "%Y-%m-%dT%H"
_RULES_KNOWN_UNTIL: Final = 2038
AFTER_ALL_KEYS: Final = "9999-12-31"
"""A text that is not before any key: the last period if days have no end."""
_SHORTEST: Final[dict[Grain, int]] = {"hour": 1, "day": 24, "week": 7 * 24, "month": 28 * 24, "year": 365 * 24}
"""Hours of the shortest period. Days of 23 hours count as 24."""
_MONTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EVERY: Final[dict[Grain, str]] = {"hour": "1h", "day": "1d", "week": "1w", "month": "1mo", "year": "1y"}
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

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a row with its day and its period."""
        return (DAY, HOUR) if self.grain == BY_HOUR else (DAY,)

    @property
    def column(self) -> str:
        """The column of a row that states its period."""
        return self.columns[-1]

    def key_of(self, begin: date) -> str:
        """Return the key of the period that a day is in; by the hour, of the hour of a moment (UTC)."""
        if self.grain == BY_HOUR:
            at = begin if isinstance(begin, datetime) else datetime.combine(begin, time())
            return at.replace(tzinfo=None).isoformat(timespec="hours")
        return str(_begin(begin.date() if isinstance(begin, datetime) else begin, self.grain))

    def begin(self, key: str) -> date:
        """Return the first day of a period; by the hour, its first moment (UTC).

        Raises:
            ValueError: the key has the form of another grain.
        """
        if self.grain != BY_HOUR:
            return date.fromisoformat(key)
        if "T" not in key:
            raise ValueError(f"'{key}' is not the key of an hour; expected one such as 2026-03-29T02.")
        return datetime.fromisoformat(key)

    def first_key(self, day: date) -> str:
        """Return the key of the first period that contains something of a day."""
        return self.key_of(end_of(day - timedelta(days=1), self.timezone) if self.grain == BY_HOUR else day)

    def last_key(self, day: date) -> str:
        """Return the key of the last period that contains something of a day."""
        if self.grain == BY_HOUR:
            return self.key_of(end_of(day, self.timezone) - timedelta(hours=1))
        return self.key_of(day)

    def first_day(self, key: str) -> date:
        """Return the first day of a period."""
        begin = self.begin(key)
        if isinstance(begin, datetime):
            return begin.replace(tzinfo=UTC).astimezone(ZoneInfo(self.timezone)).date()
        return begin

    def last_day(self, key: str) -> date:
        """Return the last day of a period."""
        if self.grain in {BY_HOUR, BY_DAY}:
            return self.first_day(key)
        return _moved(self.begin(key), 1, self.grain) - timedelta(days=1)

    def has_form(self, key: str) -> bool:
        """Return whether a text is a key of this grain: of an hour by the hour, otherwise of a day.

        After a change of the grain to or from hours, a lake has keys of both forms. Those of the other one are not
        current.
        """
        return is_hour_key(key) if self.grain == BY_HOUR else is_key(key) and not is_hour_key(key)

    def current(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that have the form of this grain, in their order."""
        return [key for key in keys if self.has_form(key)]

    @property
    def of_days(self) -> Calendar:
        """The same calendar, by day instead of by hour: retrainings and champions are decided on days or longer."""
        return replace(self, grain=BY_DAY) if self.grain == BY_HOUR else self

    def ends_day(self, key: str) -> bool:
        """Return whether a period is the last hour of its day; False for other grains."""
        return self.grain == BY_HOUR and key == self.last_key(self.first_day(key))

    def reported(self, key: str) -> list[str]:
        """Return the periods that the report of a period is about: all hours of a day, if it is the last of them."""
        day = self.first_day(key)
        return self.keys(day, day) if self.ends_day(key) else [key]

    def around(self, day: date) -> list[str]:
        """Return the keys of all periods that contain something of a day in any time zone."""
        return self.keys(day - timedelta(days=1), day + timedelta(days=1))

    def is_within(self, key: str, first: date, last: date) -> bool:
        """Return whether a period contains something of a range of days."""
        return self.first_day(key) <= last and first <= self.last_day(key)

    def hour_of(self, key: str) -> datetime | None:
        """Return the begin of a period by the hour (UTC); None for other grains."""
        begin = self.begin(key)
        return begin if isinstance(begin, datetime) else None

    def newest_day(self, key: str) -> date:
        """Return the newest day that is over when a period is over."""
        day = self.last_day(key)
        return day if key == self.last_key(day) else day - timedelta(days=1)

    def moved(self, key: str, periods: int) -> str:
        """Return the key of the period that comes some periods later; earlier if the number is negative."""
        return self.key_of(_moved(self.begin(key), periods, self.grain))

    def between(self, first: str, last: str) -> list[str]:
        """Return the keys from one to another, both included; none if the last is earlier."""
        found = []
        at, end = self.begin(first), self.begin(last)
        while at <= end:
            found.append(self.key_of(at))
            at = _moved(at, 1, self.grain)
        return found

    def keys(self, first: date, last: date) -> list[str]:
        """Return the keys of all periods that contain something of a range of days; none if the last is earlier."""
        return self.between(self.first_key(first), self.last_key(last)) if first <= last else []

    def newest_until(self, day: date) -> str:
        """Return the key of the newest period that is over when a day is over."""
        key = self.last_key(day)
        return key if self.last_day(key) == day else self.moved(key, -1)

    def newest_over(self, moment: datetime) -> str:
        """Return the key of the newest period that is over at a moment; the moment must have a time zone."""
        if self.grain == BY_HOUR:
            return self.key_of(moment.astimezone(UTC) - timedelta(hours=1))
        return self.newest_until(yesterday(moment, self.timezone))

    @property
    def shortest_hours(self) -> int:
        """The number of hours of the shortest period. Days of 23 hours count as 24."""
        return _SHORTEST[self.grain]

    def periods_for(self, days: int) -> int:
        """Return the most periods from one to another whose days are at most so many apart.

        For a week, month or year, the first day of the later period counts: a look-back of so many days from it reaches
        at most so many periods back. Years count 365 days, so that the number is never too low. The hours of two days
        are further apart if clocks are set back between them.
        """
        if self.grain == BY_HOUR:
            return 24 * (days + 1)
        if self.grain == "month":
            years, rest = divmod(days, 365)
            found = 0
            while min(sum((_MONTHS * 2)[start : start + found]) for start in range(12)) < rest:
                found += 1
            return 12 * years + found
        return -(-24 * days // self.shortest_hours)

    def look_back(self, days: int) -> int:
        """Return how many earlier periods a look-back of so many days reads; 0 days read the same period alone."""
        return self.periods_for(days) if days else 0

    def periods_in(self, days: int) -> int:
        """Return the number of periods of a window of days that ends with a period, rounded outward to whole ones."""
        if self.grain == BY_HOUR:
            return 24 * days + 1
        return 1 + self.periods_for(max(0, days - self.shortest_hours // 24))

    def period_of_row(self, column: str = "") -> pl.Expr:
        """Return the begin of a row's period, which has the order of the keys.

        `column` has the days of the rows; by the hour, moments in UTC. By default it is the rows' own `day` or `hour`.
        """
        import polars as pl

        return pl.col(column or self.column).dt.truncate(_EVERY[self.grain])

    def key_of_row(self, column: str = "") -> pl.Expr:
        """Return the key of a row's period, from a column as in `period_of_row`."""
        import polars as pl

        period = self.period_of_row(column)
        return period.dt.strftime(_HOUR_FORMAT) if self.grain == BY_HOUR else period.cast(pl.String)

    def day_of_row(self, column: str) -> pl.Expr:
        """Return the day of a row, from a column as in `period_of_row`."""
        import polars as pl

        at = pl.col(column)
        return day_of_moment(at, self.timezone) if self.grain == BY_HOUR else at

    def columns_of(self, moment: pl.Expr) -> dict[str, pl.Expr]:
        """Return the columns of a row with its day and its period, from its moment (UTC)."""
        found = {DAY: day_of_moment(moment, self.timezone), HOUR: moment.dt.truncate(_EVERY[BY_HOUR])}
        return {name: found[name] for name in self.columns}

    def is_between(self, column: pl.Expr, first: str, last: str) -> pl.Expr:
        """Return whether a row is in a range of periods, from its `column`."""
        return column.is_between(self.begin(first), self.begin(self.moved(last, 1)), closed="left")

    def key_sql(self) -> str:
        """Return the key of a row's period as SQL."""
        if self.grain == BY_HOUR:
            return f"strftime({HOUR}, '{_HOUR_FORMAT}')"
        period = DAY if self.grain == BY_DAY else f"cast(date_trunc('{self.grain}', {DAY}) as date)"
        return f"cast({period} as varchar)"

    def ends_sql(self, first: str, last: str) -> tuple[str, str]:
        """Return the begin of a range of periods as SQL, and the begin of the period after it."""
        kind = "timestamp" if self.grain == BY_HOUR else "date"
        return f"{kind} '{self.begin(first)}'", f"{kind} '{self.begin(self.moved(last, 1))}'"

    def day_sql(self) -> str:
        """Return the day of a row by the hour as SQL."""
        return f"cast(timezone('{self.timezone}', timezone('UTC', {HOUR})) as date)"

    def rows_sql(self, first: str, last: str) -> str:
        """Return the condition on the rows of a range of periods as SQL; unknown for a row without a day or hour."""
        begin, until = self.ends_sql(first, last)
        return f"({self.column} >= {begin} and {self.column} < {until})"


DAILY: Final = Calendar()


def period_words(day: date, hour: datetime | None) -> str:
    """Return a day, or an hour in UTC, as text."""
    return str(day) if hour is None else f"{hour:%Y-%m-%d %H:00} UTC"


def is_key(text: str) -> bool:
    """Return whether a text is the key of a period of some grain."""
    if _KEY.fullmatch(text) is None:
        return False
    day, _, hour = text.partition("T")
    try:
        date.fromisoformat(day)
        time(int(hour or 0))
    except ValueError:  # 2013-02-30 has the form of a key
        return False
    return True


def hours_without(predictions: Collection[str], hours: Sequence[str]) -> str:
    """Return how many hours of a day have no predictions, as a sentence after another; '' if all have."""
    missing = len({*hours} - {*predictions})
    return f" {missing} of its {len(hours)} hours have no predictions." if missing else ""


def is_hour_key(text: str) -> bool:
    """Return whether a text is the key of an hour."""
    return is_key(text) and "T" in text


def why_no_hours(timezone: str, first: date) -> str | None:
    """Return why the days of a zone, from a day on, cannot be divided into hours; None if they can.

    Days must consist of whole hours, and be at most an hour longer or shorter than 24, which look-backs allow for. The
    rules of time zones are known for the coming years, and repeat.
    """
    zone, day = ZoneInfo(timezone), datetime.combine(first, time(), UTC)
    before = day.astimezone(zone).utcoffset() or timedelta()
    while day.year <= max(first.year, _RULES_KNOWN_UNTIL):
        offset = day.astimezone(zone).utcoffset() or timedelta()
        if offset % timedelta(hours=1):
            return f"is not whole hours from UTC on {day:%Y-%m-%d}"
        if abs(offset - before) > timedelta(hours=1):
            changed = abs(offset - before) // timedelta(hours=1)
            return f"changes its clocks by {changed} hours, more than one, on {day - timedelta(days=1):%Y-%m-%d}"
        before, day = offset, day + timedelta(days=1)
    return None


def _begin(day: date, grain: Grain) -> date:
    """Return the first day of the period that a day is in. Weeks begin on Monday."""
    match grain:
        case "hour" | "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)


def _moved(first: date, periods: int, grain: Grain) -> date:
    """Return the begin of the period that comes some periods after one; by the hour, both are moments."""
    match grain:
        case "hour":
            return first + timedelta(hours=periods)
        case "day":
            return first + timedelta(days=periods)
        case "week":
            return first + timedelta(weeks=periods)
        case "month":
            years, month = divmod(first.month - 1 + periods, 12)
            return date(first.year + years, month + 1, 1)
        case "year":
            return date(first.year + periods, 1, 1)
