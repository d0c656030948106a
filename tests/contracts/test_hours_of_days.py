"""Hours as periods: their keys are in UTC, and a day has those of its time zone."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_assets.contracts.periods import Calendar, is_key, period_words
from ml_assets.declaration.parts import Days
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.logic.tables.raw import by_period
from ml_assets.models.plan import partitions_over

ZURICH = Calendar("hour", "Europe/Zurich")
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


def moments_of(day: date, zone: str) -> list[datetime]:
    """Return the hours of UTC that clocks of a zone show on a day."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    every = [noon + timedelta(hours=it) for it in range(-40, 40)]
    return [it for it in every if it.astimezone(ZoneInfo(zone)).date() == day]


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (date(2026, 7, 1), 24)])
def test_a_day_has_the_hours_of_its_time_zone(day: date, hours: int) -> None:
    expected = [f"{it:%Y-%m-%dT%H}" for it in moments_of(day, "Europe/Zurich")]

    assert hours == len(expected)
    assert expected == ZURICH.keys(day, day)
    assert {day} == {ZURICH.first_day(key) for key in expected} == {ZURICH.last_day(key) for key in expected}
    assert all(map(is_key, expected))


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_the_report_of_the_last_hour_of_a_day_is_about_all_its_hours(day: date, hours: int) -> None:
    *others, last = ZURICH.keys(day, day)

    assert (hours, last) == (len(ZURICH.reported(last)), ZURICH.reported(last)[-1])
    assert [[it] for it in others] == [ZURICH.reported(it) for it in others]
    assert ["2026-03-01"] == Calendar("month").reported("2026-03-01")


@given(day=st.dates(date(2000, 1, 1), date(2037, 1, 1)), zone=st.sampled_from(["Europe/Zurich", "America/Havana"]))
def test_the_hours_of_consecutive_days_follow_each_other(day: date, zone: str) -> None:
    calendar = Calendar("hour", zone)

    assert [f"{it:%Y-%m-%dT%H}" for it in moments_of(day, zone)] == calendar.keys(day, day)
    assert calendar.moved(calendar.last_key(day), 1) == calendar.first_key(day + timedelta(days=1))


def test_rows_of_the_repeated_hour_are_in_two_partitions() -> None:
    rows = pl.DataFrame({"at": [datetime(2026, 10, 25, hour, 30) for hour in (0, 1)], "n": [1, 2]})  # noqa: DTZ001 - UTC
    zone = ZoneInfo("Europe/Zurich")
    assert ["02:30", "02:30"] == [f"{it.replace(tzinfo=UTC).astimezone(zone):%H:%M}" for it in rows["at"]]

    cut = by_period(rows, pl.col("at"), ["2026-10-25T00", "2026-10-25T01"], declared=(AUTUMN, AUTUMN), calendar=ZURICH)

    assert {"2026-10-25T00": [1], "2026-10-25T01": [2]} == {key: it["n"].to_list() for key, it in cut.parts.items()}
    assert {} == cut.outside


def test_a_row_of_an_hour_of_the_day_before_in_utc_belongs_to_its_local_day() -> None:
    rows = pl.DataFrame({"at": [datetime(2026, 3, 28, 22, 59), datetime(2026, 3, 28, 23)]})  # noqa: DTZ001 - UTC

    cut = by_period(rows, pl.col("at"), ["2026-03-28T23"], declared=(SPRING, None), calendar=ZURICH)

    assert 1 == cut.parts["2026-03-28T23"].height
    assert {"before the first declared day 2026-03-29": 1} == cut.outside


@pytest.mark.parametrize("day", [SPRING, AUTUMN, date(2026, 10, 26), date(2026, 3, 30)])
def test_a_look_back_of_days_reaches_the_first_hour_of_its_first_day(day: date) -> None:
    last = ZURICH.last_key(day)
    for days in range(1, 8):
        first = ZURICH.first_key(day - timedelta(days=days))
        assert ZURICH.moved(last, -ZURICH.look_back(days)) <= first
    assert 0 == ZURICH.look_back(0)
    assert ZURICH.moved(last, -ZURICH.periods_for(0)) <= ZURICH.first_key(day)


