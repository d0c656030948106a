"""Convert between moments and days of a time zone. Moments in the lake are UTC, stored without a zone."""

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import polars as pl


DAY: Final = "day"
"""The column with the day of a row, in every table and frame by day."""


def yesterday(now: datetime, timezone: str) -> date:
    """Return the newest day that is over at a moment; the moment must have a time zone."""
    return now.astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)


def end_of(day: date, timezone: str) -> datetime:
    """Return the first moment after a day. Days on which clocks change have 23 or 25 hours."""
    midnight = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(timezone))
    return midnight.astimezone(UTC).replace(tzinfo=None)


def day_of_moment(moment: "pl.Expr", timezone: str) -> "pl.Expr":
    """Return the day of a moment."""
    return moment.dt.replace_time_zone("UTC").dt.convert_time_zone(timezone).dt.date()
