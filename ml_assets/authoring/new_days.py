"""The days of a new model: from the first to the last row, in whole periods."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import polars as pl

from ml_assets.contracts.days import day_of_moment
from ml_assets.contracts.periods import BY_DAY, Calendar, Grain

_OPEN_DAYS: Final = 10


@dataclass(frozen=True)
class NewDays:
    """The days of a new model.

    Attributes:
        first: the day of the first row.
        last: the day of the last row.
        is_open: whether rows of further days are to be expected.
    """

    first: date
    last: date
    grain: Grain = BY_DAY
    timezone: str = "UTC"
    is_open: bool = False

    @property
    def calendar(self) -> Calendar:
        """The periods of these days."""
        return Calendar(self.grain, self.timezone)

    @property
    def count(self) -> int:
        """The number of days from the first to the last row."""
        return (self.last - self.first).days + 1

    @property
    def declared(self) -> dict[str, str | date]:
        """The field `days` of the declarations: whole periods."""
        calendar = self.calendar
        last = calendar.last_day(calendar.last_key(self.last))
        found: dict[str, str | date] = {"first": calendar.first_day(calendar.first_key(self.first))}
        found |= {} if self.is_open else {"last": last}
        found |= {} if self.timezone == "UTC" else {"timezone": self.timezone}
        return found | ({} if self.grain == BY_DAY else {"grain": self.grain})


def days_of(times: pl.Series, timezone: str) -> pl.Series:
    """Return the days of dates or of moments (UTC) in a time zone."""
    if times.dtype == pl.Date:
        return times
    return times.to_frame().select(day_of_moment(pl.col(times.name), timezone)).to_series()


def event_days(times: pl.Series, timezone: str) -> NewDays:
    """Return the days from the first to the last event."""
    days = days_of(times, timezone)
    first, last = days.min(), days.max()
    assert isinstance(first, date)  # noqa: S101 - a column of times without nulls
    assert isinstance(last, date)  # noqa: S101
    return NewDays(first, last, timezone=timezone)


def new_days(times: pl.Series, today: date, grain: Grain, timezone: str) -> NewDays:
    """Return the days of a new model on a table with these times."""
    found = event_days(times, timezone)
    return replace(found, grain=grain, is_open=found.last + timedelta(days=_OPEN_DAYS) >= today)
