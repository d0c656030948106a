"""The SQL of a new model in a project with a time zone: DuckDB evaluates it on the days on which clocks change.

The expected values are those of Python's `zoneinfo`.
"""

import functools
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from ml_assets.authoring.files import files_of
from ml_assets.authoring.new_model import NewModel, new_model
from ml_assets.authoring.source import FoundTable
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.roles import infer_roles
from ml_assets.warehouse.duckdb_session import connect

NOW = datetime(2026, 1, 1)  # noqa: DTZ001 - moments are UTC without a zone
ZONES = ("Europe/Zurich", "America/New_York", "Asia/Kolkata", "Africa/Cairo")  # in Cairo, clocks jump over midnight
CHANGES = (
    date(2024, 3, 10),
    date(2024, 3, 31),
    date(2024, 4, 26),
    date(2024, 10, 27),
    date(2024, 10, 31),
    date(2024, 11, 3),
)
"""The days on which clocks of these zones change."""


def moments() -> list[datetime]:
    """Return two moments an hour from two days before each change to two days after it, so midnights are among them."""
    begins = {datetime.combine(it, time(), UTC) + timedelta(days=n) for it in CHANGES for n in range(-2, 3)}
    return [it + timedelta(minutes=30 * n) for it in sorted(begins) for n in range(48)]


def visits(zone: str) -> pl.DataFrame:
    """Return visits by their moment, with the day in a time zone on which each was booked: its own."""
    at = moments()
    local = [it.astimezone(ZoneInfo(zone)) for it in at]
    return pl.DataFrame(
        {
            "visit_id": range(len(at)),
            "at": [it.replace(tzinfo=None) for it in at],
            "booked_on": [it.date() for it in local],
            "amount": [float(it * 7919 % 1000) for it in range(len(at))],
            "returned": [it % 3 == 0 for it in range(len(at))],
        }
    )


def model(rows: pl.DataFrame, zone: str, **given: object) -> NewModel:
    roles = infer_roles(rows, "returned", Given(key=("visit_id",), **given), now=NOW, timezone=zone)  # type: ignore[arg-type]
    return new_model(
        "shop", FoundTable("v.csv", rows, CsvDialect()), "returned", roles, (), file="v.csv", timezone=zone
    )


def features(new: NewModel, rows: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the rows of staging and feature model, built by DuckDB."""
    files = files_of(new, defs=PurePosixPath("defs"), dbt=PurePosixPath("dbt_project"))
    tables = {"stg_shop": "raw", "shop_features": "stg_shop"}
    rows.write_parquet(folder / "raw.parquet")
    with connect() as engine:
        engine.execute(f"create table raw as from '{folder / 'raw.parquet'}'")
        for name, source in tables.items():
            sql = files[PurePosixPath("dbt_project", "models", "shop", f"{name}.sql")]
            sql = re.sub(r"\{\{ (source|ref)\(.*?\) \}\}", source, sql)
            for which, day in (("first", "2024-01-01"), ("last", "2024-12-31")):
                sql = sql.replace(f"{{{{ ml_assets.{which}_day() }}}}", f"date '{day}'")
            engine.execute(f"create table {name} as {sql}")
        both = "select label_known_at, f.* from stg_shop s join shop_features f using (visit_id) order by visit_id"
        engine.execute(f"copy ({both}) to '{folder / 'built.parquet'}' (format parquet)")
    return pl.read_parquet(folder / "built.parquet")


@pytest.mark.parametrize("zone", ZONES)
def test_day_weekday_and_hour_of_a_row_are_those_of_clocks_in_the_zone(zone: str, tmp_path: Path) -> None:
    rows = visits(zone)
    local = [it.astimezone(ZoneInfo(zone)) for it in moments()]

    new = model(rows, zone, time="at")
    found = features(new, rows, tmp_path)

    assert [it.date() for it in local] == found["day"].to_list()
    assert [it.isoweekday() for it in local] == found["weekday"].to_list()
    assert [it.hour for it in local] == found["hour_of_day"].to_list()
    assert rows["at"].to_list() == found[new.event].to_list()  # a moment is not moved
    hours = {day: count / 2 for day, count in found["day"].value_counts().iter_rows()}
    if zone == "Europe/Zurich":
        assert (23, 25, 24) == tuple(hours[date(2024, *it)] for it in ((3, 31), (10, 27), (11, 2)))


@pytest.mark.parametrize("zone", ZONES)
def test_a_date_is_known_and_counted_from_the_midnight_of_the_zone(zone: str, tmp_path: Path) -> None:
    rows = visits(zone)
    local = [it.astimezone(ZoneInfo(zone)) for it in moments()]
    midnights = [first_moment(it.date(), zone) for it in local]

    new = model(rows, zone, time="at")
    found = features(new, rows, tmp_path)

    days = [(at - midnight) / timedelta(days=1) for at, midnight in zip(moments(), midnights, strict=True)]
    assert pytest.approx(days) == found["days_since_booked_on"].to_list()
    assert {"booked_on"} == {it.name for it in new.times}


@pytest.mark.parametrize("zone", ZONES)
def test_the_event_of_a_date_is_its_midnight_and_a_day_later_is_the_next_midnight(zone: str, tmp_path: Path) -> None:
    rows = visits(zone).drop("at")
    days = rows["booked_on"].to_list()

    found = features(model(rows, zone, time="booked_on", horizon="1d"), rows, tmp_path)

    assert days == found["day"].to_list()
    assert "hour_of_day" not in found.columns
    for name, later in (("booked_on", 0), ("predicted_at", 0), ("label_known_at", 1)):
        expected = [first_moment(it + timedelta(days=later), zone).replace(tzinfo=None) for it in days]
        assert expected == found[name].to_list()


@functools.cache
def first_moment(day: date, zone: str) -> datetime:
    """Return the first moment of a day by search: the earliest minute whose date in the zone is the day."""
    at = datetime.combine(day, time(), UTC) - timedelta(hours=15)
    while at.astimezone(ZoneInfo(zone)).date() < day:
        at += timedelta(minutes=30)
    return at
