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


def moments_of(times: "pl.Series", timezone: str) -> "pl.Series":
    """Return times as moments, and dates as the first moments of their days.

    If clocks jump over midnight, a day begins with the jump. One of a whole day crosses the date line.
    """
    import polars as pl

    if times.dtype != pl.Date:
        return times.cast(pl.Datetime("us"))
    midnight = pl.col(times.name).cast(pl.Datetime("us"))
    found = pl.coalesce(
        (midnight + pl.duration(hours=hours)).dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        for hours in (0, 1, 24)
    )
    return times.to_frame().select(found.dt.convert_time_zone("UTC").dt.replace_time_zone(None)).to_series()


def day_of_moment(moment: "pl.Expr", timezone: str) -> "pl.Expr":
    """Return the day of a moment."""
    return _local(moment, timezone).dt.date()


def clock_of_moment(moment: "pl.Expr", timezone: str) -> "pl.Expr":
    """Return the time of day that clocks show at a moment."""
    return _local(moment, timezone).dt.time()


def _local(moment: "pl.Expr", timezone: str) -> "pl.Expr":
    return moment.dt.replace_time_zone("UTC").dt.convert_time_zone(timezone)
