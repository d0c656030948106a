"""Where a day ends in a time zone: on ordinary days, and on those of 23 and 25 hours."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from ml_assets.contracts.days import day_of_moment, end_of, yesterday
from ml_assets.declaration.parts import Days
from ml_assets.models.plan import partitions_over


def utc(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type] # noqa: DTZ001 - moments in the lake are UTC without a zone


@pytest.mark.parametrize(
    ("zone", "day", "first", "hours"),
    [
        ("UTC", date(2024, 3, 31), utc(2024, 3, 31), 24),
        ("Europe/Zurich", date(2024, 3, 31), utc(2024, 3, 30, 23), 23),
        ("Europe/Zurich", date(2024, 10, 27), utc(2024, 10, 26, 22), 25),
        ("America/New_York", date(2024, 3, 10), utc(2024, 3, 10, 5), 23),
        ("America/New_York", date(2024, 11, 3), utc(2024, 11, 3, 4), 25),
        ("Asia/Kolkata", date(2024, 3, 31), utc(2024, 3, 30, 18, 30), 24),
        ("America/Sao_Paulo", date(2018, 11, 4), utc(2018, 11, 4, 3), 23),  # there was no midnight on this day
    ],
)
def test_a_day_lasts_from_one_midnight_of_its_zone_to_the_next(
    zone: str, day: date, first: datetime, hours: int
) -> None:
    end = first + timedelta(hours=hours)
    instant = timedelta(microseconds=1)
    at = pl.Series([first - instant, first, end - instant, end])

    assert [first, end] == [end_of(day - timedelta(days=1), zone), end_of(day, zone)]
    assert [day - timedelta(days=1), day, day, day + timedelta(days=1)] == (
        pl.select(day_of_moment(pl.lit(at), zone)).to_series().to_list()
    )
    assert [day - timedelta(days=1), day] == [
        yesterday(moment.replace(tzinfo=UTC), zone) for moment in (end - instant, end)
    ]


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-06-01", 24), ("2024-10-27", 25)])
def test_partitions_are_the_days_of_the_declared_zone(day: str, hours: int) -> None:
    declared = Days(first=date(2024, 1, 1), last=date(2024, 12, 31), timezone="Europe/Zurich")
    window = partitions_over(declared).time_window_for_partition_key(day)

    assert 366 == len(partitions_over(declared).get_partition_keys())
    assert timedelta(hours=hours) == window.end.astimezone(UTC) - window.start.astimezone(UTC)
    assert end_of(date.fromisoformat(day), "Europe/Zurich") == window.end.astimezone(UTC).replace(tzinfo=None)