def test_the_newest_hour_is_the_last_one_that_is_over_and_the_newest_day_the_last_whole_one() -> None:
    at = datetime(2026, 3, 29, 2, 0, tzinfo=UTC)
    days = Days(first=date(2026, 1, 1), timezone="Europe/Zurich", grain="hour")

    assert ["2026-03-29T00", "2026-03-29T01"] == [ZURICH.newest_over(it) for it in (at - timedelta(seconds=1), at)]
    assert date(2026, 3, 28) == days.newest(at)
    assert SPRING == days.newest(datetime(2026, 3, 29, 22, 0, tzinfo=UTC))


@pytest.mark.parametrize("last", [SPRING, AUTUMN])
def test_partitions_are_the_hours_of_the_declared_days(last: date) -> None:
    days = Days(first=last - timedelta(days=1), last=last, timezone="Europe/Zurich", grain="hour")

    assert days.calendar.keys(days.first, last) == [*partitions_over(days).get_partition_keys()]
    assert days.has(ZURICH.last_key(last))
    assert not days.has(ZURICH.moved(ZURICH.last_key(last), 1))


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Australia/Lord_Howe"])
def test_a_time_zone_that_is_not_whole_hours_from_utc_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match=f"time zone {zone} is not whole hours from UTC on 2026-"):
        Days(first=date(2026, 1, 1), timezone=zone, grain="hour")


@pytest.mark.parametrize(("zone", "hours"), [("Antarctica/Troll", 2), ("Antarctica/Casey", 3)])
def test_a_time_zone_whose_clocks_change_by_more_than_an_hour_is_refused(zone: str, hours: int) -> None:
    with pytest.raises(
        ValidationError, match=f"time zone {zone} changes its clocks by {hours} hours, more than one, on"
    ):
        Days(first=date(2020, 1, 1), timezone=zone, grain="hour")


def test_a_moment_within_the_last_hour_of_a_range_is_in_it() -> None:
    rows = pl.DataFrame({"hour": [datetime(2026, 3, 1, 5, minute) for minute in (0, 30)] + [datetime(2026, 3, 1, 6)]})  # noqa: DTZ001 - UTC

    found = rows.select(ZURICH.is_between(pl.col("hour"), "2026-03-01T04", "2026-03-01T05")).to_series()

    assert [True, True, False] == found.to_list()
    assert "(hour >= timestamp '2026-03-01 04:00:00' and hour < timestamp '2026-03-01 06:00:00')" == ZURICH.rows_sql(
        "2026-03-01T04", "2026-03-01T05"
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"files": "in/{day}.csv"}, "names files by day .*expected {hour} in place of {day}"),
        ({"file": "a.csv", "partition_by": {"year": "y", "month": "m", "day": "d"}}, "has year, month and day"),
    ],
)
def test_a_source_that_states_no_hour_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RawDeclaration.model_validate({"days": {"first": "2026-01-01", "grain": "hour"}, "tables": {"orders": table}})


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("in/{hour}.csv", "2026-03-29T01.csv"), ("in/{hour:%Y%m%d}/{hour:%H}-*.csv", "20260329/01-a.csv")],
)
def test_the_name_of_a_file_states_its_hour(pattern: str, name: str) -> None:
    found = DayPattern.of(pattern)

    assert datetime(2026, 3, 29, 1) == found.day_of(name)  # noqa: DTZ001 - UTC
    assert "hour" == found.grain
    assert found.day_of(name.replace("01", "25")) is None


def test_a_period_is_named_by_its_day_or_by_its_hour_in_utc() -> None:
    assert ("2026-03-29", "2026-03-29 01:00 UTC") == tuple(
        period_words(date(2026, 3, 29), hour)
        for hour in (None, datetime(2026, 3, 29, 1))  # noqa: DTZ001 - UTC
    )
