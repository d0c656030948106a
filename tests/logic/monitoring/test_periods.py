from datetime import date, timedelta

import polars as pl
import pytest

from ml_assets.logic.monitoring.drift import rows_of_period
from ml_assets.logic.monitoring.drift_verdict import Pooled
from ml_assets.logic.monitoring.sketch import number_periods

FIRST = date(2024, 1, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def predicted(*rows: tuple[int, str, int]) -> dict[str, pl.DataFrame]:
    """Return so many predictions of days by versions, which differ in their features."""
    found: dict[str, list[pl.DataFrame]] = {}
    for at, version, count in rows:
        part = pl.DataFrame({"model_version": [version] * count, "day": [day(at)] * count})
        found.setdefault(str(day(at)), []).append(part)
    return {at: pl.concat(parts) for at, parts in found.items()}


@pytest.mark.parametrize(
    ("rows", "first", "count"),
    [
        ([(0, "a", 9), (1, "a", 9), (2, "a", 20)], 2, 20),
        ([(0, "a", 9), (1, "a", 9), (2, "a", 9)], 0, 27),
        ([(0, "a", 9), (1, "a", 12), (2, "a", 9)], 1, 21),
        ([(0, "a", 9), (2, "a", 12)], 0, 21),
        ([(0, "a", 9), (1, "b", 9), (2, "a", 9)], 2, 9),
        ([(1, "a", 5), (1, "b", 9), (2, "a", 9), (2, "b", 9)], 1, 14),
        ([(2, "a", 9), (3, "a", 99)], 2, 9),
    ],
    ids=["enough alone", "as far as allowed", "until enough", "a quiet day between", "another model between",
         "a day of two models", "later days"],
)  # fmt: skip
def test_a_day_with_too_few_rows_is_judged_with_days_of_its_model_before_it(
    rows: list[tuple[int, str, int]], first: int, count: int
) -> None:
    period, found = rows_of_period(predicted(*rows), str(day(2)), "a", min_rows=20, most_periods=3)

    assert (Pooled(str(day(first)), str(day(2))), count) == (period, found.height)
    assert ["a"] == found["model_version"].unique().to_list()


@pytest.mark.parametrize(
    ("counts", "numbers"),
    [
        ([20, 30, 20], [0, 1, 2]), ([10, 10, 10, 10], [0, 0, 1, 1]), ([10, 10, 10, 10, 10], [0, 0, 1, 1, 1]),
        ([1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]), ([5], [0]),
    ],
    ids=["enough alone", "two together", "the last joins the one before", "as many as allowed", "too few at all"],
)  # fmt: skip
def test_days_of_a_reference_are_numbered_by_periods_of_enough_rows(counts: list[int], numbers: list[int]) -> None:
    days = pl.Series([day(at) for at, count in enumerate(counts) for _ in range(count)])

    found = number_periods(days, min_rows=20, most_days=3)

    assert numbers == [found[sum(counts[:at])] for at in range(len(counts))]


def test_where_no_days_are_judged_together_each_is_a_period() -> None:
    days = pl.Series([day(0), day(1), day(1), day(5)])

    assert [0, 1, 1, 2] == number_periods(days, min_rows=200, most_days=1).to_list()
