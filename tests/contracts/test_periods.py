"""Periods of each grain: which day is in which, and how many of them a window of days reaches over."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_assets.contracts.days import end_of
from ml_assets.contracts.periods import Calendar, Grain, is_key
from ml_assets.declaration.parts import Days
from ml_assets.lake.partitions import calendar_of
from ml_assets.models.plan import partitions_over
from ml_assets.warehouse.duckdb_session import connect

GRAINS: list[Grain] = ["day", "week", "month", "year"]
SOME_DAYS = st.dates(date(1996, 1, 1), date(2104, 12, 31))
DAY = timedelta(days=1)
DUCKDB = connect()


@given(day=SOME_DAYS, grain=st.sampled_from(GRAINS))
def test_a_row_is_in_the_period_of_its_day(day: date, grain: Grain) -> None:
    calendar, frame = Calendar(grain), pl.DataFrame({"day": [day]})
    begins, key = frame.select(begins=calendar.period_of_row(), key=calendar.key_of_row()).row(0)

    assert calendar.first_day(key) == begins <= day <= calendar.last_day(key)
    assert [key, key] == [calendar.first_key(day), calendar.last_key(day)]
    row = DUCKDB.from_arrow(frame.to_arrow())
    assert [(key,)] == row.project(calendar.key_sql()).fetchall()
    assert is_key(key)


@pytest.mark.parametrize("text", ["", "2024", "2024-02-30", "2024-01-01T00:00", "champion"])
def test_a_text_of_another_form_is_no_key(text: str) -> None:
    assert not is_key(text)


@given(day=SOME_DAYS, grain=st.sampled_from(GRAINS), number=st.integers(-60, 60))
def test_periods_follow_each_other_without_a_gap(day: date, grain: Grain, number: int) -> None:
    calendar = Calendar(grain)
    key = calendar.first_key(day)

    assert calendar.last_day(key) + DAY == calendar.first_day(calendar.moved(key, 1))
    assert key == calendar.moved(calendar.moved(key, number), -number)
    assert abs(number) + 1 == len(calendar.between(*sorted([key, calendar.moved(key, number)])))


@given(first=SOME_DAYS, days=st.integers(0, 900), grain=st.sampled_from(GRAINS))
def test_the_periods_of_a_range_are_those_of_its_days(first: date, days: int, grain: Grain) -> None:
    every, calendar = [first + timedelta(days=past) for past in range(days + 1)], Calendar(grain)

    assert sorted({calendar.first_key(day) for day in every}) == calendar.keys(first, every[-1])
    assert [] == calendar.keys(first, first - DAY)


@pytest.mark.parametrize(("grain", "most"), [("week", 40), ("month", 200), ("year", 365)])
def test_a_look_back_reaches_at_most_so_many_periods_and_from_some_period_exactly_so_many(
    grain: Grain, most: int
) -> None:
    calendar = Calendar(grain)
    starts = [*map(calendar.first_day, calendar.keys(date(2001, 1, 1), date(2003, 12, 31)))]  # without February 29
    for days in range(most):
        reached = {len(calendar.keys(first - timedelta(days=days), first)) - 1 for first in starts}
        assert max(reached) == calendar.periods_for(days)


def test_a_window_that_ends_with_a_period_is_rounded_outward() -> None:
    assert [1, 7, 28] == [Calendar("day").periods_in(days) for days in (1, 7, 28)]
    assert [1, 1, 2, 2, 3] == [Calendar("week").periods_in(days) for days in (1, 7, 8, 14, 15)]
    assert [1, 1, 2, 3] == [Calendar("month").periods_in(days) for days in (7, 28, 31, 60)]


@pytest.mark.parametrize(
    ("grain", "day", "expected"),
    [
        ("day", date(2024, 2, 29), date(2024, 2, 29)),
        ("week", date(2024, 3, 3), date(2024, 2, 26)),  # a Sunday
        ("week", date(2024, 3, 2), date(2024, 2, 19)),
        ("month", date(2024, 2, 29), date(2024, 2, 1)),
        ("month", date(2024, 2, 28), date(2024, 1, 1)),
        ("year", date(2023, 12, 31), date(2023, 1, 1)),
        ("year", date(2024, 12, 30), date(2023, 1, 1)),
    ],
)
def test_a_period_is_over_with_its_last_day(grain: Grain, day: date, expected: date) -> None:
    zone = "Europe/Zurich"
    over = Calendar(grain, zone).newest_over(end_of(day, zone).replace(tzinfo=UTC))

    assert [str(expected)] * 2 == [over, Calendar(grain).newest_until(day)]


def test_the_newest_day_is_the_last_one_of_a_period_that_is_over_in_the_declared_zone() -> None:
    months = Days(first=date(2024, 1, 1), timezone="Europe/Zurich", grain="month")
    before, after = (datetime(2024, 3, 31, hour, minute, tzinfo=UTC) for hour, minute in ((21, 59), (22, 0)))

    assert [date(2024, 2, 29), date(2024, 3, 31)] == [months.newest(before), months.newest(after)]
    assert date(2024, 1, 31) == months.model_copy(update={"last": date(2024, 1, 31)}).newest(after)


@pytest.mark.parametrize("zone", ["Europe/Zurich", "Africa/Cairo", "America/Havana"])  # the latter change at midnight
@pytest.mark.parametrize(("grain", "count"), [("day", 366), ("week", 53), ("month", 12), ("year", 1)])
def test_partitions_are_the_periods_of_the_declared_zone(grain: Grain, count: int, zone: str) -> None:
    last = date(2025, 1, 5) if grain == "week" else date(2024, 12, 31)
    partitions = partitions_over(Days(first=date(2024, 1, 1), last=last, timezone=zone, grain=grain))
    keys, calendar = partitions.get_partition_keys(), calendar_of(partitions)

    assert count == len(keys)
    assert Calendar(grain, zone) == calendar
    assert calendar.keys(date(2024, 1, 1), last) == [*keys]
    for key in keys:
        window = partitions.time_window_for_partition_key(key)
        begins, ends = (it.astimezone(UTC).replace(tzinfo=None) for it in (window.start, window.end))
        assert (end_of(calendar.first_day(key) - DAY, zone), end_of(calendar.last_day(key), zone)) == (begins, ends)


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (
            {"first": "2024-01-15", "grain": "month"},
            "2024-01-15 is not the first day of a month; .*expected 2024-01-01",
        ),
        ({"first": "2024-01-02", "grain": "week"}, "2024-01-02 is not the first day of a week; .*expected 2024-01-01"),
        (
            {"first": "2024-01-01", "last": "2024-02-28", "grain": "month"},
            "2024-02-28 is not the last day of a month; .* expected 2024-02-29",
        ),
        ({"first": "2024-01-01", "grain": "minute"}, "'hour', 'day', 'week', 'month' or 'year'"),
    ],
)
def test_days_that_are_no_whole_periods_are_rejected_with_the_day_to_declare(
    days: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Days.model_validate(days)
