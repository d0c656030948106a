"""What is odd about a day beside the days before it, as a person reads it."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.checking import Report
from ml_assets.contracts.periods import Calendar
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.expectations import ExpectationsSettings
from ml_assets.lake.store import Lake
from ml_assets.stages.checks.expectations import compare_with_earlier_days
from tests.builders import put


@pytest.mark.parametrize("shown", ["'Ann'", "(personal)"])
def test_a_category_that_surprises_is_named_unless_it_is_personal(tmp_path: Path, shown: str) -> None:
    is_pii = shown == "(personal)"
    lake = Lake(str(tmp_path))
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(9)]
    of_day = [
        pl.DataFrame({"day": [day] * 100, "name": ["Ann"] * 100 if n < 8 else ["Jane Roe"] * 100})
        for n, day in enumerate(days)
    ]
    for day, rows in zip(days[:8], of_day, strict=False):
        put(lake, rows, asset="m/features", partition=str(day))
    contract = TableContract(
        "m", (Column("day", pl.Date()), Column("name", pl.String(), is_categorical=True, is_pii=is_pii))
    )

    report = compare_with_earlier_days(
        lake,
        dg.AssetKey(["m", "features"]),
        of_day[8],
        [str(days[8])],
        settings=ExpectationsSettings(),
        contract=contract,
    )

    message = "\n".join(report.sentence(it) for it in report.broken)
    assert f"column 'name' is {shown} in 0.0% of 100 rows on 2024-01-09" in message
    assert is_pii is not ("Ann" in message)


def test_days_of_a_month_are_compared_with_days_and_the_finding_names_the_month(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))

    def month(first: date, days: int, odd: int = 0) -> pl.DataFrame:
        every = [first + timedelta(days=n) for n in range(days)]
        return pl.DataFrame({"day": [day for day in every for _ in range(1 if day.day == odd else 100)]})

    january, february = month(date(2024, 1, 1), 31), month(date(2024, 2, 1), 29, odd=20)
    put(lake, january, asset="m/features", partition="2024-01-01")

    report = compare_with_earlier_days(
        lake,
        dg.AssetKey(["m", "features"]),
        february,
        ["2024-02-01"],
        settings=ExpectationsSettings(),
        contract=TableContract("m", (Column("day", pl.Date()),)),
        calendar=Calendar("month"),
    )

    [finding] = report.broken
    assert "2024-02-20 has 1 rows; expected" in report.sentence(finding)
    assert ({"2024-02-01": 1}, {}) == (finding.partitions, finding.not_judged)


def test_by_the_hour_a_day_is_judged_in_the_run_of_its_last_hour_if_all_its_hours_have_the_same_columns(
    tmp_path: Path,
) -> None:
    calendar, first = Calendar("hour", "Europe/Zurich"), date(2024, 3, 24)
    begun, mixed, last = (first + timedelta(days=n) for n in (3, 5, 9))

    def hour(day: date, *, rows: int = 100, **columns: int) -> pl.DataFrame:
        return pl.DataFrame({"day": [day] * rows}).with_columns(**{name: pl.lit(it) for name, it in columns.items()})

    def judged(key: str, rows: pl.DataFrame) -> Report:
        return compare_with_earlier_days(
            lake, dg.AssetKey(["m", "features"]), rows, [key], settings=ExpectationsSettings(min_days=7),
            contract=TableContract("m", (Column("day", pl.Date()),)), calendar=calendar,
        )  # fmt: skip

    lake = Lake(str(tmp_path))
    for number in range(10):
        day = first + timedelta(days=number)
        for key in calendar.keys(day, day)[: -1 if day == last else None]:
            # One hour of a day has another column, and of another day nearly all hours are missing.
            odd = {"more": 1} if key == calendar.first_key(mixed) else {}
            if day != begun or key == calendar.first_key(day):
                put(lake, hour(day, **odd), asset="m/features", partition=key)

    report = judged(calendar.last_key(last), hour(last))
    assert ([], {}) == ([*report.broken], report.findings[0].not_judged)
    report = judged(calendar.last_key(last), hour(last, rows=3000))
    [finding] = report.broken
    assert "2024-04-02 has 5300 rows; expected" in report.sentence(finding)
    assert "because the 7 days before had 2300 to 2400" in report.sentence(finding)  # clocks changed on one of them
    assert {calendar.last_key(mixed): "the hours of its day have different columns"} == judged(
        calendar.last_key(mixed), hour(mixed)
    ).findings[0].not_judged
    assert {calendar.last_key(begun): "not all hours of its day were there when it was checked"} == judged(
        calendar.last_key(begun), hour(begun)
    ).findings[0].not_judged
