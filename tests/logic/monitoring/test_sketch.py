import numpy as np
import polars as pl
import pytest

from ml_assets.logic.monitoring.reference import Reference
from ml_assets.logic.monitoring.sketch import is_new_category, sketch_reference
from tests.logic.monitoring.test_distances import textbook
from tests.logic.monitoring.test_drift import against, row
from tests.logic.monitoring.test_reference import feature


def days_of_codes(first: int, days: int, *, new: int, lasting: int = 1, rows: int = 300) -> pl.DataFrame:
    """Days with rows of two lasting categories, and `new` rows of each code; a code appears a day, and lasts."""
    frames = []
    for day in range(first, first + days):
        codes = [f"code {day - age}" for age in range(lasting) for _ in range(new // lasting)]
        kept = rows - len(codes)
        values = ["a"] * (kept // 3) + ["b"] * (kept - kept // 3) + codes
        frames.append(pl.DataFrame({"day": [day] * rows, "x": values}))
    return pl.concat(frames)


def reference_of(training: pl.DataFrame) -> Reference:
    features = [feature("x", is_categorical=True)]
    return Reference.of(sketch_reference(training, features=features, score=None, days=training["day"]), model="clicks")


def test_a_category_is_new_on_a_later_day_if_the_earlier_half_of_the_days_lacks_it() -> None:
    days = np.array([0, 0, 1, 2, 2, 3, 3, 3])
    codes = np.array([0, 3, 1, 1, 2, 0, 2, 3])  # 3 is a missing value

    assert is_new_category(codes, days, categories=3).tolist() == [*[False] * 4, True, False, True, False]


def test_of_a_single_day_a_category_is_new_if_only_one_row_has_it() -> None:
    codes = np.array([0, 0, 1, 2, 3])  # 3 is a missing value

    assert is_new_category(codes, np.zeros(5, np.int64), categories=3).tolist() == [False, False, True, True, False]


def test_the_usual_psi_counts_what_the_earlier_half_of_the_days_lacks_as_new() -> None:
    known = reference_of(days_of_codes(0, 40, new=30))

    measured = row(against(known, days_of_codes(50, 1, new=60)), "x")

    # The bins are a, b, rare codes and new codes. Each day of the later half has rows of a, b and a new code.
    whole, usual_day, day = [3_600, 7_200, 1_200, 0], [90, 180, 0, 30], [80, 160, 0, 60]
    assert measured["new_category_share"] == pytest.approx(0.2)
    assert measured["psi"] == pytest.approx(textbook(whole, day))
    # Both have as many rows, so the sampling error is the same.
    assert measured["excess_psi"] == pytest.approx(textbook(whole, day) - textbook(whole, usual_day))


@pytest.mark.parametrize("lasting", [1, 5])
def test_codes_that_arrive_at_a_steady_rate_are_no_drift_and_twice_as_many_are(lasting: int) -> None:
    known = reference_of(days_of_codes(0, 60, new=30, lasting=lasting))
    steady, doubled = (days_of_codes(75, 20, new=new, lasting=lasting).partition_by("day") for new in (30, 60))

    found = [against(known, day).summary for day in (*steady, *doubled)]

    assert [it.is_over for it in found] == [False] * 20 + [True] * 20
    assert {it.weighted_excess_psi for it in found[:20]} == {0.0}
    assert "share of new categories 0.2 against at most 0.1 usually: the rise is over 0.05" in found[-1].sentence
